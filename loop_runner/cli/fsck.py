"""``fsck``: check a run folder, report the results, and repair it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_runner import text
from loop_runner.cli import output
from loop_runner.errors import ConfigError, WorkspaceError
from loop_runner.runs.folders import find_run
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner.workspace.repair.fsck import Report
    from loop_runner.workspace.repair.repair import Repaired

_DIFFERENT, _DAMAGED = 3, 4
_MARKS = {"damage": "DAMAGED", "gap": "lost", "note": "note"}


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--repair", "is_repair", is_flag=True, help="Go back to the newest whole checkpoint; deletes nothing."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def fsck(run_name: str, is_repair: bool, as_json: bool) -> int:
    """Check a run folder, report the results, and repair it.

    Takes no lock, and works on an active run, too. Exit code 0: whole; 3: whole, but not what was proven; 4:
    damaged. With --repair, damaged files are kept under .git/loop-runner/damaged/ and
    refs/loop-runner/damaged/.

    \b
    Example:  loop-runner fsck runs/contract-review
    """
    from loop_runner.workspace.repair.fsck import examine

    folder = find_run(run_name)
    _refuse_other_repository(folder)
    report = examine(folder)
    done = None
    if is_repair and not report.is_whole:
        from loop_runner.workspace.repair.repair import repair

        done = repair(folder)
        report = examine(folder)
    different = _different(folder) if report.is_whole else ()
    if as_json:
        output.write_json(_as_json(report, done, different))
    else:
        _show(report, done, folder, different)
    if different:
        return _DIFFERENT
    return 0 if report.is_whole or (done is not None and not report.findings("damage")) else _DAMAGED


def _refuse_other_repository(folder: Path) -> None:
    """Raise ``WorkspaceError`` for a repository that never was a run: a repair would write into it."""
    from loop_runner.workspace import layout
    from loop_runner.workspace.history import History

    if (folder / ".git" / "loop-runner").is_dir() or (folder / layout.FORMAT_FILE).is_file():
        return
    try:
        History(folder).close()
    except WorkspaceError as error:
        if error.exit_code == ConfigError.exit_code:  # no run folder; a damaged one has another code
            raise


def _different(folder: Path) -> tuple[str, ...]:
    """The verified parts of a whole run that are no longer what was proven."""
    from loop_runner.verify import proven
    from loop_runner.workspace.history import History

    with History(folder) as history:
        return proven.state_faults(history)


def _show(report: Report, done: Repaired | None, folder: Path, different: tuple[str, ...]) -> None:
    if report.runner is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.runner.since))
        output.write(f"a runner is active (pid {report.runner.pid}, since {since}): files that it changes")
        output.write("meanwhile were left out")
    for line in done.steps if done else ():
        output.write(f"repaired: {line}")
    if done is not None and done.aside is not None:
        output.write(f"repaired: damaged files are in {done.aside}")
    for check in report.checks:
        output.write(f"{check.name:<16} {check.looked_at}")
        for finding in check.findings:
            output.write(f"  {_MARKS[finding.level]:<8} {finding.text}")
    for line in different:
        output.write(f"different        {text.one_line(line, 300)}")
    if different:
        output.write(
            f"whole, but not what was proven: {folder} is at {report.newest_whole}\n"
            f"`loop-runner verify {shell(folder)}` runs the verifiers on its current content"
        )
        return
    output.write(_verdict(report, folder, was_repaired=done is not None))


def _verdict(report: Report, folder: Path, *, was_repaired: bool) -> str:
    if report.is_whole:
        return f"whole: {folder} is at {report.newest_whole}"
    if not report.newest_whole and was_repaired:
        return (
            f"damaged: {folder} has no whole checkpoint left; the files in it are as they were,\n"
            "and a new run can be started from them"
        )
    if not report.findings("damage"):
        return f"whole from {report.newest_whole} on: the run can continue; the damage named above remains"
    where = report.newest_whole or "not found in git alone"
    return (
        f"damaged: {folder}; the newest whole checkpoint is {where}\n"
        f"go back to it with `loop-runner fsck {shell(folder)} --repair`, which deletes nothing"
    )


def _as_json(report: Report, done: Repaired | None, different: tuple[str, ...]) -> dict[str, Any]:
    return {
        "run": str(report.folder),
        "whole": report.is_whole,
        "different": list(different),
        "pid": report.runner.pid if report.runner else None,
        "newest_whole": report.newest_whole,
        "checks": [
            {
                "name": check.name,
                "looked_at": check.looked_at,
                "findings": [{"level": finding.level, "text": finding.text} for finding in check.findings],
            }
            for check in report.checks
        ],
        "repaired": list(done.steps) if done else [],
        "damaged_ref": done.ref if done else "",
        "damaged_files": str(done.aside) if done and done.aside else "",
    }
