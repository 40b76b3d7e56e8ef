"""``RUN@3.7`` means the same to every command that takes it."""

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.workspace import points
from loop_runner.workspace.history import History
from loop_runner.workspace.points import Point
from tests.support.commands import loop_runner
from tests.support.git import git


@given(st.integers(1, 10**8), st.none() | st.integers(1, 10**8), st.none() | st.integers(1, 10**8))
def test_a_point_reads_back_as_it_is_written(number, turn, rewound):
    point = Point(number, turn) if rewound is None else Point(rewound=rewound)
    assert points.parse(str(point)) == point


@pytest.mark.parametrize(
    "text", ["", "x", "3.", ".7", "3.0", "0.1", "-1", "3.7.1", "rewound/0", "rewound/", "٣"]
)
def test_what_is_no_point_is_none(text):
    assert points.parse(text) is None


def test_a_turn_is_shown_with_the_answer_as_it_was_then(place):
    data = json.loads(loop_runner("show", "scripted@1.2", "--json", cwd=place).stdout)
    assert (data["pass"], data["turn"], data["answer"]) == (1, 2, "41")
    output = loop_runner("show", "scripted@1.1", cwd=place).stdout
    assert "Pass 1 turn 1, 0 sub-calls: the model wrote" in output
    assert "words = ['one']" in output
    assert output.endswith("The answer was then\n\n(no answer yet)\n")


def test_a_pass_is_shown_by_either_name(place):
    item = loop_runner("show", "scripted@2", cwd=place)
    assert item.returncode == 0, item.stderr
    assert item.stdout == loop_runner("show", "scripted", "2", cwd=place).stdout


@pytest.mark.parametrize("args", [("scripted@0",), ("scripted@rewound/1",), ("scripted@1", "2")])
def test_what_is_no_pass_and_no_turn_is_not_shown(place, args):
    result = loop_runner("show", *args, cwd=place)
    assert result.returncode == 2
    assert "`show` takes one pass or one turn" in result.stderr


def test_a_persons_commit_after_a_moment_belongs_to_it(place):
    run = place / "runs/scripted"
    loop_runner("rewind", "scripted", "2.1", cwd=place)
    (run / "workspace/notes/plan.md").write_text("mine\n")
    who = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    git(run, *who, "commit", "-qam", "my own words")
    mine = git(run, "rev-parse", "HEAD")
    assert loop_runner("resume", "scripted", "-q", cwd=place).returncode == 0
    with History(run) as history:
        result = points.find(history, Point(2, 1))
    assert (result.commit, result.pass_number, result.turn) == (mine, 2, 1)


def test_a_shallow_clone_is_refused_with_the_command_that_mends_it(place):
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{place}/runs/scripted", "copy"], cwd=place, check=True
    )
    result = loop_runner("status", "copy", cwd=place)
    assert result.returncode == 2
    assert "fetch --unshallow" in result.stderr
    git(place / "copy", "fetch", "-q", "--unshallow")
    assert loop_runner("status", "copy", cwd=place).returncode == 0
