"""Builds the commands that add to this installation, in the words of a hint.

loop-runner is on no package index, so a hint never names ``loop-runner[EXTRA]``: it names the packages of the
extra, which are on every index, and the Python that runs this copy. Relies on the standard library; installs
nothing.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
import urllib.parse
from pathlib import Path
from typing import Any

_NAME = "loop-runner"
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def command_for(name: str) -> str:
    """The command that installs the packages of the extra ``name``, for this Python."""
    requirements = _requirements(name)
    checkout = Path(__file__).parents[1]
    if not requirements and (checkout / "pyproject.toml").is_file():
        requirements = [f"{checkout}[{name}]"]  # a checkout that runs without being installed
    return _install(*requirements)


def newer() -> str:
    """How to get a newer version, from where this one was installed."""
    origin = _origin()
    address = str(origin.get("url", ""))
    system = (origin.get("vcs_info") or {}).get("vcs")
    if system:
        return f"update with: {_install('--upgrade', f'{_NAME} @ {system}+{address}')}"
    if "dir_info" in origin:
        folder = urllib.parse.unquote(urllib.parse.urlsplit(address).path)
        pull = shlex.join(["git", "-C", folder, "pull"])
        return f"update the checkout and install it again: {pull} && {_install('--upgrade', folder)}"
    return f"get a newer checkout or wheel, and install it: {_install('--upgrade')} PATH"


def _install(*words: str) -> str:
    """``words`` behind the installer that this Python has: pip, or uv where an environment is without it."""
    if importlib.util.find_spec("pip") is None:
        return shlex.join(["uv", "pip", "install", "--python", sys.executable, *words])
    return shlex.join([sys.executable, "-m", "pip", "install", *words])


def _requirements(name: str) -> list[str]:
    import importlib.metadata  # takes longer to load than all the rest of a short run's modules

    try:
        listed = importlib.metadata.requires(_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    pairs = (entry.partition(";") for entry in listed)
    return [
        requirement.strip()
        for requirement, _, marker in pairs
        if (match := _EXTRA.search(marker)) and match[1] == name
    ]


def _origin() -> dict[str, Any]:
    """What the installer recorded about where this copy came from (PEP 610); empty for none."""
    import importlib.metadata

    try:
        record = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        origin = json.loads(record or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}
