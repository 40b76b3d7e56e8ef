"""Other machines, imitated on this one: programs that are hidden, and an ordinary user."""

import functools
import importlib.util
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.confined import IS_ROOT, ORDINARY_UID, SOURCE, ordinary_python


def path_without(hidden: Iterable[str], folder: Path) -> str:
    """A PATH on which the programs ``hidden`` do not exist.

    A place of PATH that holds one of them is replaced by a folder in ``folder`` with links to all its other
    programs. The other places stay: programs in them may look for their own files beside themselves.
    """
    names = set(hidden)
    places = [place for place in os.environ["PATH"].split(os.pathsep) if os.access(place, os.R_OK | os.X_OK)]
    return os.pathsep.join(
        str(_links_to_others(Path(place), names, folder / str(number)))
        if any(os.path.lexists(Path(place, name)) for name in names)
        else place
        for number, place in enumerate(places)
    )


def _links_to_others(place: Path, hidden: set[str], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for program in place.iterdir():
        link = folder / program.name
        if program.name not in hidden and not link.is_symlink():
            link.symlink_to(program)
    return folder


def packages_folder() -> Path:
    """Where pytest and its neighbours are installed."""
    spec = importlib.util.find_spec("pytest")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1]


def ordinary_user_env(home: Path) -> dict[str, str]:
    """The environment in which Python finds the tests when it runs as another user."""
    home.chmod(0o777)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": f"{SOURCE}:{packages_folder()}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def ordinary_user() -> dict[str, Any]:
    """Arguments for ``subprocess`` that start a program as an ordinary user; none if we are one already."""
    return {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []} if IS_ROOT else {}


def python_for_ordinary_user(home: Path) -> str | None:
    """An interpreter that an ordinary user can run the tests with; None if this machine has none."""
    python = ordinary_python()
    if python is None:
        return None
    trial = subprocess.run(
        [python, "-c", "import pytest, tests"],
        env=ordinary_user_env(home),
        check=False,
        capture_output=True,
        **ordinary_user(),
    )
    return None if trial.returncode else python


@functools.cache
def can_mount() -> bool:
    """Whether a program may have mounts of its own here, as root or by a user namespace."""
    options = ["--mount"] if IS_ROOT else ["--mount", "--map-root-user"]
    try:
        done = subprocess.run(
            ["unshare", *options, "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0
