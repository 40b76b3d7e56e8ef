"""The files that verifiers are made of, pinned: read once when the run begins, by hash and by bytes.

A verifier runs from these bytes, laid out in a folder of its own, so that a run and a re-run from a clone
use the same program. If a file of the task's folder has changed, its verifier is broken. Owns ``gates/`` of
the run folder. Reads the task's folder only to make or compare pins.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from loop_runner import linux
from loop_runner.errors import VerifierError

INDEX = "gates/pins.json"
_FILES = "gates/files/"
_MAX_STORED_BYTES = 4 * 1024 * 1024  # of a bigger file only the hash is kept
_MAX_FILES = 2000
_MAX_NAMES = 2000  # of the task's folder; deeper names count as the model's own work
# A script may import or call files beside it without naming them on the command line.
_CODE = {".py", ".sh", ".bash", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".lua", ".r"}
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages"}
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Program:
    """One pinned file."""

    source: str  # its absolute path when it was pinned
    place: str  # where it is laid out: "task/check.py", or "outside/1a2b3c4d/check.py"
    sha256: str
    size: int
    is_executable: bool
    data: bytes | None  # None: too big to be stored

    @property
    def shown(self) -> str:
        """Its name below the task's folder, or below the folder it was pinned in."""
        top, _, rest = self.place.partition("/")
        return rest if top == "task" else rest.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Programs:
    """All pinned files of a task. ``is_frozen``: the task's folder is ignored (a re-run elsewhere).

    ``names`` are hashes of the names that were in the task's folder; None for a run of an earlier version.
    """

    files: Mapping[str, Program] = field(default_factory=dict)  # by source
    is_frozen: bool = False
    names: frozenset[str] | None = None

    def for_agent(self) -> Programs:
        """These pins for a run whose agent may write to the task's folder; its changes are ignored."""
        return replace(self, is_frozen=True)

    def place(self, path: Path) -> str | None:
        """Where the file or folder from ``path`` is laid out; None when it is not pinned."""
        source = os.path.normpath(path)
        if source in self.files:
            return self.files[source].place
        inside = next(
            (program for name, program in self.files.items() if name.startswith(f"{source}/")), None
        )
        if inside is None:
            return None
        levels = inside.source.removeprefix(f"{source}/").count("/") + 1
        return inside.place.rsplit("/", levels)[0]

    def was_there(self, path: Path, base_dir: Path) -> bool:
        """Whether ``path`` was in the task's folder at pinning time and is of the same kind now.

        An agent may work in that folder: a file that it creates later was never missing from a verifier.
        """
        is_file, is_dir = _kind(path)
        if self.names is None:
            return is_file or is_dir
        name = os.path.relpath(path, base_dir)
        return ((is_file or self.is_frozen) and _hashed(name) in self.names) or (
            (is_dir or self.is_frozen) and _hashed(f"{name}/") in self.names
        )

    def relied_on(self, paths: Iterable[Path]) -> list[Program]:
        """The pinned files at or below ``paths`` and the code beside them, by place."""
        by_place = {
            program.place: program for path in paths for program in self._company(os.path.normpath(path))
        }
        return [by_place[place] for place in sorted(by_place)]

    def _company(self, source: str) -> Iterator[Program]:
        """The files that ``pin`` found for ``source``."""
        if source not in self.files:
            yield from (program for name, program in self.files.items() if name.startswith(f"{source}/"))
            return
        yield self.files[source]
        folder, suffix = os.path.split(source)[0], Path(source).suffix
        for name, program in self.files.items():
            first, _, rest = name.removeprefix(f"{folder}/").partition("/")
            if suffix.lower() not in _CODE or not name.startswith(f"{folder}/"):
                continue
            is_package = suffix == ".py" and f"{folder}/{first}/__init__.py" in self.files
            if is_package if rest else Path(name).suffix == suffix:
                yield program

    def changed(self, programs: Iterable[Program]) -> str:
        """Which of ``programs`` have changed since they were pinned, in words; "" when none has."""
        if self.is_frozen:
            return ""
        names = [program.shown for program in programs if _is_other(program)]
        if not names:
            return ""
        verb = "has" if len(names) == 1 else "have"
        return (
            f"{', '.join(names[:5])} {verb} changed since the run began; put the old bytes back, or take the "
            "new ones with `loop-runner resume RUN --repin`"
        )

    def lay_out(self, programs: Iterable[Program], into: Path) -> str:
        """Write ``programs`` below ``into``, readable by every user; returns what is missing, or ""."""
        (into / "task").mkdir(parents=True, exist_ok=True)
        for program in programs:
            data = program.data if program.data is not None else _stored_elsewhere(program)
            if data is None:
                return (
                    f"{program.source} is too big to be kept in the run folder, and it has changed or is gone"
                )
            target = into / program.place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o555 if program.is_executable else 0o444)
        for folder, _, _ in os.walk(into):
            Path(folder).chmod(0o755)
        return ""

    def to_files(self) -> dict[str, bytes]:
        """What the run folder keeps of them: path → bytes."""
        listed = [
            {
                "source": program.source,
                "place": program.place,
                "sha256": program.sha256,
                "size": program.size,
                "is_executable": program.is_executable,
                "is_stored": program.data is not None,
            }
            for program in sorted(self.files.values(), key=lambda program: program.place)
        ]
        stored = {
            _FILES + program.place: program.data
            for program in self.files.values()
            if program.data is not None
        }
        index = {"programs": listed} | ({} if self.names is None else {"names": sorted(self.names)})
        return {INDEX: (json.dumps(index, indent=1) + "\n").encode(), **stored}

    @classmethod
    def from_files(cls, read: Callable[[str], bytes | None], *, is_frozen: bool = False) -> Programs:
        """The inverse of ``to_files``; none for a run that pinned nothing. ``ValueError`` when damaged."""
        index = read(INDEX)
        if index is None:
            return cls(is_frozen=is_frozen)
        by_source = {}
        body = json.loads(index)
        for item in body["programs"]:
            program = _from_index(item, read)
            by_source[program.source] = program
        names = frozenset(map(str, body["names"])) if "names" in body else None
        return cls(by_source, is_frozen, names)


