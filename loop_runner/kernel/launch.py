"""How the kernel process is started: its arguments and environment, before the sandbox wraps it.

The process sees the standard library and the files of this folder, but no packages of the host and nothing of
the host's environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from loop_runner.errors import KernelError
from loop_runner.sandbox.mounts import behind_script
from loop_runner.task.kernel_settings import KernelSettings

INSIDE = Path(__file__).parent / "inside"  # the code that runs in the kernel process
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


def interpreter(settings: KernelSettings) -> str | None:
    """The absolute path of the interpreter that the user chose; None for the runner's."""
    if settings.python is None:
        return None
    program = shutil.which(Path(settings.python).expanduser())
    if program is None:
        raise KernelError(
            f"the kernel's interpreter could not be started: there is no program {settings.python}",
            why="the model's code runs in it",
            hint="check `kernel.python`",
        )
    # Its links must stay as they are: they lead to its packages.
    return behind_script(os.path.abspath(program))  # noqa: PTH100


def kernel_command(
    settings: KernelSettings, control_fd: int, lm_fd: int, life_fd: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Arguments and environment of a kernel that communicates on these descriptors.

    ``-P``: the current folder is not on ``sys.path``. ``-S`` (own interpreter only): no site-packages.
    Not ``-I``, which would make Python ignore ``PYTHONHASHSEED``: with a fixed seed, sets of texts keep their
    order over restarts, so equal variables pickle to equal bytes.
    """
    python = interpreter(settings)
    command = [sys.executable, "-S"] if python is None else [python]
    fds = (str(control_fd), str(lm_fd), str(life_fd))
    argv = (*command, "-P", "-s", "-X", "utf8", "-c", BOOTSTRAP, str(INSIDE), *fds)
    return argv, {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}


def preloaded(settings: KernelSettings) -> list[str]:
    """Modules that a kernel process imports while it waits for its first cell, if they exist."""
    if settings.preload is not None:
        return list(settings.preload)
    return [] if settings.python is None else ["numpy", "pandas"]
