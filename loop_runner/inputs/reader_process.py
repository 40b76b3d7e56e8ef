"""Starts the sandboxed child that reads documents, and reads its output.

The child gets the originals as open files, Python, the installed packages and nothing else: no network, no
other file, little memory. Its output and its time are limited, and the host waits for its end.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loop_runner import scratch
from loop_runner.errors import EnvironmentFault
from loop_runner.inputs.inside.sink import Limits
from loop_runner.process import PipeReader, kill_group
from loop_runner.records import SandboxTier

_INSIDE = Path(__file__).parent / "inside"
_START_S = 60.0
_GRACE_S = 5.0  # the child itself stops what takes too long, if it can
_HEADER_BYTES = 8 << 20
_NO_SENSE = "broken: the process that reads it gave an unusable reply"
_CODE = """\
import sys
for name, path in ("loop_runner.inputs", []), ("loop_runner.inputs.inside", [{inside!r}]):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = path
from loop_runner.inputs.inside.main import main
main()
"""
_ENV = {
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    # One thread and one arena per processor would use up the address space.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"), "1"),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message from the child."""

    kind: str
    header: Mapping[str, Any]
    body: bytes = b""


class _ChildEndedError(Exception):
    """The child sent nothing more; the text is the reason, as far as the host can tell."""


def frames_of(
    originals: Sequence[Mapping[str, Any]],
    fds: Sequence[int],
    limits: Limits,
    loaders: Mapping[str, Mapping[str, Any]],
    shown: Iterable[str],
    tier: SandboxTier | None,
) -> list[tuple[Frame, ...]]:
    """One child's output for each original, up to the first one that ended it (its frames say so).

    ``EnvironmentFault``: the child could not even begin.
    """
    from loop_runner.sandbox.probe import forget

    shown = list(shown)
    try:
        return _frames_of(originals, fds, limits, loaders, shown, tier)
    except EnvironmentFault:
        if not forget():
            raise
        return _frames_of(originals, fds, limits, loaders, shown, tier)


def _frames_of(
    originals: Sequence[Mapping[str, Any]],
    fds: Sequence[int],
    limits: Limits,
    loaders: Mapping[str, Mapping[str, Any]],
    shown: Iterable[str],
    tier: SandboxTier | None,
) -> list[tuple[Frame, ...]]:
    job = {
        "originals": originals,
        "limits": asdict(limits),
        "loaders": loaders,
        "packages": _packages(),
    }
    finished: list[tuple[Frame, ...]] = []
    kept: list[Frame] | None = None
    with scratch.make("inputs") as folder:
        child = _Child(job, fds, [*shown, *_folders_of(loaders)], folder, tier, limits)
        try:
            for frame in child.frames():
                if frame.kind == "begin":
                    kept = []
                elif kept is not None and frame.kind == "done":
                    finished.append(tuple(kept))
                    kept = None
                elif kept is not None:
                    kept.append(frame)
                if len(finished) == len(originals):
                    break
        except _ChildEndedError as ended:
            if kept is not None:
                finished.append((Frame("fail", {"why": str(ended)}),))
            elif not finished:
                raise child.fault(str(ended)) from None
        finally:
            child.close()
    return finished


class _Child:
    def __init__(
        self,
        job: Mapping[str, Any],
        fds: Sequence[int],
        shown: list[str],
        folder: Path,
        tier: SandboxTier | None,
        limits: Limits,
    ) -> None:
        from loop_runner.sandbox.probe import probe, require_tier
        from loop_runner.sandbox.wrap import Limits as Amounts
        from loop_runner.sandbox.wrap import wrap

        report = probe()
        require_tier(report, tier)
        folder.chmod(0o755)
        for name in ("workspace", "private"):
            (folder / name).mkdir()
        self._limits = limits
        self._budget = 2 * limits.total_bytes
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
        self._wrapped = wrap(
            report.layers,
            [sys.executable, "-S", "-P", "-s", "-X", "utf8", "-c", _CODE.format(inside=str(_INSIDE))],
            _ENV,
            workspace=folder / "workspace",
            private_dir=folder / "private",
            read_only=[path for path in (*job["packages"], *shown) if os.path.lexists(path)],
            code=[_INSIDE],
            fds=fds,
            limits=Amounts(
                memory_bytes=limits.memory_bytes,
                total_memory_bytes=limits.memory_bytes,
                processes=64,
                open_files=256,
                file_bytes=16 << 20,
                tmp_bytes=64 << 20,
            ),
        )
        with tempfile.TemporaryFile() as stdin:
            stdin.write(json.dumps(job).encode())
            stdin.seek(0)
            self._process = self._wrapped.start(stdin=stdin, stdout=subprocess.PIPE, stderr=self._stderr)
        assert self._process.stdout is not None
        self._fd = self._process.stdout.fileno()
        self._output = PipeReader(self._more, _HEADER_BYTES)
        self._deadline = time.monotonic() + _START_S

    def frames(self) -> Iterator[Frame]:
        """Frames until the end; ``_ChildEndedError`` if it comes too early."""
        while True:
            line = self._header_line()
            header = _header(line)
            size = header.get("size")
            if not isinstance(size, int) or not 0 <= size <= self._limits.text_bytes:
                raise _ChildEndedError(_NO_SENSE)
            self._budget -= size + len(line)
            if self._budget < 0:
                raise _ChildEndedError("too large: it gives more text than is taken")
            if header.get("type") == "begin":
                self._deadline = time.monotonic() + self._limits.seconds + _GRACE_S
                self._budget = 2 * self._limits.total_bytes
            yield Frame(str(header.get("type")), header, self._output.take(size))

    def close(self) -> None:
        """End it, whatever it is doing."""
        kill_group(self._process.pid)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()
        self._wrapped.ended()

    def fault(self, why: str) -> EnvironmentFault:
        """Why no child can be started here."""
        lines = os.pread(self._stderr.fileno(), 4000, 0).decode("utf-8", "replace").strip().splitlines()
        return EnvironmentFault(
            f"documents cannot be read here: {lines[-1] if lines else why}"[:500],
            why="they are converted in a sandboxed process, and it did not start",
            hint="`loop-runner doctor` says what the sandbox needs; or leave documents out with `exclude`",
        )

    def _header_line(self) -> bytes:
        try:
            return self._output.line()
        except ValueError:
            raise _ChildEndedError(_NO_SENSE) from None

    def _more(self) -> bytes:
        left = self._deadline - time.monotonic()
        ready, _, _ = select.select([self._fd], [], [], max(left, 0.0))
        if not ready:
            raise _ChildEndedError(f"too large: it was not read within {self._limits.seconds:g} s")
        chunk = os.read(self._fd, 1 << 20)
        if not chunk:
            raise _ChildEndedError("broken or too large: reading it ended the process that did")
        return chunk


def _header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _ChildEndedError(_NO_SENSE)
    return header


def _packages() -> list[str]:
    """The folders of installed packages; other folders may hold anything, and are not shown."""
    names = ("site-packages", "dist-packages")
    return [path for path in dict.fromkeys(sys.path) if Path(path).name in names and Path(path).is_dir()]


def _folders_of(loaders: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [folder for loader in loaders.values() for folder in loader["folders"]]
