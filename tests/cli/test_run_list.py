"""``status`` of one run, ``runs`` and ``clean``: in this process, on runs that have ended."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from loop_runner.errors import ConfigError
from loop_runner.runs import run_queue, trace_file
from tests.support.tasks import ready, run_task, write_task

DAY_S = 86400.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs, verified, unverified and verified, and two folders that are no runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, answer in (("first", "42"), ("second", "41"), ("third", "42")):
        task = write_task(folder / f"task-{name}", root=[ready(answer)], budget={"passes": 1, "usd": 2})
        task.write_text(task.read_text() + "prices: {'script:script.yaml': {input: 1, output: 1}}\n")
        run_task(task, folder / "runs" / name)
    (folder / "runs" / "notes").mkdir()
    (folder / "runs" / "notes" / "keep.txt").write_text("mine")
    return folder


@pytest.fixture
def runs(made, tmp_path, monkeypatch):
    shutil.copytree(made / "runs", tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_RUNNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "runs"


def invoke(*args, code=0, answer=None):
    result = CliRunner().invoke(main_group, args, input=answer, standalone_mode=False, catch_exceptions=False)
    assert (result.return_value or 0) == code, result.output
    return result.output


def age(run, days):
    """Let everything in the trace have happened so many days earlier."""
    path = trace_file.path_in(run)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["at"] -= days * DAY_S
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_status_of_one_run_has_its_budget_verdict_and_age(runs):
    shown = invoke("status", "second")
    assert "unverified" in shown
    assert "passes 1 of 1" in shown
    assert "of 2.0000 USD" in shown
    assert "pass 1 was rejected with score 0" in shown
    assert "last event" in shown
    (entry,) = json.loads(invoke("status", "second", "--json"))["runs"]
    assert entry["last_verdict"]["outcome"] == "rejected"
    assert {limit["name"]: limit["limit"] for limit in entry["limits"]}["usd"] == 2
    assert entry["activity"]["kind"] == entry["activity"]["text"] == ""
    assert entry["anomalies"] == []
    assert entry["age_s"] > 0


def test_a_watched_run_that_has_ended_is_shown_once(runs):
    assert invoke("status", "first", "--watch").count("runs/first") >= 1


def test_runs_are_listed_newest_first_and_filtered_by_state(runs):
    age(runs / "third", 3)
    os.utime(trace_file.path_in(runs / "third"), (1, 1))
    lines = invoke("runs").splitlines()
    assert len(lines) == 3
    (verified,) = [json.loads(invoke("runs", "--state", "verified", "--json"))["runs"]]
    assert sorted(Path(entry["run"]).name for entry in verified) == ["first", "third"]
    assert "no runs in runs that are crashed" in invoke("runs", "--state", "crashed")
    with pytest.raises(ConfigError, match="no folder"):
        invoke("runs", "elsewhere")


def test_clean_removes_old_runs_only_when_it_is_told_to(runs):
    age(runs / "first", 10)
    age(runs / "second", 3)
    assert "would be removed" in invoke("clean", "--dry-run")
    assert (runs / "first").is_dir()
    result = CliRunner().invoke(main_group, ["clean"], input="n\n")
    assert result.exit_code == 1
    assert (runs / "first").is_dir()
    shown = invoke("clean", answer="y\n")
    assert "removed 1 run folder" in shown
    assert sorted(path.name for path in runs.iterdir()) == ["notes", "second", "third"]
    assert invoke("clean").strip() == "nothing to remove"


def test_clean_takes_an_age_and_a_state(runs):
    removed = json.loads(invoke("clean", "--older-than", "0", "--state", "unverified", "--yes", "--json"))
    assert [Path(run).name for run in removed["removed"]] == ["second"]
    assert removed["kept"] == []
    assert (runs / "notes" / "keep.txt").read_text() == "mine"
    result = CliRunner().invoke(main_group, ["clean", "--older-than", "soon"])
    assert result.exit_code == 2
    assert "12h" in result.output


def test_clean_keeps_a_run_that_another_process_runs_or_that_waits(runs):
    with (runs / "first/.git/loop-runner/lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with run_queue.adding(runs / "second"):
            invoke("clean", "--older-than", "0", "--yes")
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == [
        ".queue",
        "first",
        "notes",
        "second",
    ]


@pytest.mark.parametrize("odd", ["link", "repository", "file"])
def test_clean_leaves_alone_what_is_no_run_folder(runs, tmp_path, odd):
    for name in ("second", "third"):
        shutil.rmtree(runs / name)
    place = runs / "odd"
    if odd == "link":
        shutil.move(runs / "first", tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    elif odd == "repository":
        (place / ".git").mkdir(parents=True)
        (place / "work.txt").write_text("mine")
    else:
        place.write_text("mine")
    CliRunner().invoke(main_group, ["clean", "--older-than", "0", "--yes"])
    assert os.path.lexists(place)
    if odd == "link":
        assert (tmp_path / "elsewhere" / "task.yaml").is_file()
