"""Collects a task's inputs: finds them, has documents converted, then names, hashes and describes the texts.

Only converted and fetched texts are copied. An odd file leads to a reason in ``skipped``, never to an error.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.inputs import fleet_answers, git_source, images, long_steps
from loop_runner.inputs.converting import Converted, Converter, Piece, Source
from loop_runner.inputs.finding import (
    FoundFile,
    Root,
    find,
    root_of,
    shown_name,
    unique_names,
    unusable,
    without_repeats,
)
from loop_runner.inputs.inside import runs
from loop_runner.inputs.inside.kinds import SNIFF, TABLES, suffix_of
from loop_runner.inputs.inside.sink import NO_TEXT
from loop_runner.inputs.on_disk import (
    BOM,
    Facts,
    NotTextError,
    bytes_of,
    chunks,
    hash_of_original,
    hashes_of,
    head,
    is_same,
    measure,
    words,
)
from loop_runner.inputs.urls import Fetched, not_fetched
from loop_runner.records import Inputs, InputText, Origin

_DESCRIBED = 20  # tables and JSON files that a prompt describes
# The beginnings of reasons for leaving something out, and the word under which they are counted.
_KINDS = {
    "binary": "binary",
    "empty": "empty",
    "hidden": "hidden",
    "excluded": "excluded",
    "a tool's folder": "tools' folders",
    "a run of loop-runner": "run folders",
    "a mailbox": "run folders",
    "the task's own": "the task's own files",
    "a link": "links",
    "not a regular file": "special files",
    "no text on": "with pages without text",
    "nothing on": "with blank pages",
    "words run together": "with words run together",
    "the same file": "repeated",
    "repeated": "repeated",
    "its name": "oddly named",
    "its path": "oddly named",
    "no verified answer": "jobs without a verified answer",
    "needs the extra": "in need of an extra",
    "too ": "too large",
    "nested too": "too large",
    "encrypted": "encrypted",
    "it holds no text": "without text",
    "broken": "broken",
    "not read here": "not readable on this machine",
}
# Kinds that describe a file or the user's choice; the other kinds mean that something is wrong with it.
_AS_MEANT = {
    *("binary", "empty", "hidden", "excluded", "tools' folders", "links", "special files", "repeated"),
    *("oddly named", "run folders", "the task's own files", "jobs without a verified answer"),
}
# Kinds that describe what is missing from a text that was read.
_NOTICES = {"with pages without text", "with blank pages", "with words run together"}
_OWN = "the task's own file: the task, a verifier's program or a model's script (name it to include it)"


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that will get its name: its root, its name below it, and its place in an archive."""

    root: Root
    rel: str
    member: str
    text: InputText  # without a name


@dataclass(slots=True)
class _Intake:
    """The state of collecting inputs."""

    converter: Converter | None
    fetch: Callable[[str], Fetched] | None
    own: frozenset[str] = frozenset()  # real paths of the task's own files
    own_hashes: frozenset[str] = frozenset()
    skipped: list[tuple[str, str]] = field(default_factory=list)
    takes_images: bool = False
    images: list[_Text] = field(default_factory=list)
    converted: dict[int, Converted] = field(default_factory=dict)  # by the id of what was found
    advance: Callable[[int], None] | None = None  # called with the bytes that were read


