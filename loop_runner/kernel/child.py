"""The kernel process: reads requests of the host, runs cells, saves variables. Started by ``launch``.

Owns the namespace. Relies on the standard library and its sibling modules only. Trusts the host, is not
trusted by it. A strict dialogue on one descriptor: ``start`` → ``ready``, ``cell`` → ``done``,
``snapshot`` → ``snapshot``; anything that goes wrong in our own code ends the process.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import sys

from loop_runner.kernel import wire
from loop_runner.kernel.answer_box import AnswerBox
from loop_runner.kernel.cells import CellRunner, new_namespace
from loop_runner.kernel.helpers import Helpers
from loop_runner.kernel.lm_client import LmClient
from loop_runner.kernel.texts import Texts, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from loop_runner.kernel.snapshot import Pins


def main(control_fd: int, lm_fd: int, life_fd: int) -> None:
    """Serve the host on ``control_fd`` until it goes away."""
    die_with_the_host(life_fd)
    faulthandler.enable(file=2, all_threads=False)  # a crash then names the cell's line
    os.register_at_fork(after_in_child=lambda: _close(control_fd, lm_fd, life_fd))
    decoder = wire.Decoder()
    kernel: _Kernel | None = None
    while (frame := wire.read_frame(control_fd, decoder)) is not None:
        if frame.header["type"] == "start":
            kernel = _Kernel(frame.header, lm_fd)
        assert kernel is not None
        wire.write_all(control_fd, kernel.serve(frame))
    os._exit(0)


def die_with_the_host(life_fd: int) -> None:
    """Have the system kill our process group when the host's end of the pipe ``life_fd`` closes.

    PR_SET_PDEATHSIG is tied to the *thread* that started us, which may end long before the host does.
    """
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life_fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if _is_closed(life_fd):
        os._exit(0)  # the host was gone before the line above


def _is_closed(life_fd: int) -> bool:
    try:
        return os.read(life_fd, 1) == b""
    except BlockingIOError:
        return False


def _close(*fds: int) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue  # the model's code may have closed it


class _Kernel:
    """The namespace and what serves requests on it."""

    def __init__(self, start: Mapping[str, Any], lm_fd: int) -> None:
        self._cloudpickle_dir: str = start["cloudpickle"]
        self._namespace = new_namespace()
        files = [(name, path, size) for name, path, size in start["inputs"]]
        context = read_text(files[0][1]) if start["single"] else Texts(files)
        self._answer = AnswerBox(self._namespace, start["answer"]["content"], start["answer"]["extra"])
        models = LmClient(lm_fd)
        self._helpers = Helpers(self._namespace, context, files[0][0] if files else "", self._answer, models)
        self._runner = CellRunner(
            self._namespace, self._helpers, self._answer, models, start["max_output_chars"]
        )
        self._suspects: list[str] = []
        sys.path.append(start["workspace"])  # last: the model's files never hide the standard library
        sys.argv = [""]
        sys.dont_write_bytecode = True  # no caches in the workspace
        # Quiet until the first cell: what a pickle prints on loading is nobody's output.
        sys.stdout, sys.stderr = self._runner.streams

    def serve(self, frame: wire.Frame) -> bytes:
        """The reply to one request of the host."""
        header = frame.header
        if header["type"] == "start":
            return wire.encode(self._restore(header["blobs"], frame.payload))
        if header["type"] == "cell":
            return wire.encode(self._runner.run(header["number"], frame.payload.decode("utf-8", "replace")))
        if header["type"] == "snapshot":
            return self._save(header["max_bytes"])
        raise wire.WireError(f"the host asked for {header['type']!r}")

    def _restore(self, sizes: list[int], payload: bytes) -> dict[str, Any]:
        failed: list[tuple[str, str]] = []
        start = 0
        for size in sizes:
            from_here = payload[start : start + size]
            start += size
            failed += self._snapshots().load(
                from_here, self._namespace, self._pins().find, self._runner.sources
            )
        return {"type": "ready", "failed": failed, "names": self._runner.adopt_names()}

    def _save(self, max_bytes: int) -> bytes:
        names = self._helpers.own_names()
        pins = self._pins().by_id(self._read_texts())
        blob, rows = b"", []
        if not names:
            self._runner.sources.clear()
        if names:
            blob, rows = self._snapshots().save(
                self._namespace, names, pins, self._runner.sources, self._suspects, max_bytes
            )
        self._suspects = [row["name"] for row in rows if row["status"] != "saved"]
        return wire.encode(
            {"type": "snapshot", "variables": rows, "blobs": [len(blob)] if blob else []}, blob
        )

    def _pins(self) -> Pins:
        return self._snapshots().Pins(self._namespace, self._helpers.protected, self._helpers.texts)  # type: ignore[no-any-return]

    def _read_texts(self) -> Mapping[str, str]:
        texts = self._helpers.texts()
        return texts.cached() if isinstance(texts, Texts) else texts

    def _snapshots(self) -> Any:
        """The snapshot module, which brings cloudpickle: imported when first needed."""
        if "cloudpickle" not in sys.modules:
            from importlib.util import module_from_spec, spec_from_file_location

            folder = self._cloudpickle_dir
            spec = spec_from_file_location(
                "cloudpickle", f"{folder}/__init__.py", submodule_search_locations=[folder]
            )
            assert spec is not None
            assert spec.loader is not None
            sys.modules["cloudpickle"] = module = module_from_spec(spec)
            spec.loader.exec_module(module)
        from loop_runner.kernel import snapshot

        return snapshot
