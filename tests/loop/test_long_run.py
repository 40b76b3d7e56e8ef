"""A sample of `make long-run`, and what the loop adds to each pass of a long one."""

import os
import shutil

import pytest

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests import long_run
from tests.support.tasks import write_task


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_and_fifty_passes_stay_small_and_as_fast_as_the_first(tmp_path):
    output: list[str] = []
    wrong = long_run.run(tmp_path / "run", 150, output.append)
    print("\n".join(output))
    assert wrong == []
    packs = list((tmp_path / "run/.git/objects/pack").glob("*.pack"))
    assert len(packs) < 60, "packs are joined on the way"


def test_a_late_pass_starts_no_more_gits_than_an_early_one(tmp_path, monkeypatch):
    log, bin_ = tmp_path / "gits", tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "git").write_text(f'#!/bin/sh\necho >> {log}\nexec {shutil.which("git")} "$@"\n')
    (bin_ / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    path = write_task(
        tmp_path / "task",
        root=[f"<answer>\nno {number}\n</answer>" for number in range(11)],
        session="direct",
        budget={"passes": 11},
    )
    started: list[int] = []  # so far, when each pass had ended

    def count(event):
        if event.kind == "pass_ended":
            started.append(log.read_text().count("\n"))

    runs.start(config.read_task(path), tmp_path / "run", RunContext({}, (count,)))

    early, late = started[4] - started[1], started[10] - started[7]
    assert late <= early + 2, started  # one more or less may still be at work in the background
