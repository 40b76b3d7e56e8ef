"""The first failing pass is found with few tries, and the run folder is only read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.runs.bisect import Step, search
from tests.support.commands import loop_runner
from tests.support.git import assert_clean
from tests.support.tasks import ready, write_task


@given(st.integers(1, 200), st.data())
def test_halving_finds_the_first_bad_pass_in_as_few_tries_as_it_can(count, data):
    first = data.draw(st.integers(1, count))
    tries = []

    def try_pass(number):
        tries.append(number)
        return Step(number, "", "bad" if number >= first else "good", 0, "")

    match = search(range(1, count + 1), try_pass, "bad")
    assert match.first is not None
    assert match.first.pass_number == first
    assert len(tries) == len(set(tries)) <= 2 + math.ceil(math.log2(count + 1))


@given(st.lists(st.sampled_from(["good", "skip"]), max_size=12), st.lists(st.sampled_from(["bad", "skip"])))
def test_with_skipped_passes_the_first_bad_one_is_found_or_among_the_candidates(good, bad):
    truth = [*good, *bad]
    match = search(range(1, len(truth) + 1), lambda n: Step(n, "", truth[n - 1], 0, ""), "bad")
    really = next((number for number, output in enumerate(truth, 1) if output == "bad"), None)
    if match.first is not None:
        assert match.first.pass_number == really
    elif match.candidates:
        assert really == match.candidates[-1]
        assert all(truth[number - 1] == "skip" for number in match.candidates[:-1])
    else:
        assert really is None


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of six passes, whose answers grow and lose the word `good` in the fourth."""
    folder = tmp_path_factory.mktemp("bisect")
    answers = [f"{'good' if number < 4 else 'lost'} {'x' * number}" for number in range(1, 6)]
    task = write_task(folder / "task", root=[*map(ready, answers), ready("42 lost")])
    assert loop_runner("run", task, "-q", cwd=folder).returncode == 0
    return folder


def test_the_first_pass_that_fails_the_command_is_named(place):
    result = loop_runner("bisect", "scripted", "--", "grep", "good", "answer.md", cwd=place)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "pass 6: bad"
    assert "pass 4: bad" in lines
    assert "pass 3: good  (good xxx)" in lines
    assert lines[-3].startswith("pass 4 is the first bad one (")
    assert "loop-runner diff runs/scripted 3 4" in lines[-2]
    assert_clean(place / "runs/scripted")
    assert not list((place / "runs/scripted/.git").glob("BISECT*"))


def test_the_first_good_pass_is_found_the_other_way_as_json(place):
    args = ("--first-good", "--json", "scripted", "--", "grep", "-q", "xxxx\\|42", "answer.md")
    data = json.loads(loop_runner("bisect", *args, cwd=place).stdout)
    assert (data["wanted"], data["first"]) == ("good", 4)
    assert all(step["said"] == ("good" if step["pass"] >= 4 else "bad") for step in data["steps"])


def test_125_skips_a_pass_and_what_is_left_is_said(place):
    check = "case $LOOP_RUNNER_PASS in 3|4) exit 125;; esac; grep -q good answer.md"
    result = loop_runner("bisect", "scripted", "--", "sh", "-c", check, cwd=place)
    assert result.returncode == 3
    assert "the first bad pass is one of 3, 4, 5" in result.stdout
    assert "pass 4: skip" in result.stdout


def test_no_bad_pass_is_exit_code_3(place):
    result = loop_runner("bisect", "scripted", "--", "true", cwd=place)
    assert (result.returncode, result.stdout.splitlines()) == (
        3,
        ["pass 6: good", "no pass is bad: the last one is not"],
    )


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("no-such-program",), "could not be started"),
        (("sh", "-c", "kill -9 $$"), "was ended by signal 9"),
        (("sh", "-c", "exit 200"), "ended with exit code 200"),
        (("--timeout", "0.2", "--", "sleep", "60"), "did not end within 0.2 s"),
    ],
)
def test_a_command_that_tells_nothing_ends_the_search(place, command, output):
    args = command if "--" in command else ("--", *command)
    result = loop_runner("bisect", "scripted", *args, cwd=place)
    assert result.returncode == 2
    assert output in result.stderr


def test_a_program_beside_the_user_is_found_and_cannot_harm_the_run(place):
    script = place / "check.sh"
    script.write_text("#!/bin/sh\necho changed > answer.new; rm -f answer.md; pwd\nexit 1\n")
    script.chmod(0o755)
    result = loop_runner("bisect", "scripted", "--", "./check.sh", cwd=place)
    assert "pass 1 is the first bad one" in result.stdout, result.stderr
    assert_clean(place / "runs/scripted")
