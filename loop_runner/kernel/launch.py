"""How the kernel process is started: its arguments and its environment.

One function, so that a sandbox can wrap what it returns. The process sees the standard library, the files
of this folder and cloudpickle; nothing that is installed beside the host, nothing of the host's environment.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import EnvironmentFault
from loop_runner.records import KernelSettings

# ``loop_runner`` is a stub inside: the host's package (and what it may import) stays out of reach.
BOOTSTRAP = """\
import sys
from types import ModuleType
for name, path in ("loop_runner", []), ("loop_runner.kernel", [sys.argv[1]]):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__path__ = path
from loop_runner.kernel.child import main
main(*map(int, sys.argv[2:5]))
"""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: no shell, exactly this environment, in ``cwd``."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


def kernel_launch(
    settings: KernelSettings, workspace: Path, private_dir: Path, control_fd: int, lm_fd: int, life_fd: int
) -> Launch:
    """The command of a kernel in ``workspace`` with its home in ``private_dir``.

    ``-P``: the current folder is not on ``sys.path``. ``-S`` (own interpreter only): no site-packages.
    Not ``-I``, which would make Python ignore ``PYTHONHASHSEED``: with a fixed seed, sets of texts keep their
    order over restarts, so equal variables pickle to equal bytes.
    """
    interpreter = [sys.executable, "-S"] if settings.python is None else [settings.python]
    fds = (str(control_fd), str(lm_fd), str(life_fd))
    argv = (*interpreter, "-P", "-s", "-X", "utf8", "-c", BOOTSTRAP, str(Path(__file__).parent), *fds)
    env = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": str(private_dir), "TMPDIR": str(private_dir)}
    return Launch(argv, env, workspace)


def cloudpickle_dir() -> Path:
    """The folder of the cloudpickle package, found without importing it."""
    spec = importlib.util.find_spec("cloudpickle")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFault(
            "the package cloudpickle is not installed",
            why="the kernel saves the model's variables with it",
            hint="install loop-runner again, with its dependencies",
        )
    return Path(spec.submodule_search_locations[0])
