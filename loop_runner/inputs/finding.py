"""Which files a task means, and why the others are left out.

Owns the rules: which files of a folder are taken, and their names. Relies on the file system only. Never
follows a link out of the given folder, and never fails because of one odd file in a folder.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loop_runner import plugins
from loop_runner.errors import ConfigError
from loop_runner.inputs.inside import runs
from loop_runner.inputs.inside.kinds import NEEDS_DOCS
from loop_runner.inputs.inside.paths import is_odd
from loop_runner.inputs.inside.patterns import matches, parts
from loop_runner.inputs.on_disk import words

# Folders that tools generate; taken only when a root itself is inside one.
TOOL_FOLDERS = frozenset(
    {
        *("__pycache__", "__pypackages__", "site-packages", "dist-packages", "venv", ".venv", ".eggs"),
        *("node_modules", "bower_components", ".cache", ".idea", ".git", ".hg", ".svn", "CVS"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox"),
    }
)


DATA = "data:"  # prefix of a program's data; the rest is the name of its file in ``inputs/``


@dataclass(frozen=True, slots=True)
class Root:
    """One entry of the task's ``inputs``, resolved."""

    given: str
    folder: Path  # names are relative to it
    file: Path | None = None  # the one file that is meant
    pattern: tuple[str, ...] = ()  # of a glob: its parts below ``folder``
    exclude: tuple[tuple[str, ...], ...] = ()
    name: str | None = None  # the user's own name for it
    revision: str | None = None  # of the git repository ``folder``; ``paths`` are patterns for its files
    paths: tuple[str, ...] = ()
    url: str | None = None
    is_converted: bool = True  # False: text is taken as it is, documents are left out
    is_fleet: bool = False  # ``folder`` is the store of a fleet, whose verified answers are meant

    @property
    def is_data(self) -> bool:
        """Whether it is not a file but data from a program."""
        return self.url is not None and self.url.startswith(DATA)


class Item(Protocol):
    """An item that needs a name."""

    @property
    def root(self) -> Root:
        """The entry that it comes from."""
        ...

    @property
    def rel(self) -> str:
        """Its name below the root."""
        ...


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may become an input."""

    root: Root
    rel: str
    path: str

    @property
    def is_link(self) -> bool:
        """Whether the name refers to a different file."""
        return self.root.file is None and str(self.root.folder / self.rel) != self.path


# ── which files ─────────────────────────────────────────────────────────────────────────────────────


def root_of(spec: str | Mapping[str, Any], base_dir: Path, exclude: tuple[str, ...]) -> Root:
    """The entry ``spec`` of the task's inputs. ``ConfigError`` when it is missing or malformed."""
    options = _checked({"path": spec} if isinstance(spec, str) else spec)
    excluded = (*exclude, *_texts(options.get("exclude", ())))
    patterns = tuple(parts(entry) for entry in excluded)
    name, is_converted = options.get("name"), options.get("convert", True)
    given = str(options.get("path", options.get("url", "")))
    if is_url(given):
        return Root(given, Path("/"), name=name, url=given, is_converted=is_converted)
    if "data" in options:
        given = DATA + str(options["data"])
        return Root(str(name or options["data"]), Path("/"), name=name, url=given, is_converted=is_converted)
    if "fleet" in options:
        given = str(options["fleet"])
        store = (base_dir / Path(given).expanduser()).resolve()
        return Root(given, store, name=name, is_converted=False, is_fleet=True)
    if "git" in options:
        revision, wanted = str(options.get("revision", "HEAD")), _texts(options.get("paths", ()))
        return _repository(str(options["git"]), revision, base_dir, wanted, patterns, name, is_converted)
    try:
        path = base_dir / Path(given).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: "~" of an unknown user
        raise unusable(given[:200], words(error)) from error
    if is_folder:
        return Root(given, path.resolve(), exclude=patterns, name=name, is_converted=is_converted)
    if is_there:
        return Root(given, path.parent.resolve(), file=path.resolve(), name=name, is_converted=is_converted)
    # Last: a file whose real name is `a[1].txt` or `a@b` means that file.
    if _has_magic(given):
        folder, pattern = _split_glob(path)
        return Root(
            given, folder.resolve(), pattern=pattern, exclude=patterns, name=name, is_converted=is_converted
        )
    top, at, revision = given.rpartition("@")
    if at and revision and (base_dir / Path(top).expanduser()).is_dir():
        return _repository(top, revision, base_dir, (), patterns, name, is_converted)
    raise _missing(given, path)


