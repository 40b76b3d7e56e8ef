"""Functions of the calling program as verifiers: called, recorded, and asked for again."""

import dataclasses
import functools
import re
from pathlib import Path

import pytest

import loop_runner as lr
from loop_runner.verify import bound_values
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


# ── the values that a function is bound to ──────────────────────────────────────────────────────────


def at_least(least, answer, submission):
    return int(answer) >= least


def above(least):
    def check(answer, submission):
        return int(answer) >= least

    return check


def above_by(inner):
    def check(answer, submission):
        return inner(answer, submission)

    return check


def with_default(least):
    def check(answer, submission, least=least):
        return int(answer) >= least

    return check


def keyword_only(least):
    def check(answer, submission, *, least=least):
        return int(answer) >= least

    return check


def decorated(least):
    def decorator(check):
        @functools.wraps(check)
        def wrapper(answer, submission):
            return int(answer) >= least and check(answer, submission)

        return wrapper

    @decorator
    def check(answer, submission):
        return None

    return check


class Slotted:
    __slots__ = ("least",)

    def __init__(self, least):
        self.least = least

    def check(self, answer, submission):
        return int(answer) >= self.least


@dataclasses.dataclass(frozen=True)
class Frozen:
    least: tuple[int, str]


MAKERS = {
    "a partial": lambda least: functools.partial(at_least, least),
    "a keyword of a partial": lambda least: functools.partial(above(1), submission=least),
    "a partial of a partial": lambda least: functools.partial(functools.partial(at_least), least),
    "a closure": above,
    "a function in a closure": lambda least: above_by(above(least)),
    "a closure over a tuple": lambda least: above((least, "x", None)),
    "a closure over a frozenset": lambda least: above(frozenset({least, 3})),
    "a closure over a path": lambda least: above(Path(f"{least}.txt")),
    "a closure over a pattern": lambda least: above(re.compile(f"{least}{'x' * 300}")),
    "a closure over a frozen dataclass": lambda least: above(Frozen((least, "x"))),
    "a default": with_default,
    "a default of a keyword": keyword_only,
    "a decorator": decorated,
    "an object": Limit,
    "a bound method": lambda least: Slotted(least).check,
    "a cached function": lambda least: functools.cache(above(least)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_function_bound_to_other_values_is_another_function(make):
    assert bound_values.of(make(41)) == bound_values.of(make(41))
    assert bound_values.of(make(41))["sha256"] != bound_values.of(make(42))["sha256"]
    assert "not_covered" not in bound_values.of(make(41))


class Counter:
    def __init__(self, least):
        self.least, self.calls, self.seen = least, 0, []

    def __call__(self, answer, submission):
        self.calls += 1
        self.seen.append(answer)
        return int(answer) >= self.least


def counting():
    calls, seen = 0, {}

    def check(answer, submission):
        nonlocal calls
        calls += 1
        seen[calls] = answer
        return answer == "42"

    return check


@pytest.mark.parametrize(
    ("check", "names"),
    [
        (Counter(42), ["self.calls", "self.seen"]),
        (counting(), ["calls", "seen"]),
        (functools.partial(lambda words, answer, submission: answer == "42", ["a"]), ["argument 1"]),
        (above_by(counting()), ["inner.calls", "inner.seen"]),
    ],
)
def test_values_that_may_change_do_not_count_and_the_proof_names_them(script, check, names):
    record = run(script, [check]).proof["gates"][0]["record"]["function"]
    assert record["values"]["not_covered"] == names


def test_a_run_is_not_resumed_with_a_function_bound_to_other_values(script):
    check = functools.partial(at_least, 42)
    assert run(script, [check], passes=1).status == "unverified"
    with pytest.raises(lr.VerifierError, match=r"bound to \(argument 1\) are not those of then"):
        lr.resume("mine", verify=[functools.partial(at_least, 41)], budget={"passes": 2})
    assert lr.resume("mine", verify=[check], budget={"passes": 2}).verified


def test_a_tool_bound_to_other_values_is_not_the_tool_of_the_run(script):
    def tool(port):
        def lookup(name: str) -> object:
            """The port of a name."""
            return port

        return lookup

    task = lr.Task(
        "What?",
        inputs=NOTES,
        verifiers=[lr.contains("42")],
        model=script(ready("41"), ready("42")),
        tools=[tool(80)],
        budget={"passes": 1},
    )
    assert lr.run(task, run_dir="mine").status == "unverified"
    with pytest.raises(lr.ConfigError, match=r"lookup is not the one .* \(port\)"):
        lr.resume("mine", tools=[tool(443)], budget={"passes": 2})
    assert lr.resume("mine", tools=[tool(80)], budget={"passes": 2}).verified


def test_a_run_that_recorded_no_values_continues_with_its_function(script, tmp_path):
    assert bound_values.difference(None, bound_values.of(above(42))) == ""
