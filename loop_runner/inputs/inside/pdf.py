"""Turns a PDF into the texts of its pages, with the headings that it lists, using PDFium.

Gaps in the text are reported: pages that are pictures, and words without spaces between them. Values of form
fields are part of a page's text.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

from loop_runner.inputs.inside.kinds import MAX_IMAGE_BYTES
from loop_runner.inputs.inside.sink import (
    BLANK,
    NO_TEXT_ON,
    ONLY_PICTURES,
    RUN_TOGETHER,
    Limits,
    Refused,
    Sink,
    clean,
)

_JOINED = 25  # letters; hardly any word has so many
_JOINED_SHARE = 0.05  # of a page's letters
_MOST = 0.5
_MAX_HEADINGS = 5000
_MAX_TITLE_CHARS = 160
_MAX_DEPTH = 15
_SHOWN_PAGES = 12
_SIDE = 1568  # pixels; larger pictures are made smaller by providers
_SMALLEST_SIDE = 400
_MAX_SCALE = 6.0  # of a page of the size of a stamp
_LETTERS = re.compile(r"[^\W\d_]+")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")  # inside an identifier such as RequirePackageWithOptions
# PDFium writes U+FFFE for a hyphen at the end of a line and omits the line end.
_HYPHENATED = re.compile("([^\\W_]+)\ufffe([^\\W_]+)")
_COMPOUND = re.compile(r"[^\W_]+(?:-[^\W_]+)+")

Headings = list[tuple[int, int, str]]


def read(file: IO[bytes], sink: Sink, member: str, limits: Limits) -> None:
    """Every page begins on a new line, so that each line belongs to one page."""
    document = _opened(file)
    count = len(document)
    if count > limits.pages:
        raise Refused(f"too large: it has {count:,} pages, at most {limits.pages:,} are read")
    if not count:
        raise Refused("broken: it has no pages")
    if document.get_formtype():
        document.init_forms()
    blank: list[int] = []
    pictures: list[int] = []
    pages: list[str] = []
    for number in range(1, count + 1):
        text, has_objects = _page(document, number, sink, member)
        pages.append(text)
        if not text.strip():
            (pictures if has_objects else blank).append(number)
    pages = _without_line_end_hyphens(pages)
    if not any(text.strip() for text in pages):
        raise Refused(ONLY_PICTURES)
    labelled = [(f"page {number}", text) for number, text in enumerate(pages, 1)]
    sink.sections(member, "pdf", labelled, _headings(document, pages))
    joined = [number for number, text in enumerate(pages, 1) if has_joined_words(text)]
    for reason, numbers in ((NO_TEXT_ON, pictures), (BLANK, blank), (RUN_TOGETHER, joined)):
        if numbers:
            sink.skip(member, reason.format(pages=_named(numbers, count)))


def _opened(file: IO[bytes]) -> Any:
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise Refused("encrypted: it opens with a password only") from None
        if code == pypdfium2.raw.FPDF_ERR_SECURITY:
            raise Refused("encrypted: in a way that cannot be read here") from None
        raise Refused("broken: it is damaged, or it is not a PDF") from None


def render(file: IO[bytes], number: int) -> bytes:
    """A picture of the page ``number`` (from 1), as PNG: small enough for the providers of models."""
    document = _opened(file)
    if not 1 <= number <= len(document):
        raise Refused(f"it has {len(document):,} pages, and no page {number}")
    if document.get_formtype():
        document.init_forms()
    page, side = document[number - 1], _SIDE
    while True:
        bitmap = page.render(scale=min(side / max(*page.get_size(), 1), _MAX_SCALE), rev_byteorder=True)
        data = _png(bitmap.width, bitmap.height, bitmap.n_channels, bitmap.stride, bytes(bitmap.buffer))
        if len(data) <= MAX_IMAGE_BYTES or side < _SMALLEST_SIDE:
            return data
        side = side * 3 // 4


def _png(width: int, height: int, channels: int, stride: int, pixels: bytes) -> bytes:
    rows = (pixels[at * stride : at * stride + width * channels] for at in range(height))
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _page(document: Any, number: int, sink: Sink, member: str) -> tuple[str, bool]:
    """The text of a page, and whether anything is drawn on it."""
    import pypdfium2

    try:
        page = document[number - 1]
        if document.formenv and pypdfium2.raw.FPDFPage_Flatten(page, 1) == pypdfium2.raw.FLATTEN_SUCCESS:
            page = document[number - 1]  # now includes the values of its form fields
        text = page.get_textpage().get_text_range()
        return clean(text), pypdfium2.raw.FPDFPage_CountObjects(page) > 0
    except pypdfium2.PdfiumError as error:
        sink.skip(f"{member}:page {number}".lstrip(":"), f"broken: {error}")
        return "", False


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


def _without_line_end_hyphens(pages: Sequence[str]) -> list[str]:
    """Join words that are hyphenated at a line end; a compound found elsewhere keeps its hyphen."""
    if not any("\ufffe" in text for text in pages):
        return list(pages)
    compounds = {match[0].casefold() for text in pages for match in _COMPOUND.finditer(text)}

    def whole(match: re.Match[str]) -> str:
        is_compound = f"{match[1]}-{match[2]}".casefold() in compounds
        return f"{match[1]}-{match[2]}" if is_compound else f"{match[1]}{match[2]}"

    return [_HYPHENATED.sub(whole, text).replace("\ufffe", "-") for text in pages]


def has_joined_words(text: str) -> bool:
    """Whether a text seems to lack spaces between words; never for scripts that use none."""
    letters = joined = words = 0
    for match in _LETTERS.finditer(text):
        count = len(match[0])
        letters += count
        if count >= _JOINED and _has_case(match[0]):
            parts = [len(part) for part in _CAPITAL.split(match[0]) if len(part) >= _JOINED]
            joined += sum(parts)
            words += len(parts)
    share = _JOINED_SHARE if words > 1 else _MOST  # one long word is suspicious only if there is nothing else
    return words > 0 and joined >= share * letters


def _has_case(word: str) -> bool:
    return sum(char.lower() != char.upper() for char in word) > len(word) // 2


def _named(numbers: Sequence[int], count: int) -> str:
    """Name pages: ``page 2 of 5``, ``pages 2-4 and 7 of 20``, ``83 of 120 pages``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    if len(spans) > _SHOWN_PAGES:
        return f"{len(numbers):,} of {count:,} pages"
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in spans]
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{'page' if len(numbers) == 1 else 'pages'} {listed} of {count:,}"