def is_url(given: str) -> bool:
    """Whether an input is an address on the web."""
    return given.startswith(("http://", "https://"))


def _repository(
    given: str,
    revision: str,
    base_dir: Path,
    wanted: tuple[str, ...],
    exclude: tuple[tuple[str, ...], ...],
    name: str | None,
    is_converted: bool,
) -> Root:
    folder = base_dir / Path(given).expanduser()
    if not folder.is_dir():
        raise _missing(given, folder)
    return Root(
        f"{given}@{revision}",
        folder.resolve(),
        exclude=exclude,
        name=name,
        revision=revision,
        paths=wanted,
        is_converted=is_converted,
    )


_FORMS = (
    ("path", "exclude", "name", "convert"),
    ("git", "revision", "paths", "exclude", "name", "convert"),
    ("url", "name", "convert"),
    ("fleet", "name"),
)


_OF_PROGRAMS = ("data", "name", "convert")  # the library's keys for data in memory

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_KEY_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "path": _TEXT,
    "git": _TEXT,
    "fleet": _TEXT,
    "url": {"type": "string", "pattern": "^https?://"},
    "revision": _TEXT,
    "paths": _TEXTS,
    "exclude": _TEXTS,
    "name": _TEXT,
    "convert": {"type": "boolean"},
}


def schema() -> dict[str, Any]:
    """An entry of `inputs:`, as JSON Schema."""
    forms = [
        {
            "type": "object",
            "properties": {key: _KEY_SCHEMAS[key] for key in form},
            "required": [form[0]],
            "additionalProperties": False,
        }
        for form in _FORMS
    ]
    return {"anyOf": [_TEXT, *forms]}


def _checked(spec: object) -> Mapping[str, Any]:
    """``spec`` after a check of its values: printable texts, lists of them, ``convert`` as true or false."""
    if isinstance(spec, Mapping):
        known = next((form for form in (*_FORMS, _OF_PROGRAMS) if form[0] in spec), _FORMS[0])
        for key in spec:
            if key not in known:
                raise _unknown_key(str(key), known)
        values = [spec.get(known[0])] + [spec[key] for key in ("name", "revision") if key in spec]
        lists = [*_texts(spec.get("exclude", ())), *_texts(spec.get("paths", ()))]
        if (path := spec.get(known[0])) and isinstance(path, str) and is_odd(path):
            raise unusable(path, "its name has a line break or another control character")
        is_text = all(isinstance(value, str) and value and not is_odd(value) for value in (*values, *lists))
        if (
            is_text
            and isinstance(spec.get("convert", True), bool)
            and ("url" not in spec or is_url(spec["url"]))
        ):
            return spec
        spec = dict(spec)
    raise ConfigError(
        f"an input is not written as expected: {spec!r}",
        why="path and name are texts, exclude is a list of patterns",
        hint='for example: {path: docs, exclude: ["*.min.js"], name: handbook}',
    )


def _texts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def find(root: Root, skipped: list[tuple[str, str]]) -> list[FoundFile]:
    """The files that ``root`` means, in sorted order. ``ConfigError`` if it is inside a run folder."""
    _refuse_runs(root)
    if root.file is not None:
        return [FoundFile(root, Path(root.given).name, str(root.file))]
    if not root.folder.is_dir():
        raise _missing(root.given, root.folder)
    items = sorted(_walk(root, skipped), key=lambda item: item.rel)
    # Where file names contain brackets, a pattern with the same brackets means those files.
    return [item for item in items if matches(parts(item.rel), _literal(root.pattern))] or items


