"""Colour and line breaks are for a person at a terminal; a pipe gets the plain text."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import click
import pytest

from loop_runner.cli import terminal
from tests.support.commands import clean_environment
from tests.support.tasks import ready, write_task

ESCAPE = "\x1b["
GREEN, RED, YELLOW = (
    click.style("x", fg=colour, bold=True).split("x")[0] for colour in ("green", "red", "yellow")
)
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def at_terminal(*words, cwd, columns=80, **env):
    """What a command prints on a terminal of ``columns``, and its exit code."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = clean_environment({"TERM": "xterm", **env})
    kept.pop("COLUMNS", None)
    with subprocess.Popen(
        [sys.executable, "-m", "loop_runner", *map(str, words)],
        cwd=cwd,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    ) as command:
        os.close(follower)
        printed = b""
        with contextlib.suppress(OSError):  # EIO: the command has ended
            while part := os.read(leader, 1 << 16):
                printed += part
        code = command.wait(timeout=60)
    os.close(leader)
    return printed.decode().replace("\r\n", "\n"), code


def in_pipe(*words, cwd, **env):
    ended = subprocess.run(
        [sys.executable, "-m", "loop_runner", *map(str, words)],
        cwd=cwd,
        env=clean_environment({"TERM": "xterm", **env}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return ended.stdout + ended.stderr, ended.returncode


@pytest.fixture
def task(tmp_path):
    """Accepted in its first pass; what the model writes tries to look like the runner."""
    return write_task(tmp_path / "task", root=[ready("42\n\x1b[32mVERIFIED: by me\x1b[0m")])


def test_a_verified_run_says_so_in_green_at_a_terminal_and_in_plain_text_elsewhere(task, tmp_path):
    shown, code = at_terminal("run", task, cwd=tmp_path)
    assert code == 0, shown
    assert f"{GREEN}VERIFIED\x1b[0m: every verifier accepted" in shown
    run = tmp_path / "runs" / next(iter((tmp_path / "runs").iterdir())).name
    assert f"{GREEN}VERIFIED\x1b[0m" in at_terminal("show", run, cwd=tmp_path)[0]
    assert f"{GREEN}VERIFIED\x1b[0m again" in at_terminal("verify", run, cwd=tmp_path)[0]
    for words in (("show", run), ("verify", run)):
        piped, code = in_pipe(*words, cwd=tmp_path)
        assert (ESCAPE in piped, code) == (False, 0)
        assert "VERIFIED" in piped


def test_what_a_model_wrote_has_no_colour(task, tmp_path):
    shown, _ = at_terminal("run", task, cwd=tmp_path)
    assert "\\x1b[32mVERIFIED: by me" in shown
    assert shown.count(f"{GREEN}VERIFIED") == 1


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "anything"}])
def test_there_is_no_colour_where_none_is_wanted(task, tmp_path, env):
    shown, code = at_terminal("run", task, cwd=tmp_path, **env)
    assert (ESCAPE in shown, code) == (False, 0)
    assert "VERIFIED: every verifier accepted" in shown
    assert ESCAPE not in at_terminal("run", "none.yaml", cwd=tmp_path, **env)[0]


def test_an_empty_no_color_changes_nothing(task, tmp_path):
    assert GREEN in at_terminal("run", task, cwd=tmp_path, NO_COLOR="")[0]


def test_an_error_has_a_red_heading_at_a_terminal_only(tmp_path):
    shown, code = at_terminal("run", "none.yaml", cwd=tmp_path)
    assert code == 2
    assert shown.startswith(f"{RED}loop-runner:\x1b[0m there is no task file none.yaml")
    assert click.style("  what to do:", bold=True) in shown
    piped, code = in_pipe("run", "none.yaml", cwd=tmp_path)
    assert code == 2
    assert piped.startswith("loop-runner: there is no task file none.yaml\n")


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_long_messages_are_broken_at_the_width_of_the_terminal(tmp_path, columns):
    (tmp_path / "task.yaml").write_text("name: a\nprompt: b\nverifiers: [citations]\nbudget: 3\nkernel: 4\n")
    shown, code = at_terminal("run", "task.yaml", cwd=tmp_path, columns=columns, NO_COLOR="1")
    assert code == 2
    assert max(map(len, shown.splitlines())) <= columns
    piped, _ = in_pipe("run", "task.yaml", cwd=tmp_path)
    assert max(map(len, piped.splitlines())) > 100
    assert shown.split() == piped.split()


