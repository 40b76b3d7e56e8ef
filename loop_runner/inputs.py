"""Finds, names, hashes and checks the texts that a task works on.

Owns the rules for what counts as an input: which files of a folder are taken, what they are called, and
why a file was left out. Relies on the file system only. Never copies an input, never follows a link out of
the folder that was given, never blocks on a pipe, and never fails for one odd file in a folder: it says why
it was skipped.
"""

from __future__ import annotations

import codecs
import difflib
import errno
import fnmatch
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError, WorkspaceError
from loop_runner.records import Inputs, InputText

# Folders that tools fill and nobody wrote; taken only when a root itself lies inside one.
TOOL_FOLDERS = frozenset(
    {
        *("__pycache__", "__pypackages__", "site-packages", "dist-packages", "venv", ".venv", ".eggs"),
        *("node_modules", "bower_components", ".cache", ".idea", ".git", ".hg", ".svn", "CVS"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox"),
    }
)

_CHUNK = 1 << 20
_SNIFF = 8192
_FORMAT = 1
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A file of one of these kinds may hold no NUL in its first 8 kB and still be no text.
_MAGIC = {
    b"%PDF-": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip archive (also .docx, .xlsx, .whl)",
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x7fELF": "a program",
    b"SQLite format 3": "an SQLite database",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}

# How reasons for leaving something out begin, and the word under which they are counted.
_KINDS = {
    "binary": "binary",
    "empty": "empty",
    "hidden": "hidden",
    "excluded": "excluded",
    "a tool's folder": "tools' folders",
    "a link": "links",
    "not a regular file": "special files",
    "the same file": "repeated",
    "its name": "oddly named",
}


class _NotTextError(Exception):
    """Why a file cannot be an input; becomes a line in ``skipped`` or a ``ConfigError``."""


@dataclass(frozen=True, slots=True)
class _Root:
    """One entry of the task's ``inputs``, resolved."""

    given: str
    folder: Path  # names are relative to it
    file: Path | None = None  # the one file that is meant
    pattern: tuple[str, ...] = ()  # of a glob: its parts below ``folder``
    exclude: tuple[tuple[str, ...], ...] = ()
    name: str | None = None  # the user's own name for it


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that may become an input."""

    root: _Root
    rel: str
    path: str

    @property
    def is_link(self) -> bool:
        return self.root.file is None and str(self.root.folder / self.rel) != self.path


@dataclass(frozen=True, slots=True)
class _Facts:
    size: int
    sha256: str
    replaced: int


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────


def load(specs: Sequence[str | Mapping[str, Any]], base_dir: Path, *, exclude: Sequence[str] = ()) -> Inputs:
    """Take in files, folders and globs; relative paths start at ``base_dir``.

    A spec is a path or ``{path, exclude, name}``. Folders are walked in sorted order; hidden files, tools'
    folders, binary and empty files are skipped, each with its reason. ``exclude`` holds glob patterns
    (without "/": any part of the name; with "/": the whole name). No specs give no texts. Raises
    ``ConfigError`` when a file given by its own path is missing, unreadable, empty or no text, and when
    nothing is left to read.
    """
    roots = [_root(spec, base_dir, tuple(exclude)) for spec in specs]
    skipped: list[tuple[str, str]] = []
    found = _without_repeats([item for root in roots for item in _find(root, skipped)], skipped)
    measured = [(item, facts) for item in found if (facts := _facts_or_skip(item, skipped)) is not None]
    # Only what could be read takes part: a skipped twin must not make a name longer.
    names = _unique_names([item for item, _ in measured])
    texts = [
        InputText(name, Path(item.path), facts.size, facts.sha256, facts.replaced)
        for name, (item, facts) in zip(names, measured, strict=True)
    ]
    if roots and not texts:
        raise _nothing_left(roots, skipped)
    return Inputs(tuple(texts), tuple(skipped), is_single=len(roots) == 1 and roots[0].file is not None)


def changed(inputs: Inputs) -> tuple[str, ...]:
    """Names of the texts whose bytes are no longer those that were taken in, missing ones included."""
    return tuple(text.name for text in inputs.texts if not _is_same(text))


def found_in(inputs: Inputs, folder: Path) -> Inputs:
    """``inputs`` as they lie in ``folder``: by name, by the last parts of the old path, or by file name.

    Only a file with the right bytes is taken; a text without one stays where it was.
    """
    return replace(inputs, texts=tuple(_moved(text, folder.absolute()) for text in inputs.texts))


def _moved(text: InputText, folder: Path) -> InputText:
    tails = [Path(*text.path.parts[-count:]) for count in range(len(text.path.parts) - 1, 0, -1)]
    for candidate in dict.fromkeys((folder / text.name, *(folder / tail for tail in tails))):
        moved = replace(text, path=candidate)
        if _is_same(moved):
            return moved
    return text


def read_bytes(text: InputText) -> bytes:
    """The bytes of one text, checked against its SHA-256; ``ConfigError`` when they have changed."""
    try:
        data = b"".join(_chunks(str(text.path)))
    except (_NotTextError, OSError) as error:
        raise _changed_error(text, _words(error)) from error
    if hashlib.sha256(data).hexdigest() != text.sha256:
        raise _changed_error(text, "its bytes are not those that the run began with")
    return data


def skipped_by_kind(inputs: Inputs) -> dict[str, int]:
    """How many paths were left out, by the kind of reason, the most frequent first."""
    counts = Counter(_kind(reason) for _, reason in inputs.skipped)
    return dict(counts.most_common())


def to_json(inputs: Inputs, base_dir: Path | None = None) -> str:
    """``inputs.json``: absolute paths, and with ``base_dir`` also relative ones, for a clone elsewhere."""
    body = {
        "format": _FORMAT,
        "is_single": inputs.is_single,
        "texts": [_text_to_dict(text, base_dir) for text in inputs.texts],
        "skipped": [list(item) for item in inputs.skipped],
    }
    return json.dumps(body, indent=1) + "\n"


def from_json(text: str, base_dir: Path | None = None) -> Inputs:
    """The inverse of ``to_json``. Where the absolute path is gone, the one relative to ``base_dir`` is taken.

    Reads no input: ask ``changed`` whether they are still the same. ``WorkspaceError`` for a damaged file.
    """
    try:
        body = json.loads(text)
        if body["format"] != _FORMAT:
            raise WorkspaceError(
                f"inputs.json has format {body['format']!r}, this program reads {_FORMAT}",
                why="a newer loop-runner wrote it",
                hint="upgrade loop-runner",
            )
        texts = tuple(_text_from_dict(item, base_dir) for item in body["texts"])
        skipped = tuple((str(path), str(reason)) for path, reason in body["skipped"])
        return Inputs(texts, skipped, bool(body["is_single"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(
            f"inputs.json cannot be read ({type(error).__name__}: {error})",
            why="the run cannot tell whether its inputs are still the same",
            hint="put the file back with `git checkout -- inputs.json` in the run folder",
        ) from error


def _text_to_dict(text: InputText, base_dir: Path | None) -> dict[str, Any]:
    item: dict[str, Any] = {"name": text.name, "path": str(text.path)}
    if base_dir is not None:
        item["relative"] = os.path.relpath(text.path, base_dir.resolve())
    return {
        **item,
        "size_bytes": text.size_bytes,
        "sha256": text.sha256,
        "replaced_bytes": text.replaced_bytes,
    }


def _text_from_dict(item: Mapping[str, Any], base_dir: Path | None) -> InputText:
    path = Path(item["path"])
    relative = item.get("relative")
    if base_dir is not None and relative is not None and not path.exists():
        moved = Path(os.path.normpath(base_dir.resolve() / relative))
        path = moved if moved.exists() else path
    return InputText(
        str(item["name"]), path, int(item["size_bytes"]), str(item["sha256"]), int(item["replaced_bytes"])
    )


# ── which files ─────────────────────────────────────────────────────────────────────────────────────


def _root(spec: str | Mapping[str, Any], base_dir: Path, exclude: tuple[str, ...]) -> _Root:
    given, name, own = _checked({"path": spec} if isinstance(spec, str) else spec)
    patterns = tuple(_parts(one) for one in (*exclude, *own))
    try:
        path = base_dir / Path(given).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of a user who is not known
        raise _unusable(given[:200], _words(error)) from error
    if is_folder:
        return _Root(given, path.resolve(), exclude=patterns, name=name)
    if is_there:
        return _Root(given, path.parent.resolve(), file=path.resolve(), name=name)
    # Last: a file that is really called `a[1].txt` is that file.
    if _has_magic(given):
        folder, pattern = _split_glob(path)
        return _Root(given, folder.resolve(), pattern=pattern, exclude=patterns, name=name)
    raise _missing(given, path)


def _checked(spec: object) -> tuple[str, str | None, tuple[str, ...]]:
    """Path, name and exclusions of a spec, all of them printable texts."""
    known = ("path", "exclude", "name")
    if isinstance(spec, Mapping):
        for key in spec:
            if key not in known:
                raise _unknown_key(str(key), known)
        own = spec.get("exclude", ())
        patterns = tuple(own) if isinstance(own, list | tuple) else (own,)
        texts = (spec.get("path"), spec.get("name", "-"), *patterns)
        if all(isinstance(one, str) and one and one.isprintable() for one in texts):
            return spec["path"], spec.get("name"), patterns
        spec = dict(spec)
    raise ConfigError(
        f"an input is not written as expected: {spec!r}",
        why="path and name are texts, exclude is a list of patterns",
        hint='for example: {path: docs, exclude: ["*.min.js"], name: handbook}',
    )


def _find(root: _Root, skipped: list[tuple[str, str]]) -> list[_Found]:
    if root.file is not None:
        return [_Found(root, Path(root.given).name, str(root.file))]
    if not root.folder.is_dir():
        raise _missing(root.given, root.folder)
    return sorted(_walk(root, skipped), key=lambda item: item.rel)


def _walk(root: _Root, skipped: list[tuple[str, str]]) -> Iterator[_Found]:
    folders = [""]
    while folders:
        parent = folders.pop()
        try:
            entries = sorted(os.scandir(root.folder / parent), key=lambda entry: entry.name)
        except OSError as error:
            if not parent:
                raise _unusable(root.given, _words(error)) from error
            skipped.append((_said(root, parent), _words(error)))
            continue
        for entry in entries:
            rel = f"{parent}/{entry.name}" if parent else entry.name
            reason = _why_not(root, rel, entry)
            if reason is not None:
                if reason:
                    skipped.append((_said(root, rel), reason))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(rel)
            else:
                yield _Found(root, rel, os.path.realpath(entry.path) if entry.is_symlink() else entry.path)


def _why_not(root: _Root, rel: str, entry: os.DirEntry[str]) -> str | None:
    """Why an entry is left out; None when it is taken, "" when a glob simply does not mean it."""
    is_folder = entry.is_dir(follow_symlinks=False)
    # Before "hidden": of `.git` and `.venv` the better reason is what they are.
    if is_folder and entry.name in TOOL_FOLDERS:
        return "a tool's folder"
    if entry.name.startswith("."):
        return "hidden"
    if any(_matches((entry.name,) if len(one) == 1 else _parts(rel), one) for one in root.exclude):
        return "excluded"
    if is_folder:
        return None
    if root.pattern and not _matches(_parts(rel), root.pattern):
        return ""
    if not entry.name.isprintable():
        return "its name holds control characters or is not UTF-8"
    if entry.is_symlink():
        return _why_not_link(root, entry)
    return None if entry.is_file(follow_symlinks=False) else "not a regular file"


def _why_not_link(root: _Root, entry: os.DirEntry[str]) -> str | None:
    target = Path(os.path.realpath(entry.path))
    if not target.exists():
        return "a link to nothing"
    if target.is_dir():
        return "a link to a folder"
    return None if target.is_relative_to(root.folder) else "a link that leads out of the folder"


def _without_repeats(found: list[_Found], skipped: list[tuple[str, str]]) -> list[_Found]:
    """Each file once, under the name that comes first; a link gives way to the file that it leads to."""
    first = {item.path: item for item in reversed(found) if not item.is_link}
    repeats = [item for item in found if first.setdefault(item.path, item) is not item]
    skipped.extend(
        (_said(item.root, item.rel), f"the same file as {first[item.path].rel}") for item in repeats
    )
    return [item for item in found if first[item.path] is item]


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


def _unique_names(found: Sequence[_Found]) -> list[str]:
    """Names relative to the roots; where two roots collide, each is told apart by its folder's last parts."""
    depth = dict.fromkeys((id(item.root) for item in found), 0)
    while True:
        names = [_name(item, depth[id(item.root)]) for item in found]
        owners: dict[str, set[int]] = {}
        for name, item in zip(names, found, strict=True):
            owners.setdefault(name, set()).add(id(item.root))
        clashing = {root for roots in owners.values() if len(roots) > 1 for root in roots}
        if not clashing:
            return names
        movable = {id(item.root) for item in found if _can_grow(item.root, depth[id(item.root)])}
        if not clashing & movable:
            twice = next(name for name, roots in owners.items() if len(roots) > 1)
            raise ConfigError(
                f"two inputs are called {twice!r}",
                why="a citation must say which of them it means",
                hint="give one of them another `name:`",
            )
        for root in clashing & movable:
            depth[root] += 1


def _name(item: _Found, depth: int) -> str:
    root = item.root
    if root.name is not None:
        return root.name if root.file is not None else f"{root.name}/{item.rel}"
    return "/".join([*_last_parts(root.folder, depth), item.rel])


def _can_grow(root: _Root, depth: int) -> bool:
    return root.name is None and depth < len(root.folder.parts) - 1


def _last_parts(folder: Path, count: int) -> list[str]:
    return list(folder.parts[1:][-count:]) if count else []


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────


def _facts_or_skip(item: _Found, skipped: list[tuple[str, str]]) -> _Facts | None:
    try:
        return _measure(item.path)
    except (_NotTextError, OSError) as error:
        reason = _words(error)
        if item.root.file is not None:
            raise _unusable(item.root.given, reason) from error
        skipped.append((_said(item.root, item.rel), reason))
        return None


def _measure(path: str) -> _Facts:
    """Size, hash and encoding faults of a file, read once in chunks."""
    digest = hashlib.sha256()
    size = replaced = 0
    carry = b""
    for chunk in _chunks(path):
        if not size:
            _refuse_binary(chunk)
        size += len(chunk)
        digest.update(chunk)
        # Most text is ASCII, and asking for that costs a tenth of decoding it.
        if carry or not chunk.isascii():
            bad, carry = _undecodable(carry + chunk, is_last=False)
            replaced += bad
    if not size:
        raise _NotTextError("empty")
    return _Facts(size, digest.hexdigest(), replaced + _undecodable(carry, is_last=True)[0])


def _undecodable(data: bytes, *, is_last: bool) -> tuple[int, bytes]:
    """How many bytes are not UTF-8, and the unfinished sequence at the end."""
    try:
        _, used = codecs.utf_8_decode(data, "strict", is_last)
    except UnicodeDecodeError:
        # "ignore" drops exactly what "replace" would replace, and needs no callback for each fault.
        text, used = codecs.utf_8_decode(data, "ignore", is_last)
        return used - len(text.encode()), data[used:]
    return 0, data[used:]


def _chunks(path: str) -> Iterator[bytes]:
    # O_NONBLOCK and the check on the open descriptor: between two looks a path may turn into a pipe.
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _NotTextError("not a regular file")
        while chunk := os.read(descriptor, _CHUNK):
            yield chunk
    finally:
        os.close(descriptor)


def _refuse_binary(head: bytes) -> None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise _NotTextError(f"binary: {kind}")
    if b"\0" in head[:_SNIFF]:
        raise _NotTextError("binary: it holds NUL bytes")


def _is_same(text: InputText) -> bool:
    digest = hashlib.sha256()
    try:
        for chunk in _chunks(str(text.path)):
            digest.update(chunk)
    except (_NotTextError, OSError):
        return False
    return digest.hexdigest() == text.sha256


# ── patterns ────────────────────────────────────────────────────────────────────────────────────────


def _has_magic(text: str) -> bool:
    return any(char in text for char in "*?[")


def _split_glob(path: Path) -> tuple[Path, tuple[str, ...]]:
    parts = path.parts
    first = next(index for index, part in enumerate(parts) if _has_magic(part))
    return Path(*parts[:first]), parts[first:]


def _parts(name: str) -> tuple[str, ...]:
    return tuple(name.strip("/").split("/"))


def _matches(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Part by part; ``**`` stands for any number of parts, ``*`` never runs over a "/"."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches(name[skip:], pattern[1:]) for skip in range(len(name) + 1))
    return bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


def _said(root: _Root, rel: str) -> str:
    folder = str(root.folder) if root.pattern else root.given
    return f"{folder.rstrip('/')}/{rel}".encode("utf-8", "backslashreplace").decode()


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "a link took its place while it was read"
        return (error.strerror or str(error)).lower()
    return str(error)


def _kind(reason: str) -> str:
    return next((kind for start, kind in _KINDS.items() if reason.startswith(start)), "unreadable")


def _missing(given: str, path: Path) -> ConfigError:
    there = path.parent
    near = (
        difflib.get_close_matches(path.name, [entry.name for entry in there.iterdir()], 1)
        if there.is_dir()
        else []
    )
    return ConfigError(
        f"input {given!r} does not exist",
        why=f"it was looked for at {path}, and the model would work without it",
        hint=f"did you mean {near[0]!r}?" if near else _where(given),
    )


def _where(given: str) -> str:
    return "check the path" if Path(given).is_absolute() else "relative paths start at the task file's folder"


def _unknown_key(key: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, 1)
    return ConfigError(
        f"an input has the unknown key {key!r}",
        why="it would be ignored without a word",
        hint=f"did you mean {near[0]!r}?" if near else "the keys are path, exclude and name",
    )


def _unusable(given: str, reason: str) -> ConfigError:
    return ConfigError(
        f"input {given!r} cannot be used: {reason}",
        why="an input is a readable text file, or a folder or glob with some in it",
        hint="convert it to UTF-8 text, or take it out of `inputs:`",
    )


def _nothing_left(roots: Sequence[_Root], skipped: Sequence[tuple[str, str]]) -> ConfigError:
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
        hint=f"put {text.path} back as it was, or start a new run",
    )