def load(
    specs: Sequence[str | Mapping[str, Any]],
    base_dir: Path,
    *,
    exclude: Sequence[str] = (),
    converter: Converter | None = None,
    fetch: Callable[[str], Fetched] | None = None,
    strict: bool = False,
    own: Collection[Path] = (),
    takes_images: bool = False,
) -> Inputs:
    """Collect files, folders, globs, revisions and addresses; relative paths start at ``base_dir``.

    A spec is a path or a mapping (docs/inputs.md). Folders are walked in sorted order; hidden files, tools'
    folders, binary and empty files are skipped, each with its reason. ``exclude`` holds glob patterns
    (without "/": any part of the name; with "/": the whole name). No specs give no texts. Without
    ``converter`` only text is taken, without ``fetch`` no address. Raises ``ConfigError`` when a file given
    by its own path is missing, unreadable, empty or cannot be converted, when nothing is left to read, and
    with ``strict`` when any file is broken. A run's own output is never taken. ``own`` are files of the task,
    taken only when given by their paths. ``takes_images``: images and PDFs without text are its ``images``.
    """
    roots = [root_of(spec, base_dir, tuple(exclude)) for spec in specs]
    paths = frozenset(os.path.realpath(path) for path in own)
    intake = _Intake(converter, fetch, paths, hashes_of(own), takes_images=takes_images)
    listed = [item for root in roots for item in _items(root, intake) if not _is_own(item, intake)]
    items = without_repeats(listed, intake.skipped)
    _convert(items, intake)
    # Only readable files take part: a skipped twin must not make a name longer.
    as_they_are = (item.path for item in items if id(item) not in intake.converted)
    with long_steps.step("reading", bytes_of(as_they_are)) as intake.advance:
        taken = [piece for item in items for piece in _taken(item, intake)]
    texts = _described(_named(taken), converter)
    shown = _named(intake.images)
    if roots and not texts and not shown:
        raise _nothing_left(roots, intake.skipped)
    if strict:
        _refuse_broken(intake.skipped)
    is_one = len(roots) == 1 and (roots[0].file is not None or roots[0].is_data)
    is_single = is_one and [piece.member for piece in taken] == [""]
    return Inputs(tuple(texts), tuple(intake.skipped), is_single, tuple(shown))


def _is_own(item: FoundFile, intake: _Intake) -> bool:
    """Notes one of the task's own files that a folder or glob contains."""
    is_own = item.root.file is None and item.root.url is None and item.path in intake.own
    if is_own:
        intake.skipped.append((shown_name(item.root, item.rel), _OWN))
    return is_own


def _items(root: Root, intake: _Intake) -> list[FoundFile]:
    if root.is_fleet:
        return fleet_answers.find(root, intake.skipped)
    if root.revision is not None:
        return [FoundFile(root, "", f"{root.folder}@{root.revision}#{root.paths}")]
    if root.url is None:
        return find(root, intake.skipped)
    if intake.fetch is None:
        raise not_fetched(root.url)
    fetched = intake.fetch(root.url)
    return [FoundFile(root, fetched.name, str(fetched.path))]


def _convert(items: Sequence[FoundFile], intake: _Intake) -> None:
    """Have everything that is not text converted, together."""
    if intake.converter is None:
        if any(item.root.revision is not None for item in items):
            raise ConfigError(
                "a revision of a repository cannot be read here",
                why="only text files are taken in",
                hint="check the revision out, and name the folder",
            )
        return
    sources = {}
    for item in items:
        source = _source(item, intake.converter)
        if source is not None:
            sources[id(item)] = source
    results = intake.converter.convert(list(sources.values()))
    intake.converted = dict(zip(sources, results, strict=True))


def _source(item: FoundFile, converter: Converter) -> Source | None:
    root = item.root
    if root.revision is not None:
        exclude = ["/".join(pattern) for pattern in root.exclude]
        request = git_source.job(root.folder, root.revision, paths=root.paths, exclude=exclude)
        return Source(root.folder, root.folder.name, "git", git=request)
    if not root.is_converted:
        return None
    try:
        kind = converter.kind_of(item.path, head(item.path, SNIFF))
    except (NotTextError, OSError):
        return None  # reported when it is measured
    is_named = root.file is not None or root.url is not None
    return None if kind is None else Source(Path(item.path), item.path, kind, is_named)


# ── results ─────────────────────────────────────────────────────────────────────────────────────────


