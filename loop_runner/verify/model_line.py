"""How a verifier in the sandbox asks models: it sends requests on a socket, and the runner makes them.

Owns the messages in both directions: a length, then JSON. The runner trusts only the text of a request. It
asks only the models that the verifier declared, in the way jurors are asked, so that every reply is charged,
kept and found again. Runs in the runner (``ModelLine``) and in the sandbox (``RemotePanel``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from loop_runner.errors import ModelError
from loop_runner.records import ChildRecord, Message, Reply, Request
from loop_runner.verify.verifier import Inquiry, Panel, PanelSpent

_HEAD = struct.Struct(">I")
_MAX_BYTES = 16 * 1024 * 1024
_MAX_AT_ONCE = 64
_MAX_NUMBER = 63
_MAX_REPLY_TOKENS = 32_768


class BadMessage(Exception):  # noqa: N818 - ends the line
    """The received bytes are not a request."""


def _send(line: socket.socket, message: Mapping[str, Any]) -> None:
    data = json.dumps(message).encode()
    line.sendall(_HEAD.pack(len(data)) + data)


def _receive(line: socket.socket) -> dict[str, Any] | None:
    """The next message; None at the end."""
    head = _exactly(line, _HEAD.size)
    if head is None:
        return None
    (size,) = _HEAD.unpack(head)
    if size > _MAX_BYTES or (data := _exactly(line, size)) is None:
        raise BadMessage
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadMessage from error
    if not isinstance(message, dict):
        raise BadMessage
    return message


def _exactly(line: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = line.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


# ── in the runner ───────────────────────────────────────────────────────────────────────────────────


class ModelLine:
    """The runner's end: answers requests until the verifier's process has ended.

    ``models`` are those that the verifier declared; "" is the run's root model. On exit, the context manager
    waits for a reply that is still pending, because it is paid for, and closes both ends.
    """

    def __init__(self, panel: Panel | None, models: Sequence[str]) -> None:
        self._panel = panel
        self._models = {model or (panel.model if panel else "") for model in models}
        self._here, self._there = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="verifier's models", daemon=True)
        self.replies: list[dict[str, Any]] = []  # fingerprint, number and model of each reply
        self.spent = ""  # the limit that stopped a request
        self.error = ""  # why a model did not reply

    @property
    def fd(self) -> int:
        """The verifier's end."""
        return self._there.fileno()

    @property
    def model(self) -> str:
        """The run's root model."""
        return self._panel.model if self._panel is not None else ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._there.close()
        with contextlib.suppress(OSError):
            self._here.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._here.close()

    def _serve(self) -> None:
        try:
            while (message := _receive(self._here)) is not None:
                _send(self._here, self._reply(message))
        except (BadMessage, OSError):
            return

    def _reply(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if message.get("known") is not None:
                request, _ = self._request(message["known"])
                return {"known": self._required().known(request)}
            listed = message.get("ask")
            if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_AT_ONCE:
                raise BadMessage
            requests = [self._request(item) for item in listed]
            replies = self._required().ask_all(requests)
        except PanelSpent as spent:
            self.spent = self.spent or str(spent)
            return {"spent": str(spent)}
        except ModelError as error:
            self.error = self.error or error.message
            return {"error": error.message}
        self.replies += [
            {"fingerprint": request.fingerprint(), "number": number, "model": request.model}
            for request, number in requests
        ]
        return {"replies": [{"text": reply.text, "stop_reason": reply.stop_reason} for reply in replies]}

    def _required(self) -> Panel:
        if self._panel is None:
            raise ModelError("no model can be asked here")
        return self._panel

    def _request(self, item: object) -> tuple[Request, int]:
        """A request like a juror's, whatever else the message contains."""
        match item:
            case {
                "model": str(model),
                "messages": [*messages],
                "system": str(system),
                "max_output_tokens": int(tokens),
                "number": int(number),
            } if 0 <= number <= _MAX_NUMBER and 0 < tokens <= _MAX_REPLY_TOKENS:
                model = model or self.model
            case _:
                raise BadMessage
        if model not in self._models:
            raise ModelError(f"the verifier asks {model}, which `models()` does not name")
        texts = tuple(map(_message, messages))
        return Request(model, texts, system, max_output_tokens=tokens, kind="judge"), number


def _message(item: object) -> Message:
    match item:
        case {"role": "user", "text": str(text)}:
            return Message("user", text)
        case {"role": "assistant", "text": str(text)}:
            return Message("assistant", text)
    raise BadMessage


# ── in the sandbox ──────────────────────────────────────────────────────────────────────────────────


class RemotePanel:
    """A ``Panel`` at the other end of the line. ``model`` is the run's root model."""

    def __init__(self, fd: int, model: str) -> None:
        self.model = model
        self._line = socket.socket(fileno=fd)
        self._line.set_inheritable(False)  # only the verifier's own process may use it
        os.register_at_fork(after_in_child=self._line.close)
        self._lock = threading.Lock()

    def known(self, request: Request) -> int:
        """See ``Panel``."""
        return int(self._exchange({"known": _item(request, 0)})["known"])

    def ask(self, request: Request, number: int = 0) -> Reply:
        """See ``Panel``."""
        return self.ask_all([(request, number)])[0]

    def ask_all(self, requests: Sequence[tuple[Request, int]]) -> list[Reply]:
        """See ``Panel``."""
        if not requests:
            return []
        answer = self._exchange({"ask": [_item(request, number) for request, number in requests]})
        return [Reply(reply["text"], stop_reason=reply["stop_reason"]) for reply in answer["replies"]]

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """See ``Panel``."""
        return None

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """See ``Panel``. Raises ``ModelError``: a package's verifier may only send single requests."""
        raise ModelError(f"{len(inquiries)} sessions cannot be held for the verifier of a package")

    def _exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        try:
            with self._lock:
                _send(self._line, message)
                answer = _receive(self._line)
        except (OSError, BadMessage) as error:
            raise ModelError("the runner did not answer a request of the verifier") from error
        if answer is None:
            raise ModelError("the runner refused a request of the verifier: it is malformed")
        if "spent" in answer:
            raise PanelSpent(answer["spent"])
        if "error" in answer:
            raise ModelError(answer["error"])
        return answer


def _item(request: Request, number: int) -> dict[str, Any]:
    return {
        "model": request.model,
        "messages": [{"role": message.role, "text": message.text} for message in request.messages],
        "system": request.system,
        "max_output_tokens": request.max_output_tokens,
        "number": number,
    }
