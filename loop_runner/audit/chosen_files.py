"""Chooses the files of an audit. Each has the same name everywhere: its path from the top of the repository.

Owns these names, ``--exclude`` and the list of what is left out; ``changed`` compares with a commit. The
user's repository is only read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop_runner.audit import changed
from loop_runner.errors import ConfigError
from loop_runner.inputs import plain
from loop_runner.inputs.inside import patterns
from loop_runner.records import Inputs, InputText
from loop_runner.workspace.foreign import Foreign

_OWN = "the audit's own file: rules, baseline or report"


@dataclass(frozen=True, slots=True)
class Scope:
    """The files of an audit. Names are relative to ``base``; a file outside of it has its whole path.

    ``left_out`` are (name, reason): other files of a folder, and named files that cannot be judged.
    """

    base: Path
    texts: Inputs
    left_out: tuple[tuple[str, str], ...] = ()
    unchanged: int = 0  # files left out by ``--changed-since``
    comparison: str = ""  # what ``--changed-since`` compared with
    is_in_repository: bool = False
    folders: tuple[Path, ...] = ()  # those that were audited whole

    def is_within(self, name: str) -> bool:
        """Whether a file of this ``name`` would be audited if it existed."""
        return any((self.base / name).is_relative_to(folder) for folder in self.folders)


def choose(
    paths: Sequence[Path],
    cwd: Path,
    exclude: Sequence[str] = (),
    since: str | None = None,
    own: Sequence[Path] = (),
) -> Scope:
    """The text files at ``paths``. Raises ``ConfigError`` for a path or a revision that does not exist.

    ``own`` are files of the audit itself, which are left out when a folder contains them.
    """
    cwd = cwd.resolve()
    base, repository = _base([_place(cwd / path) for path in paths], cwd)
    chosen = _Choice(base, [os.path.realpath(path) for path in own])
    for path in paths:
        chosen.take(path, cwd, exclude)
    chosen.leave_out(exclude)
    texts = sorted(chosen.texts.values(), key=lambda text: text.name)
    kept, comparison = (texts, "") if since is None else changed.since(texts, since, repository, base)
    return Scope(
        base,
        Inputs(tuple(kept)),
        tuple(sorted(chosen.left_out.items())),
        len(texts) - len(kept),
        comparison,
        repository is not None,
        tuple(chosen.folders),
    )


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


def _place(path: Path) -> Path:
    """The absolute ``path``. A link to a file counts as being where the link is."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _base(places: Sequence[Path], cwd: Path) -> tuple[Path, Foreign | None]:
    """The base of all names: the top of the repository that holds all paths, else the current folder."""
    around = [repository for folder in (cwd, *places) if (repository := Foreign.around(folder)) is not None]
    whole = [
        repository for repository in around if all(place.is_relative_to(repository.top) for place in places)
    ]
    partly = [
        repository for repository in around if any(place.is_relative_to(repository.top) for place in places)
    ]
    if repository := next(iter(whole or partly), None):
        return repository.top, repository
    if any(place.is_relative_to(cwd) for place in places):
        return cwd, None
    return Path(os.path.commonpath([_folder(place) for place in places])), None


def _folder(place: Path) -> Path:
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def _name(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


# ── which files ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Choice:
    """What has been chosen so far, by name."""

    base: Path
    own: Sequence[str]
    texts: dict[str, InputText] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    also: dict[str, str] = field(default_factory=dict)  # by name: the path below the folder that was given

    def take(self, path: Path, cwd: Path, exclude: Sequence[str]) -> None:
        """Add the files that ``path`` means."""
        place = _place(cwd / path)
        if os.path.lexists(place) and not place.is_dir():
            self._add_named(place)
            return
        walked = plain.walk(cwd / path, [pattern for pattern in exclude if "[" not in pattern])
        if not walked.files and not walked.left_out:
            raise _nothing(path)
        if place.is_dir():
            self.folders.append(walked.folder)
        for file, below in walked.files:
            name = _name(file, self.base)
            if str(file) in self.own:
                self.left_out[name] = _OWN
                continue
            self.also[name] = below
            self._add(file, name)
        for below, reason in walked.left_out:
            self.left_out.setdefault(_name(walked.folder / below, self.base), reason)

    def _add_named(self, place: Path) -> None:
        """A file given by name: if it cannot be judged, the report says so, and the others are judged."""
        target = Path(os.path.realpath(place))  # which takes a loop of links
        if reason := _why_not(place, target, self.base):
            self.left_out[_name(place, self.base)] = reason
        else:
            self._add(target, _name(target, self.base))

    def _add(self, file: Path, name: str) -> None:
        if name in self.texts:
            return
        text = plain.text_at(file, name)
        if isinstance(text, str):
            self.left_out[name.encode("utf-8", "backslashreplace").decode()] = text
        else:
            self.texts[name] = text

    def leave_out(self, exclude: Sequence[str]) -> None:
        """Apply ``--exclude`` to the names of the report, to named files, too."""
        for pattern in exclude:
            for name in _excluded(_relative(pattern, self.base), self.texts, self.also):
                del self.texts[name]
                self.left_out[name] = "excluded"


def _why_not(place: Path, target: Path, base: Path) -> str:
    if not target.exists():
        return "a link to nothing"
    if not target.is_file():
        return "not a regular file"
    if place != target and place.is_relative_to(base) and not target.is_relative_to(base):
        return "a link that leads out of the folder"
    return ""


def _relative(pattern: str, base: Path) -> str:
    """``pattern`` in the form of names: without "./" and without the path to the top."""
    path = os.path.normpath(pattern)
    return os.path.relpath(path, base) if Path(path).is_absolute() else path


def _excluded(pattern: str, names: Mapping[str, object], also: Mapping[str, str]) -> list[str]:
    """The ``names`` that a pattern of ``--exclude`` means; a name with brackets means itself first."""
    both = {name: {name, also.get(name, name)} for name in names}
    literal = [
        name
        for name, forms in both.items()
        if any(form == pattern or form.startswith(f"{pattern}/") for form in forms)
    ]
    if literal:
        return literal
    wanted = [patterns.parts(pattern)]
    return [name for name, forms in both.items() if any(patterns.is_excluded(form, wanted) for form in forms)]


def _nothing(path: Path) -> ConfigError:
    return ConfigError(
        f"nothing to audit in {path}",
        why="the folder is empty or no file matches the pattern, and a report about no file looks clean",
        hint="check the path; put patterns in quotes",
    )
