"""Functions of the calling program as verifiers: called, recorded, and asked for again."""

import functools

import pytest

import loop_runner as lr
from tests.support.tasks import ready

NOTES = {"notes.txt": "The answer is 42.\n"}


def is_42(answer, submission):
    """The answer is 42."""
    return None if answer == "42" else f"it is {answer}, not 42"


def run(script, verifiers, *replies, passes=2):
    task = lr.Task(
        "What?",
        inputs=NOTES,
        verifiers=verifiers,
        model=script(*map(ready, replies or ("41", "42"))),
        budget={"passes": passes},
    )
    return lr.run(task, run_dir="mine")


def test_a_function_rejects_with_a_reason_and_accepts(script):
    result = run(script, [is_42])
    assert result.verified
    assert result.spend.passes == 2
    assert result.verdicts[0].verifier == "is_42"


@pytest.mark.parametrize(
    ("returned", "status"),
    [
        (None, "verified"),
        (True, "verified"),
        ("", "verified"),
        (lr.Accepted("seen"), "verified"),
        (False, "unverified"),
        ("no", "unverified"),
        (lr.Rejected("no"), "unverified"),
        (lr.Broken("no network"), "broken"),
        (1, "broken"),
        ({"ok": True}, "broken"),
    ],
)
def test_what_a_function_returns_is_a_verdict(script, returned, status):
    assert run(script, [lambda answer, submission: returned], "42", passes=1).status == status


def test_an_assertion_rejects_and_another_exception_breaks(script):
    def check(answer, submission):
        assert answer == "42", "it must be 42"

    result = run(script, [check], "41", passes=1)
    assert result.status == "unverified"
    assert result.verdicts[0].verdict.reason.startswith("it must be 42")


def test_a_function_that_raises_for_every_answer_is_broken(script):
    def check(answer, submission):
        raise OSError("no network")

    result = run(script, [check], passes=1)
    assert result.status == "broken"
    assert "no network" in result.reason


def test_a_function_sees_the_committed_bytes(script):
    seen = []

    def check(answer, submission):
        seen.append(
            (answer, (submission.checkout / "answer.md").read_text(), submission.inputs.texts[0].name)
        )

    assert run(script, [check], "42").verified
    assert seen == [("42", "42", "notes.txt")]


class Limit:
    def __init__(self, least):
        self.least = least

    def __call__(self, answer, submission):
        return int(answer) >= self.least


@pytest.mark.parametrize(
    "check", [Limit(42), functools.partial(lambda least, answer, submission: int(answer) >= least, 42)]
)
def test_objects_and_partials_can_be_called_too(script, check):
    assert run(script, [check]).spend.passes == 2


def test_functions_in_groups_and_several_of_one_name(script):
    gates = [lr.any_of(lr.contains("nothing"), is_42), lambda a, s: None, lambda a, s: None]
    result = run(script, gates)
    assert result.verified
    assert len({report.verifier for report in result.verdicts}) == 3


def test_the_proof_says_that_a_function_is_not_pinned_with_its_name_and_hash(script):
    record = run(script, [is_42]).proof["gates"][0]["record"]["function"]
    assert record["name"].endswith(":is_42")
    assert len(record["sha256"]) == 64
    assert record["pinned"] is False


async def asynchronous(answer, submission):
    return None


@pytest.mark.parametrize("function", [asynchronous, lambda: None, lambda answer: None, lambda a, b, c: None])
def test_a_function_that_cannot_be_called_is_refused_at_once(function):
    with pytest.raises(lr.VerifierError, match="cannot be a verifier"):
        lr.Task("What?", verifiers=[function])


# ── again ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def unfinished(script):
    assert run(script, [is_42], passes=1).status == "unverified"


def changed(monkeypatch):
    def is_42(answer, submission):
        return True

    is_42.__module__, is_42.__qualname__ = __name__, "is_42"
    return is_42


def test_a_run_is_resumed_with_the_same_function(unfinished):
    assert lr.resume("mine", verify=[is_42], budget={"passes": 2}).verified


def test_a_run_is_not_resumed_without_its_function(unfinished):
    with pytest.raises(lr.VerifierError, match=r"Python function .*:is_42"):
        lr.resume("mine", budget={"passes": 2})


def test_a_run_is_not_resumed_with_a_function_that_has_changed(unfinished, monkeypatch):
    with pytest.raises(lr.VerifierError, match=r":is_42 is not the one that the run began with"):
        lr.resume("mine", verify=[changed(monkeypatch)], budget={"passes": 2})


def test_a_run_is_not_resumed_with_a_further_function(unfinished):
    def stricter(answer, submission):
        return None

    with pytest.raises(lr.ConfigError, match=r"did not begin with the function .*stricter"):
        lr.resume("mine", verify=[is_42, stricter], budget={"passes": 2})


def test_the_proof_is_checked_with_the_function_and_broken_without_it(script):
    run(script, [is_42])
    assert lr.verify("mine", verifiers=[is_42]).status == "same"
    assert lr.verify("mine").status == "broken"
