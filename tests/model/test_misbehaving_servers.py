# ruff: noqa: E501 - the messages of servers, word for word
"""Servers that are almost compatible: the client adapts, tries again, or ends with a message that helps."""

import asyncio
import resource
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from loop_runner.errors import ModelError
from loop_runner.model.limiter import Limiter, Policy
from loop_runner.model.providers import response_body
from loop_runner.model.providers.openai_compatible import OpenAICompatibleClient
from loop_runner.model.providers.refusals import asked_pause_s
from loop_runner.records import Message, Reply, Request
from tests.support.misbehaving_server import (
    GOOD,
    Answer,
    Body,
    always,
    bomb,
    completion,
    delta,
    gzipped,
    has,
    has_system,
    js,
    misbehaving,
    once,
    refusal,
    refuses,
    repeats_roles,
    sse,
    stream,
)

Behaviour = Callable[[Body, int], Answer]
TWO = (delta("the answer"), delta(" is 42"))
SCHEMA = {"type": "object", "properties": {}}


def ask(url: str, **changes: Any) -> Reply:
    async def run() -> Reply:
        client = OpenAICompatibleClient("m", url, "sk-live-1234")
        policy = Policy(max_tries=3, max_throttled=3, first_pause_s=0.001, longest_requested_pause_s=5)
        request = Request(
            "openai:m",
            (Message("user", "one"), Message("assistant", "two"), Message("user", "three")),
            **{"system": "s", "max_output_tokens": 9000, **changes},
        )
        try:
            return await Limiter("openai", 8, policy=policy).run(lambda: client.complete(request))
        finally:
            await client.close()

    return asyncio.run(run())


