"""Checks a run folder, and repairs it: what is damaged, and what is no longer what was proven."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import ConfigError, WorkspaceError
from loop_runner.verify import proven
from loop_runner.workspace import layout
from loop_runner.workspace.history import History
from loop_runner.workspace.repair import fsck
from loop_runner.workspace.repair.fsck import Report
from loop_runner.workspace.repair.repair import Repaired


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found in a run folder. ``different``: what of a whole run is no longer what was proven.

    ``repaired`` is None where nothing was repaired.
    """

    report: Report
    repaired: Repaired | None = None
    different: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged; repaired counts."""
        return self.report.is_whole or (self.repaired is not None and not self.report.findings("damage"))


def check(folder: Path, *, repairs: bool = False) -> Checkup:
    """Check the run in ``folder``, without its lock; repair it if that is needed and ``repairs``."""
    _refuse_other_repository(folder)
    report, done = fsck.examine(folder), None
    if repairs and not report.is_whole:
        from loop_runner.workspace.repair.repair import repair

        done = repair(folder)
        report = fsck.examine(folder)
    return Checkup(report, done, _different(folder) if report.is_whole else ())


def _refuse_other_repository(folder: Path) -> None:
    """Raise ``WorkspaceError`` for a repository that never was a run: a repair would write into it."""
    if (folder / ".git" / "loop-runner").is_dir() or (folder / layout.FORMAT_FILE).is_file():
        return
    try:
        History(folder).close()
    except WorkspaceError as error:
        if error.exit_code == ConfigError.exit_code:  # no run folder; a damaged one has another code
            raise


def _different(folder: Path) -> tuple[str, ...]:
    with History(folder) as history:
        return tuple(proven.state_faults(history))
