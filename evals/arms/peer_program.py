# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, D103 - of packages that are not installed here
"""One question for ``rlms`` or ``dspy.RLM``; run by a Python that has them, standard library apart.

Reads the request as JSON from standard input, prints the attempt as one JSON line. Settings are the packages'
own, except for the endpoint, temperature 0, 512 tokens per reply and, for dspy, the local interpreter.
"""

import json
import os
import sys

OUT = os.dup(1)
os.dup2(2, 1)  # the packages print to standard output


def joined(texts):
    return "\n".join(f"=== {name} ===\n{text}" for name, text in texts.items())


def rlms(request):
    from rlm import RLM

    sampling = {"temperature": 0, "max_tokens": 512}
    model = RLM(
        backend="openai",
        backend_kwargs={
            "model_name": request["model"],
            "base_url": request["url"],
            "api_key": request["key"],
        },
        max_timeout=request["limit_s"],
        sampling_args=sampling,
        sub_sampling_args=sampling,
    )
    result = model.completion(joined(request["texts"]), root_prompt=request["question"])
    usage = result.usage_summary
    return {
        "answer": str(result.response),
        "tokens_in": usage.total_input_tokens,
        "tokens_out": usage.total_output_tokens,
    }


def dspy_rlm(request):
    import dspy
    from dspy.primitives.local_interpreter import LocalInterpreter

    model = dspy.LM(
        f"openai/{request['model']}",
        api_base=request["url"],
        api_key=request["key"],
        cache=False,
        temperature=0,
        max_tokens=512,
    )
    dspy.configure(lm=model)
    program = dspy.RLM("context, query -> answer", interpreter_factory=LocalInterpreter)
    error, answer = "", ""
    try:
        answer = str(program(context=joined(request["texts"]), query=request["question"]).answer)
    except Exception as problem:  # noqa: BLE001 - the tokens count all the same
        error = f"{type(problem).__name__}: {problem}"[:300]
    used = [entry.get("usage") or {} for entry in model.history]
    return {
        "answer": answer,
        "tokens_in": sum(usage.get("prompt_tokens", 0) for usage in used),
        "tokens_out": sum(usage.get("completion_tokens", 0) for usage in used),
        "error": error,
    }


def main():
    request = json.load(sys.stdin)
    try:
        attempt = {"rlms": rlms, "dspy": dspy_rlm}[request["package"]](request)
    except Exception as problem:  # noqa: BLE001 - reported as the end of this attempt
        attempt = {"answer": "", "error": f"{type(problem).__name__}: {problem}"[:300]}
    os.write(OUT, json.dumps(attempt).encode() + b"\n")


if __name__ == "__main__":
    main()
