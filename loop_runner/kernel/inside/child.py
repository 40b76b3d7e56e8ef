"""The kernel process: reads the host's requests, runs cells, saves variables. Started by ``launch``.

Owns the namespace. Relies on the standard library and its sibling modules only. It trusts the host; the host
does not trust it. The dialogue on one descriptor is strict: ``start`` → ``ready`` (a second one begins
anew), ``cell`` → ``done``, ``snapshot`` → ``snapshot``, ``try`` → ``tried``. Any fault in our own code ends
the process.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from _thread import get_ident

from . import shown, wire
from .answer_box import AnswerBox
from .cells import CellRunner, new_namespace
from .helpers import Helpers
from .life import die_with_the_host
from .lm_client import LmClient
from .texts import Texts, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .saver import Saver
    from .snapshot import Pins


_PYTHON = ".".join(map(str, sys.version_info[:3]))
_NOTHING_SAVED: dict[str, object] = {
    "type": "snapshot",
    "variables": [],
    "unchanged": [],
    "blobs": [],
    "python": _PYTHON,
}


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
        kernel.serve(frame, control_fd)
        if frame.header["type"] == "start":
            kernel.get_ahead(frame.header)  # the host continues meanwhile
    os._exit(0)


def _close(*fds: int) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue  # the model's code may have closed it


def _split(payload: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    start = 0
    for size in sizes:
        parts.append(payload[start : start + size])
        start += size
    return parts


def _lost(name: str) -> dict[str, Any]:
    """The row of a saved variable that could not be loaded; only its name is known here."""
    return {"name": name, "type": "?", "size": 0, "preview": "", "status": "lost", "reason": "", "blob": -1}


class _Kernel:
    """The namespace, and the code that serves requests on it."""

    def __init__(self, start: Mapping[str, Any], lm_fd: int) -> None:
        shown.set_limit(start["max_output_chars"])
        self._namespace = new_namespace()
        self._files = files = [(name, path, size) for name, path, size in start["inputs"]]
        context = (
            read_text(files[0][1])
            if start["single"] and not start["is_trial"]
            else Texts(files, start["images"])
        )
        self._answer = AnswerBox(self._namespace, start["answer"]["content"], start["answer"]["extra"])
        models = LmClient(lm_fd)
        self._places: dict[str, list[tuple[int, str]]] = start["places"]
        self._parts: dict[str, tuple[str, int]] = start.get("parts", {})
        self._headings: dict[str, list[tuple[int, int, str]]] = start.get("headings", {})
        self._helpers = Helpers(
            self._namespace,
            context,
            files[0][0] if files else "",
            self._answer,
            models,
            self._places,
            self._parts,
            self._headings,
            start.get("tools", ()),
        )
        self._runner = CellRunner(
            self._namespace, self._helpers, self._answer, models, start["max_output_chars"]
        )
        self._models = models
        self._workspace: str = start["workspace"]
        self._saver: Saver | None = None
        if start["workspace"] not in sys.path:  # a warm process has been started once before
            sys.path.append(start["workspace"])  # last: the model's files never hide the standard library
        sys.argv = [""]
        sys.dont_write_bytecode = True  # no caches in the workspace
        # Quiet until the first cell: output of loading a pickle belongs to no cell.
        sys.stdout, sys.stderr = self._runner.streams

    def serve(self, frame: wire.Frame, out: int) -> None:
        """Handle one request of the host and write the reply to ``out``."""
        header = frame.header
        if header["type"] == "start":
            wire.write_all(out, wire.encode(self._restore(header, frame.payload)))
        elif header["type"] == "cell":
            source = frame.payload.decode("utf-8", "replace")
            wire.write_all(out, wire.encode(self._runner.run(header["number"], source)))
        elif header["type"] == "snapshot":
            self._save(header, out)
        elif header["type"] == "try":
            self._try(header, frame.payload, out)
        else:
            raise wire.WireError(f"the host asked for {header['type']!r}")

    def get_ahead(self, start: Mapping[str, Any]) -> None:
        """Import in advance what will be needed later."""
        if start["is_warm"]:
            self._snapshots()
        if start["preload"]:
            from . import trial

            trial.import_installed(start["preload"], self._workspace)

    def _restore(self, header: Mapping[str, Any], payload: bytes) -> dict[str, Any]:
        blobs = _split(payload, header["blobs"])
        failed: list[tuple[str, str]] = []
        gone = list(header["gone"])
        if blobs:
            failed = self._load(blobs)
            gone += [_lost(name) | {"reason": why} for name, why in failed if name]
        if blobs or gone:
            self._keeper().restored(blobs, gone)
        names = self._runner.adopt_names()
        return {"type": "ready", "failed": failed, "names": names, "python": _PYTHON}

    def _load(self, blobs: list[bytes], at: Callable[[str], object] = bool) -> list[tuple[str, str]]:
        """Put the names of ``blobs`` into the namespace; returns (name, reason) for each that failed."""
        from .restoring import load_all

        find = self._pins().find
        return load_all(blobs, self._namespace, find, self._runner.sources, at)

    def _save(self, request: Mapping[str, Any], out: int) -> None:
        if self._saver is None and not self._helpers.own_names():
            self._runner.sources.clear()
            wire.write_all(out, wire.encode(_NOTHING_SAVED))
            return
        self._keeper().save(request, self._runner.take_words(), out)

    def _try(self, request: Mapping[str, Any], payload: bytes, out: int) -> None:
        """Find out whether blobs load. Only sent to a process that runs no cells."""
        from . import trial

        blobs = _split(payload, request["blobs"])
        self._snapshots()  # imported here, so that the copies need not
        failed, modules = trial.attempt(
            lambda at: self._load(blobs, at), request["seconds"], request["cpu_seconds"]
        )
        wire.write_all(out, wire.encode({"type": "tried", "failed": failed}))
        trial.import_installed(modules, self._workspace)  # the host continues meanwhile

    def _keeper(self) -> Saver:
        """The object that takes snapshots, made on first use."""
        if self._saver is None:
            self._snapshots()
            from .saver import Saver

            self._saver = Saver(
                self._namespace,
                self._runner.sources,
                own_names=self._helpers.own_names,
                pins=self._pin_ids,
                own_threads=lambda: {get_ident(), self._models.thread_id},
                workspace=self._workspace,
            )
        return self._saver

    def _pins(self) -> Pins:
        named = self._helpers.protected | self._helpers.yielding
        return self._snapshots().Pins(self._namespace, named, self._helpers.texts)  # type: ignore[no-any-return]

    def _pin_ids(self) -> dict[int, tuple[str, ...]]:
        return self._pins().by_id(self._read_texts())

    def _read_texts(self) -> Mapping[str, str]:
        texts = self._helpers.texts()
        return texts.cached() if isinstance(texts, Texts) else texts

    @staticmethod
    def _snapshots() -> Any:
        """The snapshot module with its restoring part, imported on first use."""
        from . import restoring, snapshot  # noqa: F401 - the copies of this process find both imported

        return snapshot
