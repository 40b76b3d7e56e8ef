"""The kernel's end of the line to the models: many requests at once. Runs inside the kernel process.

Requests carry a number; replies come in any order. One reader thread, started with the first request, passes
each reply to the thread that waits for it.
"""

from __future__ import annotations

from _thread import get_ident

from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from threading import Event, Lock
    from typing import Any

_MAX_WRITE_BYTES = 1 << 16  # requests that are written at once
# The host's limits (lm_handler): a larger request would end the kernel, so it raises an error first.
MAX_TEXT_BYTES = 64 * 1024 * 1024
MAX_MORE_BYTES = 1024 * 1024


class LLMError(Exception):
    """A sub-model call without a reply. Falsy; str() says why."""

    __module__ = "__main__"  # the name in tracebacks, as in the model's code; snapshots pin it

    def __bool__(self) -> bool:
        return False


class _Batch:
    """The requests that one call waits for."""

    def __init__(self, first_id: int, count: int, done: Event) -> None:
        self.first_id = first_id
        self.results: list[str | LLMError | None] = [None] * count
        self.notes: list[str] = []
        self.left = count
        self.done = done

    def replies(self) -> list[str | LLMError]:
        """One for each request, in order."""
        lost = LLMError("no reply came")
        return [lost if result is None else result for result in self.results]


class LmClient:
    """Asks the host's LM handler over the descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.thread_id = -1  # of the thread that reads replies
        self._next_id = 0
        self._batches: dict[int, _Batch] = {}
        self._lock: Lock | None = None
        self._sending: Lock | None = None
        self._closed = ""
        self._is_sending = False
        self._interrupted = False

    def hold_interrupt(self) -> bool:
        """Whether an interrupt must wait because half a frame is on the line; it is raised right after."""
        self._interrupted = self._is_sending
        return self._is_sending

    def ask(
        self, prompts: Sequence[str], settings: dict[str, Any] | None = None, images: bytes = b""
    ) -> list[str | LLMError]:
        """The reply to each prompt, in order, with an ``LLMError`` in place of each failed one.

        With ``settings`` (see ``query_settings``) they hold for all; replies to a schema are JSON text.
        ``images``: the bytes of those whose sizes are in the settings.
        """
        if not prompts:
            return []
        more = b"" if not settings else wire.to_json(settings).encode("ascii")
        return self._ask(
            "query", [(more, prompt.encode("utf-8", "replace") + images) for prompt in prompts]
        ).replies()

    def delegate(
        self, tasks: Sequence[tuple[dict[str, Any], bytes]]
    ) -> tuple[list[str | LLMError], list[str]]:
        """The answers of child sessions, in order, and the host's notes about them."""
        if not tasks:
            return [], []
        done = self._ask("session", [(wire.to_json(about).encode("ascii"), data) for about, data in tasks])
        return done.replies(), done.notes

    def call_tool(self, name: str, calls: Sequence[str]) -> list[str | LLMError]:
        """What the host says of each call of a tool, in order; ``calls`` hold arguments as JSON."""
        if not calls:
            return []
        more = wire.to_json({"name": name}).encode("ascii")
        return self._ask("tool", [(more, call.encode("utf-8", "replace")) for call in calls]).replies()

    def left(self) -> str:
        """The remaining budget, as JSON."""
        reply = self._ask("budget", [(b"", b"")]).replies()[0]
        if isinstance(reply, LLMError):
            raise reply
        return reply

    def past(self, pass_number: int, turn: int) -> str:
        """A committed turn of the run, as JSON. Raises ``ValueError`` if there is no such turn."""
        if type(pass_number) is not int or type(turn) is not int or min(pass_number, turn) < 1:
            raise ValueError("past takes the numbers of a pass and a turn, both from 1 on")
        text = wire.to_json([pass_number, turn]).encode("ascii")
        reply = self._ask("past", [(b"", text)]).replies()[0]
        if isinstance(reply, LLMError):
            raise ValueError(str(reply))  # noqa: TRY004 - there is no such turn
        return reply

    def check(self, content: str) -> str:
        """The host's verdict on ``content`` as an answer."""
        reply = self._ask("check", [(b"", content.encode("utf-8", "replace"))]).replies()[0]
        if isinstance(reply, LLMError):
            raise reply
        return reply

    def _ask(self, kind: str, requests: Sequence[tuple[bytes, bytes]]) -> _Batch:
        """Send all and wait for all; each request is the JSON before the text, and the text."""
        batch = self._register(len(requests))
        try:
            for data in _joined(kind, batch.first_id, requests):
                self._send(data)
            batch.done.wait()
        finally:
            self._forget(batch)
        return batch

    def _register(self, count: int) -> _Batch:
        from threading import Event

        if self._lock is None:
            self._start()
        assert self._lock is not None
        with self._lock:
            batch = _Batch(self._next_id, count, Event())
            self._next_id += count
            if self._closed:
                raise LLMError(self._closed)
            for number in range(batch.first_id, self._next_id):
                self._batches[number] = batch
        return batch

    def _start(self) -> None:
        from threading import Lock, Thread

        self._sending = Lock()
        self._lock = Lock()
        Thread(target=self._read, name="llm replies", daemon=True).start()

    def _send(self, frames: bytes) -> None:
        from threading import current_thread, main_thread

        assert self._sending is not None
        with self._sending:
            self._is_sending = current_thread() is main_thread()
            try:
                wire.write_all(self._fd, frames)
            except OSError as error:
                raise LLMError(f"the line to the models is closed ({error.strerror})") from None
            finally:
                self._is_sending = False
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _forget(self, batch: _Batch) -> None:
        assert self._lock is not None
        with self._lock:
            for number in range(batch.first_id, batch.first_id + len(batch.results)):
                self._batches.pop(number, None)

    def _read(self) -> None:
        self.thread_id = get_ident()
        decoder = wire.Decoder()
        reason = "the line to the models is closed"
        try:
            while (frame := wire.read_frame(self._fd, decoder)) is not None:
                self._deliver(frame)
        except (OSError, wire.WireError) as error:
            reason = f"the line to the models is broken ({error})"
        self._close(reason)

    def _deliver(self, frame: wire.Frame) -> None:
        assert self._lock is not None
        number = frame.header.get("id", -1)
        text = frame.payload.decode("utf-8", "replace")
        with self._lock:
            batch = self._batches.pop(number, None)
            if batch is None:
                return  # the cell that sent the request was interrupted
            ok = frame.header.get("type") == "reply"
            batch.results[number - batch.first_id] = text if ok else LLMError(text)
            if note := frame.header.get("note"):
                batch.notes.append(note)
            batch.left -= 1
            if not batch.left:
                batch.done.set()

    def _close(self, reason: str) -> None:
        assert self._lock is not None
        with self._lock:
            self._closed = reason
            for batch in self._batches.values():
                batch.done.set()
            self._batches.clear()


def _joined(kind: str, first_id: int, requests: Sequence[tuple[bytes, bytes]]) -> Iterable[bytes]:
    """The frames of all requests; many small ones are written at once."""
    frames, size = [], 0
    for number, (more, text) in enumerate(requests, first_id):
        if len(more) > MAX_MORE_BYTES or len(more) + len(text) > MAX_TEXT_BYTES:
            raise ValueError(f"one request of {len(more) + len(text):,} bytes is too large: send less text")
        header = {"type": kind, "id": number} | ({"more": len(more)} if more else {})
        frames.append(wire.encode(header, more + text))
        size += len(frames[-1])
        if size > _MAX_WRITE_BYTES:
            yield b"".join(frames)
            frames, size = [], 0
    yield b"".join(frames)
