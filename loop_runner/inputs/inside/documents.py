"""Turns single documents into text with places: Office, HTML and EPUB, by markitdown."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import IO, Any

from loop_runner.inputs.inside.kinds import NEEDS_DOCS, PACKAGES, suffix_of
from loop_runner.inputs.inside.sink import Limits, Refused, Sink, clean

_HEADING = re.compile(r"^#{1,6}[ \t]+(?P<title>\S.*?)[ \t#]*$")
_SLIDE = re.compile(r"^<!-- Slide number: (?P<number>\d+) -->$")
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset=[\"']?([A-Za-z0-9_-]{1,40})", re.IGNORECASE)
_MARKUP = re.compile(r"[*_`\\]|\[([^\]]*)\]\([^)]*\)")
_MAX_TITLE = 60


# ── Office and EPUB: all of them zip archives ───────────────────────────────────────────────────────


def package_kind(file: IO[bytes], name: str, limits: Limits) -> str:
    """Which document a zip archive is ("docx", "xlsx", "pptx", "epub"), or "zip".

    Raises ``Refused`` for a document with macros, entities or far too much in it, before a parser sees it.
    """
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        names = {info.filename for info in infos}
        claimed = PACKAGES.get(suffix_of(name))
        kind = _by_content(archive, names)
        if kind is None:
            if claimed is not None:
                raise Refused(f"broken: it is called {suffix_of(name)}, and holds no such document")
            return "zip"
        _refuse_bad_package(archive, infos, kind, limits)
    return kind


def _by_content(archive: zipfile.ZipFile, names: set[str]) -> str | None:
    for path, kind in (
        ("word/document.xml", "docx"),
        ("xl/workbook.xml", "xlsx"),
        ("ppt/presentation.xml", "pptx"),
    ):
        if path in names and "[Content_Types].xml" in names:
            return kind
    if "META-INF/container.xml" in names and "mimetype" in names:
        with archive.open("mimetype") as member:
            if member.read(64).strip() == b"application/epub+zip":
                return "epub"
    return None


def _refuse_bad_package(
    archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], kind: str, limits: Limits
) -> None:
    if len(infos) > limits.members:
        raise Refused(f"too many members: {len(infos):,}, at most {limits.members:,} are read")
    if len({info.filename for info in infos}) < len(infos):
        raise Refused("broken: two of its parts have the same name")
    # No parser sees a package that contains macros, whatever its name is.
    if any(info.filename.lower().endswith("vbaproject.bin") for info in infos):
        raise Refused("binary: it holds macros; save it without them (.docx, .xlsx, .pptx)")
    left = limits.total_bytes
    for info in infos:
        if info.flag_bits & 0x1:
            raise Refused("encrypted: its parts have a password")
        packed = max(info.compress_size, 1)
        if info.file_size > (10 << 20) and info.file_size > limits.ratio * packed:
            raise Refused(f"too large: a part of it unpacks to {info.file_size // packed} times its size")
        is_xml = info.filename.lower().endswith(
            (".xml", ".rels", ".opf", ".ncx", ".xhtml", ".html", ".htm", ".vml")
        )
        with archive.open(info) as member:
            left -= _scan(member, kind, left, is_xml=is_xml)


def _scan(member: IO[bytes], kind: str, left: int, *, is_xml: bool) -> int:
    """How many bytes a part unpacks to; refuses content that makes parsers expand or fetch."""
    size, tail = 0, b""
    # EPUB pages declare their document type; Office never writes one.
    bad = (b"<!ENTITY",) if kind == "epub" else (b"<!ENTITY", b"<!DOCTYPE")
    while chunk := member.read(1 << 20):
        size += len(chunk)
        if size > left:
            raise Refused("too large: its parts unpack to far more than a document has")
        if is_xml:
            window = (tail + chunk).replace(b"\0", b"").upper()  # UTF-16 as well
            if any(word in window for word in bad):
                raise Refused("broken: its XML defines entities, which no such document does")
            tail = chunk[-32:]
    return size


def office(file: IO[bytes], sink: Sink, member: str, kind: str) -> None:
    """A Word, Excel, PowerPoint or EPUB document, as Markdown."""
    converters, info = _markitdown()
    made = {
        "docx": converters.DocxConverter,
        "xlsx": converters.XlsxConverter,
        "pptx": converters.PptxConverter,
        "epub": converters.EpubConverter,
    }[kind]()
    file.seek(0)
    markdown = made.convert(file, info(extension=f".{kind}")).markdown
    if kind == "xlsx":
        sections = _by_sheet(markdown, _sheet_names(file))
    elif kind == "pptx":
        sections = _by_slide(markdown)
    else:
        sections = by_heading(markdown)
    sink.sections(member, kind, sections)


def html(data: bytes, sink: Sink, member: str) -> None:
    """An HTML page as Markdown; unchanged where markitdown is not installed."""
    try:
        converters, info = _markitdown()
    except Refused:
        sink.text(member, "html", data, [], as_is=True)
        return
    import io

    match = _CHARSET.search(data[:4096])
    charset = match[1].decode() if match and _is_codec(match[1].decode()) else "utf-8"
    page = converters.HtmlConverter().convert(io.BytesIO(data), info(charset=charset, extension=".html"))
    sink.sections(member, "html", by_heading(page.markdown))


def _is_codec(name: str) -> bool:
    import codecs

    try:
        return bool(codecs.lookup(name)._is_text_encoding)  # noqa: SLF001 - else `hex` would count
    except LookupError:
        return False


def _markitdown() -> tuple[Any, Any]:
    try:
        import markitdown
        from markitdown import converters
    except ImportError:
        raise Refused(NEEDS_DOCS) from None
    return converters, markitdown.StreamInfo


def _sheet_names(file: IO[bytes]) -> list[str]:
    import openpyxl

    file.seek(0)
    book = openpyxl.load_workbook(file, read_only=True)
    try:
        return list(book.sheetnames)
    finally:
        book.close()


def _by_sheet(markdown: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """Cut at the heading of each sheet, in order; no cell can look like one, because rows begin with "|"."""
    lines, start, label = clean(markdown).split("\n"), 0, ""
    waiting = list(names)
    for number, line in enumerate(lines):
        if waiting and line == f"## {clean(waiting[0])}".rstrip():
            if number:
                yield label, "\n".join(lines[start:number])
            start, label = number, f"sheet {waiting.pop(0)}"
    yield label, "\n".join(lines[start:])


def _by_slide(markdown: str) -> Iterator[tuple[str, str]]:
    return _cut(markdown, _SLIDE, lambda match: f"slide {match['number']}")


def by_heading(markdown: str) -> Iterator[tuple[str, str]]:
    """Cut Markdown at its headings."""
    return _cut(markdown, _HEADING, lambda match: _title(match["title"]))


def _title(heading: str) -> str:
    words = " ".join(_MARKUP.sub(lambda match: match[1] or "", heading[:400]).split())
    return f"section {words[:_MAX_TITLE].rstrip()}" if words else ""


def _cut(markdown: str, pattern: re.Pattern[str], label_of: Any) -> Iterator[tuple[str, str]]:
    kept: list[str] = []
    label = ""
    for line in clean(markdown).split("\n"):
        match = pattern.match(line)
        if match:
            if kept:
                yield label, "\n".join(kept)
            label, kept = label_of(match), []
        kept.append(line)
    yield label, "\n".join(kept)
