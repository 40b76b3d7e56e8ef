"""The files that verifiers are made of, pinned: read once when the run begins, by hash and by bytes.

A verifier runs from these bytes, laid out in a folder of its own, so that a run and a re-run from a clone
use the same program. A file of the task's folder that is no longer what it was makes its verifier broken.
Owns ``gates/`` of the run folder. Relies on the task's folder only while pins are made or compared.
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
_MAX_STORED_BYTES = 4 * 1024 * 1024  # a bigger file is known by its hash and taken from the task's folder
_MAX_FILES = 2000
_MAX_NAMES = 2000  # of the task's folder; what is deeper inside counts as the model's own work
# What a script may import or call without naming it on the command line lies beside it.
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
    data: bytes | None  # None: bigger than what is stored

    @property
    def shown(self) -> str:
        """Its name below the task's folder, or below the folder that it was pinned in."""
        top, _, rest = self.place.partition("/")
        return rest if top == "task" else rest.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Programs:
    """All pinned files of a task. ``is_frozen``: the task's folder is not looked at (a re-run elsewhere).

    ``names`` are hashes of the names that were in the task's folder; None for a run of an earlier version.
    """

    files: Mapping[str, Program] = field(default_factory=dict)  # by source
    is_frozen: bool = False
    names: frozenset[str] | None = None

    def for_agent(self) -> Programs:
        """These, for a run whose agent may write into the task's folder: what it does there is ignored."""
        return replace(self, is_frozen=True)

    def place(self, path: Path) -> str | None:
        """Where the file or folder that was at ``path`` is laid out; None when it is not pinned."""
        source = os.path.normpath(path)
        if source in self.files:
            return self.files[source].place
        inside = next((one for name, one in self.files.items() if name.startswith(f"{source}/")), None)
        if inside is None:
            return None
        levels = inside.source.removeprefix(f"{source}/").count("/") + 1
        return inside.place.rsplit("/", levels)[0]

    def was_there(self, path: Path, base_dir: Path) -> bool:
        """Whether ``path`` was in the task's folder when it was pinned, and is of the same kind now.

        An agent may work in that folder: what it creates there later was never missing from a verifier.
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
        found = {one.place: one for path in paths for one in self._company(os.path.normpath(path))}
        return [found[place] for place in sorted(found)]

    def _company(self, source: str) -> Iterator[Program]:
        """What ``pin`` found for ``source``."""
        if source not in self.files:
            yield from (one for name, one in self.files.items() if name.startswith(f"{source}/"))
            return
        yield self.files[source]
        folder, suffix = os.path.split(source)[0], Path(source).suffix
        for name, one in self.files.items():
            first, _, rest = name.removeprefix(f"{folder}/").partition("/")
            if suffix.lower() not in _CODE or not name.startswith(f"{folder}/"):
                continue
            is_package = suffix == ".py" and f"{folder}/{first}/__init__.py" in self.files
            if is_package if rest else Path(name).suffix == suffix:
                yield one

    def changed(self, programs: Iterable[Program]) -> str:
        """Which of ``programs`` are no longer what was pinned, in words; "" when all are."""
        if self.is_frozen:
            return ""
        names = [one.shown for one in programs if _is_other(one)]
        if not names:
            return ""
        verb = "has" if len(names) == 1 else "have"
        return (
            f"{', '.join(names[:5])} {verb} changed since the run began; put the old bytes back, or take the "
            "new ones with `loop-runner resume RUN --repin`"
        )

    def lay_out(self, programs: Iterable[Program], into: Path) -> str:
        """Write ``programs`` below ``into``, readable by everybody; what is missing, in words, or ""."""
        (into / "task").mkdir(parents=True, exist_ok=True)
        for one in programs:
            data = one.data if one.data is not None else _stored_elsewhere(one)
            if data is None:
                return f"{one.source} is bigger than what a run keeps, and it is not there as it was pinned"
            target = into / one.place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o555 if one.is_executable else 0o444)
        for folder, _, _ in os.walk(into):
            Path(folder).chmod(0o755)
        return ""

    def to_files(self) -> dict[str, bytes]:
        """What the run folder keeps of them: path → bytes."""
        listed = [
            {
                "source": one.source,
                "place": one.place,
                "sha256": one.sha256,
                "size": one.size,
                "is_executable": one.is_executable,
                "is_stored": one.data is not None,
            }
            for one in sorted(self.files.values(), key=lambda one: one.place)
        ]
        stored = {_FILES + one.place: one.data for one in self.files.values() if one.data is not None}
        index = {"programs": listed} | ({} if self.names is None else {"names": sorted(self.names)})
        return {INDEX: (json.dumps(index, indent=1) + "\n").encode(), **stored}

    @classmethod
    def from_files(cls, read: Callable[[str], bytes | None], *, is_frozen: bool = False) -> Programs:
        """The inverse of ``to_files``; none for a run that pinned nothing. ``ValueError`` when damaged."""
        index = read(INDEX)
        if index is None:
            return cls(is_frozen=is_frozen)
        found = {}
        body = json.loads(index)
        for item in body["programs"]:
            one = _from_index(item, read)
            found[one.source] = one
        names = frozenset(map(str, body["names"])) if "names" in body else None
        return cls(found, is_frozen, names)


class Pinning:
    """Reads the files that the verifiers of one task are made of, each once.

    ``known`` files stay as they were pinned. Raises ``VerifierError`` when there are too many files to keep.
    """

    def __init__(self, base_dir: Path, known: Programs | None = None) -> None:
        self._base_dir = Path(os.path.normpath(base_dir))
        self._known = known or Programs()
        self._found: dict[str, Program] = {}

    @property
    def is_frozen(self) -> bool:
        """Whether nothing may be added: the files of this machine are not those of the run."""
        return self._known.is_frozen

    @property
    def programs(self) -> Programs:
        """What is pinned so far."""
        return replace(self._known, files={**self._found, **self._known.files})

    def finished(self) -> Programs:
        """Everything that is pinned, with the names in the task's folder."""
        names = self._known.names
        if names is None and not self.is_frozen:
            names = frozenset(islice(_names(self._base_dir), _MAX_NAMES))
        return replace(self.programs, names=names)

    def add(self, paths: Iterable[Path]) -> None:
        """Pin files: folders whole, scripts with the code beside them. What is missing is left out."""
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
        if str(path) not in self._found and (program := _read(path, self._base_dir, root)) is not None:
            self._found[str(path)] = program
        if len(self._found) > _MAX_FILES:
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
    """A run folder may be shared, and the names beside the task file are nobody else's business."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _kind(path: Path) -> tuple[bool, bool]:
    """Whether ``path`` is a file (or a link to one), and whether it is a folder that is no link."""
    try:
        return path.is_file(), path.is_dir() and not path.is_symlink()
    except (OSError, ValueError):
        return False, False


def is_program(path: Path) -> bool:
    """True for a file that is worth pinning: not the system's own, not a compiled program."""
    try:
        if str(path).startswith(linux.SYSTEM_FOLDERS) or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) != _ELF
    except (OSError, ValueError):
        return False  # a word of thousands of letters is no path


