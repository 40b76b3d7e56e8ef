"""Writes the child's results to its standard output, and counts them.

A frame is a line of JSON followed by ``size`` bytes. The host trusts none of it and has its own limits;
these limits only give a clear reason for a document that is too large.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

NO_TEXT = "it holds no text"
ONLY_PICTURES = "it holds no text: only pictures, perhaps (text recognition would give it some)"
# What is reported of a document that was read.
NO_TEXT_ON = (
    'no text on {pages}: only pictures (a model that reads images can be shown them: images=["NAME#page=N"])'
)
BLANK = "nothing on {pages}"
RUN_TOGETHER = "words run together on {pages}, it seems: search there for parts of words"
_MAX_LABEL_CHARS = 80
_BREAKS = re.compile(r"\r\n?|\x0b|\x0c|\x85|\u2028|\u2029")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for one original."""

    seconds: float = 60.0
    memory_bytes: int = 2 << 30  # address space of the reading process, which uses far less
    original_bytes: int = 512 << 20
    text_bytes: int = 64 << 20  # of one text
    total_bytes: int = 256 << 20  # of all texts of one original; also: unpacked from one archive
    members: int = 10_000
    ratio: int = 300  # unpacked to packed, of a member over 10 MB
    depth: int = 3  # archives in archives, attachments in messages
    path_chars: int = 400
    path_parts: int = 32
    pages: int = 20_000
    places: int = 20_000
    skipped: int = 200  # lines about members that were left out


class Refused(Exception):  # noqa: N818 - the reason, as a person is told it
    """Why a document, or a member of one, gives no text."""


class TooMuch(Refused):
    """The original's limit is reached: nothing more is taken from it."""


class Sink:
    """Takes the texts of one original."""

    def __init__(self, out: IO[bytes], limits: Limits) -> None:
        self._out = out
        self._limits = limits
        self._total = 0
        self._skipped = 0
        self.texts = 0
        self.about: dict[str, str] = {}  # added to every text: the repository file that it comes from

    def frame(self, body: bytes = b"", **header: Any) -> None:
        """Write one frame."""
        header["size"] = len(body)
        self._out.write(json.dumps(header).encode() + b"\n" + body)

    def text(
        self,
        member: str,
        kind: str,
        data: bytes,
        places: list[tuple[int, str]],
        *,
        as_is: bool = False,
        headings: Sequence[tuple[int, int, str]] = (),
    ) -> None:
        """One text, decoded as UTF-8; ``as_is``: it equals the original byte for byte."""
        if not data.strip():
            raise Refused(NO_TEXT)
        if len(data) > self._limits.text_bytes:
            raise Refused(f"too large: more than {_mb(self._limits.text_bytes)} of text")
        self._total += len(data)
        if self._total > self._limits.total_bytes:
            raise TooMuch(f"too large: more than {_mb(self._limits.total_bytes)} of text in all")
        self.texts += 1
        kept = places[: self._limits.places]
        header: dict[str, Any] = {"member": member, "kind": kind, "places": kept, "as_is": as_is}
        if headings:
            header["headings"] = headings
        self.frame(data, type="text", **header, **self.about)

    def sections(
        self,
        member: str,
        kind: str,
        sections: Iterable[tuple[str, str]],
        headings: Sequence[tuple[int, int, str]] = (),
    ) -> None:
        """One text from (label, text) pairs, each beginning on a new line.

        ``headings`` are (line, level, title), as the document itself lists them.
        """
        parts: list[bytes] = []
        places: list[tuple[int, str]] = []
        line, size = 1, 0
        for label, text in sections:
            body = clean(text.removeprefix("\ufeff")).encode("utf-8", "replace")
            if not body.endswith(b"\n"):
                body += b"\n"
            if label:
                places.append((line, label[:_MAX_LABEL_CHARS]))
            parts.append(body)
            line += body.count(b"\n")
            size += len(body)
            if size > self._limits.text_bytes:
                raise Refused(f"too large: more than {_mb(self._limits.text_bytes)} of text")
        self.text(member, kind, b"".join(parts), places, headings=headings)

    def skip(self, member: str, why: str) -> None:
        """Report why a member gives no text; after many of them, only that there are more."""
        self._skipped += 1
        if self._skipped <= self._limits.skipped:
            self.frame(type="skip", member=member[:500], why=why[:500])
        elif self._skipped == self._limits.skipped + 1:
            self.frame(type="skip", member="", why=f"too many: more than {self._limits.skipped} are left out")


def clean(text: str) -> str:
    """Lines that end at line feeds only, and no NUL."""
    return _BREAKS.sub("\n", text).replace("\0", "\ufffd")


def _mb(size: int) -> str:
    return f"{size / (1 << 20):.0f} MB"