def _taken(item: FoundFile, intake: _Intake) -> Iterator[_Text]:
    result = intake.converted.get(id(item))
    is_as_it_is = result is not None and [(part.member, part.as_is) for part in result.pieces] == [("", True)]
    if result is None or (is_as_it_is and item.root.revision is None):
        facts = None if _is_image(item, intake) else _facts_or_skip(item, intake)
        if facts is not None:
            path = Path(item.path)
            origin = _origin(item, facts)
            yield _Text(
                item.root, item.rel, "", InputText("", path, facts.size, facts.sha256, facts.replaced, origin)
            )
        return
    is_named = (item.root.revision, item.root.file, item.root.url) != (None, None, None)
    where = item.root.given if is_named else shown_name(item.root, item.rel)
    result = _without_runs(result, intake.own_hashes)
    inside = [(f"{where}/{member}".rstrip("/"), why) for member, why in result.skipped]
    # One line about a document without text; if its members have their own reasons, those are enough.
    is_reported = bool(inside) and result.failure == NO_TEXT
    intake.skipped += inside if is_reported or not result.failure else []
    if result.failure:
        if not _is_image(item, intake, result.failure):
            _fail(item, where, result, intake)
        return
    assert intake.converter is not None
    for piece in result.pieces:
        yield _converted(item, result, piece, intake.converter)


def _origin(item: FoundFile, facts: Facts) -> Origin | None:
    """Where a text that is taken as it is comes from; None for a file that is the original."""
    if item.root.is_fleet:
        return fleet_answers.origin_of(item)
    return Origin(Path(item.path), facts.sha256, "text", url=item.root.url) if item.root.url else None


def _is_image(item: FoundFile, intake: _Intake, failure: str = "") -> bool:
    """Take ``item`` as an image, if it is one."""
    if not intake.takes_images or item.root.revision is not None or item.root.url is not None:
        return False
    image = images.image_in(Path(item.path), failure)
    if image is not None:
        intake.images.append(_Text(item.root, item.rel, "", image))
    return image is not None


def _without_runs(result: Converted, own: frozenset[str]) -> Converted:
    """``result`` without earlier runs' output and without copies of the task's own files."""
    reasons = dict(runs.left_out([piece.member for piece in result.pieces if piece.member]))
    reasons |= {
        piece.member: (piece.member, _OWN)
        for piece in result.pieces
        if piece.member and piece.as_is and piece.sha256 in own
    }
    if not reasons:
        return result
    kept = tuple(piece for piece in result.pieces if piece.member not in reasons)
    gone = [reason for reason in reasons.values() if reason[1] == runs.RUN]
    skipped = [
        entry
        for entry in result.skipped
        if not any(entry[0].startswith(f"{top}/") or not top for top, _ in gone)
    ]
    return replace(
        result,
        pieces=kept,
        skipped=(*skipped, *dict.fromkeys(reasons.values())),
        failure=result.failure or ("" if kept else NO_TEXT),
    )


def _fail(item: FoundFile, where: str, result: Converted, intake: _Intake) -> None:
    """An error for a file that the user named; a line for a file from a folder."""
    if item.root.file is None and item.root.url is None and item.root.revision is None:
        if not (result.skipped and result.failure == NO_TEXT):
            intake.skipped.append((where, result.failure))
        return
    inside = "; ".join(f"{member} ({why})" for member, why in result.skipped[:3])
    raise unusable(item.root.given, result.failure + (f": {inside}" if inside else ""))


def _converted(item: FoundFile, result: Converted, piece: Piece, converter: Converter) -> _Text:
    root = item.root
    made_by = converter.made_by(piece.kind)
    if root.revision is not None:
        origin = Origin(
            root.folder,
            piece.blob_sha256,
            piece.kind,
            f"{result.commit}:{piece.member}",
            piece.places,
            made_by,
            headings=piece.headings,
        )
        rel, member = piece.member, ""
    else:
        original = Path(item.path), result.sha256, piece.kind, piece.member
        origin = Origin(*original, piece.places, made_by, root.url or "", piece.headings)
        rel, member = item.rel, piece.member
    lacks = [why for where, why in result.skipped if where == piece.member and _is_shown(why)]
    about = "; ".join([f"a {piece.kind.upper()}", *lacks]) if lacks else ""
    text = InputText("", piece.path, piece.size, piece.sha256, piece.replaced, origin, about)
    return _Text(root, rel, member, text)


