"""Cuts a text into pieces: by its parts, by its rows, or by size."""

from __future__ import annotations

from bisect import bisect_right

from . import structure
from .reading import Chunk
from .structure import Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def cut_by(
    by: str, name: str, text: str, size: int, headings: Sequence[tuple[int, int, str]] = ()
) -> list[Chunk]:
    """``text`` in pieces that begin where its parts do; those over ``size`` characters are cut further."""
    if size < 1:
        raise ValueError("chunks needs size >= 1")
    if by == "row":
        return _cut_rows(name, text, size, quoted=structure.kind_of(name, text) in ("csv", "tsv"))
    if by == "heading":
        marks = [Mark(*heading) for heading in headings] or structure.headings(text)
    elif by == "function":
        marks = [mark for mark in structure.definitions(name or "text.py", text) if mark.level == 1]
    else:
        raise ValueError(f"chunks takes by='size', 'heading', 'function' or 'row', not {by!r:.40}")
    lines = text.split("\n")
    firsts = sorted(
        {
            0,
            *(
                _with_what_is_above(lines, mark.line - 1) if by == "function" else mark.line - 1
                for mark in marks
            ),
        }
    )
    pieces: list[Chunk] = []
    for first, end in zip(firsts, [*firsts[1:], len(lines)], strict=True):
        piece = "\n".join(lines[first:end]) + ("\n" if end < len(lines) else "")
        pieces += cut_chunks(piece, size, 0, name=name, line=first + 1)
    return pieces


def _with_what_is_above(lines: Sequence[str], index: int) -> int:
    """The first line of the decorators and comments directly above a definition."""
    while index and lines[index - 1].startswith(("@", "#", "//", "/*", " *", "*/", "--", "[", "template")):
        index -= 1
    return index


def _cut_rows(name: str, text: str, size: int, *, quoted: bool) -> list[Chunk]:
    """As many whole rows as fit; of CSV, each piece begins with the row that names the columns."""
    starts = structure.row_starts(text, quoted=quoted)
    ends = [*starts[1:], len(text)]
    head = text[: ends[0]] if quoted and len(starts) > 1 else ""
    pieces, first, line = [], 1 if head else 0, 1 + head.count("\n")
    while first < len(starts):
        last = max(bisect_right(ends, starts[first] + size - len(head)) - 1, first)
        rows = text[starts[first] : ends[last]]
        pieces.append(Chunk(head + rows, name, line))
        first, line = last + 1, line + rows.count("\n")
    return [piece for piece in pieces if piece]


def cut_chunks(text: str, size: int, overlap: int, *, name: str = "", line: int = 1) -> list[Chunk]:
    """``text`` in pieces of at most ``size`` characters, cut between lines where a line ends in time.

    Without ``overlap`` the joined pieces equal the text; with it, each begins up to that many characters
    early.
    ``line``: the number of the first line of ``text`` in the text ``name``.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError("chunks needs size >= 1 and 0 <= overlap < size")
    pieces, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            end = text.rfind("\n", start + overlap, end) + 1 or end
        pieces.append(Chunk(text[start:end], name, line))
        if end == len(text):
            break
        back = max(end - overlap, start + 1)
        after = end if not overlap else (text.find("\n", back - 1, end - 1) + 1 or back)
        line += text.count("\n", start, after)
        start = after
    return pieces
