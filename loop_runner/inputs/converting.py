"""Has documents converted in sandboxed children, several at once, and caches the results.

Owns the originals' descriptors, the limits and the order of steps: an original is opened once, hashed,
looked up in the cache, and only then passed to a child as an open file. This process never parses a byte of
it, and checks everything that a child reports before using it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner import __version__, plugins
from loop_runner.errors import EnvironmentFault
from loop_runner.inputs import long_steps
from loop_runner.inputs.cache import Cache
from loop_runner.inputs.inside.kinds import SNIFF, TABLES, kind_of, suffix_of
from loop_runner.inputs.inside.paths import is_odd
from loop_runner.inputs.inside.sink import Limits
from loop_runner.inputs.on_disk import NotTextError, open_file, undecodable, words
from loop_runner.inputs.reader_process import Frame, frames_of
from loop_runner.records import SandboxTier

if TYPE_CHECKING:
    from concurrent.futures import Executor

_FORMAT = 4  # of our own part of a conversion; raising it makes every cached text stale
_BATCH = 16
_MAX_LEVEL = 99  # of a heading
_WORKERS = 4
_LIBRARIES = ("pypdfium2", "markitdown")
_MADE_BY = {"pdf": "pypdfium2", **dict.fromkeys(("docx", "xlsx", "pptx", "epub", "html"), "markitdown")}


@dataclass(frozen=True, slots=True)
class Source:
    """One original: a file, or the files of a commit (``git``: the request for ``inside/repository``)."""

    path: Path
    name: str
    kind: str
    is_named: bool = False  # by its own path in the task: the user means this file
    git: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """One text from an original. ``blob`` is the repository file that it comes from."""

    member: str
    kind: str
    sha256: str
    size: int
    replaced: int = 0
    places: tuple[tuple[int, str], ...] = ()
    headings: tuple[tuple[int, int, str], ...] = ()  # as the document lists them: line, level, title
    as_is: bool = False
    blob: str = ""
    blob_sha256: str = ""
    path: Path = field(default=Path(), compare=False)  # in the cache


@dataclass(frozen=True, slots=True)
class Converted:
    """The result for one original. ``failure`` is the reason if it gave no text; else ""."""

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
        """How to convert a file that begins with ``head`` (8 kB); None: not at all."""
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

        with long_steps.step("hashing", len(sources), "documents") as advance:
            opened = [_counted(self._open(source), advance) for source in sources]
        try:
            waiting = [item for item in opened if item.result is None]
            size = max(1, min(_BATCH, -(-len(waiting) // _WORKERS)))
            batches = [waiting[at : at + size] for at in range(0, len(waiting), size)]
            if batches:
                with ThreadPoolExecutor(
                    min(_WORKERS, len(batches), os.cpu_count() or 1), "converter"
                ) as pool:
                    self._run_all(batches, pool)
        finally:
            for item in opened:
                if item.fd >= 0:
                    os.close(item.fd)
        return [item.result or Converted(failure="broken: it was not read") for item in opened]

    def describe(self, paths: Sequence[tuple[Path, str]]) -> list[tuple[str, tuple[tuple[int, str], ...]]]:
        """For each (path, name) of a table or JSON file: a line about it, and its places; else ("", ())."""
        opened = [_Open(Source(path, name, "about")) for path, name in paths]
        try:
            for item in opened:
                _try_to_open(item, self.limits.text_bytes)
            frames_by_id = self._ask([item for item in opened if item.result is None])
        except EnvironmentFault:
            frames_by_id = {}
        finally:
            for item in opened:
                if item.fd >= 0:
                    os.close(item.fd)
        return [_about(frames_by_id.get(id(item), ())) for item in opened]

    # ── one original ────────────────────────────────────────────────────────────────────────────────

    def _open(self, source: Source) -> _Open:
        item = _Open(source)
        if source.git is not None:
            item.key = self._key(json.dumps([str(source.path), dict(source.git)], sort_keys=True), "git")
            return item  # looked up once its commit is known
        _try_to_open(item, self.limits.original_bytes)
        if item.result is None:
            item.sha256 = _hash(item.fd)
            # The key ignores whether the user named it: that only affects failures, which are not cached.
            item.key = self._key(item.sha256, f"{source.kind} {suffix_of(source.name)}")
            self._look_up(item)
        return item

    def _look_up(self, item: _Open) -> None:
        entry = self._cache.get(item.key)
        if entry is not None:
            folder, manifest = entry
            pieces = tuple(_from_json(piece, folder) for piece in manifest["pieces"])
            skipped = tuple((str(member), str(why)) for member, why in manifest["skipped"])
            item.result = Converted(pieces, skipped, "", str(manifest["commit"]), item.sha256)

    def _key(self, what: str, how: str) -> str:
        versions = {library: _version(library) for library in _LIBRARIES}
        added = {suffix: loader["by"] for suffix, loader in self._loaders.items()}
        body = [_FORMAT, what, how, versions, added, asdict(self.limits)]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    # ── children ────────────────────────────────────────────────────────────────────────────────────

    def _run_all(self, batches: list[list[_Open]], pool: Executor) -> None:
        total = sum(map(len, batches))
        with long_steps.step("converting", total, "documents") as advance:

            def run(batch: list[_Open]) -> None:
                self._run(batch)
                advance(len(batch))

            list(pool.map(run, batches))

    def _run(self, batch: list[_Open]) -> None:
        frames = self._ask(batch)
        for item in batch:
            item.result = self._kept(item, frames[id(item)])

    def _ask(self, batch: list[_Open]) -> dict[int, tuple[Frame, ...]]:
        """The children's frames for each original, including the one that ended its child."""
        by_id: dict[int, tuple[Frame, ...]] = {}
        waiting = list(batch)
        while waiting:
            requests = [_request(item) for item in waiting]
            shown = [path for item in waiting if item.source.git for path in item.source.git["shown"]]
            answered = frames_of(
                requests,
                [item.fd for item in waiting if item.fd >= 0],
                self.limits,
                self._loaders,
                shown,
                self._tier,
            )
            for item, frames in zip(waiting, answered, strict=False):
                by_id[id(item)] = frames
            waiting = waiting[len(answered) :]
        return by_id

    def _kept(self, item: _Open, frames: Sequence[Frame]) -> Converted:
        failure = next((_text(frame.header.get("why")) for frame in frames if frame.kind == "fail"), "")
        skipped = tuple(
            (_text(frame.header.get("member")), _text(frame.header.get("why")) or "broken")
            for frame in frames
            if frame.kind == "skip"
        )
        commit = next((_text(frame.header.get("commit")) for frame in frames if frame.kind == "commit"), "")
        if not failure and item.fd >= 0 and _state(item.fd) != item.state:
            failure = "broken: it changed while it was read"
        if failure:
            return Converted((), skipped, failure, commit, item.sha256)
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
        # A fault of this machine must not outlive its repair: such a text is stored, but never looked up.
        is_whole = not any(why.startswith("not read here") for _, why in skipped)
        key = item.key if is_whole else self._key(item.key, f"incomplete {skipped}")
        folder = self._cache.put(key, manifest, {piece.sha256: body for piece, body in taken.values()})
        placed = tuple(replace(piece, path=folder / piece.sha256) for piece in pieces)
        return Converted(placed, skipped, "", commit, item.sha256)