def _facts_or_skip(item: FoundFile, intake: _Intake) -> Facts | None:
    try:
        return measure(item.path, intake.advance)
    except (NotTextError, OSError) as error:
        reason = words(error)
        if item.root.file is not None or item.root.url is not None:
            raise unusable(item.root.given, reason) from error
        intake.skipped.append((shown_name(item.root, item.rel), reason))
        return None


def _named(taken: Sequence[_Text]) -> list[InputText]:
    names = unique_names(taken)
    full = [
        f"{name}/{piece.member}" if piece.member else name for name, piece in zip(names, taken, strict=True)
    ]
    if len(set(full)) < len(full):
        twice = next(name for name, count in Counter(full).items() if count > 1)
        raise ConfigError(
            f"two inputs have the name {twice!r}",
            why="a citation must say which of them it means",
            hint="give one of them another `name:`",
        )
    return [replace(piece.text, name=name) for name, piece in zip(full, taken, strict=True)]


def _described(texts: list[InputText], converter: Converter | None) -> list[InputText]:
    """The first tables and JSON files, with a line about their content."""
    tables = [at for at, text in enumerate(texts) if suffix_of(text.name) in TABLES and _is_plain(text)]
    if converter is None or not tables:
        return texts
    chosen = tables[:_DESCRIBED]
    described = converter.describe([(texts[at].path, texts[at].name) for at in chosen])
    for at, (about, places) in zip(chosen, described, strict=True):
        text = texts[at]
        origin = text.origin
        if places:
            kind = TABLES[suffix_of(text.name)].lower()
            origin = replace(origin or Origin(text.path, text.sha256, kind), places=places)
        texts[at] = replace(text, about=about, origin=origin)
    return texts


def _is_plain(text: InputText) -> bool:
    return text.origin is None or text.origin.kind in ("text", "utf-16", "utf-32")


def _refuse_broken(skipped: Sequence[tuple[str, str]]) -> None:
    broken = [entry for entry in skipped if is_fault(entry[1])]
    if broken:
        shown = "; ".join(f"{path} ({reason})" for path, reason in broken[:3])
        raise ConfigError(
            f"{len(broken)} of the inputs cannot be read: {shown}",
            why="`inputs.strict` requires all of them to be readable",
            hint="fix them, leave them out with `exclude`, or remove `strict`",
        )


def kind_of_reason(reason: str) -> str:
    """The word under which a reason for leaving something out is counted."""
    return next((kind for start, kind in _KINDS.items() if reason.startswith(start)), "unreadable")


def is_fault(reason: str) -> bool:
    """Whether a reason means that something is wrong with a file, not that it was unwanted."""
    return kind_of_reason(reason) not in _AS_MEANT | _NOTICES


def is_notice(reason: str) -> bool:
    """Whether a reason describes what is missing from a text that was read."""
    return kind_of_reason(reason) in _NOTICES


def _is_shown(reason: str) -> bool:
    """Whether it helps a reader of the text: a blank page misses nothing."""
    return is_notice(reason) and kind_of_reason(reason) != "with blank pages"


def notices(inputs: Inputs) -> list[tuple[str, str]]:
    """(path, what is missing) for each input that was read incompletely, or has no text."""
    scanned = [(item.name, images.READ_BY_PAGE) for item in inputs.images if item.about == images.SCANNED]
    return scanned + [(path, reason) for path, reason in inputs.skipped if _is_shown(reason)]


