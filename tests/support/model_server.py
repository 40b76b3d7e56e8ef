"""A Messages API (and chat completions) on 127.0.0.1 that plays a script and that the real SDK believes.

    with ModelServer() as server:
        server.will_run("print(1)", "answer.update(content='42', ready=True)")
        ...                                    # point ANTHROPIC_BASE_URL at server.url
        assert "42" in server.requests[1].first_user_text

Replies are taken in order, whichever route asks: a text, a ``Scripted`` reply, an ``HttpError``; or
``answer_with`` a function of the request. Everything received is kept, raw bytes included. Message batches
(``server.batches``) are answered from the same replies; tokens are counted as a quarter of the characters.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from tests.support.batches import Batches

_FINISH_REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}


@dataclass(frozen=True)
class Scripted:
    """One reply. The faults happen in streams only, but for ``delay_s`` and ``drop_after=0``."""

    text: str = ""
    stop_reason: str = "end_turn"
    input_tokens: int = 10
    output_tokens: int = 5
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    delay_s: float = 0.0  # before the first byte
    drop_after: int | None = None  # cut the connection after so many events
    end_after: int | None = None  # end the stream in good order after so many events
    garble_after: int | None = None  # send an event that is not JSON after so many events
    error_after: tuple[int, str] | None = None  # (events, type): an `error` event instead of the rest
    trickle_s: float = 0.0  # before each event; signs of life come in between
    has_usage: bool = True  # chat completions only: many servers count nothing
    code: str | None = None  # called as a tool, after the text
    tool: str = "repl"
    tool_id: str = "toolu_test"


@dataclass(frozen=True)
class HttpError:
    """An error status with the API's JSON body."""

    status: int
    type: str = "api_error"
    message: str = "scripted"
    error_code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = str | Scripted | HttpError


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]  # names in lower case
    raw: bytes
    body: Mapping[str, Any]

    @property
    def system(self) -> str:
        """The system prompt, whichever way it was sent."""
        if "system" in self.body:
            return _text_of(self.body["system"])
        return next((_text_of(m["content"]) for m in self.body["messages"] if m["role"] == "system"), "")

    @property
    def has_prompt(self) -> bool:
        """Whether a model is asked for a reply, and not something else."""
        return self.path in ("/v1/messages", "/v1/chat/completions")

    @property
    def messages(self) -> list[tuple[str, str]]:
        """(role, text) of each message, without the system prompt."""
        messages = self.body["messages"]
        return [(m["role"], _text_of(m["content"])) for m in messages if m["role"] != "system"]

    @property
    def first_user_text(self) -> str:
        return next(text for role, text in self.messages if role == "user")

    @property
    def last_user_text(self) -> str:
        return next(text for role, text in reversed(self.messages) if role == "user")


def _text_of(content: Any) -> str:
    if not content or isinstance(content, str):
        return content or ""
    return "".join(block.get("text", "") or _text_of(block.get("content", "")) for block in content)


