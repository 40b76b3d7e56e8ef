"""Servers that speak the OpenAI form of an API, each with one habit of its own: a switch for each.

A switch looks at a request and answers it in its server's way, or not at all: then the server behaves. The
sentences are those that the servers answer with, as their documentation, source or issue trackers have them.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any, Self

Body = Mapping[str, Any]
GOOD = "good reply"


@dataclass(frozen=True)
class Answer:
    """A response; ``chunks`` are sent one by one, and the connection breaks after them if ``breaks``."""

    chunks: Iterable[bytes]
    status: int = 200
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks: bool = False
    lingers_s: float = 0.0  # before the end of the body


Switch = Callable[[Body, int], Answer | None]  # the body of the request and its number, from 0


def refusal(status: int, error: Any, *, headers: Mapping[str, str] | None = None) -> Answer:
    data = error if isinstance(error, list) or "error" in error or "detail" in error else {"error": error}
    return Answer([json.dumps(data).encode()], status, headers=headers or {})


def says(status: int, message: str, **fields: Any) -> Switch:
    """Refuses everything in these words."""
    return lambda _body, _number: refusal(status, {"message": message, **fields})


def once(switch: Switch) -> Switch:
    """Misbehaves at the first request only."""
    return lambda body, number: switch(body, number) if number == 0 else None


def if_sent(name: str, status: int, message: str, **fields: Any) -> Switch:
    """Refuses the requests that have the field ``name``."""
    return lambda body, _: refusal(status, {"message": message, **fields}) if name in body else None


def if_any(is_so: Callable[[Body], bool], status: int, message: str, **fields: Any) -> Switch:
    return lambda body, _: refusal(status, {"message": message, **fields}) if is_so(body) else None


def has_system(body: Body) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


def repeats_a_role(body: Body) -> bool:
    roles = [message["role"] for message in body["messages"] if message["role"] != "system"]
    return any(first == second for first, second in pairwise(roles))


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────


def completion(text: Any = GOOD, finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    return {"model": "m", "choices": [choice], "usage": usage, **fields}


def chunk(text: Any = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
WHOLE = [chunk(""), chunk("good "), chunk("reply"), chunk(None, "stop"), USAGE]


def whole(data: Any, **settings: Any) -> Switch:
    """Answers with this completion, whether a stream was asked for or not."""
    return lambda _body, _number: Answer([json.dumps(data).encode()], **settings)


def stream(*events: Any, end: str = "data: [DONE]\n\n", ensure_ascii: bool = True, **settings: Any) -> Switch:
    """Streams these events: dicts as JSON, strings as they are."""
    texts = [
        event if isinstance(event, str) else f"data: {json.dumps(event, ensure_ascii=ensure_ascii)}\n\n"
        for event in events
    ]
    chunks = [text.encode() for text in (*texts, end)]
    return lambda body, _: (
        Answer(chunks, kind="text/event-stream", **settings) if body.get("stream") else None
    )


def raw(data: bytes | Iterable[bytes], status: int = 200, **settings: Any) -> Switch:
    chunks = [data] if isinstance(data, bytes) else data
    return lambda _body, _number: Answer(chunks, status, **settings)


def bomb() -> Iterable[bytes]:
    """2 GB of spaces, packed: a megabyte, which unpacks on its own, 2,048 times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    megabyte = packer.compress(b" " * 1024**2) + packer.flush(zlib.Z_FULL_FLUSH)
    return [gzip.compress(b"")[:10], *[megabyte] * 2048]


# ── the table ───────────────────────────────────────────────────────────────────────────────────────

