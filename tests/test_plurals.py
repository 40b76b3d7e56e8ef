"""A number and its noun agree in messages, prompts and reports."""

import re
from dataclasses import replace
from typing import Any

import pytest

from loop_runner.budget import Budget, BudgetSpentError, Ledger
from loop_runner.cli import display
from loop_runner.inputs import loading
from loop_runner.kernel.inside import candidates
from loop_runner.loop import stalling
from loop_runner.loop.stalling import Step
from loop_runner.records import Spend, Usage
from loop_runner.task.limits import describe_left, describe_limits
from loop_runner.text import plural

ONE_AND_MANY = re.compile(r"(?<![\d.,@])1 (?!is\b|was\b|pass\b|less\b)[a-z]+(?:-[a-z]+)?s\b")


@pytest.mark.parametrize(
    ("count", "noun", "several", "words"),
    [
        (0, "pass", "passes", "0 passes"),
        (1, "pass", "passes", "1 pass"),
        (2, "pass", "passes", "2 passes"),
        (1, "sub-call", None, "1 sub-call"),
        (1_000, "token", None, "1,000 tokens"),
        (1, "reply", "replies", "1 reply"),
    ],
)
def test_a_noun_is_singular_behind_one_only(count, noun, several, words):
    assert plural(count, noun, several) == words


LIMITS = {
    "passes": (1, "1 pass"),
    "tokens": (1, "1 token"),
    "tokens_in": (1, "1 input token"),
    "tokens_out": (1, "1 output token"),
    "usd": (1.0, "1 US dollar"),
    "wall_s": (1.0, "1 second"),
}


@pytest.mark.parametrize("kind", sorted({*loading._KINDS.values(), "unreadable"}))
def test_a_kind_of_skipped_files_agrees_with_its_number(kind):
    item, many = display._counted(kind, 1), display._counted(kind, 1_200)
    assert item.startswith("1 ")
    assert many.startswith("1,200 ")
    assert not ONE_AND_MANY.search(item)
    assert (item[2:] == many[6:]) == (kind not in display._SKIPPED)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("links", "1 link"),
        ("special files", "1 special file"),
        ("run folders", "1 run folder"),
        ("oddly named", "1 with an unusable name"),
        ("binary", "1 binary"),
    ],
)
def test_one_skipped_file_is_named_in_the_singular(kind, words):
    assert display._counted(kind, 1) == words


@pytest.mark.parametrize("key", LIMITS)
def test_a_limit_of_one_is_named_in_the_singular(key):
    limit, words = LIMITS[key]
    changed: dict[str, Any] = {key: limit}
    budget = replace(Budget(passes=99), **changed)
    spent = Spend(passes=1, seconds=2.0, usage=Usage(1, 1), usd=2.0)
    reached = Ledger(budget, spent).reached()
    assert reached == words
    assert f"the budget of {words} is used up" in str(BudgetSpentError(reached))


def test_limits_of_two_are_named_in_the_plural():
    words = describe_limits(Budget(passes=2, turns=2, tokens=2, usd=2, wall_s=2, subcalls=2, child_turns=2))
    for part in ("2 turns, the run 2 passes", "sessions of 2 turns", "2 tokens", "2 seconds", "2 sub-calls"):
        assert part in words


def test_a_prompt_about_limits_of_one_has_no_plural():
    limits = Budget(passes=1, turns=1, tokens=1, tokens_in=1, tokens_out=1, usd=1, wall_s=1, subcalls=1)
    assert not ONE_AND_MANY.search(describe_limits(limits))
    assert not ONE_AND_MANY.search(describe_left(Ledger(limits, Spend())))


def test_one_pass_without_progress_is_one_pass():
    assert "1 pass in a row ended" in stalling.stop_reason(Step("stop", equal=1))


def test_one_line_and_two_lines_that_are_too_long_agree_with_their_verbs():
    long = "x" * 20_001
    _, item = candidates.spans({"regex": "y", "ast": {}}, "a.txt", long, 9)
    _, two = candidates.spans({"regex": "y", "ast": {}}, "a.txt", f"{long}\n{long}", 9)
    assert item == "1 line has over 20,000 characters: not matched"
    assert two == "2 lines have over 20,000 characters: not matched"
