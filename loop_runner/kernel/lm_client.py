"""The kernel's end of the line to the models: many requests at once. Runs inside the kernel process.

Requests carry a number; replies come in any order. One reader thread, started with the first request, hands
each reply to the thread that waits for it.
"""

from __future__ import annotations

from _thread import get_ident

from loop_runner.kernel import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event, Lock


class LLMError(Exception):
    """A sub-model call that gave no reply."""

    __module__ = "__main__"  # tracebacks name it as the model's code does; snapshots pin it


class _Batch:
    """Requests that one call waits for."""

    def __init__(self, first_id: int, count: int, done: Event) -> None:
        self.first_id = first_id
        self.results: list[str | LLMError | None] = [None] * count
        self.left = count
        self.done = done


class LmClient:
    """Asks the host's LM handler over the descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._recorded: dict[str, list[str]] | None = None
        self.thread_id = -1  # of the thread that reads replies
        self._next_id = 0
        self._batches: dict[int, _Batch] = {}
        self._lock: Lock | None = None
        self._sending: Lock | None = None
        self._closed = ""
        self._is_sending = False
        self._interrupted = False

    def hold_interrupt(self) -> bool:
        """Whether an interrupt must wait, because half a frame is on the line; it is raised right after."""
        self._interrupted = self._is_sending
        return self._is_sending

    def ask(self, prompts: Sequence[str]) -> list[str | LLMError]:
        """The reply to each prompt, in order; an ``LLMError`` in the place of one that failed."""
        if not prompts:
            return []
        if self._recorded is not None:
            return [self._take_recorded(prompt) for prompt in prompts]
        batch = self._register(len(prompts))
        try:
            for number, prompt in enumerate(prompts, batch.first_id):
                self._send(wire.encode({"type": "query", "id": number}, prompt.encode("utf-8", "replace")))
            batch.done.wait()
        finally:
            self._forget(batch)
        lost = LLMError("no reply came")
        return [lost if result is None else result for result in batch.results]

    def serve(self, replies: list[tuple[str, str]] | None) -> None:
        """Answer from ``replies`` (prompt, reply), each once, and ask nobody; None: ask the host again."""
        self._recorded = None if replies is None else {}
        for prompt, reply in replies or ():
            assert self._recorded is not None
            self._recorded.setdefault(prompt, []).append(reply)

    def _take_recorded(self, prompt: str) -> str:
        assert self._recorded is not None
        left = self._recorded.get(prompt.encode("utf-8", "replace").decode())
        if not left:
            from loop_runner.kernel.replay import NotRepeatableError

            raise NotRepeatableError("a cell that is needed for it asks the sub-model something new")
        return left.pop(0)

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

    def _send(self, frame: bytes) -> None:
        from threading import current_thread, main_thread

        assert self._sending is not None
        with self._sending:
            self._is_sending = current_thread() is main_thread()
            try:
                wire.write_all(self._fd, frame)
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
                return  # the cell that asked was interrupted
            ok = frame.header.get("type") == "reply"
            batch.results[number - batch.first_id] = text if ok else LLMError(text)
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