class Pinning:
    """Reads the verifiers' files of one task, each once.

    ``known`` files keep their pins. Raises ``VerifierError`` when there are too many files to keep.
    """

    def __init__(self, base_dir: Path, known: Programs | None = None) -> None:
        self._base_dir = Path(os.path.normpath(base_dir))
        self._known = known or Programs()
        self._files: dict[str, Program] = {}

    @property
    def is_frozen(self) -> bool:
        """Whether nothing may be added: this machine's files are not the run's."""
        return self._known.is_frozen

    @property
    def programs(self) -> Programs:
        """What is pinned so far."""
        return replace(self._known, files={**self._files, **self._known.files})

    def finished(self) -> Programs:
        """Everything that is pinned, with the names in the task's folder."""
        names = self._known.names
        if names is None and not self.is_frozen:
            names = frozenset(islice(_names(self._base_dir), _MAX_NAMES))
        return replace(self.programs, names=names)

    def add(self, paths: Iterable[Path]) -> None:
        """Pin files: folders whole, scripts with the code beside them. Missing files are skipped."""
        for path in map(Path, map(os.path.normpath, paths)):
            if self._known.place(path) is not None:
                continue
            root = path.parent if path.is_dir() else None
            for file in _with_company(path):
                self._read(file, root)

    def add_below(self, root: Path, paths: Iterable[Path]) -> None:
        """Pin exactly these files, which keep their places below ``root``."""
        for path in paths:
            if str(path) not in self._known.files:
                self._read(path, root)

    def _read(self, path: Path, root: Path | None) -> None:
        if str(path) not in self._files and (program := _read(path, self._base_dir, root)) is not None:
            self._files[str(path)] = program
        if len(self._files) > _MAX_FILES:
            raise VerifierError(
                f"the verifiers are made of more than {_MAX_FILES} files, {path} among them",
                why="each is kept in the run folder, so that the verdict can be checked anywhere",
                hint="put the checks into a folder of their own, or name what they need under `pin:`",
            )


