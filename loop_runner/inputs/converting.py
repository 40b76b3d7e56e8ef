"""Has documents converted in sandboxed children, several at once, and keeps what came out.

Owns the originals' descriptors, the limits and the order of things: an original is opened once, hashed,
looked up in the cache, and only then handed to a child as an open file. No byte of it is ever parsed in this
process, and nothing that a child says is believed before it fits.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from loop_runner import __version__, plugins
from loop_runner.errors import EnvironmentFault
from loop_runner.inputs.cache import Cache
from loop_runner.inputs.inside.kinds import SNIFF, TABLES, kind_of, suffix_of
from loop_runner.inputs.inside.paths import is_odd
from loop_runner.inputs.inside.sink import Limits
from loop_runner.inputs.on_disk import NotTextError, open_file, undecodable, words
from loop_runner.inputs.reader_process import Frame, frames_of
from loop_runner.records import SandboxTier

_FORMAT = 4  # of what our own part of the conversion makes; a change makes every cached text stale
_BATCH = 16
_MAX_LEVEL = 99  # of a heading
_WORKERS = 4
_LIBRARIES = ("pypdfium2", "markitdown")
_MADE_BY = {"pdf": "pypdfium2", **dict.fromkeys(("docx", "xlsx", "pptx", "epub", "html"), "markitdown")}


@dataclass(frozen=True, slots=True)
class Source:
    """One original: a file, or the files of a commit (``git``: what ``inside/repository`` is told)."""

    path: Path
    name: str
    kind: str
    is_named: bool = False  # by its own path in the task: the user means this file
    git: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One text that an original gave. ``blob`` is the file of a repository that it is of."""

    member: str
    kind: str
    sha256: str
    size: int
    replaced: int = 0
    places: tuple[tuple[int, str], ...] = ()
    headings: tuple[tuple[int, int, str], ...] = ()  # that the document itself lists: line, level, title
    as_is: bool = False
    blob: str = ""
    blob_sha256: str = ""
    path: Path = field(default=Path(), compare=False)  # in the cache


