"""The live block at a terminal, the plain lines elsewhere, and the keys: on a real pseudo-terminal."""

import io
import json
import os
import pty
import re
import select
import time

import pytest

import loop_runner as lr
from loop_runner.api.typed_events import typed
from loop_runner.cli import live
from loop_runner.cli.display import Progress
from loop_runner.events import Event
from tests.support.commands import argv, clean_environment, loop_runner
from tests.support.tasks import cell, ready, write_task

ESCAPES = "41 \x1b[31mred\x1b]0;owned\x07"
_COLOUR = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command on a pseudo-terminal of its own, and everything that it printed."""

    def __init__(self, *args, cwd, env=None):
        self.printed = b""
        full = {"TERM": "xterm", "LANG": "C.UTF-8", "COLUMNS": "100", **(env or {})}
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.execve(argv()[0], argv(*args), {**clean_environment(), **full})
        self.pid, self.fd = pid, fd

    def wait_for(self, text, seconds=60.0):
        end = time.monotonic() + seconds
        while text.encode() not in self.printed and time.monotonic() < end and self._read():
            pass
        assert text.encode() in self.printed, self.printed[-3000:]

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def finish(self):
        while self._read():
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self):
        if not select.select([self.fd], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.printed += data
        return bool(data)


@pytest.fixture
def task(tmp_path):
    code = cell("import time\nllm_batch([f'q {n}' for n in range(6)])\ntime.sleep(2)")
    return write_task(
        tmp_path / "task", root=[ready(ESCAPES), code, ready("42")], sub=[{"contains": "q", "reply": "b"}]
    )


def test_at_a_terminal_a_run_shows_a_live_block_and_takes_keys(task, tmp_path):
    run = Terminal("run", task, cwd=tmp_path)
    run.wait_for("6 of 6")
    run.press("?")
    run.wait_for("Ctrl-C now")
    run.press("nlook at the annex é\r")
    run.wait_for("note: the run takes it")
    assert run.finish() == 0
    for shown in ("pass 2", "sub-calls", "pass 1 was rejected", "VERIFIED"):
        assert shown.encode() in run.printed
    assert b"\x1b]0;" not in run.printed
    assert b"\x1b[31mred" not in run.printed
    (note,) = (tmp_path / "runs/scripted/passes/0002/turns").glob("*/note.md")
    assert "look at the annex é" in note.read_text()


def test_ctrl_c_at_a_live_block_stops_the_run_and_restores_the_terminal(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("import time\ntime.sleep(60)")])
    run = Terminal("run", task, cwd=tmp_path)
    run.wait_for("running code")
    import termios

    assert not termios.tcgetattr(run.fd)[3] & termios.ICANON
    run.press("\x03")
    run.wait_for("stopping: no new request is sent")
    run.wait_for("INTERRUPTED")
    assert termios.tcgetattr(run.fd)[3] & termios.ICANON
    assert run.finish() == 130


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ((), {"NO_COLOR": "1"}),
        ((), {"TERM": "dumb"}),
        ((), {"CI": "true"}),
        (("--display", "plain"), {}),
    ],
    ids=["NO_COLOR", "dumb", "CI", "plain"],
)
def test_where_no_block_is_wanted_the_lines_are_plain(args, env, tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")])
    run = Terminal("run", task, *args, cwd=tmp_path, env=env)
    assert run.finish() == 0
    assert b"pass 1 turn 1: asking the model" in run.printed
    assert b"\x1b[?25l" not in run.printed


def test_as_json_each_event_is_an_object_on_a_line_of_standard_error(tmp_path):
    task = write_task(tmp_path / "task", root=[ready(ESCAPES + " 42")])
    done = loop_runner("run", task, "--display", "json", cwd=tmp_path)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["kind"] for line in lines][:1] == ["run_started"]
    assert lines[-1]["kind"] == "run_ended"
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert done.stdout.startswith("VERIFIED")
    quiet = loop_runner("run", task, "-q", "--display", "json", "--run-dir", "other", cwd=tmp_path)
    assert quiet.stderr == ""


def test_a_listener_of_the_block_draws_nothing_itself():
    class Progress:
        is_verbose = False

        def line(self, event):
            return event.text

    block = live.Block(Progress(), None, lambda: None)  # type: ignore[arg-type]
    began = time.perf_counter()
    for number in range(5000):
        block(typed(Event("notice", f"{number}", at=1000.0)))
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("width", [40, 80, 140])
def test_no_line_of_the_block_is_wider_than_the_terminal(width):
    long = "x" * 500 + "\x1b[2J"
    events = [
        Event("run_started", at=1.0, budget={"usd": (1.0, 2.0), "wall": (3.0, 9.0)}),
        Event("pass_ended", long, 1, 0, {"outcome": "rejected", "verdict": {}}, at=2.0),
        Event("turn_started", "", 2, 1, at=3.0),
        Event("subcalls_progress", data={"answered": 1, "failed": 1, "out": 1}, at=3.0),
    ]
    view = lr.RunView(map(typed, events))
    for line, _ in live.lines_of(view, 10.0, width):
        shown = live._fitting(line, width)
        assert len(shown) < width
        assert "\x1b" not in shown


def test_keys_are_not_read_from_what_is_no_terminal():
    with live.keys_of(io.StringIO()) as fd:
        assert fd is None


def test_a_run_in_the_background_leaves_the_terminal_alone(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")])
    command = f"set -m; {' '.join(argv('run', task))} & wait $!; echo done $?"
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve("/bin/bash", ["bash", "-c", command], {**clean_environment(), "TERM": "xterm"})
    printed = b""
    while b"done" not in printed:
        try:
            printed += os.read(fd, 65536)
        except OSError:
            break
    os.waitpid(pid, 0)
    assert b"done 0" in printed


@pytest.mark.parametrize(
    ("request_kind", "text"),
    [
        ("note", "the note is in the next message"),
        ("budget", "passes: 9 (before: 5)"),
        ("approve", "approved by A. Lee"),
        ("reject", "refused: no answer waits"),
        ("stop", "it ends after this turn"),
    ],
)
def test_what_came_of_a_request_stays_on_the_screen_and_replaces_the_answer_to_the_key(request_kind, text):
    stream = io.StringIO()
    block = live.Block(Progress(), None, lambda: None, stream=stream)
    with block:
        block._says = "note: the run takes it at the end of this turn"
        block(typed(Event("operator", f"{text} \x1b[2J", 1, 1, {"request": request_kind, "id": "1"}, at=1.0)))
        assert block._says == ""
    assert f"operator: {text}" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