def _names(base_dir: Path) -> Iterator[str]:
    """Hashes of the names in the task's folder, the nearest first; those of folders end with "/"."""
    waiting = deque([base_dir])
    while waiting:
        folder = waiting.popleft()
        for path in _entries(folder):
            name = os.path.relpath(path, base_dir)
            is_file, is_dir = _kind(path)
            if is_dir:
                yield _hashed(f"{name}/")
                if not path.is_symlink() and path.name not in _LEFT_OUT and not path.name.startswith("."):
                    waiting.append(path)
            elif is_file:
                yield _hashed(name)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _hashed(name: str) -> str:
    """Names are hashed because a run folder may be shared, and the names beside the task file are private."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _kind(path: Path) -> tuple[bool, bool]:
    """Whether ``path`` is a file (or a link to one), and whether it is a folder that is no link."""
    try:
        return path.is_file(), path.is_dir() and not path.is_symlink()
    except (OSError, ValueError):
        return False, False


def is_program(path: Path) -> bool:
    """True for a file worth pinning: not the system's own, not a compiled program."""
    try:
        if str(path).startswith(linux.SYSTEM_FOLDERS) or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) != _ELF
    except (OSError, ValueError):
        return False  # a word of thousands of letters is no path


def is_folder(path: Path) -> bool:
    """True for a folder; false for words that cannot be a path."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def matches(base_dir: Path, pattern: str) -> list[Path]:
    """The files and folders of the task's folder that match ``pattern`` (a path or a glob)."""
    path = base_dir / pattern
    if path.exists():
        return [path]
    return sorted(base_dir.glob(pattern)) if not Path(pattern).is_absolute() else []


def _with_company(path: Path) -> Iterator[Path]:
    """The file with the files it may use without naming them; or all files of the folder."""
    if path.is_dir():
        yield from below(path)
        return
    yield path
    if path.suffix.lower() not in _CODE or not path.is_file():
        return
    for beside in sorted(path.parent.iterdir()):
        if beside.is_file() and beside.suffix == path.suffix and not beside.name.startswith("."):
            yield beside
        elif path.suffix == ".py" and (beside / "__init__.py").is_file():
            yield from below(beside)


def below(folder: Path) -> Iterator[Path]:
    """The files of a folder, without hidden ones and caches of tools."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _read(path: Path, base_dir: Path, root: Path | None) -> Program | None:
    """The current file; one outside the task's folder keeps its place below ``root`` (None: its folder)."""
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    root = root or path.parent
    place = (
        f"task/{path.relative_to(base_dir)}"
        if path.is_relative_to(base_dir)
        else f"{outside(root)}/{path.relative_to(root)}"
    )
    return Program(
        str(path),
        place,
        hashlib.sha256(data).hexdigest(),
        len(data),
        bool(mode & stat.S_IXUSR),
        data if len(data) <= _MAX_STORED_BYTES else None,
    )


def outside(root: Path) -> str:
    """Where the files of a folder outside the task's folder are laid out."""
    return f"outside/{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def _is_other(program: Program) -> bool:
    """The file exists and has changed. A deleted one is taken from the run's own copy."""
    return os.path.lexists(program.source) and _stored_elsewhere(program) is None


def _stored_elsewhere(program: Program) -> bytes | None:
    """The pinned file's bytes, if they are still there.

    Reads only as many bytes as were pinned, and never blocks: the index of a foreign run may name a pipe.
    """
    try:
        with open(os.open(program.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode) or seen.st_size != program.size:
                return None
            data = file.read(program.size)
    except (OSError, ValueError, OverflowError, MemoryError):
        return None
    return data if hashlib.sha256(data).hexdigest() == program.sha256 else None


def _from_index(item: Mapping[str, Any], read: Callable[[str], bytes | None]) -> Program:
    place = str(item["place"])
    # The index is in a repository that may come from elsewhere: no path in it may lead out of a folder.
    parts = place.split("/")
    if parts[0] not in ("task", "outside") or {"", ".", ".."} & set(parts):
        msg = f"{INDEX} names {place!r}"
        raise ValueError(msg)
    data = read(_FILES + place) if item["is_stored"] else None
    if item["is_stored"] and (data is None or hashlib.sha256(data).hexdigest() != item["sha256"]):
        msg = f"{_FILES}{place} is not what {INDEX} says"
        raise ValueError(msg)
    return Program(
        str(item["source"]), place, str(item["sha256"]), int(item["size"]), bool(item["is_executable"]), data
    )
