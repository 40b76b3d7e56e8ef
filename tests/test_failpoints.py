"""The named places: one list, nothing forgotten, and no effect on a run that nobody wants to break."""

import ast
import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loop_runner import failpoints

_CALLS = ("failpoints.passing", "_passing")
PACKAGE = Path(failpoints.__file__).parent


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.arm(None)


def called():
    """The names in all calls of ``failpoints.passing``; a call whose name is no literal is an error.

    The process that runs a queue imports nothing of the package, and has a function of its own for it.
    """
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in _CALLS:
                yield ast.literal_eval(node.args[0])


def test_every_place_is_in_the_list_and_everything_in_the_list_is_a_place():
    assert set(called()) == failpoints.NAMES


def test_only_the_command_line_arms_a_place():
    armed_in = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if ".arm(" in path.read_text()]
    assert armed_in == [Path("cli/__init__.py")]


def test_nothing_happens_unless_a_place_is_armed():
    for name in failpoints.NAMES:
        failpoints.passing(name)


@pytest.mark.parametrize("action", ["ENOSPC", "EIO"])
def test_an_armed_place_fails_once_at_the_hit_that_was_asked_for(action):
    failpoints.arm(f"journal.sync:2:{action}")
    failpoints.passing("journal.sync")
    failpoints.passing("journal.write")
    with pytest.raises(OSError, match=r"failpoint journal\.sync") as caught:
        failpoints.passing("journal.sync")
    assert caught.value.errno == getattr(errno, action)
    failpoints.passing("journal.sync")


@pytest.mark.parametrize("action", ["kill", "kill-group"])
def test_a_kill_leaves_no_time_for_anything(action):
    code = (
        "import os; os.setsid(); from loop_runner import failpoints as f; "
        f"f.arm('run.end:1:{action}'); f.passing('run.end'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_places_can_be_listed_as_they_are_come_by(tmp_path):
    failpoints.arm(f"list:{tmp_path / 'listed'}")
    failpoints.passing("turn.begin")
    failpoints.passing("turn.ran")
    assert (tmp_path / "listed").read_text().split() == ["turn.begin", "turn.ran"]


@pytest.mark.parametrize("spec", ["nowhere:1:kill", "run.end:x:kill", "run.end:1:panic", "run.end"])
def test_a_place_or_an_action_that_does_not_exist_is_refused(spec):
    with pytest.raises(ValueError, match="is not NAME:HIT:ACTION"):
        failpoints.arm(spec)