class ModelServer:
    """See the module. Use it as a context manager, or the fixture ``model_server``."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.batches = Batches(self._message_for)
        self._lock = threading.Lock()
        self._answers: deque[Answer] = deque()
        self._function: Callable[[Received], Answer] | None = None
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What ``ANTHROPIC_BASE_URL`` is set to."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """What ``OPENAI_BASE_URL`` is set to."""
        return f"{self.url}/v1"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a user whose key is for this server."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "test-key"}

    @property
    def is_busy(self) -> bool:
        """A connection is open: there may be a request that is not in ``requests`` yet."""
        return bool(self._http.open_connections)

    def will_reply(self, *answers: Answer) -> None:
        """Queue replies, errors and faults."""
        with self._lock:
            self._answers.extend(answers)

    def will_run(self, *cells: str) -> None:
        """Queue replies that each hold one cell in a ```repl fence."""
        self.will_reply(*(f"I run this.\n```repl\n{code}\n```" for code in cells))

    def answer_with(self, function: Callable[[Received], Answer]) -> None:
        """Ask ``function`` whenever the queue is empty."""
        self._function = function

    def close(self) -> None:
        """Stop, and cut the connections that are left."""
        self._http.shutdown()
        self._http.server_close()
        self._http.cut_connections()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def prompts(self) -> list[Received]:
        """The requests that asked a model."""
        return [request for request in self.requests if request.has_prompt]

    def _message_for(self, params: Mapping[str, Any]) -> tuple[str, Any]:
        """One request of a batch: what became of it, and the message or error."""
        answer = self._next(Received("/v1/messages", {}, b"", params))
        if isinstance(answer, HttpError):
            error = {"type": answer.type, "message": answer.message}
            return "errored", {"type": "error", "error": error, "request_id": None}
        return "succeeded", _message(answer, params)

    def note(self, received: Received) -> None:
        """Record what is no prompt. For the handler."""
        with self._lock:
            self.requests.append(received)

    def take(self, received: Received) -> Scripted | HttpError:
        """Record ``received`` and give its answer. For the handler."""
        with self._lock:
            self.requests.append(received)
        return self._next(received)

    def _next(self, received: Received) -> Scripted | HttpError:
        with self._lock:
            queued = self._answers.popleft() if self._answers else None
        if queued is None:
            queued = self._function(received) if self._function else _NOTHING_LEFT
        return Scripted(queued) if isinstance(queued, str) else queued


_NOTHING_LEFT = HttpError(400, "invalid_request_error", "the test server has no reply left")


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    owner: ModelServer

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open_connections: set[socket.socket] = set()

    def cut_connections(self) -> None:
        for connection in list(self.open_connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is a thing tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.open_connections.add(self.request)

    def finish(self) -> None:
        self.server.open_connections.discard(self.request)
        super().finish()

    def do_GET(self) -> None:
        self._note(b"")
        status, data = self.server.owner.batches.get(self.path, self.server.owner.url)
        if isinstance(data, bytes):
            self._send(status, data, "application/x-jsonl")
        else:
            self._send_json(status, data)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        if self.path == "/v1/messages/batches":
            self._note(raw)
            self._send_json(*self.server.owner.batches.create(body, self.server.owner.url))
            return
        if self.path == "/v1/messages/count_tokens":
            self._note(raw)
            self._send_json(200, {"input_tokens": len(raw) // 4})
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.owner.take(Received(self.path, headers, raw, body))
        if isinstance(answer, HttpError):
            self._send_error(answer)
            return
        time.sleep(answer.delay_s)
        if answer.drop_after == 0:
            self.close_connection = True
        elif body.get("stream") and self.path == "/v1/chat/completions":
            self._send_stream(answer, _pieces(answer, body))
        elif self.path == "/v1/chat/completions":
            self._send_json(200, _completion(answer, body))
        elif body.get("stream"):
            self._send_stream(answer, _events(answer, body))
        else:
            self._send_json(200, _message(answer, body))

    def _note(self, raw: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.owner.note(Received(self.path, headers, raw, json.loads(raw or b"{}")))

    def log_message(self, *_: object) -> None:
        """Tests read ``requests`` instead."""

    def _send_error(self, error: HttpError) -> None:
        details = {"details": {"error_code": error.error_code}} if error.error_code else {}
        inner = {"type": error.type, "message": error.message, "code": error.error_code, **details}
        self._send_json(error.status, {"type": "error", "error": inner}, error.headers)

    def _send_json(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(data).encode(), "application/json", headers)

    def _send(self, status: int, payload: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(payload)))
        self.send_header("request-id", "req_test")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def _send_stream(self, answer: Scripted, events: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        is_chat = self.path == "/v1/chat/completions"
        for number, event in enumerate(events):
            if number == answer.drop_after:
                self.close_connection = True
                return
            if number == answer.end_after:
                break
            if number == answer.garble_after:
                self._send_event("content_block_delta", "{this is not JSON")
                break
            if answer.error_after is not None and number == answer.error_after[0]:
                error = {"type": answer.error_after[1], "message": "scripted"}
                self._send_event("error", json.dumps({"type": "error", "error": error}))
                break
            self._wait(answer.trickle_s, is_chat=is_chat)
            self._send_event("" if is_chat else event["type"], json.dumps(event))
        else:
            if is_chat:
                self._send_event("", "[DONE]")
        self._send_chunk(b"")

    def _wait(self, seconds: float, *, is_chat: bool) -> None:
        """Stay silent but for signs of life, which say nothing of the reply."""
        for _ in range(4 if seconds else 0):
            time.sleep(seconds / 4)
            self._send_chunk(b": alive\n\n" if is_chat else b'event: ping\ndata: {"type": "ping"}\n\n')

    def _send_event(self, name: str, data: str) -> None:
        head = f"event: {name}\n" if name else ""
        self._send_chunk(f"{head}data: {data}\n\n".encode())

    def _send_chunk(self, chunk: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def _message(answer: Scripted, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": _content(answer),
        "stop_reason": _stop_reason(answer),
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "cache_read_input_tokens": answer.cache_read_tokens,
            "cache_creation_input_tokens": answer.cache_write_tokens,
        },
    }


def _stop_reason(answer: Scripted) -> str:
    is_call = answer.code is not None and answer.stop_reason == "end_turn"
    return "tool_use" if is_call else answer.stop_reason


def _content(answer: Scripted) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
    if answer.code is not None:
        call = {"type": "tool_use", "id": answer.tool_id, "name": answer.tool}
        content.append({**call, "input": {"code": answer.code}})
    return content


def _events(answer: Scripted, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of one streamed message: start, text in pieces, delta with the stop reason, stop."""
    whole = _message(answer, body)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    if answer.text:
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "ping"}
        for start in range(0, len(answer.text), 40):
            delta = {"type": "text_delta", "text": answer.text[start : start + 40]}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}
        yield {"type": "content_block_stop", "index": 0}
    if answer.code is not None:
        at = 1 if answer.text else 0
        block = {**_content(answer)[-1], "input": {}}
        yield {"type": "content_block_start", "index": at, "content_block": block}
        output = json.dumps({"code": answer.code})
        for start in range(0, len(output), 20):
            delta = {"type": "input_json_delta", "partial_json": output[start : start + 20]}
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    stop = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": answer.output_tokens}}
    yield {"type": "message_stop"}


def _completion(answer: Scripted, body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.code is not None:
        message["tool_calls"] = [_chat_call(answer)]
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(answer)}],
        **({"usage": _chat_usage(answer)} if answer.has_usage else {}),
    }


def _pieces(answer: Scripted, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The chunks of one streamed completion: text in pieces, the end, the usage if it was asked for."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"object": "chat.completion.chunk", "model": body["model"], "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for start in range(0, len(answer.text), 40):
        yield chunk({"content": answer.text[start : start + 40]})
    if answer.code is not None:
        call = _chat_call(answer)
        output, call["function"]["arguments"] = call["function"]["arguments"], ""
        yield chunk({"tool_calls": [{"index": 0, **call}]})
        for start in range(0, len(output), 20):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": output[start : start + 20]}}]})
    yield chunk({}, _finish_reason(answer))
    if answer.has_usage and (body.get("stream_options") or {}).get("include_usage"):
        yield {"object": "chat.completion.chunk", "choices": [], "usage": _chat_usage(answer)}


def _chat_call(answer: Scripted) -> dict[str, Any]:
    function = {"name": answer.tool, "arguments": json.dumps({"code": answer.code})}
    return {"id": answer.tool_id, "type": "function", "function": function}


def _finish_reason(answer: Scripted) -> str:
    return _FINISH_REASONS.get(_stop_reason(answer), "stop")


def _chat_usage(answer: Scripted) -> dict[str, Any]:
    # A test may give anything for a count, as some servers do.
    prompt = (
        answer.input_tokens + answer.cache_read_tokens if answer.cache_read_tokens else answer.input_tokens
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cache_read_tokens},
    }


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A server for one test. Import it into a conftest.py to use it."""
    with ModelServer() as server:
        yield server
