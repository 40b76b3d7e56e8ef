"""Two providers on 127.0.0.1, played from a script: Anthropic's Messages and OpenAI's Responses, as streams.

A reply is a text, or ``Tool`` for a shell command that the client is to run, or an HTTP error. When the
script is used up, the last text is said again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Tool:
    """The model asks for a shell command."""

    command: str


@dataclass(frozen=True)
class Call:
    """The model calls a tool by its name. ``namespace`` is Codex's, for the tools of one server."""

    name: str
    arguments: dict[str, Any]
    namespace: str = ""


@dataclass(frozen=True)
class Refused:
    """The provider answers with an error."""

    status: int = 400


Reply = str | Tool | Call | Refused


class Provider:
    """Use as a context manager. ``requests`` are the bodies that came, in order."""

    def __init__(self, replies: Iterable[Reply] = ()) -> None:
        self.replies = list(replies)
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self._last: Reply = "nothing left to say"
        handler = type("_Bound", (_Handler,), {"provider": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Without ``/v1``."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def take(self, body: dict[str, Any]) -> Reply:
        """Note a request and give its reply."""
        with self.lock:
            self.requests.append(body)
            if self.replies:
                reply = self.replies.pop(0)
                self._last = reply if isinstance(reply, str) else self._last
                return reply
            return self._last

    def texts(self) -> list[str]:
        """What each request said last, as JSON text."""
        return [json.dumps(body.get("messages") or body.get("input")) for body in self.requests]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    provider: ClassVar[Provider]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._say(200, b"", "text/plain")

    def do_GET(self) -> None:
        self._say(404, b"{}", "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        if path == "/v1/messages":
            make = _messages
        elif path == "/v1/responses":
            make = _responses
        else:
            self._say(404, b"{}", "application/json")
            return
        reply = self.provider.take(body)
        if isinstance(reply, Refused):
            error = {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "refused by the test"},
            }
            self._say(reply.status, json.dumps(error).encode(), "application/json")
            return
        events = make(reply, len(self.provider.requests))
        data = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self._say(200, data.encode(), "text/event-stream")

    def _say(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def _messages(reply: str | Tool | Call, number: int) -> list[dict[str, Any]]:
    """The events of a Messages stream."""
    if isinstance(reply, Call):
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": reply.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(reply.arguments)}
        reason = "tool_use"
    elif isinstance(reply, Tool):
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": {}}
        text = json.dumps({"command": reply.command, "description": "as the script says"})
        delta = {"type": "input_json_delta", "partial_json": text}
        reason = "tool_use"
    else:
        block, delta, reason = {"type": "text", "text": ""}, {"type": "text_delta", "text": reply}, "end_turn"
    message: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "test",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def _responses(reply: str | Tool | Call, number: int) -> list[dict[str, Any]]:
    """The events of a Responses stream."""
    if isinstance(reply, Call):
        item: dict[str, Any] = {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": reply.name,
            "arguments": json.dumps(reply.arguments),
            **({"namespace": reply.namespace} if reply.namespace else {}),
        }
    elif isinstance(reply, Tool):
        arguments = json.dumps({"command": ["sh", "-c", reply.command], "cmd": reply.command})
        item = {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": "exec_command",
            "arguments": arguments,
        }
    else:
        part = {"type": "output_text", "text": reply, "annotations": []}
        item = {"type": "message", "id": f"m_{number}", "role": "assistant", "content": [part]}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return [
        {"type": "response.created", "response": {"id": f"resp_{number}"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": f"resp_{number}", "usage": usage}},
    ]
