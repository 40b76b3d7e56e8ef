"""What ``context`` is, for a prompt: the texts with their sizes, in tokens beside the window that reads them.

Owns the words. All names if there are few; else the folders, with the largest texts by name. Lines are
counted where the files are; a pure function of the texts' bytes, so that a child that runs again is told the
same. Names are the user's or a model's: each is shown as ``text.code`` shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log10

from loop_runner import text
from loop_runner.records import Inputs, InputText

MAX_NAMED = 30  # texts; of more, the folders are listed
_MAX_FOLDERS = 20
_LARGEST = 5
_BYTES_PER_TOKEN = 4
_MAX_COUNTED_BYTES = 256 * 1024 * 1024  # above, lines are not counted: the start of a run would wait for it
_CHUNK = 1 << 20
_SHOWN_TABLES = 5
_NOTED_SHARE = (
    10  # converted texts, tables (and images, in brief) are named when they are a tenth of all, or more
)
_READING_SHARE = 3  # of the window, and of the turns of a pass, that reading everything may take


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: a model's window, what a turn prints, how many turns there are."""

    window_tokens: int
    max_output_chars: int
    turns: int

    def may_read(self, size_bytes: int) -> bool:
        """Whether a text of this size can be printed whole and leave room for the work."""
        fits = _tokens(size_bytes) <= self.window_tokens // _READING_SHARE
        return fits and size_bytes <= self.max_output_chars * max(self.turns // _READING_SHARE, 1)


def describe(texts: Inputs, reader: Reader | None = None, sources: Sequence[str] = ()) -> str:
    """What ``context`` is. ``reader`` None: in one or two lines, as a small model is told it.

    ``sources``: what the task names as its inputs; a folder's own name is nowhere else.
    """
    more = _about_places(texts) + _about_tables(texts)
    is_brief = reader is None and (texts.texts or not texts.images)
    if not is_brief or len(texts.images) * _NOTED_SHARE >= len(texts.texts):
        more += _about_images(texts)
    if is_brief:
        return _briefly(texts) + more
    if reader is None or (not texts.texts and texts.images):
        return f"`context` is an empty mapping: no input has a text.{more}"
    sizes = _Sizes(texts)
    whole = f"{sizes.of(texts.texts)}{_beside_window(texts, reader)}"
    if texts.is_single:
        return f"`context` is one text (`str`): {text.code(texts.texts[0].name)}, {whole}{more}"
    if not texts.texts:
        return "`context` is an empty mapping: the task has no inputs."
    origin = f" They come from {', '.join(sources)}." if sources else ""
    listed = _named(texts, sizes) if len(texts.texts) <= MAX_NAMED else _grouped(texts, sizes)
    names = _counted(len(texts.texts), "name")
    return (
        "\n".join(
            [f"`context` maps {names} to texts (`context[name]` is a `str`): {whole}{origin}\n", *listed]
        )
        + more
    )


def _briefly(texts: Inputs) -> str:
    megabytes = texts.total_bytes / 1e6
    if texts.is_single:
        return f"`context` is one text (`str`): {text.label(texts.texts[0].name)}, {megabytes:.2f} MB."
    first = ", ".join(text.code(item.name) for item in texts.texts[:5])
    return (
        f"`context` maps {len(texts.texts):,} names to texts (`str`), {megabytes:.1f} MB in all; "
        f"`context[name]` is one of them. The first names: {first}."
    )


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────


class _Sizes:
    """Lines and tokens of texts; each file is read once."""

    def __init__(self, texts: Inputs) -> None:
        is_counted = texts.total_bytes <= _MAX_COUNTED_BYTES
        self._lines = {item.name: _lines(item) for item in texts.texts} if is_counted else {}

    def of(self, texts: Sequence[InputText]) -> str:
        """Such as "120 lines, about 3,100 tokens"."""
        lines = [self._lines.get(item.name) for item in texts]
        size = sum(item.size_bytes for item in texts)
        tokens = f"about {_counted(_tokens(size), 'token')}"
        known = [count for count in lines if count is not None]
        return f"{_counted(sum(known), 'line')}, {tokens}" if len(known) == len(lines) else tokens


def _lines(item: InputText) -> int | None:
    """How many lines a text has; None when it cannot be read here."""
    count, last = 0, b""
    try:
        with item.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                count += chunk.count(b"\n")
                last = chunk[-1:]
    except OSError:
        return None
    return count + (last not in (b"", b"\n"))


def _tokens(size_bytes: int) -> int:
    """A guess, with two digits that count."""
    tokens = max(size_bytes // _BYTES_PER_TOKEN, 1)
    return round(tokens, -max(int(log10(tokens)) - 1, 0))


def _beside_window(texts: Inputs, reader: Reader) -> str:
    window = f"your window has {reader.window_tokens:,}"
    it, shown = ("it", "a part") if texts.is_single else ("them", "parts")
    if reader.may_read(texts.total_bytes):
        return f" ({window}): you may read {it} whole."
    return f" ({window}): too much to read {it} whole, so print {shown}."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────


def _named(texts: Inputs, sizes: _Sizes) -> Iterator[str]:
    return (f"- {text.code(item.name)}: {sizes.of([item])}" for item in texts.texts)


def _grouped(texts: Inputs, sizes: _Sizes) -> Iterator[str]:
    """A line for each folder, and the largest texts."""
    folders = _folders(texts.texts)
    for folder, inside in folders[:_MAX_FOLDERS]:
        where = text.code(folder) if folder else "in no folder"
        example = text.code(inside[0].name)
        yield f"- {where}: {_counted(len(inside), 'text')}, {sizes.of(inside)}, such as {example}"
    if rest := [item for _, inside in folders[_MAX_FOLDERS:] for item in inside]:
        others = _counted(len(folders) - _MAX_FOLDERS, "more folder")
        yield f"- {others}: {_counted(len(rest), 'text')}, {sizes.of(rest)}"
    if largest := _largest(texts.texts):
        shown = (f"{text.code(item.name)} ({sizes.of([item])})" for item in largest)
        yield "- the largest: " + "; ".join(shown)


def _largest(texts: Sequence[InputText]) -> list[InputText]:
    """The largest texts; none that is not larger than the smallest one: of equals, no text is the largest."""
    smallest = min(item.size_bytes for item in texts)
    larger = (item for item in texts if item.size_bytes > smallest)
    return sorted(larger, key=lambda item: (-item.size_bytes, item.name))[:_LARGEST]


def _folders(texts: Sequence[InputText]) -> list[tuple[str, list[InputText]]]:
    """Texts by folder, as deep as there are still few folders; the one with most bytes first."""
    groups = _at_depth(texts, 1)
    for depth in range(2, 6):
        deeper = _at_depth(texts, depth)
        if len(deeper) > _MAX_FOLDERS:
            break
        groups = deeper
    return sorted(groups.items(), key=lambda pair: (-sum(item.size_bytes for item in pair[1]), pair[0]))


def _at_depth(texts: Sequence[InputText], depth: int) -> dict[str, list[InputText]]:
    groups: dict[str, list[InputText]] = {}
    for item in texts:
        parts = item.name.split("/")[:-1][:depth]
        groups.setdefault("".join(f"{part}/" for part in parts), []).append(item)
    return groups


# ── what they are ───────────────────────────────────────────────────────────────────────────────────


def _about_places(texts: Inputs) -> str:
    """What was converted from what, and how a place of it is cited."""
    made = [
        item for item in texts.texts if item.origin is not None and item.origin.kind not in ("text", "answer")
    ]
    if len(made) * _NOTED_SHARE < len(texts.texts) or not made:
        return ""
    kinds = Counter(item.origin.kind for item in made if item.origin is not None)
    counts = ", ".join(f"{count:,} from {kind}" for kind, count in kinds.most_common(8))
    placed = next((item for item in made if item.origin is not None and item.origin.places), None)
    if placed is None or placed.origin is None:
        return f"\nConverted to text: {counts}."
    label = text.place(placed.origin.places[-1][1])
    return (
        f"\nConverted to text: {counts}. Their lines belong to places of the originals ({label}); a citation "
        f"may name the place instead of the line: {text.code(f'> {placed.name}:{label}: text of a line')}."
    )


def _about_images(texts: Inputs) -> str:
    """The inputs without text, and how a model is shown one."""
    if not texts.images:
        return ""
    listed = ", ".join(f"{text.code(item.name)} ({item.about})" for item in texts.images[:MAX_NAMED])
    more = len(texts.images) - MAX_NAMED
    rest = f", and {more:,} more" if more > 0 else ""
    first = texts.images[0]
    name = f"{first.name}#page=1" if first.about.startswith("PDF") else first.name
    where = "" if texts.is_single else ", listed in `context.images`"
    call = text.code(f"llm_query('What does it show?', images=[{name!r}])")
    return f"\nImages, which have no text{where}: {listed}{rest}. A model that reads images sees one: {call}."


def _about_tables(texts: Inputs) -> str:
    """What the first tables and JSON files hold."""
    tables = [item for item in texts.texts if item.about]
    if len(tables) * _NOTED_SHARE < len(texts.texts):
        return ""
    return "".join(
        f"\n{text.code(item.name)} is {text.one_line(item.about, 600)}." for item in tables[:_SHOWN_TABLES]
    )
