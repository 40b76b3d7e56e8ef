"""Where the workers of a fleet meet: states of jobs that only move by compare-and-swap, and run folders.

``Store`` is the contract; ``folder_store`` keeps a fleet in a shared folder, ``git_store`` in a bare
repository. Owns how an address becomes a store, and the identity that keeps two fleets apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from loop_runner import ConfigError, EnvironmentFault
from loop_runner.fleet.states import JobState, Money

FORMAT = 1
_WHY_IDENTITY = "states and run folders of two fleets in one store would be taken for one another"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store belongs to: the name of a fleet, and the hash of the task that its jobs run."""

    name: str
    task_sha256: str

    def to_json(self) -> bytes:
        """What the store keeps."""
        return json.dumps({"format": FORMAT, **asdict(self)}).encode() + b"\n"

    def check(self, kept: bytes, address: str) -> None:
        """Raise ``ConfigError`` if ``kept`` is the identity of another fleet, or of another task."""
        try:
            result = json.loads(kept)
            form, name, task = result["format"], str(result["name"]), str(result["task_sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{address} is not a fleet's store: its identity cannot be read",
                why=_WHY_IDENTITY,
                hint="choose an empty folder or repository for `store:`",
            ) from error
        if form != FORMAT:
            raise ConfigError(
                f"{address} has format {form}, and this version knows format {FORMAT}",
                why="the states in it would be misread",
                hint="use the version of loop-runner that made it, on every worker",
            )
        if name != self.name:
            raise ConfigError(
                f"{address} is the store of the fleet {name!r}, not of {self.name!r}",
                why=_WHY_IDENTITY,
                hint="give each fleet a store of its own",
            )
        if task != self.task_sha256:
            raise ConfigError(
                f"the task of the fleet {name!r} has changed since its store was begun",
                why="jobs that have ended ran the old task, and the results would be of two tasks",
                hint="begin again under a new `store:`, or undo the change",
            )


@dataclass(frozen=True, slots=True)
class Kept:
    """A state in a store, with the version under which it may be replaced."""

    state: JobState
    version: str  # "" before the first


@dataclass(frozen=True, slots=True)
class Extra:
    """What is kept together with a state, or not at all."""

    limit_usd: float | None = None  # what all jobs together may spend or hold back
    run: Path | None = None  # a run folder, whose commits are kept
    result: bytes | None = None  # of a job that has ended


NOTHING = Extra()


class UnreachableError(EnvironmentFault):
    """The store cannot be reached now; it may be later."""


class LostError(Exception):
    """The state is no longer the one that was read: another worker has changed it."""


class OverBudgetError(Exception):
    """The money of the fleet does not suffice for the reservation."""


class Store(Protocol):
    """Every method raises ``EnvironmentFault`` when the store cannot be reached."""

    address: str

    def begin(self, identity: Identity) -> None:
        """Use the store for this fleet. Raises ``ConfigError`` when it is another's."""

    def states(self) -> Mapping[str, Kept]:
        """The state of every job that was ever taken, by name."""

    def swap(self, name: str, was: Kept | None, state: JobState, extra: Extra = NOTHING) -> Kept:
        """Replace a state, durably and together with ``extra``.

        Raises ``LostError`` when ``was`` is not the state there, ``OverBudgetError`` over the limit.
        """

    def money(self) -> Money:
        """What the fleet has spent and holds back."""

    def run_folder(self, name: str, at: Path) -> Path:
        """Where the run of a job is worked on: in the store itself, or in ``at`` with what was pushed."""

    def results(self) -> Mapping[str, bytes]:
        """Every kept result, by the name of the job."""


def open_store(address: str, base: Path, cache: Path) -> Store:
    """The store at an address of a fleet file in ``base``; ``cache`` is this worker's own folder."""
    from loop_runner.fleet.folder_store import FolderStore
    from loop_runner.fleet.git_store import GitStore, is_bare

    if re.match(r"^(git\+)?(ssh|https?|git|file)://", address):
        key = hashlib.sha256(address.encode()).hexdigest()[:16]
        return GitStore(address.removeprefix("git+"), cache / key)
    path = base / Path(address).expanduser()
    if is_bare(path):
        key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
        return GitStore(str(path.resolve()), cache / key)
    return FolderStore(path)