def skipped_by_kind(inputs: Inputs) -> dict[str, int]:
    """How many paths were left out, by the kind of reason, the most frequent first."""
    counts = Counter(kind_of_reason(reason) for _, reason in inputs.skipped if not is_notice(reason))
    return dict(counts.most_common())


# ── checking the inputs later ───────────────────────────────────────────────────────────────────────


def changed(inputs: Inputs) -> tuple[str, ...]:
    """Names of the texts whose bytes have changed since they were collected, including missing ones.

    A converted text also counts as changed if its original exists and has changed.
    """
    originals: dict[Path, str] = {}
    return tuple(
        text.name
        for text in (*inputs.texts, *inputs.images)
        if not is_same(text) or _has_other_original(text, originals)
    )


def _has_other_original(text: InputText, known: dict[Path, str]) -> bool:
    origin = text.origin
    if origin is not None and origin.kind == fleet_answers.KIND:
        return hash_of_original(origin.path) != origin.sha256
    if origin is None or origin.url or origin.path == text.path or not origin.path.is_file():
        return False
    if origin.path not in known:
        known[origin.path] = hash_of_original(origin.path)
    return known[origin.path] != origin.sha256


def found_in(inputs: Inputs, folder: Path) -> Inputs:
    """``inputs`` as found in ``folder``: by name, by the last parts of the old path, or by file name.

    Only a file with the right bytes is used; a text without one keeps its path.
    """
    texts, shown = (
        tuple(_moved(text, folder.absolute()) for text in listed) for listed in (inputs.texts, inputs.images)
    )
    return replace(inputs, texts=texts, images=shown)


def _moved(text: InputText, folder: Path) -> InputText:
    origin = text.origin
    if origin is not None and origin.kind == fleet_answers.KIND:
        return fleet_answers.moved(text, folder)
    if origin is not None and origin.path != text.path:
        for candidate in _candidates(origin.path, folder):
            is_repository = ":" in origin.member and (candidate / ".git").exists()
            if is_repository or (hash_of_original(candidate) == origin.sha256):
                return replace(text, origin=replace(origin, path=candidate))
        return text
    for candidate in (folder / text.name, *_candidates(text.path, folder)):
        moved = replace(text, path=candidate)
        if is_same(moved):
            return moved if origin is None else replace(moved, origin=replace(origin, path=candidate))
    return text


def _candidates(path: Path, folder: Path) -> list[Path]:
    tails = [Path(*path.parts[-count:]) for count in range(len(path.parts) - 1, 0, -1)]
    return [folder / tail for tail in dict.fromkeys(tails)]


def read_bytes(text: InputText) -> bytes:
    """The bytes of one text, checked against its SHA-256; ``ConfigError`` when they have changed."""
    try:
        data = b"".join(chunks(str(text.path), text.size_bytes))
    except (NotTextError, OSError) as error:
        raise _changed_error(text, words(error)) from error
    if hashlib.sha256(data).hexdigest() != text.sha256:
        raise _changed_error(text, "its bytes are not those that the run began with")
    return data


def content(text: InputText) -> bytes:
    """The bytes of one text for reading: ``read_bytes`` without a byte order mark."""
    return read_bytes(text).removeprefix(BOM)


def _nothing_left(roots: Sequence[Root], skipped: Sequence[tuple[str, str]]) -> ConfigError:
    given = ", ".join(root.given for root in roots)
    shown = "; ".join(f"{path} ({reason})" for path, reason in skipped[:3])
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return ConfigError(
        f"nothing to read in {given}",
        why=f"left out: {shown}{more}" if shown else "no file is there, or no file matches the pattern",
        hint="check the path and `exclude:`; a hidden file is taken only when it is given by its own path",
    )


def _changed_error(text: InputText, reason: str) -> ConfigError:
    return ConfigError(
        f"input {text.name!r} has changed: {reason}",
        why=f"the run works on the bytes with SHA-256 {text.sha256[:12]}…, and nothing else can be checked",
        hint=f"restore {text.path} as it was, or start a new run",
    )