# name → (behaviour, changes of the request); all end with the good answer
ADAPTS: dict[str, tuple[Behaviour, dict[str, Any]]] = {
    "Azure: max_completion_tokens is required": (
        refuses(
            has("max_tokens"),
            refusal(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
                " 'max_completion_tokens' instead.",
                code="unsupported_parameter",
            ),
        ),
        {},
    ),
    "proxy: extra inputs are not permitted": (
        refuses(
            has("max_tokens"),
            js({"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra not permitted"}]}, 422),
        ),
        {},
    ),
    "OpenAI: at most so many completion tokens": (
        refuses(
            lambda body: body["max_tokens"] > 4096,
            refusal("max_tokens is too large: 9000. This model supports at most 4096 completion tokens"),
        ),
        {},
    ),
    "Groq: max_tokens must be less": (
        refuses(
            lambda body: body["max_tokens"] > 8192,
            refusal("`max_tokens` must be less than or equal to `8192`, the maximum value for this model"),
        ),
        {},
    ),
    "vLLM: prompt and reply together are over the window": (
        refuses(
            lambda body: body["max_tokens"] > 7000,
            js(
                {
                    "object": "error",
                    "message": "This model's maximum context length is 8000 tokens. However, you requested 10000"
                    " tokens (1000 in the messages, 9000 in the completion). Please reduce the length.",
                    "code": 400,
                },
                400,
            ),
        ),
        {},
    ),
    "vLLM: max_tokens is too large, with input tokens": (
        refuses(
            lambda body: body["max_tokens"] > 3096,
            refusal(
                "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length"
                " is 4096 tokens and your request has 1000 input tokens"
            ),
        ),
        {},
    ),
    "Gemma: System role not supported": (refuses(has_system, refusal("System role not supported")), {}),
    "LM Studio: only user and assistant roles": (
        refuses(
            has_system, refusal("Error rendering prompt: Only user and assistant roles are supported!", 500)
        ),
        {},
    ),
    "Gemini: developer instruction is not enabled": (
        refuses(has_system, refusal("Developer instruction is not enabled for models/gemma-3")),
        {},
    ),
    "Mistral template: roles must alternate": (
        refuses(
            repeats_roles,
            refusal("Conversation roles must alternate user/assistant/user/assistant/...", 400),
        ),
        {},
    ),
    "Ollama: does not support tools": (
        refuses(has("tools"), refusal("registry.ollama.ai/library/gemma:2b does not support tools")),
        {"offers_tool": True},
    ),
    "vLLM: auto tool choice": (
        refuses(
            has("tools"),
            refusal('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'),
        ),
        {"offers_tool": True},
    ),
    "llama.cpp: tools need --jinja": (
        refuses(has("tools"), refusal("tools param requires --jinja flag", 500)),
        {"offers_tool": True},
    ),
    "o1: temperature is not supported": (
        refuses(
            has("temperature"),
            refusal(
                "Unsupported value: 'temperature' does not support 0.7 with this model.", param="temperature"
            ),
        ),
        {"temperature": 0.7},
    ),
    "stream_options is not known": (
        refuses(has("stream_options"), refusal("Unrecognized request argument supplied: stream_options")),
        {},
    ),
    "streaming is not possible": (refuses(has("stream"), refusal("Streaming is not supported")), {}),
    "SGLang: no grammar backend": (
        refuses(has("response_format"), refusal("json_schema needs a grammar backend")),
        {"schema": SCHEMA, "kind": "sub"},
    ),
    "no finish_reason before [DONE]": (always(stream(sse(*TWO))), {}),
    "finish_reason is null throughout": (always(stream(sse(*TWO, delta("", None)))), {}),
    "chunks without choices": (
        always(stream(sse({"id": "x"}, {"choices": []}, {"choices": None}, *TWO, {"usage": None}))),
        {},
    ),
    "Azure: first chunk has only filter results": (
        always(stream(sse({"choices": [], "prompt_filter_results": []}, *TWO, delta(finish="stop")))),
        {},
    ),
    "usage comes last, without choices": (
        always(
            stream(sse(*TWO, delta(finish="stop"), {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}))
        ),
        {},
    ),
    "delta is null": (always(stream(sse(*TWO, {"choices": [{"delta": None, "finish_reason": "stop"}]}))), {}),
    "error is null in every chunk": (always(stream(sse(*(item | {"error": None} for item in TWO)))), {}),
    "OpenRouter: comments in the stream": (always(stream(sse(": OPENROUTER PROCESSING\n\n", *TWO))), {}),
    "lines end at CRLF": (always(stream(sse(*TWO, newline="\r\n"))), {}),
    "lines end at CR": (always(stream(sse(*TWO, newline="\r"))), {}),
    "no space after data:": (always(stream(sse(*TWO, space=""))), {}),
    "no empty lines between events": (
        always(stream(sse(*TWO, delta(finish="stop")).replace(b"\n\n", b"\n"))),
        {},
    ),
    "a stream that begins with a BOM": (always(stream(b"\xef\xbb\xbf" + sse(*TWO))), {}),
    "an event over several lines": (
        always(stream(b'data: {"choices": [{"delta":\ndata: {"content": "the answer is 42"}}]}\n\n' + sse())),
        {},
    ),
    "Gemini: a list of chunks in one event": (always(stream(sse(list(TWO)))), {}),
    "signs of life that are empty": (always(stream(sse({}, "data: null\n\n", "data:\n\n", *TWO))), {}),
    "a stream with the wrong content type": (always(stream(sse(*TWO), "text/plain")), {}),
    "a whole reply where a stream was asked for": (always(js(completion())), {}),
    "JSON that calls itself a stream": (
        always(Answer(body=js(completion()).body, kind="text/event-stream")),
        {},
    ),
    "a stream where a whole reply was asked for": (always(stream(sse(*TWO))), {"kind": "sub"}),
    "Mistral: content is a list of parts": (
        always(js(completion([{"type": "text", "text": "the answer"}, {"type": "text", "text": " is 42"}]))),
        {"kind": "sub"},
    ),
    "Mistral: parts in a stream": (always(stream(sse(delta([{"type": "text", "text": GOOD}])))), {}),
    "Gemini: finish_reason in capitals": (always(stream(sse(*TWO, delta(finish="STOP")))), {}),
    "an unknown finish_reason": (always(stream(sse(*TWO, delta(finish="eos_token")))), {}),
    "text in the place of a message": (
        always(js({"choices": [{"text": GOOD, "finish_reason": "stop"}]})),
        {"kind": "sub"},
    ),
    "the usage is a list": (always(js(completion(usage=[1, 2]))), {"kind": "sub"}),
    "bytes behind the end mark": (always(stream(sse(*TWO) + b"data: {nonsense\n\n")), {}),
    "a whole reply in gzip": (always(gzipped(js(completion()))), {"kind": "sub"}),
    "a stream in gzip": (always(gzipped(stream(sse(*TWO)))), {}),
    "deflate without a header": (
        always(
            Answer(body=zlib.compress(js(completion()).body)[2:-4], headers={"content_encoding": "deflate"})
        ),
        {"kind": "sub"},
    ),
    # tried again
    "OpenRouter: 429 in a 200": (once(js({"error": {"code": 429, "message": "rate limited"}})), {}),
    "an error object in a 200": (once(js({"error": {"message": "upstream failed", "code": 502}})), {}),
    "vLLM: object is error in a 200": (
        once(js({"object": "error", "message": "engine died", "code": 500})),
        {},
    ),
    "an error as the first event": (once(stream(sse({"error": {"message": "overloaded"}}))), {}),
    "an error event in the middle": (
        once(stream(sse(delta("the "), 'event: error\ndata: {"message": "broke"}\n\n'))),
        {},
    ),
    "OpenRouter: finish_reason is error": (once(stream(sse(delta("the "), delta(finish="error")))), {}),
    "no choices in a whole reply": (once(js({"choices": [], "model": "m"})), {"kind": "sub"}),
    "a stream that ends without an end": (once(stream(sse(delta("the "), end=""))), {}),
    "llama.cpp: loading the model": (once(refusal("Loading model", 503, type="unavailable_error")), {}),
    "Groq: try again in so many ms": (
        once(refusal("Rate limit reached. Please try again in 20ms.", 429)),
        {},
    ),
    "retry-after is nonsense": (once(js({"error": "slow down"}, 429, retry_after="nan")), {}),
    "Cloudflare: HTML with a 502": (once(Answer(502, b"<html>bad gateway</html>", "text/html")), {}),
}