def _request(item: _Open) -> dict[str, Any]:
    source = item.source
    request: dict[str, Any] = {
        "kind": source.kind,
        "name": source.name,
        "fd": item.fd,
        "is_named": source.is_named,
    }
    if source.kind == "about":
        request["table"] = TABLES[suffix_of(source.name)]
    if source.git is not None:
        request["git"] = {key: value for key, value in source.git.items() if key != "shown"}
    return request


def _try_to_open(item: _Open, limit: int) -> None:
    try:
        item.fd = open_file(str(item.source.path))
    except (NotTextError, OSError) as error:
        item.result = Converted(failure=words(error))
        return
    item.state = _state(item.fd)
    if item.state[0] > limit:
        item.result = Converted(
            failure=f"too large: {item.state[0]:,} bytes, at most {limit:,} are converted"
        )


def _state(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns


def _counted(item: _Open, advance: Callable[[int], None]) -> _Open:
    advance(1)
    return item


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


def _places(listed: object, body: bytes = b"") -> tuple[tuple[int, str], ...]:
    """The places that a child reports, if valid: in rising order, on lines that exist."""
    if not isinstance(listed, list):
        return ()
    last, most, kept = 1, body.count(b"\n") + 1 if body else 1 << 40, []
    for pair in listed:
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int) and last <= pair[0] <= most:
            last = pair[0]
            kept.append((last, _text(pair[1])))
    return tuple(kept)


def _headings(listed: object, body: bytes) -> tuple[tuple[int, int, str], ...]:
    """The headings that a child reports, if valid: on lines of the text, in rising order."""
    if not isinstance(listed, list):
        return ()
    last, most, kept = 1, body.count(b"\n") + 1, []
    for heading in listed:
        match heading:
            case [int(line), int(level), str(title)] if last <= line <= most and 1 <= level <= _MAX_LEVEL:
                last = line
                kept.append((line, level, _text(title)))
    return tuple(kept)


def _text(value: object) -> str:
    """A child's text as one line that can be shown and encoded."""
    if not isinstance(value, str):
        return ""
    return "".join("\ufffd" if is_odd(char) else char for char in value[:1000])


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
    """What installed packages read, by extension: the code's name, and where a child finds it."""
    return {
        f".{name.lower().lstrip('.')}": {
            "value": entry.value,
            "folders": plugins.folders(entry),
            "by": f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value,
        }
        for name, entry in plugins.find(plugins.LOADERS).items()
    }
