"""Where a running loop listens for stop hooks: a loopback address, for the command and Claude's HTTP form.

Owns the token and the file that tells hooks of this run where to ask. Whoever asks must know the token; all
that is answered is a decision. Never decides: it hands events to whoever was given, in a thread each.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from loop_runner.agents import protocol
from loop_runner.agents.call import ADDRESS_FILE, SOURCE_HEADER
from loop_runner.agents.protocol import ALLOW, Decision, Event

_MAX_PAYLOAD_BYTES = 16 * 2**20


class Endpoint:
    """Listens for the hooks of the run in ``run_folder`` until ``close``.

    ``answer`` is given the event and which hook asks: of two that are set up in one client, each asks once.
    """

    def __init__(self, run_folder: Path, answer: Callable[[Event, str], Decision]) -> None:
        self.token = secrets.token_urlsafe(24)
        handler = type("_Bound", (_Handler,), {"token": self.token, "answer": staticmethod(answer)})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()
        self._file = run_folder.absolute() / ADDRESS_FILE
        self._write()

    @property
    def url(self) -> str:
        """The address for Claude Code's hooks of the type ``http``."""
        return f"http://127.0.0.1:{self._server.server_port}/stop/{self.token}"

    def close(self) -> None:
        """Stop listening. Whoever still waits for a decision must have been answered before."""
        self._file.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"port": self._server.server_port, "token": self.token, "pid": os.getpid()}, file)
        new.replace(self._file)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a client that went away while it waited


class _Handler(BaseHTTPRequestHandler):
    token: ClassVar[str]
    answer: ClassVar[Callable[[Event, str], Decision]]

    def do_POST(self) -> None:
        """A hook's payload in, what the client is to read out."""
        token = self.path.removeprefix("/stop/")
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            self.send_error(404)
            return
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= _MAX_PAYLOAD_BYTES:
            self.send_error(413)
            return
        event, source = protocol.read(self.rfile.read(size)), self.headers.get(SOURCE_HEADER, "http")
        decision = ALLOW if event is None or event.kind == "other" else type(self).answer(event, source)
        body = json.dumps(protocol.write(event.client if event else "", decision)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: what happened is in the trace."""