@pytest.mark.parametrize("name", ADAPTS)
def test_a_server_that_is_almost_compatible_gives_its_answer(name: str) -> None:
    behave, changes = ADAPTS[name]
    with misbehaving(behave) as (url, requests):
        assert ask(url, **changes).text == GOOD
    assert len(requests) <= 4


@pytest.mark.parametrize("line_end", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_openai_python_1230_httpx_sse_37_only_cr_and_lf_end_a_line(line_end: str) -> None:
    raw = '{"choices": [{"delta": {"content": "a' + line_end + 'b"}, "finish_reason": "stop"}]}'
    if line_end < " ":
        raw = raw.replace(line_end, f"\\u{ord(line_end):04x}")
    with misbehaving(always(stream(f"data: {raw}\n\n".encode() + sse()))) as (url, _):
        assert ask(url).text == f"a{line_end}b"


TOO_LONG = {
    "vLLM": refusal(
        "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens (8000 in the"
        " messages, 1000 in the completion). Please reduce the length of the messages or completion."
    ),
    "OpenRouter": refusal(
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 200000 tokens",
        code=400,
    ),
    "OpenRouter in a 200": js(
        {"error": {"message": "This endpoint's maximum context length is 4096 tokens.", "code": 400}}
    ),
    "OpenRouter's provider": refusal(
        "Provider returned error", metadata={"raw": '{"message": "prompt is too long: 9 tokens > 8 maximum"}'}
    ),
    "llama.cpp": refusal("the request exceeds the available context size, try increasing it", type="x"),
    "LM Studio": js(
        {
            "error": "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded"
            " with context length of only 4096 tokens"
        },
        400,
    ),
    "Groq": refusal(
        "Please reduce the length of the messages or completion.", code="context_length_exceeded"
    ),
    "Gemini": js(
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (9) exceeds the maximum number of tokens allowed",
                }
            }
        ],
        400,
    ),
    "Mistral": js(
        {
            "object": "error",
            "message": "Prompt contains 9 tokens, too large for model with 8 maximum context length",
            "type": "invalid_request_error",
        },
        400,
    ),
    "SGLang": js(
        {
            "object": "error",
            "message": "The input (9 tokens) is longer than the model's context length (8 tokens)",
            "code": 400,
        },
        400,
    ),
    "Ollama": js({"error": {"message": "input length exceeds maximum context length"}}, 500),
    "TGI": js({"error": "Input validation error: inputs must have less than 8 tokens; too many tokens"}, 422),
    "LiteLLM": refusal("litellm.ContextWindowExceededError: input is too long for requested model"),
    "413": refusal("Request too large: reduce the length of the messages", 413),
    "in a stream": stream(sse({"error": {"message": "maximum context length is 8 tokens", "code": 400}})),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_prompt_over_the_window_is_known_by_its_words(name: str) -> None:
    with misbehaving(always(TOO_LONG[name])) as (url, _):
        assert ask(url).stop_reason == "model_context_window_exceeded"