def _literal(pattern: tuple[str, ...]) -> tuple[str, ...]:
    """``pattern`` with its brackets as characters, not as a set of them."""
    return tuple(part.replace("[", "[[]") for part in pattern)


def _refuse_runs(root: Root) -> None:
    place = root.file or root.folder
    run = runs.around(place.parent if root.file is not None else place)
    if run is None and not (root.file is not None and runs.is_letter(root.file.name)):
        return
    what = f"is in the run folder {run}" if run else "is a letter of a manual model"
    raise ConfigError(
        f"input {root.given!r} {what}",
        why="what an earlier run wrote is no evidence: it could cite its own inventions",
        hint="name the texts that the run was about; a file that you have checked can be copied elsewhere",
    )


def _walk(root: Root, skipped: list[tuple[str, str]]) -> Iterator[FoundFile]:
    folders = [""]
    while folders:
        parent = folders.pop()
        try:
            entries = sorted(os.scandir(root.folder / parent), key=lambda entry: entry.name)
        except OSError as error:
            if not parent:
                raise unusable(root.given, words(error)) from error
            skipped.append((shown_name(root, parent), words(error)))
            continue
        if parent and runs.is_run([entry.name for entry in entries]):
            skipped.append((shown_name(root, parent), runs.RUN))
            continue
        if any(runs.is_letter(entry.name) for entry in entries):
            skipped.append((shown_name(root, parent).rstrip("/"), runs.LETTERS))
            entries = [entry for entry in entries if not runs.is_letter(entry.name)]
        for entry in entries:
            rel = f"{parent}/{entry.name}" if parent else entry.name
            reason = _why_not(root, rel, entry)
            if reason is not None:
                if reason:
                    skipped.append((shown_name(root, rel), reason))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(rel)
            else:
                yield FoundFile(root, rel, os.path.realpath(entry.path) if entry.is_symlink() else entry.path)


def _why_not(root: Root, rel: str, entry: os.DirEntry[str]) -> str | None:
    """Why an entry is left out; None when it is taken, "" when a glob does not match it."""
    is_folder = entry.is_dir(follow_symlinks=False)
    # Before "hidden": for `.git` and `.venv`, naming their kind is the better reason.
    if is_folder and entry.name in TOOL_FOLDERS:
        return "a tool's folder"
    if entry.name.startswith("."):
        return "hidden"
    if any(matches((entry.name,) if len(pattern) == 1 else parts(rel), pattern) for pattern in root.exclude):
        return "excluded"
    if is_folder:
        return None
    if root.pattern and not _is_meant(parts(rel), root.pattern):
        return ""
    if is_odd(entry.name):
        return "its name holds control characters or is not UTF-8"
    if entry.is_symlink():
        return _why_not_link(root, entry)
    return None if entry.is_file(follow_symlinks=False) else "not a regular file"


