"""Strategies are chosen from the passes' states alone, in any process alike."""

import pytest

from loop_runner.loop.stalling import (
    PassState,
    Step,
    from_verdict,
    lessons,
    next_step,
    notes,
    regression,
    state_of,
)
from loop_runner.records import Block, Rejected, VerifierReport
from loop_runner.task.config import NoProgress
from loop_runner.verify.verdicts import decision_as_json

ROOT = "script:x"


def states(*kinds, score=0.5):
    """One state for each letter; equal letters are equal states, a capital has the same answer only."""
    return [
        PassState(number, score, f"files {kind}", f"answer {kind.lower()}", "failures", "Failed: a")
        for number, kind in enumerate(kinds, 1)
    ]


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ("", "go"),
        ("a", "go"),
        ("aa", "go"),
        ("aaa", "prompt"),
        ("baaa", "prompt"),
        ("aaab", "go"),
        ("aaaa", "restart"),
        ("aaaaa", "stop"),
        ("aAaAa", "go"),
        ("aAaAaA", "prompt"),
    ],
)
def test_equal_passes_bring_one_strategy_after_another(kinds, kind):
    assert next_step(states(*kinds), NoProgress(passes=3, models=()), ROOT).kind == kind


def test_other_models_are_tried_one_by_one_and_not_the_one_that_was_at_it():
    settings = NoProgress(2, ("model",), ("script:x", "script:y", "script:z"))
    assert next_step(states("a", "a"), settings, ROOT) == Step("model", 2, "script:y")
    assert next_step(states("a", "a", "a"), settings, ROOT) == Step("model", 3, "script:z")
    assert next_step(states(*"aaaa"), settings, ROOT).kind == "stop"


@pytest.mark.parametrize(
    ("root", "temperature"), [("openai:x", 1.0), ("local:coder", 1.0), ("anthropic:x", None)]
)
def test_without_another_model_the_temperature_is_changed_where_there_is_one(root, temperature):
    step = next_step(states("a", "a"), NoProgress(2, ("model",)), root)
    assert step.temperature == temperature
    assert step.kind == ("stop" if temperature is None else "temperature")


def test_a_restart_takes_the_best_that_is_different():
    passes = states("b", "c", "a", "a")
    passes[1] = PassState(2, 0.9, "c", "c", "f", "")
    assert next_step(passes, NoProgress(2, ("restart",)), ROOT).from_pass == 2
    assert next_step(states("a", "a"), NoProgress(2, ("restart",)), ROOT).from_pass == 0


def test_a_regression_is_a_pass_below_the_best_before_it():
    better, equal, worse = (PassState(1, score, "", "", "", "no") for score in (0.8, 0.8, 0.3))
    assert regression([better]) is None
    assert regression([better, equal]) is None
    assert regression([better, worse]) == 1
    assert lessons([better, worse, equal]) == ["pass 1 scored 0.30, below the 0.80 of pass 1: no"]


def test_states_come_back_from_the_verdict_as_they_were():
    reports = (
        VerifierReport("a", Rejected("no", score=0.25)),
        VerifierReport("j", Rejected("no", score=0.5, record={"votes": []})),
    )
    block = Block("0 of 2 checks passed.\n\nFailed: a: no", reports, 0.375)
    state = state_of(3, block, files="f", answer="a")
    verdict = {
        **decision_as_json(block),
        "state": {"files": state.files, "answer": "a", "failures": state.failures},
    }
    assert from_verdict(3, verdict) == state
    assert state.reason == "Failed: a: no"


def test_what_jurors_score_by_chance_does_not_hide_that_nothing_changed():
    def block(score):
        return Block("no", (VerifierReport("j", Rejected("no", score=score, record={"votes": []})),), score)

    def plain(score):
        return Block("no", (VerifierReport("s", Rejected("no", score=score)),), score)

    def failures(decision):
        return state_of(1, decision, files="f", answer="a").failures

    assert failures(block(0.2)) == failures(block(0.3))
    assert failures(plain(0.2)) != failures(plain(0.3))


def test_passes_of_a_run_from_before_states_were_kept_equal_nothing():
    passes = [from_verdict(number, {"score": 0.0, "reason": "no"}) for number in (1, 2, 3, 4)]
    assert next_step(passes, NoProgress(2), ROOT).kind == "go"


def test_the_next_pass_is_told_what_was_put_back():
    passes = states("a", "a")
    assert notes(passes) == []
    put_back = [PassState(1, 0, "", "", "", "", restored=0)]
    assert "as they were at the very beginning" in notes(put_back)[0]
