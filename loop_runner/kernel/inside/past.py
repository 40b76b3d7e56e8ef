"""A turn of an earlier pass, as `past()` returns it. Runs inside the kernel process."""

from __future__ import annotations

from . import shown


class PastTurn:
    """A committed turn; print() it to read it."""

    def __init__(self, name: str, reply: str, code: str, output: str, end: str) -> None:
        """``code`` is "" if the reply held none; ``end``: ok, raised, timed_out, died or no_code."""
        self.name, self.reply, self.code, self.output, self.end = name, reply, code, output, end

    def __repr__(self) -> str:
        """The code (or the reply, if it held none) and the output."""
        sent = f"code:\n{self.code}" if self.code else f"reply:\n{self.reply}"
        lines = f"{self.name} ({self.end})\n{sent.rstrip()}\noutput:\n{self.output}".split("\n")
        return shown.cut_lines(
            [line[: shown.max_chars()] for line in lines], lambda _: "see .code and .output of past()"
        )
