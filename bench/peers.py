# mypy: ignore-errors
# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ANN204 - of packages that are not installed here
"""The same measurements with ``rlms`` and ``dspy``; run by a Python that has them.

Both are given a model that answers after 50 ms (or at once) and a scripted root reply; the time is taken in
the code that their root model "wrote", as it is for ours. Widths are theirs unless a line says otherwise.
"""

import asyncio
import importlib.metadata
import os
import re
import sys
import time

LATENCY_S = 0.05


def report(what, seconds, note=""):
    print(f"{what:<58} {seconds * 1000:>10.1f} ms   {note}", flush=True)


def timed(code):
    return f"import time\nt = time.perf_counter()\n{code}\nseconds = time.perf_counter() - t\n"


# ── rlms ────────────────────────────────────────────────────────────────────────────────────────────


def rlms():
    import rlm.core.rlm as core
    from rlm import RLM
    from rlm.clients.base_lm import BaseLM
    from rlm.core.lm_handler import LMHandler
    from rlm.core.types import ModelUsageSummary, UsageSummary

    class Scripted(BaseLM):
        root = ""
        latency_s = LATENCY_S

        def reply(self, prompt):
            if isinstance(prompt, str):
                return "ok"
            if "child question" in str(prompt):
                return "```repl\nanswer['content'] = 'words'\nanswer['ready'] = True\n```"
            done = timed(Scripted.root) + "answer['content'] = str(seconds)\nanswer['ready'] = True"
            return f"```repl\n{done}\n```"

        def completion(self, prompt):
            return self.reply(prompt)

        async def acompletion(self, prompt):
            await asyncio.sleep(Scripted.latency_s)
            return self.reply(prompt)

        def get_usage_summary(self):
            return UsageSummary({"x": self.get_last_usage()})

        def get_last_usage(self):
            return ModelUsageSummary(1, 1, 1)

    core.get_client = lambda *_: Scripted("x")
    version = importlib.metadata.version("rlms")

    def seconds(root, latency_s=LATENCY_S, **options):
        Scripted.root, Scripted.latency_s = root, latency_s
        return float(
            RLM(backend="openai", backend_kwargs={"model_name": "x"}, **options).completion("q").response
        )

    def batch(count):
        return seconds(
            f"got = llm_query_batched([str(n) for n in range({count})])\nassert got.count('ok') == {count}"
        )

    report(f"rlms {version}: batch of 1,000, its own width of 16", batch(1000), "ideal 3,150 ms")
    # There is no setting for it; this is what it would do with one.
    defaults = list(LMHandler.__init__.__defaults__)
    for count, width in ((1000, 64), (10_000, 512)):
        changed = [width if value == 16 else value for value in defaults]
        LMHandler.__init__.__defaults__ = tuple(changed)
        ideal = -(-count // width) * LATENCY_S
        wall = batch(count)
        report(f"rlms {version}: batch of {count:,}, patched to {width}", wall, f"{wall / ideal:.3f} x ideal")
    children = "got = rlm_query_batched([f'child question {n}' for n in range(100)])\nassert len(got) == 100"
    for width in (4, 100):
        wall = seconds(children, 0.0, max_depth=2, max_concurrent_subcalls=width)
        report(f"rlms {version}: 100 children in the same process, {width} at once", wall)


# ── dspy ────────────────────────────────────────────────────────────────────────────────────────────


def dspy_rlm():
    import dspy
    from dspy.primitives.local_interpreter import LocalInterpreter

    version = importlib.metadata.version("dspy")

    class Scripted(dspy.BaseLM):
        def __init__(self, root):
            super().__init__("scripted/x", cache=False)
            self.root = root

        def __call__(self, prompt=None, messages=None, **_):
            text = prompt or str(messages)
            if "REPL" not in text and "repl" not in text:
                time.sleep(LATENCY_S)
                return ["ok"]
            code = timed(self.root) + "SUBMIT(answer=str(seconds))"
            thought, cell = "[[ ## reasoning ## ]]\nx", f"[[ ## code ## ]]\n```python\n{code}\n```"
            return [f"{thought}\n\n{cell}\n\n[[ ## completed ## ]]"]

    root = "got = llm_query_batched([str(n) for n in range(1000)])\nassert len(got) == 1000"
    dspy.configure(lm=Scripted(root), adapter=dspy.ChatAdapter())
    program = dspy.RLM("query -> answer", max_llm_calls=5000, interpreter_factory=LocalInterpreter)
    wall = float(re.findall(r"[0-9.]+", str(program(query="q").answer))[0])
    report(f"dspy {version}: batch of 1,000, its width of 8, no setting", wall, "ideal 6,250 ms")
    print(f"dspy {version}: no setting for a width of 512; its children are programs in the code")


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_API_KEY", "none")
    for name, measure in (("rlms", rlms), ("dspy", dspy_rlm)):
        try:
            measure()
        except Exception as error:  # noqa: BLE001 - the other one is still to be measured
            print(
                f"{name}: could not be measured: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr
            )