def test_a_pipe_gets_unbroken_lines_whatever_columns_says(tmp_path):
    (tmp_path / "task.yaml").write_text("name: a\nprompt: b\nverifiers: [citations]\nbudget: 3\n")
    piped, _ = in_pipe("run", "task.yaml", cwd=tmp_path, COLUMNS="50")
    assert "`budget` takes a mapping of passes, turns, tokens, tokens_in, tokens_out, usd, wall," in piped


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("VERIFIED: all", f"{GREEN}VERIFIED\x1b[0m: all"),
        ("NOT VERIFIED", f"{YELLOW}NOT VERIFIED\x1b[0m"),
        ("NOT VERIFIED YET: the run is active", f"{YELLOW}NOT VERIFIED YET\x1b[0m: the"),
        ("UNVERIFIED: no", f"{YELLOW}UNVERIFIED\x1b[0m: no"),
        ("INTERRUPTED: all", f"{YELLOW}INTERRUPTED\x1b[0m: all"),
        ("BROKEN: a verifier", f"{RED}BROKEN\x1b[0m: a verifier"),
        ("DIFFERENT: this", f"{RED}DIFFERENT\x1b[0m: this"),
        ("A sentence", "A sentence"),
        ("  VERIFIED: not a headline", "  VERIFIED: not a headline"),
    ],
)
def test_each_status_has_its_colour(monkeypatch, line, start):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.headline(line, Terminal()).startswith(start)
    assert terminal.headline(line, io.StringIO()) == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LONG, ["one two three four five six seven eight", "  nine ten eleven twelve thirteen fourteen"]),
        (f"  {LONG}", ["  one two three four five six seven eight", "    nine ten eleven twelve thirteen"]),
        ("short", ["short"]),
        (f"loop-runner knows {LONG}", ["loop-runner knows one two three four five"]),
        ("x" * 60, ["x" * 60]),
        ("", [""]),
        (
            "fix what it names and then type this: loop-runner resume 'runs/a b' --set budget.passes=20",
            [
                "fix what it names and then type this:",
                "  loop-runner resume 'runs/a b' --set budget.passes=20",
            ],
        ),
        (
            "a sentence with a command in it: `git -C runs/x log --first-parent` and more words",
            ["a sentence with a command in it:", "  `git -C runs/x log --first-parent` and", "  more words"],
        ),
        ("語" * 15 + " " + "語" * 10, ["語" * 15, "  " + "語" * 10]),
        (
            f"note\n```\n{LONG}\n```\n{LONG}",
            ["note", "```", LONG, "```", "one two three four five six seven eight"],
        ),
    ],
)
def test_lines_break_between_words_and_never_inside_a_command(text, expected):
    lines = terminal.wrapped(text, 42).split("\n")
    assert lines[: len(expected)] == expected
    assert re.sub(r"\s+", "", "".join(lines)) == re.sub(r"\s+", "", text)


def test_no_terminal_a_tiny_one_and_a_closed_stream_break_nothing(monkeypatch):
    assert terminal.columns(io.StringIO()) == 0
    monkeypatch.setenv("COLUMNS", "20")
    assert terminal.columns(Terminal()) == 0
    monkeypatch.setenv("COLUMNS", "100")
    assert terminal.columns(Terminal()) == 100
    closed = io.StringIO()
    closed.close()
    assert not terminal.has_colour(closed)
    assert terminal.columns(closed) == 0
    assert terminal.wrapped(LONG, 0) == LONG