# ── headings ────────────────────────────────────────────────────────────────────────────────────────


def _headings(document: Any, pages: Sequence[str]) -> Headings:
    """The bookmarks as (line, level from 1, title): each on the line of its page that shows the title."""
    firsts, line = [], 1
    for text in pages:
        firsts.append(line)
        line += text.count("\n") + (not text.endswith("\n"))
    headings: Headings = []
    line = 1
    for level, title, index in _bookmarks(document):
        if title and 0 <= index < len(pages):
            start = firsts[index]
            line = start + _line_of(title, pages[index].split("\n"), max(line - start, 0))
            headings.append((line, level + 1, title))
    return sorted(headings, key=lambda heading: heading[0])


def _bookmarks(document: Any) -> Iterator[tuple[int, str, int]]:
    import pypdfium2

    try:
        for count, bookmark in enumerate(document.get_toc(max_depth=_MAX_DEPTH)):
            if count == _MAX_HEADINGS:
                return
            target = bookmark.get_dest()
            index = target.get_index() if target is not None else None
            title = " ".join(clean(bookmark.get_title()).replace("\ufffe", "").split())[:_MAX_TITLE_CHARS]
            yield bookmark.level, title, -1 if index is None else index
    except pypdfium2.PdfiumError:
        return  # a damaged tree of bookmarks: those before the damage are kept


def _line_of(title: str, lines: Sequence[str], start: int) -> int:
    """The index of the line that shows ``title``, also after its number.

    The search begins at ``start`` (the heading before it), then covers everything; there may be no such line.
    """
    start = start if start < len(lines) else 0
    wanted = _bare(title)
    bare = [_bare(line) for line in lines]
    for indices in (range(start, len(lines)), range(len(lines))):
        for fits in (_is_title, _begins_title):
            for at in indices:
                if fits(bare, at, wanted):
                    return at
    return start


def _is_title(bare: Sequence[str], at: int, wanted: str) -> bool:
    return bool(wanted) and bare[at] == wanted


def _begins_title(bare: Sequence[str], at: int, wanted: str) -> bool:
    """A title that spans two lines, or whose number is on the line but not in the bookmark."""
    both = bare[at] + (bare[at + 1] if at + 1 < len(bare) else "")
    number = re.match(r"(?:chapter|appendix|part|section)?[\dA-Zivx.]*", both, re.IGNORECASE)
    rests = (both, both[number.end() :] if number else both, re.sub(r"^\d[\d.]*", "", both))
    return len(wanted) > 2 and len(bare[at]) > 1 and any(rest.startswith(wanted) for rest in rests)


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum() or char == ".")
