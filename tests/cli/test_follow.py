"""``log --follow``: what happens in a run is told while it happens, by another process."""

import json
import re
import signal
import subprocess
import time

import pytest
from watchdog.observers.polling import PollingObserver

from loop_runner.runs import trace_file
from tests.support.commands import argv, clean_environment, loop_runner, started
from tests.support.tasks import cell, ready, write_task


@pytest.fixture
def running(tmp_path):
    """A run in another process, of three slow turns; nothing of it has happened for long."""
    task = write_task(
        tmp_path / "task", root=[cell("print('\\x1b[31mred')"), ready("41"), ready("42 \x1b]0;owned\x07")]
    )
    script = task.with_name("script.yaml")
    script.write_text(script.read_text() + "latency_s: 0.5\n")
    with started("run", task, cwd=tmp_path) as run:
        run.wait_for_line("pass 1 turn 1")
        yield run


def test_a_run_is_followed_to_its_end_while_it_goes_on(tmp_path, running):
    with started("log", "scripted", "--follow", "--verbose", cwd=tmp_path) as follower:
        follower.wait_for_line("run folder: ")
        assert running.process.poll() is None, "it was printed before the run ended"
        exit_code, stdout, stderr = follower.finish()
        assert running.process.wait(5) == 0, "it went on until the run ended"
    assert (exit_code, stderr) == (0, "")
    assert re.match(r"\d\d:\d\d:\d\d  run folder: runs/scripted\n", stdout)
    for part in (
        "pass 1 turn 1: asking the model",
        "pass 1: rejected: 0 of 1",
        "pass 2: accepted",
        "verified: ",
    ):
        assert part in stdout
    assert r"\x1b[31mred" in stdout
    assert not set("\x1b\x07") & set(stdout)


def test_as_json_each_event_is_one_object_on_one_line(tmp_path, running):
    result = loop_runner("log", "scripted", "--follow", "--json", cwd=tmp_path)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [events[0]["kind"], events[-1]["kind"]] == ["run_started", "run_ended"]
    assert {"version", "at", "seq", "kind", "pass", "turn", "text", "data", "budget"} == set.union(
        *map(set, events)
    )
    assert [event["pass"] for event in events if event["kind"] == "pass_ended"] == [1, 2]


def test_ctrl_c_ends_the_following_with_130_and_not_the_run(tmp_path, running):
    with started("log", "scripted", "--follow", cwd=tmp_path) as follower:
        follower.wait_for_line("run folder: ")
        follower.signal(signal.SIGINT)
        assert follower.finish(timeout_s=5)[0] == 130
    assert running.finish()[0] == 0


def test_a_reader_that_goes_away_ends_the_following(tmp_path, running):
    command = f"{' '.join(argv('log', 'scripted', '--follow'))} | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=clean_environment(), capture_output=True, check=False
    )
    assert running.process.poll() is None, "the run is active"
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_run_that_has_ended_is_told_from_its_last_start(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    loop_runner("run", task, cwd=tmp_path)
    trace = tmp_path / "runs/scripted/.git/loop-runner/events.jsonl"
    with trace.open("a") as file:
        file.write('{"kind": "turn_sta')
    loop_runner("resume", "scripted", "--passes", "2", cwd=tmp_path)
    shown = loop_runner("log", "scripted", "--follow", cwd=tmp_path)
    assert shown.returncode == 0
    assert "continuing after pass 1" in shown.stdout.splitlines()[0]
    assert "verified" in shown.stdout.splitlines()[-1]
    trace.unlink()
    missing = loop_runner("log", "scripted", "--follow", cwd=tmp_path)
    assert missing.returncode == 2
    assert "has no trace to follow" in missing.stderr


# ── the waiting ─────────────────────────────────────────────────────────────────────────────────────


class NoWatchesLeft(PollingObserver):
    """An observer on a system whose inotify instances are used up."""

    def start(self):
        raise OSError(24, "inotify instance limit reached")


def polling():
    return PollingObserver(timeout=0.05)


@pytest.mark.parametrize("observers", [None, [NoWatchesLeft, polling]], ids=["woken", "polling"])
def test_a_line_is_seen_soon_after_it_was_written(tmp_path, observers, monkeypatch):
    monkeypatch.setattr(trace_file, "LOOK_AGAIN_S", 20.0)
    file = tmp_path / "events.jsonl"
    file.write_text("")
    with trace_file.woken_by(tmp_path, observers) as wait:
        time.sleep(0.1)
        file.write_text("x\n")
        begun = time.monotonic()
        wait()
        assert time.monotonic() - begun < 5


def test_without_anything_that_watches_it_looks_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_file, "LOOK_AGAIN_S", 0.05)
    with trace_file.woken_by(tmp_path, [NoWatchesLeft]) as wait:
        begun = time.monotonic()
        wait()
    assert 0.04 < time.monotonic() - begun < 5


def test_half_a_line_is_held_back_until_the_rest_is_there(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind": "notice"}\nnot json\n{"kind": "run_')
    states = iter([True, True, False])

    rest = iter([b'ended"}\n', b""])

    def wait():
        with path.open("ab") as more:
            more.write(next(rest))

    with path.open("rb") as file:
        seen = list(trace_file.lines(file, lambda: next(states), wait))
    assert [line and line["kind"] for line in seen] == ["notice", None, "run_ended", None, None]
