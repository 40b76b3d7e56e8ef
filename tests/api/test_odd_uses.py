"""What a program may get wrong: each is an error that says so, at once, and creates no run."""

import functools
from pathlib import Path
from typing import Any

import pytest

import loop_runner as lr
from tests.support.tasks import cell, ready, write_task

NOTES = {"notes.txt": "The answer is 42.\n"}
RULES = [{"id": "x", "description": "y"}]


def task(script: Any, **keys: Any) -> lr.Task:
    given = {"inputs": NOTES, "verifiers": [lr.contains("42")], "model": script(ready("42")), **keys}
    return lr.Task("What?", **given)


def port() -> int:
    return 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"inputs": 3}, "inputs are paths or data, not 3"),
        ({"inputs": None}, "inputs are paths or data, not None"),
        ({"verifiers": None}, "verifiers are a list, not None"),
        ({"verifiers": 3}, "verifiers are a list, not 3"),
        ({"verifiers": [print]}, "print cannot be a verifier: it is not written in Python"),
        ({"verifiers": [dict]}, "dict cannot be a verifier"),
        ({"verifiers": [str.startswith]}, "startswith cannot be a verifier"),
        ({"verifiers": [functools.partial(max, 3)]}, "max cannot be a verifier"),
        ({"budget": 3}, "a budget is"),
        ({"budget": {"usd": float("nan")}}, "a number over 0"),
        ({"settings": 3}, "settings are keys"),
        ({"settings": ["budget.passes"]}, "not KEY=VALUE"),
        ({"output_type": port}, "it is a function"),
        ({"output_type": object()}, "no JSON Schema"),
        ({"name": "../x"}, "names the run folder"),
        ({"model": 3}, "`model` takes a text"),
        ({"inputs": [None]}, "it is None"),
    ],
)
def test_a_task_refuses_what_it_cannot_mean(script, keys, words):
    with pytest.raises(lr.LoopRunnerError, match=words):
        task(script, **keys)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda made: lr.run(made, on_event=3), "on_event is a function"),  # type: ignore[arg-type]
        (lambda made: lr.run(made, stop=3), "stop is an lr.Stop"),  # type: ignore[arg-type]
        (lambda made: lr.run(made, reporters="nope"), "no reporter 'nope'"),
        (lambda _: lr.ask("What?", [], model="script:x"), "no inputs to ask about"),
        (lambda _: lr.ask("What?", NOTES, verifiers=[]), "called `verify` here"),
        (lambda _: lr.RLM().completion("text", context="text"), "both `prompt` and `context`"),
        (lambda _: lr.RLM().completion("text", "which?", query="which?"), "both `root_prompt` and `query`"),
        (lambda _: lr.data("x", 3), "the name of data is a text"),  # type: ignore[arg-type]
        (lambda _: lr.data(None), "it is None"),
        (lambda _: lr.audit([], rules=RULES), "no paths to audit"),
        (lambda _: lr.audit(None, rules=RULES), "no paths to audit"),  # type: ignore[arg-type]
        (lambda _: lr.verify("x", allow=["everything"]), "not something that a verifier can be granted"),
    ],
)
def test_a_call_refuses_what_it_cannot_mean(script, call, words):
    with pytest.raises(lr.LoopRunnerError, match=words):
        call(task(script))
    assert not Path("runs").exists()


def is_42(answer, submission):
    return answer == "42"


class Check:
    def method(self, answer, submission):
        return answer == "42"


@pytest.mark.parametrize("verifiers", [is_42, lr.contains("42"), Check().method, (is_42,), iter([is_42])])
def test_one_verifier_needs_no_list_and_any_iterable_is_one(script, verifiers):
    assert len(task(script, verifiers=verifiers).checked.verifiers) == 1


def test_inputs_may_come_from_a_generator(script):
    made = task(script, inputs=(lr.data(text, f"{text}.txt") for text in ("a", "b")))
    assert made.check().texts == 2


def test_settings_may_be_one_text(script):
    assert task(script, settings="budget.passes=3").budget.passes == 3


def test_bytes_that_are_not_utf_8_are_read_with_replacements_and_counted(script):
    heard: list[Any] = []
    made = task(script, inputs={"notes.txt": b"42 caf\xe9\n"})
    assert lr.run(made, on_event=heard.append).verified
    assert heard[0].texts_not_utf8 == 1


def test_ctrl_c_in_a_listener_ends_the_run_and_keeps_what_is_committed(tmp_path):
    slow = write_task(tmp_path / "task", root=[cell("x = 1"), ready("42")])

    def heard(event):
        if event.kind == "turn_committed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lr.run(slow, run_dir="mine", on_event=heard)
    assert lr.open("mine").log()[-1].turn == 1
    assert lr.resume("mine").verified
