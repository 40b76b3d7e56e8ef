"""An OpenAI-compatible server on loopback that misbehaves in one way at a time; each way has a name."""

from __future__ import annotations

import functools
import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

GOOD = "the answer is 42"
Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What goes over the line."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: Any = GOOD, **changes: Any) -> Body:
    """A whole completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "choices": [choice],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
        "model": "m",
        **changes,
    }


def delta(text: Any = None, finish: Any = None, **changes: Any) -> Body:
    """A piece of a stream."""
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return {"choices": [choice], "model": "m", **changes}


def sse(*pieces: Any, end: str = "data: [DONE]\n\n", newline: str = "\n", space: str = " ") -> bytes:
    """A stream of these events."""
    lines = [piece if isinstance(piece, str) else f"data:{space}{json.dumps(piece)}\n\n" for piece in pieces]
    return ("".join(lines) + end).replace("\n", newline).encode()


def stream(data: bytes, kind: str = "text/event-stream") -> Answer:
    return Answer(body=data, kind=kind)


def js(data: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(data).encode(), headers=headers)


def refusal(message: Any, status: int = 400, **fields: Any) -> Answer:
    return js({"error": {"message": message, **fields}}, status)


def good(body: Body) -> Answer:
    """What a server that behaves answers."""
    if body.get("stream"):
        return stream(sse(delta("the answer"), delta(" is 42"), delta(finish="stop")))
    return js(completion())


def refuses(is_bad: Callable[[Body], bool], answer: Answer) -> Callable[[Body, int], Answer]:
    """Answers with a refusal for as long as the request is as it is."""
    return lambda body, _: answer if is_bad(body) else good(body)


def once(answer: Answer) -> Callable[[Body, int], Answer]:
    """Misbehaves at the first request only."""
    return lambda body, number: answer if number == 1 else good(body)


def always(answer: Answer) -> Callable[[Body, int], Answer]:
    return lambda _body, _number: answer


def has(name: str) -> Callable[[Body], bool]:
    return lambda body: name in body


def has_system(body: Body) -> bool:
    return any(item["role"] == "system" for item in body["messages"])


def repeats_roles(body: Body) -> bool:
    roles = [item["role"] for item in body["messages"]]
    return roles[0] != "user" or any(first == two for first, two in pairwise(roles))


@functools.cache
def bomb(megabytes: int, text: bytes = b" ") -> bytes:
    """So much of one text, packed with gzip, without ever being whole in memory."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = text * (2**20 // len(text))
    return b"".join([packing.compress(piece) for _ in range(megabytes)]) + packing.flush()


@contextmanager
def misbehaving(behave: Callable[[Body, int], Answer]) -> Iterator[tuple[str, list[Body]]]:
    """The server's address, and the requests that it was sent."""
    requests: list[Body] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            answer = behave(requests[-1], len(requests))
            self.send_response(answer.status)
            self.send_header("content-type", answer.kind)
            self.send_header("connection", "close")
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Tests read the requests instead."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up early is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def gzipped(answer: Answer) -> Answer:
    return Answer(answer.status, gzip.compress(answer.body), answer.kind, {"content_encoding": "gzip"})
