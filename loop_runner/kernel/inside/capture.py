"""The output of the model's code, kept in order and within a cap. Runs inside the kernel process.

``sys.stdout`` and ``sys.stderr`` are both a ``Capture`` on one ``Kept``, so output to either, from any
thread, keeps the order in which it was written.
"""

from __future__ import annotations

import io
from _thread import allocate_lock

MAX_KEPT_CHARS = 8 * 1024 * 1024
_MANY_PIECES = 4096


class Kept:
    """A text that may grow without end: its first and last part, each up to half of ``cap`` characters."""

    def __init__(self, cap: int = MAX_KEPT_CHARS) -> None:
        self._half = max(cap // 2, 1)
        self._lock = allocate_lock()
        self._clear()

    def _clear(self) -> None:
        self._head = io.StringIO()
        self._head_room = self._half
        self._tail: list[str] = []
        self._tail_chars = 0
        self._missing = 0

    def add(self, text: str) -> None:
        """Append ``text``; anything between head and tail is dropped and counted."""
        with self._lock:
            if self._head_room:
                part = text if len(text) <= self._head_room else text[: self._head_room]
                self._head.write(part)
                self._head_room -= len(part)
                text = text[len(part) :]
            if text:
                self._add_to_tail(text)

    def _add_to_tail(self, text: str) -> None:
        if len(text) > self._half:
            self._missing += len(text) - self._half
            text = text[-self._half :]
        self._tail.append(text)
        self._tail_chars += len(text)
        if self._tail_chars > 2 * self._half or len(self._tail) > _MANY_PIECES:
            self._trim()

    def _trim(self) -> None:
        joined = "".join(self._tail)
        extra = max(len(joined) - self._half, 0)
        self._missing += extra
        self._tail = [joined[extra:]]
        self._tail_chars = len(joined) - extra

    def take(self) -> tuple[str, int]:
        """The text so far, with a line where some is missing, and how much is missing; then start anew."""
        with self._lock:
            if self._tail:
                self._trim()
            missing = self._missing
            gap = f"\n[… {missing:,} characters were not kept …]\n" if missing else ""
            text = self._head.getvalue() + gap + "".join(self._tail)
            self._clear()
        return text, missing


class Capture(io.TextIOBase):
    """A text stream into a ``Kept``. Closing does nothing; ``fileno`` is for programs that print."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, kept: Kept, fd: int, name: str) -> None:
        self._kept = kept
        self._fd = fd
        self.name = name

    @property
    def buffer(self) -> CaptureBytes:
        """Takes bytes, as ``sys.stdout.buffer`` does."""
        return CaptureBytes(self._kept)

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Keep ``text``."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if type(text) is not str:
            shown = getattr(type(text), "printed_form", None)  # of what a tool returned
            text = str.__str__(text if shown is None else shown(text))
        self._kept.add(text)
        return len(text)

    def fileno(self) -> int:
        """The raw descriptor, for programs that are given the stream."""
        return self._fd

    def close(self) -> None:
        """Stay open: the next cell prints too."""


class CaptureBytes(io.RawIOBase):
    """The bytes side of a ``Capture``."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Keep ``data`` as text."""
        self._kept.add(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)
