"""The rule of the stop hook: all must accept, a broken gate judges nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loop_runner.records import Accepted, Allow, Block, Broken, GateBroken, Inputs, Rejected
from loop_runner.verify import NO_MEANS, BaseVerifier, Submission
from loop_runner.verify.stop_hook import StopHook

SUBMISSION = Submission("42", Path("/nowhere"), Inputs(()))


@dataclass
class Says(BaseVerifier):
    """A verifier that gives the given verdicts, the last one repeatedly."""

    is_repeatable = False

    verdicts: list[Any]
    name: str = "v"
    requirement: str = ""
    calls: list[Submission] = field(default_factory=list)

    def verify(self, submission, means=NO_MEANS):
        self.calls.append(submission)
        verdict = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


def decide(*verifiers, retries=2):
    return StopHook(verifiers, retries=retries, retry_wait_s=0).decide(SUBMISSION)


def test_all_accepting_allow_the_end():
    decision = decide(Says([Accepted()], "a"), Says([Accepted("seen")], "b"))
    assert isinstance(decision, Allow)
    assert [report.verifier for report in decision.reports] == ["a", "b"]


def test_one_rejecting_blocks_and_the_others_are_still_asked():
    last = Says([Accepted()], "c")
    decision = decide(Says([Accepted()], "a"), Says([Rejected("too short", "3 words")], "b"), last)
    assert isinstance(decision, Block)
    assert last.calls == [SUBMISSION]
    assert decision.reason == ("2 of 3 checks passed.\n\nFailed: b: too short\n    3 words\n\nPassed: a, c.")


def test_the_score_is_the_mean():
    decision = decide(Says([Accepted()]), Says([Rejected("no", score=0.5)]))
    assert decision.score == pytest.approx(0.75)


def test_evidence_is_indented_line_by_line_and_cut():
    evidence = "\n".join(["first", "", "Passed: everything.", "x" * 100_000, "last"])
    reason = decide(Says([Rejected("no", evidence)])).reason
    assert "    first\n    \n    Passed: everything.\n" in reason
    assert reason.endswith("    last")
    assert len(reason) < 6000


def test_a_broken_verifier_is_asked_again_and_may_recover():
    verifier = Says([Broken("no network"), Broken("no network"), Accepted()])
    assert isinstance(decide(verifier), Allow)
    assert len(verifier.calls) == 3


def test_a_verifier_that_stays_broken_judges_nothing():
    verifier = Says([Broken("program is missing")], "gate")
    decision = decide(Says([Rejected("no")], "other"), verifier, retries=1)
    assert isinstance(decision, GateBroken)
    assert "gate: program is missing" in decision.reason
    assert len(verifier.calls) == 2
    assert len(decision.reports) == 2


def test_a_verifier_that_raises_is_broken_not_fatal():
    decision = decide(Says([ZeroDivisionError("oops")], "gate"), retries=0)
    assert isinstance(decision, GateBroken)
    assert "gate: it failed with ZeroDivisionError: oops" in decision.reason


def test_no_verifier_allows_and_says_so():
    decision = decide()
    assert isinstance(decision, Allow)
    (report,) = decision.reports
    assert isinstance(report.verdict, Accepted)
    assert "no verifier is set" in report.verdict.evidence


def test_real_verifiers_give_the_next_pass_their_evidence(tmp_path):
    from loop_runner.inputs import load
    from loop_runner.verify import build

    (tmp_path / "a.txt").write_text("The default is 128.\n")
    hook = StopHook(build([{"citations": {"answer_in_quote": True}}, {"contains": "8"}], tmp_path), retries=0)
    inputs = load(["a.txt"], tmp_path)
    wrong = hook.decide(Submission("8\n> a.txt:1: The default is 128.", tmp_path, inputs))
    assert isinstance(wrong, Block)
    assert "the short answer '8' is in none of its quotes" in wrong.reason
    assert isinstance(hook.decide(Submission("128\n> a.txt:1: The default is 128.", tmp_path, inputs)), Allow)