# The request is too long: the reply says so, whatever words the server has for it.
TOO_LONG: dict[str, Switch] = {
    "openai": says(400, "too many tokens", code="context_length_exceeded"),
    "azure": says(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded"),
    "vllm": says(
        400,
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8500 in the"
        " messages, 500 in the completion). Please reduce the length of the messages or completion.",
        type="BadRequestError",
        code=400,
    ),
    "vllm, newer": says(
        400,
        "The decoder prompt (length 9000) is longer than the model's context length of 8192",
    ),
    "vllm, without an error object": lambda _body, _number: Answer(
        [b'{"object":"error","message":"maximum context length is 8192 tokens","code":400}'], 400
    ),
    "openrouter": says(400, "This endpoint's maximum context length is 32768 tokens.", code=400),
    "openrouter, in a 200": lambda _body, _number: refusal(
        200, {"message": "This endpoint's maximum context length is 32768 tokens.", "code": 400}
    ),
    "llama.cpp": says(
        400, "the request exceeds the available context size", type="exceed_context_size_error", code=400
    ),
    "llama.cpp, in words": says(500, "the request exceeds the available context size. try increasing it"),
    "lm studio": says(
        400,
        "The number of tokens to keep from the initial prompt is greater than the context length.",
    ),
    "lm studio, as a text": lambda _body, _number: refusal(
        400,
        {"error": "Trying to keep 9000 tokens, which is greater than the context length"},
    ),
    "ollama": says(400, "the input length exceeds the maximum context length"),
    "sglang": says(400, "The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
    "groq": says(
        400, "Please reduce the length of the messages or completion.", code="context_length_exceeded"
    ),
    "groq, over a minute's tokens": says(
        413, "Request too large for model `m` on tokens per minute (TPM)", code="rate_limit_exceeded"
    ),
    "mistral": says(
        400,
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    ),
    "gemini": lambda _body, _number: refusal(
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1200000) exceeds the maximum number of"
                    " tokens allowed (1048576).",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
    ),
    "litellm": says(
        400, "litellm.ContextWindowExceededError: litellm.BadRequestError: the prompt is too long"
    ),
    "tgi": lambda _body, _number: refusal(
        422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}
    ),
    "a proxy": raw(b"<html><h1>413 Request Entity Too Large</h1></html>", 413, kind="text/html"),
}

# The server wants the request written in another way, and then answers.
ADAPTED: dict[str, Switch] = {
    "azure: the new name of the limit": if_sent(
        "max_tokens",
        400,
        "Unsupported parameter: 'max_tokens' is not supported with this model."
        " Use 'max_completion_tokens' instead.",
        code="unsupported_parameter",
    ),
    "a proxy: the new name, in other words": if_sent(
        "max_tokens", 422, "max_tokens: Extra inputs are not permitted"
    ),
    "openai: fewer tokens": if_any(
        lambda body: body["max_tokens"] > 1000,
        400,
        "max_tokens is too large: 4096. This model supports at most 1000 completion tokens.",
        code="invalid_value",
    ),
    "groq: fewer tokens": if_any(
        lambda body: body["max_tokens"] > 1000,
        400,
        "`max_tokens` must be less than or equal to `1000`",
    ),
    "vllm: the prompt leaves less room": if_any(
        lambda body: body["max_tokens"] > 3192,
        400,
        "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is"
        " 8192 tokens and your request has 5000 input tokens (4096 > 8192 - 5000).",
    ),
    "vllm, older: the prompt leaves less room": if_any(
        lambda body: body["max_tokens"] > 3192,
        400,
        "This model's maximum context length is 8192 tokens. However, you requested 9096 tokens (5000 in the"
        " messages, 4096 in the completion).",
    ),
    "mistral: no stream_options": lambda body, _: (
        refusal(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]})
        if "stream_options" in body
        else None
    ),
    "a gateway: no streams": if_any(
        lambda body: bool(body.get("stream")), 400, "Streaming is not supported here."
    ),
    "a reasoning model: no temperature": if_sent(
        "temperature", 400, "Unsupported value: 'temperature' does not support 0.2 with this model."
    ),
    "lm studio: no json_schema": if_sent("response_format", 400, "'json_schema' is not a known type"),
    "llama.cpp: no such grammar": if_sent("response_format", 400, "failed to parse grammar"),
    "deepseek: no response_format": if_sent(
        "response_format", 400, "This response_format type is unavailable now"
    ),
    "gemma in vllm: no system role": if_any(has_system, 400, "System role not supported"),
    "gemma in llama.cpp: no system role": if_any(
        has_system, 500, 'Value is not callable: raise_exception("System role not supported")'
    ),
    "mistral in vllm: roles alternate": if_any(
        repeats_a_role, 400, "Conversation roles must alternate user/assistant/user/assistant/..."
    ),
    "gemma in vllm: both": if_any(
        lambda body: has_system(body) or repeats_a_role(body),
        400,
        "System role not supported; conversation roles must alternate user/assistant",
    ),
    "ollama: no tools": if_sent("tools", 400, "registry.ollama.ai/library/m:latest does not support tools"),
    "vllm: no tools": if_sent(
        "tools", 400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    ),
    "openrouter: no tools": if_sent(
        "tools", 404, "No endpoints found that support tool use: not supported tool use"
    ),
    "several at once": lambda body, number: next(
        (
            result
            for switch in (
                if_sent("max_tokens", 400, "Use 'max_completion_tokens' instead of 'max_tokens'."),
                if_sent("temperature", 400, "'temperature' is not supported"),
                if_any(has_system, 400, "System role not supported"),
                if_sent("stream_options", 400, "unknown field stream_options"),
            )
            if (result := switch(body, number)) is not None
        ),
        None,
    ),
}

