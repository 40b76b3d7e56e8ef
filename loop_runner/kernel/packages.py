"""The Python that runs the model's code, and the packages it can import. On the host."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from loop_runner import process
from loop_runner.errors import EnvironmentFault
from loop_runner.kernel.launch import interpreter
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.text import label

_SHOWN = 60
_TIMEOUT_S = 20.0
_LIST = """
import importlib.metadata, json, platform
names = {each.metadata["Name"] for each in importlib.metadata.distributions()}
print(json.dumps([platform.python_version(), sorted(filter(None, names), key=str.lower)]))
"""


def describe(settings: KernelSettings) -> str:
    """A phrase for a prompt, such as "Python 3.11, with the standard library alone"."""
    program = interpreter(settings)
    if program is None:
        return f"Python {_short(platform.python_version())}, with the standard library alone"
    version, packages = _listed(program)
    return f"Python {version}, with {packages}" if version else "the user's own Python"


def _listed(program: str) -> tuple[str, str]:
    """Version and packages of an interpreter; "" if it cannot be determined."""
    try:
        ended = process.run([program, "-s", "-c", _LIST], cwd=Path("/"), env={}, timeout_s=_TIMEOUT_S)
        version, names = json.loads(ended.output.strip().rpartition("\n")[2])
    except (ValueError, TypeError, OSError, EnvironmentFault):
        return "", ""
    shown = ", ".join(label(str(name), 60) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return _short(str(version)), f"these packages: {shown}{more}" if names else "no packages"


def _short(version: str) -> str:
    return label(".".join(version.split(".")[:2]), 20)
