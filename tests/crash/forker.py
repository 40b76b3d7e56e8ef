"""Starts ``loop-runner`` commands by forking a process that has imported everything: much less to wait for.

Each command is a real process that leads its own group, so that a signal kills what it would kill. One may be
held at its first instruction until a tracer is attached. Run as a module it serves orders, one JSON object a
line; ``Forker`` is the other end of it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.commands import clean_environment, wait_for

ROOT = Path(__file__).parent.parent.parent
_WARM = (
    "asyncio",
    "httpx2",
    "yaml",
    "jinja2",
    "git",
    "genai_prices",
    "loop_runner.cli.run",
    "loop_runner.cli.look",
    "loop_runner.runs.start",
    "loop_runner.model.providers.openai_compatible",
    "tests.crash.driver",
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: ``exit_code`` is negative for a signal."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.stdout))


class Forker:
    """Runs commands one after another; not for several threads at once."""

    def __init__(self, scratch: Path, *also: str) -> None:
        """``also``: modules that are imported once, beside those that every command needs."""
        scratch.mkdir(parents=True, exist_ok=True)
        self._out, self._err = scratch / "stdout", scratch / "stderr"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forker", *also],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=clean_environment({"PYTHONPATH": str(ROOT)}),
            text=True,
        )

    def run(
        self,
        *args: object,
        env: Mapping[str, str],
        module: str = "loop_runner.cli",
        attach: Callable[[int], None] | None = None,
        timeout_s: float = 40,
    ) -> Ended:
        """Run ``main([ARGS])`` of ``module`` to its end; ``env`` is added to the environment.

        ``attach`` is called with the process's number before it does anything.
        """
        order = {
            "module": module,
            "hold": attach is not None,
            "args": [str(arg) for arg in args],
            "env": dict(env),
            "out": str(self._out),
            "err": str(self._err),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if attach is not None:
            wait_for(lambda: _state(pid) == "T")
            attach(pid)
            os.kill(pid, signal.SIGCONT)
        late = threading.Timer(timeout_s, os.kill, (pid, signal.SIGABRT))
        late.start()
        exit_code = int(self._process.stdout.readline())
        late.cancel()
        late.join()
        return Ended(exit_code, self._out.read_text(), self._err.read_text(errors="replace"))

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def main() -> None:
    from loop_runner.kernel.launch import interpreter
    from loop_runner.sandbox.probe import probe
    from loop_runner.task.kernel_settings import KernelSettings

    for name in (*_WARM, *sys.argv[1:]):
        importlib.import_module(name)
    probe(interpreter(KernelSettings()))  # what it finds is kept for the process, and for those forked off it
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: dict[str, Any]) -> None:
    """In the child: the command, and no way back."""
    os.setsid()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path in ((1, order["out"]), (2, order["err"])):
        fd = os.open(path, flags, 0o644)
        os.dup2(fd, number)
        os.close(fd)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    import faulthandler

    faulthandler.enable(file=2, all_threads=True)  # a command that hangs is aborted, and says where it was
    os.environ.update(order["env"])
    from loop_runner.sandbox import wrap

    wrap._starter.cache_clear()  # its thread did not come along
    command = importlib.import_module(order["module"]).main
    code = 1
    if order["hold"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        command(order["args"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
