"""What cannot be saved is lost with the kernel: the model is shown which names, once, and which cells made them."""

# ruff: noqa: E501 - cells are shorter to read on one line each

from dataclasses import replace

import pytest

from loop_runner.kernel.kernel import Kernel
from loop_runner.runs import replay
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.workspace.history import History
from tests.support.tasks import cell, ready, run_task, write_task

DIES = cell("import os\nos._exit(1)")
HINT = "the cell that made it, to be run again if needed: "


def output(run, pass_number, turn):
    return (run / f"passes/{pass_number:04d}/turns/{turn:04d}/output.txt").read_text()


def recorded(tmp_path, *cells, **task):
    outcome = run_task(write_task(tmp_path / "task", root=[*cells, ready("42")], **task), tmp_path / "run")
    assert outcome.status == "verified"
    return tmp_path / "run"


MADE = {
    "a generator": ("lines = (i for i in 'ab')", "lines"),
    "a lock": ("import threading\nlock = threading.Lock()", "lock"),
    "an open file": ("with_it = [open('out.txt', 'w')]", "with_it"),
    "a connection": ("import sqlite3\nfirst, db = 1, sqlite3.connect(':memory:')", "db"),
    "a loop's variable": ("for g in [iter(open('/dev/null'))]: pass", "g"),
    "an annotated name": ("found: object = (i for i in 'ab')", "found"),
    "a target of with": ("with open('/dev/null') as handle: pass", "handle"),
    "an instance": ("import threading\nclass W:\n    def __init__(self): self.lock = threading.Lock()\nw = W()", "w"),
}  # fmt: skip


@pytest.mark.parametrize("what", MADE)
def test_a_restart_names_what_is_lost_and_the_cell_that_made_it(tmp_path, what):
    code, name = MADE[what]
    run = recorded(tmp_path, cell("kept = 1"), cell(code), cell("kept += 1"), DIES, cell("print('after')"))
    assert "cannot be saved" in output(run, 1, 2)
    shown = output(run, 1, 4)
    assert f"lost variables: {name} (" in shown
    assert f"{HINT}`past(1, 2).code`" in shown
    assert name not in output(run, 1, 5), "a loss is reported once"


def test_the_newest_cell_that_made_it_is_the_one(tmp_path):
    makes = "lines = (i for i in 'ab')"
    uses = "print(next(lines), lines == 1)"
    run = recorded(tmp_path, cell(makes), cell(uses), cell(makes), cell(uses), DIES)
    assert f"{HINT}`past(1, 3).code`" in output(run, 1, 5)


def test_what_was_changed_so_that_it_cannot_be_saved_is_traced_to_where_it_first_was(tmp_path):
    run = recorded(tmp_path, cell("globals()['odd'] = [1]"), cell("odd.append(i for i in 'ab')"), DIES)
    assert f"{HINT}`past(1, 1).code`" in output(run, 1, 3)


def test_a_cell_that_died_is_not_named_for_what_only_it_made(tmp_path):
    run = recorded(tmp_path, cell("kept = 1"), cell("lines = (i for i in 'ab')\nimport os\nos._exit(1)"))
    assert HINT not in output(run, 1, 2)


def test_several_that_are_lost_are_each_named_with_their_cell(tmp_path):
    run = recorded(tmp_path, cell("a = (i for i in 'ab')"), cell("b = iter(open('/dev/null'))"), DIES)
    shown = output(run, 1, 3)
    assert "to be run again if needed: a: `past(1, 1).code`, b: `past(1, 2).code`" in shown


def test_the_cell_of_an_earlier_pass_is_named_after_a_resume(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[cell("lines = (i for i in 'ab'); kept = 1"), ready("41"), cell("x = kept"), ready("42")],
        budget={"passes": 1},
    )
    run_task(task, tmp_path / "run")
    outcome = runs.resume(tmp_path / "run", RunContext({}), (("budget.passes", 2),))
    assert outcome.status == "verified"
    shown = output(tmp_path / "run", 2, 1)
    assert "variable lines is gone (TypeError: cannot pickle 'generator' object)" in shown
    assert f"{HINT}`past(1, 1).code`" in shown
    assert "lines" not in output(tmp_path / "run", 2, 2)
    assert replay.replay(tmp_path / "run").is_same


# ── run folders of earlier versions ─────────────────────────────────────────────────────────────────

AGAIN = "; if the kernel has to be started again, the cells that made it are run again"


@pytest.fixture
def by_an_earlier_version(monkeypatch):
    """Kernels mark what they cannot save as versions did that ran cells again: until the test says stop."""
    taken_now = Kernel.snapshot

    def snapshot(self, *, full=False):
        taken = taken_now(self, full=full)
        rows = [
            replace(row, status="replay", reason=row.reason + AGAIN)
            if row.status == "lost" and row.name.startswith("again")
            else replace(row, reason=f"{row.reason}; it cannot be made again: a cell writes files")
            if row.status == "lost" and not row.is_gone
            else row
            for row in taken.variables
        ]
        return replace(taken, variables=tuple(rows))

    monkeypatch.setattr(Kernel, "snapshot", snapshot)
    return monkeypatch.undo


def test_an_older_run_is_replayed_with_the_statuses_that_it_recorded(tmp_path, by_an_earlier_version):
    run = recorded(
        tmp_path,
        cell("again = (i for i in 'ab')\nf = open('x', 'w')\nkept = 1"),
        cell("print(next(again))"),
        ready("41"),
    )
    by_an_earlier_version()
    with History(run) as history:
        statuses = {row.name: row.status for row in history.variables()}
    assert statuses == {"again": "replay", "f": "lost", "kept": "saved"}
    result = replay.replay(run)
    assert (result.is_same, result.reason, result.at_end) == (True, "", ())


def test_what_an_older_run_would_have_made_again_is_lost_when_it_is_resumed(tmp_path, by_an_earlier_version):
    task = write_task(
        tmp_path / "task",
        root=[cell("again = (i for i in 'ab'); kept = [1]"), ready("41"), cell("print(kept)"), ready("42")],
        budget={"passes": 1},
    )
    run_task(task, tmp_path / "run")
    by_an_earlier_version()
    outcome = runs.resume(tmp_path / "run", RunContext({}), (("budget.passes", 2),))
    assert outcome.status == "verified"
    shown = output(tmp_path / "run", 2, 1)
    assert "[1]" in shown
    assert "variable again is gone (TypeError: cannot pickle 'generator' object)" in shown
    assert f"{HINT}`past(1, 1).code`" in shown
    with History(tmp_path / "run") as history:
        rows = {row.name: row for row in history.variables()}
    assert rows["again"].is_gone
    assert "run again" not in rows["again"].reason