@dataclass(frozen=True, slots=True)
class Converted:
    """What became of one original. ``failure`` says why it gave nothing at all; "" when it gave something."""

    pieces: tuple[Piece, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()  # (member, reason)
    failure: str = ""
    commit: str = ""
    sha256: str = ""  # of the original's bytes


@dataclass(slots=True)
class _Open:
    """An original that waits for a child."""

    source: Source
    fd: int = -1
    sha256: str = ""
    key: str = ""
    result: Converted | None = None
    state: tuple[int, int] = (0, 0)  # size and time of its last change


class Converter:
    """Converts for one run. ``cache`` is a folder that may be emptied at any time."""

    def __init__(self, cache: Path, tier: SandboxTier | None = None, limits: Limits | None = None) -> None:
        self._cache = Cache(cache / "inputs")
        self._tier = tier
        self.limits = limits or Limits()
        self._loaders = _added_loaders()

    def kind_of(self, name: str, head: bytes) -> str | None:
        """How a file is converted that begins with ``head`` (8 kB); None: not at all."""
        return kind_of(name, head[:SNIFF], frozenset(self._loaders))

    def made_by(self, kind: str) -> str:
        """The program and version that makes text of a ``kind``, for a person."""
        library = _MADE_BY.get(kind)
        loader = self._loaders.get(f".{kind}")
        if library is None:
            return str(loader["by"]) if loader else f"loop-runner {__version__}"
        return f"{library} {_version(library)}"

    def convert(self, sources: Sequence[Source]) -> list[Converted]:
        """One result for each source, in order. ``EnvironmentFault`` where no sandbox works."""
        from concurrent.futures import ThreadPoolExecutor

        opened = [self._open(source) for source in sources]
        try:
            waiting = [one for one in opened if one.result is None]
            size = max(1, min(_BATCH, -(-len(waiting) // _WORKERS)))
            batches = [waiting[at : at + size] for at in range(0, len(waiting), size)]
            if batches:
                with ThreadPoolExecutor(
                    min(_WORKERS, len(batches), os.cpu_count() or 1), "converter"
                ) as pool:
                    list(pool.map(self._run, batches))
        finally:
            for one in opened:
                if one.fd >= 0:
                    os.close(one.fd)
        return [one.result or Converted(failure="broken: it was not read") for one in opened]

    def describe(self, paths: Sequence[tuple[Path, str]]) -> list[tuple[str, tuple[tuple[int, str], ...]]]:
        """For each (path, name) of a table or JSON file: a line about it, and its places; else ("", ())."""
        opened = [_Open(Source(path, name, "about")) for path, name in paths]
        try:
            for one in opened:
                _try_to_open(one, self.limits.text_bytes)
            found = self._ask([one for one in opened if one.result is None])
        except EnvironmentFault:
            found = {}
        finally:
            for one in opened:
                if one.fd >= 0:
                    os.close(one.fd)
        return [_about(found.get(id(one), ())) for one in opened]

    # ── one original ────────────────────────────────────────────────────────────────────────────────

    def _open(self, source: Source) -> _Open:
        one = _Open(source)
        if source.git is not None:
            one.key = self._key(json.dumps([str(source.path), dict(source.git)], sort_keys=True), "git")
            return one  # looked up once its commit is known
        _try_to_open(one, self.limits.original_bytes)
        if one.result is None:
            one.sha256 = _hash(one.fd)
            # Not whether it was named: that decides about failures only, which are not kept.
            one.key = self._key(one.sha256, f"{source.kind} {suffix_of(source.name)}")
            self._look_up(one)
        return one

    def _look_up(self, one: _Open) -> None:
        found = self._cache.get(one.key)
        if found is not None:
            folder, manifest = found
            pieces = tuple(_from_json(piece, folder) for piece in manifest["pieces"])
            skipped = tuple((str(member), str(why)) for member, why in manifest["skipped"])
            one.result = Converted(pieces, skipped, "", str(manifest["commit"]), one.sha256)

    def _key(self, what: str, how: str) -> str:
        versions = {library: _version(library) for library in _LIBRARIES}
        added = {suffix: loader["by"] for suffix, loader in self._loaders.items()}
        body = [_FORMAT, what, how, versions, added, asdict(self.limits)]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    # ── children ────────────────────────────────────────────────────────────────────────────────────

    def _run(self, batch: list[_Open]) -> None:
        frames = self._ask(batch)
        for one in batch:
            one.result = self._kept(one, frames[id(one)])

    def _ask(self, batch: list[_Open]) -> dict[int, tuple[Frame, ...]]:
        """What children say of each original; one that ends a child has that said of it."""
        found: dict[int, tuple[Frame, ...]] = {}
        waiting = list(batch)
        while waiting:
            told = [_told(one) for one in waiting]
            shown = [path for one in waiting if one.source.git for path in one.source.git["shown"]]
            answered = frames_of(
                told,
                [one.fd for one in waiting if one.fd >= 0],
                self.limits,
                self._loaders,
                shown,
                self._tier,
            )
            for one, frames in zip(waiting, answered, strict=False):
                found[id(one)] = frames
            waiting = waiting[len(answered) :]
        return found

    def _kept(self, one: _Open, frames: Sequence[Frame]) -> Converted:
        failure = next((_text(frame.header.get("why")) for frame in frames if frame.kind == "fail"), "")
        skipped = tuple(
            (_text(frame.header.get("member")), _text(frame.header.get("why")) or "broken")
            for frame in frames
            if frame.kind == "skip"
        )
        commit = next((_text(frame.header.get("commit")) for frame in frames if frame.kind == "commit"), "")
        if not failure and one.fd >= 0 and _state(one.fd) != one.state:
            failure = "broken: it changed while it was read"
        if failure:
            return Converted((), skipped, failure, commit, one.sha256)
        texts = [(_piece(frame), frame.body) for frame in frames if frame.kind == "text"]
        taken: dict[tuple[str, str], tuple[Piece, bytes]] = {}
        for piece, body in texts:
            taken.setdefault((piece.blob, piece.member), (piece, body))
        pieces = [piece for piece, _ in taken.values()]
        manifest = {
            "commit": commit,
            "skipped": skipped,
            "pieces": [_to_json(piece) for piece in pieces],
        }
        # A fault of this machine must not outlive its repair: such a text is kept, and never looked up.
        is_whole = not any(why.startswith("not read here") for _, why in skipped)
        key = one.key if is_whole else self._key(one.key, f"incomplete {skipped}")
        folder = self._cache.put(key, manifest, {piece.sha256: body for piece, body in taken.values()})
        placed = tuple(replace(piece, path=folder / piece.sha256) for piece in pieces)
        return Converted(placed, skipped, "", commit, one.sha256)


def _told(one: _Open) -> dict[str, Any]:
    source = one.source
    told: dict[str, Any] = {
        "kind": source.kind,
        "name": source.name,
        "fd": one.fd,
        "is_named": source.is_named,
    }
    if source.kind == "about":
        told["table"] = TABLES[suffix_of(source.name)]
    if source.git is not None:
        told["git"] = {key: value for key, value in source.git.items() if key != "shown"}
    return told


def _try_to_open(one: _Open, limit: int) -> None:
    try:
        one.fd = open_file(str(one.source.path))
    except (NotTextError, OSError) as error:
        one.result = Converted(failure=words(error))
        return
    one.state = _state(one.fd)
    if one.state[0] > limit:
        one.result = Converted(failure=f"too large: {one.state[0]:,} bytes, at most {limit:,} are converted")


def _state(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


def _hash(fd: int) -> str:
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, 1 << 20, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()


def _piece(frame: Frame) -> Piece:
    header, body = frame.header, frame.body
    bad, carry = undecodable(body, is_last=True)
    return Piece(
        _text(header.get("member")),
        _text(header.get("kind")),
        hashlib.sha256(body).hexdigest(),
        len(body),
        bad + len(carry),
        _places(header.get("places"), body),
        _headings(header.get("headings"), body),
        header.get("as_is") is True,
        _text(header.get("blob")),
        _text(header.get("sha256"))[:64],
    )


def _places(said: object, body: bytes = b"") -> tuple[tuple[int, str], ...]:
    """Places as the child says them, those only that can be: in rising order, on lines that are there."""
    if not isinstance(said, list):
        return ()
    last, most, kept = 1, body.count(b"\n") + 1 if body else 1 << 40, []
    for each in said:
        if isinstance(each, list) and len(each) == 2 and isinstance(each[0], int) and last <= each[0] <= most:
            last = each[0]
            kept.append((last, _text(each[1])))
    return tuple(kept)


def _headings(listed: object, body: bytes) -> tuple[tuple[int, int, str], ...]:
    """Headings as the child lists them: only those on lines of the text, in rising order."""
    if not isinstance(listed, list):
        return ()
    last, most, kept = 1, body.count(b"\n") + 1, []
    for heading in listed:
        match heading:
            case [int(line), int(level), str(title)] if last <= line <= most and 1 <= level <= _MAX_LEVEL:
                last = line
                kept.append((line, level, _text(title)))
    return tuple(kept)


def _text(said: object) -> str:
    """A text of a child's: one line that can be shown, and encoded."""
    if not isinstance(said, str):
        return ""
    return "".join("\ufffd" if is_odd(char) else char for char in said[:1000])


def _to_json(piece: Piece) -> dict[str, Any]:
    return {key: value for key, value in asdict(piece).items() if key != "path"}


def _from_json(item: Mapping[str, Any], folder: Path) -> Piece:
    rows = {key: tuple(map(tuple, item[key])) for key in ("places", "headings")}
    return Piece(**{**item, **rows}, path=folder / item["sha256"])


def _about(frames: Iterable[Frame]) -> tuple[str, tuple[tuple[int, str], ...]]:
    for frame in frames:
        if frame.kind == "about":
            return _text(frame.header.get("about")), _places(frame.header.get("places"))
    return "", ()


def _version(library: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _added_loaders() -> dict[str, dict[str, Any]]:
    """What installed packages read, by ending: the code's name, and where a child finds it."""
    return {
        f".{name.lower().lstrip('.')}": {
            "value": entry.value,
            "folders": plugins.folders(entry),
            "by": f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value,
        }
        for name, entry in plugins.find(plugins.LOADERS).items()
    }
