"""``status`` names the state of a run, the reason and the next command."""

import json
import shlex
import signal
import time

import pytest

from tests.support.commands import loop_runner, started, wait_for
from tests.support.tasks import cell, ready, write_task


def status(folder, name="scripted"):
    shown = loop_runner("status", name, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    return json.loads(loop_runner("status", name, "--json", cwd=folder).stdout)["runs"][0], shown.stdout


@pytest.mark.parametrize(
    ("keys", "state", "reason"),
    [
        ({"root": [ready("41")], "budget": {"passes": 1}}, "unverified", "the budget of 1 pass is used up"),
        (
            {"root": [cell("x = 1")] * 3, "budget": {"tokens_out": 1}},
            "unverified",
            "1 output token is used up",
        ),
        (
            {"root": [ready("42")], "verifiers": [{"command": ["sh", "-c", "kill -9 $$"]}]},
            "broken",
            "killed by SIGKILL",
        ),
        ({"root": []}, "failed", "script"),
        (
            {"root": [ready("41")] * 3, "no_progress": {"passes": 2, "then": []}},
            "unverified",
            "no progress",
        ),
    ],
    ids=["passes", "tokens", "gate", "model", "no-progress"],
)
def test_a_run_that_ended_has_its_state_reason_and_next_command(tmp_path, keys, state, reason):
    task = write_task(tmp_path / "task", **keys)
    assert loop_runner("run", task, cwd=tmp_path).returncode in (3, 4)
    entry, shown = status(tmp_path)
    assert entry["state"] == state
    assert reason in entry["reason"]
    assert entry["reason"] in shown
    assert f"next: {entry['next'][0]}" in shown
    assert shlex.split(entry["next"][0])[:2] == ["loop-runner", "resume"]


@pytest.mark.parametrize(
    ("sent", "state", "reason"),
    [(signal.SIGINT, "interrupted", "interrupted"), (signal.SIGKILL, "crashed", "killed")],
)
def test_a_run_that_was_stopped_says_so(tmp_path, sent, state, reason):
    task = write_task(tmp_path / "task", root=[cell("import time\ntime.sleep(12)"), ready("42")])
    with started("run", task, cwd=tmp_path) as run:
        run.wait_for_line("turn 1")
        wait_for((tmp_path / "runs/scripted/.git").is_dir, 30)
        entry, shown = status(tmp_path)
        assert (entry["state"], "in pass 1 turn 1" in shown) == ("running", True)
        assert "NOT VERIFIED YET" in loop_runner("show", "scripted", cwd=tmp_path).stdout
        time.sleep(0.5)
        run.signal(sent)
        run.finish()
    entry, _ = status(tmp_path)
    assert entry["state"] == state
    assert reason in entry["reason"]
    assert loop_runner(*shlex.split(entry["next"][0])[1:], cwd=tmp_path).returncode == 0


def test_a_cancelled_run_says_how_to_continue(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")], budget={"passes": 1})
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    (tmp_path / "runs/scripted/STOP").touch()
    entry, _ = status(tmp_path)
    assert entry["state"] == "cancelled"
    assert entry["next"][0].startswith("rm runs/scripted/STOP && loop-runner resume")


def test_cost_names_the_source_of_the_prices_that_it_used(tmp_path):
    rates = {"script:script.yaml": {"input": 1.0, "output": 2.0}}
    for name, prices, output in (
        ("own", rates, "the task's own for script:"),
        ("free", {}, "no bill for script:"),
    ):
        task = write_task(tmp_path / name, root=[ready("42")], name=name, prices=prices)
        assert loop_runner("run", task, cwd=tmp_path).returncode == 0
        shown = loop_runner("cost", name, cwd=tmp_path).stdout.splitlines()[-1]
        assert shown.startswith(f"prices: {output}")
        assert "genai-prices" not in shown