# What comes back is odd, and yet a whole reply.
UNDERSTOOD: dict[str, Switch] = {
    "no finish_reason before the end mark": stream(chunk("good "), chunk("reply")),
    "no end mark": stream(*WHOLE, end=""),
    "no end mark, and the stream stays open": stream(*WHOLE, end="", lingers_s=30),
    "chunks without choices": stream({"id": "x"}, *WHOLE[:2], {"choices": None}, *WHOLE[2:]),
    "azure's first chunk": stream({"choices": [], "prompt_filter_results": []}, *WHOLE),
    "comments that keep the connection alive": stream(": OPENROUTER PROCESSING\n\n", *WHOLE),
    "no blank after the colon": stream(*(f"data:{json.dumps(event)}\n\n" for event in WHOLE)),
    "events with names and numbers": stream(
        *(f"event: message\nid: 7\ndata: {json.dumps(event)}\n\n" for event in WHOLE)
    ),
    "lines that end with CR LF": stream(*(f"data: {json.dumps(event)}\r\n\r\n" for event in WHOLE)),
    "lines that end with CR": stream(*(f"data: {json.dumps(event)}\r\r" for event in WHOLE)),
    "one event over several lines": stream(
        *(
            "".join(f"data: {line}\n" for line in json.dumps(event, indent=1).split("\n")) + "\n"
            for event in WHOLE
        )
    ),
    "a byte order mark": stream("\ufeff", *WHOLE),
    "a stream that is called JSON": lambda _body, _number: Answer(
        [b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in WHOLE), b"data: [DONE]\n\n"]
    ),
    "no stream, although one was asked for": whole(completion()),
    "a byte order mark before JSON": raw(b"\xef\xbb\xbf" + json.dumps(completion()).encode()),
    "a finish_reason that is null": whole(completion(finish=None)),
    "a finish_reason in capitals": whole(completion(finish="STOP")),
    "a finish_reason of its own": whole(completion(finish="eos_token")),
    "a content in parts, with thoughts": whole(
        completion(
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "good "},
                {"type": "text", "text": "reply"},
            ]
        )
    ),
    "a content in parts, in a stream": stream(
        chunk([{"type": "text", "text": "good "}]), chunk("reply", "stop")
    ),
    "thoughts in a field of their own": stream(
        {"choices": [{"index": 0, "delta": {"reasoning_content": "hm", "content": None}}]}, *WHOLE
    ),
    "a second completion that nobody asked for": stream(
        *WHOLE[:2], {"choices": [{"index": 1, "delta": {"content": "bad"}}]}, *WHOLE[2:]
    ),
    "text instead of a message": whole({"choices": [{"text": GOOD, "finish_reason": "stop"}]}),
    "no usage": whole({key: value for key, value in completion().items() if key != "usage"}),
    "usage that is null": whole(completion(usage=None)),
    "fields that are null": whole(
        {
            "error": None,
            "choices": [
                {
                    "index": 0,
                    "error": None,
                    "finish_reason": "stop",
                    "message": {"content": GOOD, "tool_calls": None, "refusal": None},
                }
            ],
        }
    ),
    "packed although it was not wanted": raw(
        gzip.compress(json.dumps(completion()).encode()), headers={"content-encoding": "gzip"}
    ),
}

