"""The files of an installed package that adds a verifier: found, pinned, and recovered from the pins.

Reads metadata and files; never imports a package. A package is pinned with its list of entry points
(``entry_points.txt``), so the pins alone show what the verifier is and where its code is.
"""

from __future__ import annotations

import configparser
import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner import plugins
from loop_runner.errors import VerifierError
from loop_runner.verify.programs import Pinning, Program, Programs, below

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

_LISTING = "entry_points.txt"
_ABOUT = (".dist-info", ".egg-info")


@dataclass(frozen=True, slots=True)
class Package:
    """A verifier of a package, as it is pinned."""

    name: str  # "lr_tone 1.0"
    value: str  # "lr_tone.checks:Tone"
    files: tuple[Program, ...]
    roots: tuple[str, ...]  # the laid-out folders to import its code from


def pin(kind: str, pinning: Pinning) -> None:
    """Pin the installed package that adds ``kind``: its code and data, and its list of entry points."""
    entry = plugins.find(plugins.VERIFIERS)[kind]
    listing = _listing(entry.dist)
    if entry.dist is None or listing is None:
        raise _no_files(kind, entry)
    about = listing.parent
    pinning.add_below(about.parent, [path for path in (listing, about / "RECORD") if path.is_file()])
    pinning.add_below(about.parent, _recorded(entry.dist))
    places = list(_modules(entry.module))
    if not places:
        raise _no_files(kind, entry)
    for root, paths in places:
        pinning.add_below(root, paths)


def pinned(kind: str, programs: Programs) -> Package | None:
    """The package that adds ``kind``, among ``programs``."""
    listings = [program for program in programs.files.values() if program.place.endswith(f"/{_LISTING}")]
    for listing in listings:
        value = _values(listing.data or b"").get(kind)
        if value is not None:
            return _package(listing, value, programs)
    return None


def pinned_name(kind: str, programs: Programs) -> str:
    """The name and version of the pinned package that adds ``kind``; "" when there is none."""
    package = pinned(kind, programs)
    return "" if package is None else package.name


def differs(kind: str, programs: Programs) -> str:
    """How the installed package differs from the pinned one, in words; "" if it does not."""
    was = pinned(kind, programs)
    if was is None:
        return ""
    if kind not in plugins.find(plugins.VERIFIERS):
        return f"{was.name} is not installed here; its pinned files were run"
    pinning = Pinning(Path("/nonexistent"))
    try:
        pin(kind, pinning)
    except VerifierError:
        return ""
    here = pinned(kind, pinning.programs)
    then, now = (_hashes(package) for package in (was, here or was))
    names = [name for name in sorted(then | now) if then.get(name) != now.get(name)]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"changed in the package that is installed here: {shown}; the pinned files were run" if names else ""
    )


def _hashes(package: Package) -> dict[str, str]:
    return {program.place.split("/", 2)[2]: program.sha256 for program in package.files}


def installed_folders(kind: str) -> list[str]:
    """Where packages are installed beside the one that adds ``kind``: its code may import them."""
    entry = plugins.find(plugins.VERIFIERS).get(kind)
    if entry is None or entry.dist is None:
        return []
    folder = Path(str(entry.dist.locate_file(""))).resolve()
    is_whole = folder in (Path.home(), *Path.home().parents)
    is_site = not is_whole and any(path.suffix == ".dist-info" for path in folder.iterdir())
    return [str(folder)] if is_site else []


def _listing(dist: Distribution | None) -> Path | None:
    """The metadata file that lists what the package adds; None if it is not a file."""
    named = [path.locate() for path in (dist.files or ()) if path.name == _LISTING] if dist else []
    places = [*named, Path(str(getattr(dist, "_path", ""))) / _LISTING]
    return next((path for place in places if (path := Path(str(place)).absolute()).is_file()), None)


def _recorded(dist: Distribution) -> Iterator[Path]:
    """The files that the installer wrote into the package folder, without metadata and caches."""
    for path in dist.files or ():
        is_code = ".." not in path.parts and "__pycache__" not in path.parts and len(path.parts) > 0
        is_about = path.parts[0].endswith(_ABOUT) or path.suffix == ".pth"
        if is_code and not is_about and not path.name.startswith("__editable__"):
            yield Path(os.path.normpath(str(path.locate())))


def _modules(module: str) -> Iterator[tuple[Path, list[Path]]]:
    """The files of the top-level package or module that contains ``module``, each with its parent folder."""
    top, _, rest = module.partition(".")
    try:
        spec = find_spec(top)  # of a top-level name: looks, and runs nothing
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if not spec.submodule_search_locations:
        if spec.origin is not None and Path(spec.origin).is_file():
            yield Path(spec.origin).parent, [Path(spec.origin)]
        return
    part = "" if spec.origin is not None else rest.partition(".")[0]  # of a namespace package
    for location in map(Path, spec.submodule_search_locations):
        paths = [location / part, location / f"{part}.py"] if part else [location]
        files = [file for path in paths for file in ([path] if path.is_file() else below(path))]
        if files:
            yield location.parent, files


def _package(listing: Program, value: str, programs: Programs) -> Package:
    about = Path(listing.place).parent
    top = value.partition(":")[0].partition(".")[0]
    record = next(
        (program.data or b"" for program in programs.files.values() if program.place == f"{about}/RECORD"),
        b"",
    )
    names = {row[0] for row in csv.reader(record.decode("utf-8", "replace").splitlines()) if row}
    files = [program for program in programs.files.values() if _is_of(program.place, about, top, names)]
    roots = dict.fromkeys("/".join(program.place.split("/")[:2]) for program in files)
    name, _, version = about.name.rpartition(".")[0].partition("-")
    return Package(
        f"{name} {version}".strip(),
        value,
        tuple(sorted(files, key=lambda program: program.place)),
        tuple(roots),
    )


def _is_of(place: str, about: Path, top: str, names: Iterable[str]) -> bool:
    """Whether the file at ``place`` ("outside/1a2b3c4d/…") belongs to the package."""
    parts = place.split("/")
    if parts[0] != "outside" or len(parts) < 3:
        return False
    is_beside = "/".join(parts[:2]) == str(about.parent)
    if is_beside and parts[2] == about.name:
        return parts[3:] == [_LISTING]
    return (
        (is_beside and "/".join(parts[2:]) in names)
        or parts[2] in (top, f"{top}.py")
        or Path(parts[2]).stem.partition(".")[0] == top
    )


def _values(listing: bytes) -> dict[str, str]:
    """The verifiers that an ``entry_points.txt`` lists."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(listing.decode("utf-8", "replace"))
        return {name: value.strip() for name, value in parser[plugins.VERIFIERS].items()}
    except (configparser.Error, KeyError):
        return {}


def _no_files(kind: str, entry: EntryPoint) -> VerifierError:
    package = entry.dist.name if entry.dist else "a package"
    return VerifierError(
        f"the verifier `{kind}` cannot be pinned: {package} has no files of {entry.module}",
        why="a verifier runs from the files that were pinned when the run began",
        hint=f"install {package} again: pip install --force-reinstall {package}",
    )