def _is_meant(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return matches(name, pattern) or matches(name, _literal(pattern))


def _why_not_link(root: Root, entry: os.DirEntry[str]) -> str | None:
    target = Path(os.path.realpath(entry.path))
    if not target.exists():
        return "a link to nothing"
    if target.is_dir():
        return "a link to a folder"
    if runs.around(target.parent) is not None or runs.is_letter(target.name):
        return "a link to what a run wrote"
    return None if target.is_relative_to(root.folder) else "a link that leads out of the folder"


def without_repeats(items: list[FoundFile], skipped: list[tuple[str, str]]) -> list[FoundFile]:
    """Each file once, under its first name; a link gives way to the file that it leads to."""
    first = {item.path: item for item in reversed(items) if not item.is_link}
    repeats = [item for item in items if first.setdefault(item.path, item) is not item]
    skipped.extend(
        (shown_name(item.root, item.rel), f"the same file as {first[item.path].rel}") for item in repeats
    )
    return [item for item in items if first[item.path] is item]


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


def unique_names(items: Sequence[Item]) -> list[str]:
    """Names relative to the roots; if two roots collide, the last parts of their folders are added."""
    depth = dict.fromkeys((id(item.root) for item in items), 0)
    while True:
        names = [_name(item, depth[id(item.root)]) for item in items]
        owners: dict[str, set[int]] = {}
        for name, item in zip(names, items, strict=True):
            owners.setdefault(name, set()).add(id(item.root))
        clashing = {root for roots in owners.values() if len(roots) > 1 for root in roots}
        if not clashing:
            return names
        movable = {id(item.root) for item in items if _can_grow(item.root, depth[id(item.root)])}
        if not clashing & movable:
            twice = next(name for name, roots in owners.items() if len(roots) > 1)
            raise ConfigError(
                f"two inputs have the name {twice!r}",
                why="a citation must say which of them it means",
                hint="give one of them another `name:`",
            )
        for root in clashing & movable:
            depth[root] += 1


def _name(item: Item, depth: int) -> str:
    root = item.root
    if root.name is not None:
        return root.name if root.file is not None or root.url is not None else f"{root.name}/{item.rel}"
    return "/".join([*_last_parts(root.folder, depth), item.rel])


def _can_grow(root: Root, depth: int) -> bool:
    return root.name is None and root.url is None and depth < len(root.folder.parts) - 1


def _last_parts(folder: Path, count: int) -> list[str]:
    return list(folder.parts[1:][-count:]) if count else []


# ── patterns ────────────────────────────────────────────────────────────────────────────────────────


def _has_magic(text: str) -> bool:
    return any(char in text for char in "*?[")


def _split_glob(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder before the first pattern. A part with brackets is not a pattern if a file has that name."""
    parts = path.parts
    first = next(
        (
            index
            for index, part in enumerate(parts)
            if _has_magic(part) and not os.path.lexists(Path(*parts[: index + 1]))
        ),
        len(parts),
    )
    return Path(*parts[:first]), parts[first:]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


def shown_name(root: Root, rel: str) -> str:
    """The name of a skipped file in messages."""
    folder = str(root.folder) if root.pattern else root.given
    return f"{folder.rstrip('/')}/{rel}".encode("utf-8", "backslashreplace").decode()


def _missing(given: str, path: Path) -> ConfigError:
    there = path.parent
    if path.is_symlink():
        return unusable(given, "a link that leads to no file")
    names = [entry.name for entry in there.iterdir()] if there.is_dir() and os.access(there, os.R_OK) else []
    near = difflib.get_close_matches(path.name, names, 1)
    return ConfigError(
        f"input {given!r} does not exist",
        why=f"nothing is at {path}, and the model would work without it",
        hint=f"did you mean {near[0]!r}?" if near else _where(given),
    )


def _where(given: str) -> str:
    return "check the path" if Path(given).is_absolute() else "relative paths start at the task file's folder"


def _unknown_key(key: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, 1)
    return ConfigError(
        f"an input has the unknown key {key!r}",
        why="it would be ignored silently",
        hint=f"did you mean {near[0]!r}?"
        if near
        else f"the keys are {', '.join(known[:-1])} and {known[-1]}",
    )


def unusable(given: str, reason: str) -> ConfigError:
    """An error for an input given by its own path, with the reason why it cannot be one."""
    return ConfigError(
        f"input {given!r} cannot be used: {reason}",
        why="an input is a readable text or document, or a folder or glob with some in it",
        hint=f"install it with: {plugins.command_for('docs')}"
        if NEEDS_DOCS in reason
        else "convert it to UTF-8 text, or take it out of `inputs:`",
    )