# It passes: the next try is answered.
TRIED_AGAIN: dict[str, Switch] = {
    "openrouter: an error in a 200": once(
        lambda _body, _number: refusal(200, {"code": 502, "message": "bad gateway"})
    ),
    "openrouter: throttled in a 200": once(
        lambda _body, _number: refusal(200, {"code": 429, "message": "slow"})
    ),
    "openrouter: an error in a choice": once(
        whole({"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "upstream"}}]})
    ),
    "an error as the first event": once(stream({"error": {"code": 503, "message": "overloaded"}})),
    "an error as a text": once(lambda _body, _number: refusal(503, {"error": "Loading model"})),
    "an error as a text in a 200": once(lambda _body, _number: refusal(200, {"error": "model is loading"})),
    "vllm: an error without an error object": once(raw(b'{"object":"error","message":"busy","code":503}')),
    "fastapi: a detail": once(lambda _body, _number: refusal(503, {"detail": "queue full"})),
    "cloudflare: a page": once(raw(b"<html><title>502</title></html>", 502, kind="text/html")),
    "cloudflare: 524": once(raw(b"", 524)),
    "gemini: a pause in the details": once(
        lambda _body, _number: refusal(
            429, [{"error": {"code": 429, "message": "Quota exceeded", "details": [{"retryDelay": "0s"}]}}]
        )
    ),
    "groq: a pause in words": once(
        says(429, "Rate limit reached. Please try again in 10ms.", code="rate_limit_exceeded")
    ),
    "an error in the middle of a stream": once(stream(chunk("goo"), {"error": {"message": "died"}})),
    "a stream that ends too early": once(stream(chunk("goo"), end="")),
    "a stream that breaks": once(stream(chunk("goo"), end="", breaks=True)),
    "a body that breaks": once(raw(b'{"choices": [', breaks=True)),
    "nothing at all": once(raw(b"", breaks=True)),
    "an empty stream": once(stream(end="")),
}

# Nothing helps: the run ends with a message that names what to do.
HOPELESS: dict[str, tuple[Switch, str]] = {
    "a page of a portal": (raw(b"<html>Sign in</html>", kind="text/html"), "not a chat completion"),
    "JSON of another kind": (raw(b'["a", "list"]'), "not a chat completion"),
    "a number": (raw(b"7"), "not a chat completion"),
    "brackets without end": (raw(b"[" * 200_000), "not a chat completion"),
    "an empty body": (raw(b""), "not a chat completion|ended too early"),
    "choices that are empty": (whole({"choices": []}), "no choices"),
    "a stream of something else": (
        stream({"type": "message_start"}, end=""),
        "not a chat completion|answered",
    ),
    "2 GB, packed": (raw(bomb(), headers={"content-encoding": "gzip"}), "longer than 64 MB"),
    "a stream of 2 GB, packed": (
        raw(bomb(), kind="text/event-stream", headers={"content-encoding": "gzip"}),
        "longer than 64 MB",
    ),
    "a refusal of 2 GB, packed": (raw(bomb(), 400, headers={"content-encoding": "gzip"}), "answered 400"),
    "packed, and damaged": (raw(b"no gzip", headers={"content-encoding": "gzip"}), "cannot be unpacked"),
    "ollama: no such model": (says(404, 'model "m" not found, try pulling it first'), "has a model 'm'"),
    "a refused key, in plain text": (raw(b"Unauthorized", 401, kind="text/plain"), "check OPENAI_API_KEY"),
    "an account that is empty": (says(429, "You exceeded your quota", code="insufficient_quota"), "quota"),
    "a move to another address": (
        raw(b"", 307, headers={"location": "https://other.example/v1/chat/completions"}),
        r"set OPENAI_BASE_URL to https://other.example/v1$",
    ),
    "a field that cannot be left out": (says(400, "'messages' is not allowed"), "answered 400: 'messages'"),
    "a complaint that never ends": (
        says(400, "'max_tokens' and 'max_completion_tokens' are unknown"),
        "answered 400",
    ),
}


# ── the server ──────────────────────────────────────────────────────────────────────────────────────


class Misbehaving:
    """One server with one switch on. Use it as a context manager."""

    def __init__(self, switch: Switch) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._switch = switch
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def answer(self, body: dict[str, Any]) -> Answer:
        with self._lock:
            self.bodies.append(body)
            number = len(self.bodies) - 1
        result = self._switch(body, number)
        if result is not None:
            return result
        if body.get("stream"):
            events = WHOLE if (body.get("stream_options") or {}).get("include_usage") else WHOLE[:-1]
            lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
            return Answer([*lines, b"data: [DONE]\n\n"], kind="text/event-stream")
        return Answer([json.dumps(completion()).encode()])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Misbehaving

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = self.server_of.answer(body)
        try:
            self._send(answer)
        except OSError:
            self.close_connection = True  # the client has had enough

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("content-type", answer.kind)
        self.send_header("transfer-encoding", "chunked")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for part in answer.chunks:
            if part:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if answer.breaks:
            self.close_connection = True
            return
        deadline = time.monotonic() + answer.lingers_s
        while time.monotonic() < deadline:
            time.sleep(0.05)
            self.wfile.write(b"e\r\n: still here\n\n\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Tests look at ``bodies`` instead."""