ENDS: dict[str, tuple[Answer, str]] = {
    "HTML with a 200": (Answer(body=b"<html>login</html>", kind="text/html"), "check OPENAI_BASE_URL"),
    "nothing with a 200": (Answer(), "check OPENAI_BASE_URL"),
    "JSON of something else": (js({"hello": 1}), "check OPENAI_BASE_URL"),
    "a number": (js(7), "check OPENAI_BASE_URL"),
    "a redirect": (Answer(307, headers={"location": "https://other.example/v1"}), "https://other.example/v1"),
    "a model that is not there": (js({"error": "model 'm' not found"}, 404), "has a model 'm'"),
    "a key that is refused in a 200": (js({"error": {"code": 401, "message": "no"}}), "check OPENAI_API_KEY"),
    "an account without credit": (refusal("Insufficient credits", 402), "settle the account"),
    "an encoding that was not asked for": (
        Answer(body=b"xxxx", headers={"content_encoding": "br"}),
        "compressed with br",
    ),
    "gzip that is none": (
        Answer(body=b"xxxx", headers={"content_encoding": "gzip"}),
        "check OPENAI_BASE_URL",
    ),
    "deeply nested JSON": (Answer(body=b"[" * 200_000), "not a chat completion"),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_cannot_be_adapted_to_ends_with_a_message_that_helps(name: str) -> None:
    answer, helps = ENDS[name]
    with misbehaving(always(answer)) as (url, requests), pytest.raises(ModelError) as caught:
        ask(url)
    assert helps in str(caught.value)
    assert len(requests) <= 3


EVENT = b"data: {" + b" " * 1000 + b"}\n\n"


@pytest.mark.parametrize("text", [b" ", EVENT, b"x"], ids=["blanks", "events", "letters"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_packed_reply_of_2_gb_does_not_fill_the_memory(status: int, text: bytes) -> None:
    packed = bomb(2048, text)
    kind = "text/event-stream" if text.startswith(b"data") else "application/json"
    answer = Answer(status, packed, kind, {"content_encoding": "gzip"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with misbehaving(always(answer)) as (url, _), pytest.raises(ModelError) as caught:
        ask(url)
    assert status == 400 or "longer than 64 MB" in str(caught.value)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 6 * response_body.MAX_BYTES / 1024


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 7.66s. Visit", 7.66),
        ("try again in 1m2.5s", 62.5),
        ("try again in 200ms", 0.2),
        ("Please retry in 31 s", 31),
        ("try again in 2m", 120),
        ("try again later", None),
    ],
)
def test_a_pause_may_be_asked_for_in_words(text: str, seconds: float | None) -> None:
    assert asked_pause_s(text) == seconds


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_however_the_bytes_come(size: int) -> None:
    data = "a\r\nb\rc\n\n\u2028d\r\n".encode()

    async def read() -> list[str]:
        async def body() -> Any:
            for at in range(0, len(data), size):
                yield data[at : at + size]

        return [line async for line in response_body.lines(body())]

    assert asyncio.run(read()) == ["a", "b", "c", "", "\u2028d", ""]
