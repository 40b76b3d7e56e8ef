"""A store in a folder that all workers see: states as files, replaced under one lock; runs where they are.

A change is written down first (``pending.json``), then made, then the note is removed; whoever takes the lock
next completes what a killed worker left. So a state and the money always agree.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from loop_runner import ConfigError, EnvironmentFault
from loop_runner.fleet.states import JobState, Money
from loop_runner.fleet.stores import (
    NOTHING,
    Extra,
    Identity,
    Kept,
    LostError,
    OverBudgetError,
    UnreachableError,
)

_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # until a person acts


class FolderStore:
    """See ``stores.Store``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder)
        self._read: dict[str, tuple[tuple[int, ...], Kept]] = {}  # by job: its file, and what it holds

    def begin(self, identity: Identity) -> None:
        """Use the store for this fleet."""
        if self.folder.exists() and not self._is_ours() and any(self.folder.iterdir()):
            raise ConfigError(
                f"{self.address} is not empty and is no fleet's store",
                why="files there would be mixed with run folders",
                hint="choose a new folder for `store:`",
            )
        with self._reached("making the store"):
            for name in ("jobs", "runs", "results"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        with self._locked():
            path = self.folder / "fleet.json"
            if not path.exists():
                _replace(path, identity.to_json())
            identity.check(path.read_bytes(), self.address)

    def states(self) -> Mapping[str, Kept]:
        """The state of every job that was ever taken, by name."""
        with self._reached("reading the states"):
            entries = [entry for entry in os.scandir(self.folder / "jobs") if entry.name.endswith(".json")]
            self._read = {
                entry.name.removesuffix(".json"): self._read_once(entry)
                for entry in sorted(entries, key=lambda entry: entry.name)
            }
            return {name: kept for name, (_, kept) in self._read.items()}

    def _read_once(self, entry: os.DirEntry[str]) -> tuple[tuple[int, ...], Kept]:
        """What a file of ``jobs/`` holds; it is read when it is not the file that was read before."""
        about = entry.stat()
        file = (about.st_ino, about.st_mtime_ns, about.st_size)
        name = entry.name.removesuffix(".json")
        if (known := self._read.get(name)) is not None and known[0] == file:
            return known
        return file, self._parsed(name, Path(entry.path).read_bytes())

    def swap(self, name: str, was: Kept | None, state: JobState, extra: Extra = NOTHING) -> Kept:
        """Replace a state, durably and together with ``extra``."""
        with self._locked():
            kept = self._kept(name)
            if (kept.version if kept else "") != (was.version if was else ""):
                raise LostError(name)
            money = self._money().after(kept.state if kept else None, state)
            if extra.limit_usd is not None and money.committed_usd > extra.limit_usd:
                raise OverBudgetError(name)
            if extra.result is not None:
                _replace(self.folder / "results" / f"{name}.json", extra.result)
            data = state.to_json()
            _replace(
                self._pending, json.dumps({"job": name, "state": data.decode(), **asdict(money)}).encode()
            )
            self._complete()
            return Kept(state, _version(data))

    def money(self) -> Money:
        """What the fleet has spent and holds back."""
        with self._locked():
            return self._money()

    def run_folder(self, name: str, at: Path) -> Path:
        """Where the run of a job is worked on."""
        return self.folder / "runs" / name

    def results(self) -> Mapping[str, bytes]:
        """Every kept result, by the name of the job."""
        with self._reached("reading the results"):
            paths = sorted((self.folder / "results").glob("*.json"))
            return {path.stem: path.read_bytes() for path in paths}

    @property
    def _pending(self) -> Path:
        return self.folder / "pending.json"

    def _is_ours(self) -> bool:
        return (self.folder / "fleet.json").is_file() or (self.folder / ".lock").is_file()

    def _kept(self, name: str) -> Kept | None:
        path = self.folder / "jobs" / f"{name}.json"
        return self._parsed(name, path.read_bytes()) if path.exists() else None

    def _parsed(self, name: str, data: bytes) -> Kept:
        try:
            return Kept(JobState.from_json(data), _version(data))
        except ValueError as error:
            raise EnvironmentFault(
                f"the state of the job {name!r} in {self.address} cannot be read: {error}",
                why="whether it runs, and what it has spent, is not known",
                hint=f"if no worker runs it, remove jobs/{name}.json there; the run folder is kept",
            ) from error

    def _money(self) -> Money:
        path = self.folder / "money.json"
        try:
            return Money(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return Money()
        except (ValueError, TypeError):
            return Money.of(kept.state for kept in self.states().values())

    def _complete(self) -> None:
        """Make the change that ``pending.json`` describes; a killed worker may have begun it."""
        try:
            pending = json.loads(self._pending.read_bytes())
        except FileNotFoundError:
            return
        name, state = str(pending["job"]), pending["state"].encode()
        money = {key: pending[key] for key in ("spent_usd", "reserved_usd")}
        _replace(self.folder / "jobs" / f"{name}.json", state)
        _replace(self.folder / "money.json", json.dumps(money).encode())
        self._pending.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._reached("locking the store"):
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._complete()
                yield
            finally:
                os.close(lock)

    @contextmanager
    def _reached(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fault = EnvironmentFault if error.errno in _LASTING else UnreachableError
            raise fault(
                f"{doing} failed: {self.address}: {error.strerror or error}",
                why="workers meet in the store, and a job may only run under a lease from it",
                hint="check that the folder is there, is writable and has space, then run the fleet again",
            ) from error


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and durably."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