def is_folder(path: Path) -> bool:
    """True for a folder; false for words that no path can be."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def matches(base_dir: Path, pattern: str) -> list[Path]:
    """The files and folders of the task's folder that ``pattern`` (a path or a glob) names."""
    path = base_dir / pattern
    if path.exists():
        return [path]
    return sorted(base_dir.glob(pattern)) if not Path(pattern).is_absolute() else []


def _with_company(path: Path) -> Iterator[Path]:
    """The file, and what it may use without naming it; or all files of the folder."""
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
    """The files of a folder, but for hidden ones and what tools leave behind."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _read(path: Path, base_dir: Path, root: Path | None) -> Program | None:
    """The file now; one outside the task's folder keeps its place below ``root`` (None: its folder)."""
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
    """Where the files below a folder outside the task's are laid out."""
    return f"outside/{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def _is_other(one: Program) -> bool:
    """The file is there and is not what was pinned. One that is gone is taken from the run's own copy."""
    return os.path.lexists(one.source) and _stored_elsewhere(one) is None


def _stored_elsewhere(one: Program) -> bytes | None:
    """The bytes of the file that was pinned, where they are still there.

    Reads as many as were pinned and no more, and never waits: the index of another's run may name a pipe.
    """
    try:
        with open(os.open(one.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode) or seen.st_size != one.size:
                return None
            data = file.read(one.size)
    except (OSError, ValueError, OverflowError, MemoryError):
        return None
    return data if hashlib.sha256(data).hexdigest() == one.sha256 else None


def _from_index(item: Mapping[str, Any], read: Callable[[str], bytes | None]) -> Program:
    place = str(item["place"])
    # The index lies in a repository that may come from elsewhere: nothing in it may lead out of a folder.
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
