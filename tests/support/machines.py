"""Other machines, imitated on this one: programs that are hidden, and an ordinary user."""

import importlib.util
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.confined import IS_ROOT, ORDINARY_UID, SOURCE, ordinary_python


def path_without(hidden: Iterable[str], folder: Path) -> str:
    """A PATH on which the programs ``hidden`` do not exist: ``folder`` links to every other program."""
    names = set(hidden)
    for place in os.environ["PATH"].split(os.pathsep):
        for program in sorted(Path(place).iterdir()) if os.access(place, os.R_OK | os.X_OK) else ():
            link = folder / program.name
            if program.name not in names and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


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
