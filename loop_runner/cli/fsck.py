"""``fsck``: check a run folder, report the results, and repair it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner import types

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
    run = lr.open(run_name)
    result = run.fsck(repair=is_repair)
    if as_json:
        output.write_json(_as_json(result))
    else:
        _show(result, run)
    if result.different:
        return _DIFFERENT
    return 0 if result.is_whole else _DAMAGED


def _show(result: types.Checkup, run: lr.Run) -> None:
    report, done, folder = result.report, result.repaired, run.folder
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
        for item in check.findings:
            output.write(f"  {_MARKS[item.level]:<8} {item.text}")
    for line in result.different:
        output.write(f"different        {text.one_line(line, 300)}")
    if result.different:
        output.write(
            f"whole, but not what was proven: {folder} is at {report.newest_whole}\n"
            f"`loop-runner verify {shell(folder)}` runs the verifiers on its current content"
        )
        return
    output.write(_verdict(result, run))


def _verdict(result: types.Checkup, run: lr.Run) -> str:
    report, folder = result.report, run.folder
    if report.is_whole:
        return f"whole: {folder} is at {report.newest_whole}"
    if not report.newest_whole and result.repaired is not None:
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


def _as_json(result: types.Checkup) -> dict[str, Any]:
    report, done = result.report, result.repaired
    return {
        "run": str(report.folder),
        "whole": report.is_whole,
        "different": list(result.different),
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
