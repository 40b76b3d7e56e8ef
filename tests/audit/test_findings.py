"""Fingerprints, and the gate of an audit: what it accepts, and each thing that it rejects."""

import json

import pytest

from loop_runner.audit import findings
from loop_runner.errors import VerifierError
from loop_runner.inputs import load
from loop_runner.records import Accepted, Broken, Rejected
from loop_runner.verify import Submission, build

TEXT = "try:\n    go()\nexcept:\n    pass\n\ntry:\n    stop()\nexcept:\n    pass\n"
FINDING = {
    "rule": "bare",
    "severity": "error",
    "file": "a.py",
    "line": 3,
    "quote": "except:",
    "reason": "bare",
}


def report(*result, **changes):
    body = {"format": 1, "files": 1, "candidates": 2, "judged": 2, "dropped": 0, "first_dropped": []}
    return json.dumps({**body, "findings": list(result), "unjudged": [], "not_searched": [], **changes})


@pytest.fixture
def verify(tmp_path):
    (tmp_path / "a.py").write_text(TEXT)
    texts = load(["."], tmp_path)
    (gate,) = build([{"findings": {"rules": {"bare": "error"}}}], tmp_path)
    return lambda answer: gate.verify(Submission(answer, tmp_path, texts))


def fingerprints(text, tmp_path, lines):
    (tmp_path / "a.py").write_text(text)
    answer = report(*({**FINDING, "line": line} for line in lines))
    return [finding.fingerprint for finding in findings.read(answer, load(["."], tmp_path)).findings]


def test_a_fingerprint_survives_moved_and_indented_lines(tmp_path):
    before = fingerprints(TEXT, tmp_path, [3, 8])
    moved = "import os\n\n\nif os:\n" + "".join(f"    {line}\n" for line in TEXT.splitlines())
    assert fingerprints(moved, tmp_path, [7, 12]) == before
    assert len(set(before)) == 2


def test_a_fingerprint_changes_with_the_line_and_the_rule():
    of = findings.fingerprint
    assert (
        len(
            {
                of("r", "f", "x", 0),
                of("s", "f", "x", 0),
                of("r", "g", "x", 0),
                of("r", "f", "y", 0),
                of("r", "f", "x", 1),
            }
        )
        == 5
    )


def test_a_quote_of_another_length_has_the_same_fingerprint(tmp_path):
    (tmp_path / "a.py").write_text(TEXT)
    texts = load(["."], tmp_path)
    prints = {
        findings.read(report({**FINDING, "quote": quote}), texts).findings[0].fingerprint
        for quote in ("except:", "exc")
    }
    assert len(prints) == 1


def test_a_report_whose_findings_stand_is_accepted(verify):
    assert isinstance(verify(report(FINDING, {**FINDING, "line": 8})), Accepted)
    assert isinstance(verify(report()), Accepted)


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"line": 2}, "is not on that line"),
        ({"line": 99}, "is not on that line"),
        ({"line": -1}, "is not on that line"),
        ({"quote": ""}, "is not on that line"),
        ({"quote": ":"}, "is not on that line"),
        ({"file": "b.py"}, "no input"),
        ({"rule": "other"}, "no such rule"),
        ({"severity": "note"}, "severity"),
        ({"reason": "This line is fine."}, "its own reason says that the line is right"),
        ({"reason": "There is no violation here."}, "its own reason says that the line is right"),
        ({"reason": "The line is compliant with the rule."}, "its own reason says that the line is right"),
        ({"reason": "It does not break the rule."}, "its own reason says that the line is right"),
        ({"reason": "It complies with the rule."}, "its own reason says that the line is right"),
        ({"reason": "Nothing wrong: the rule does not apply."}, "its own reason says that the line is right"),
    ],
)
def test_a_finding_that_does_not_stand_is_rejected(verify, change, output):
    verdict = verify(report({**FINDING, **change}))
    assert isinstance(verdict, Rejected)
    assert output in verdict.evidence


@pytest.mark.parametrize(
    ("unsure", "expected"),
    [
        ([FINDING], Accepted),
        ([{**FINDING, "reason": "This line is fine."}], Accepted),
        ([{**FINDING, "line": 2}], Rejected),
        ([{**FINDING, "quote": ""}], Rejected),
        ([{**FINDING, "rule": "other"}], Rejected),
        ([{**FINDING, "severity": "note"}], Rejected),
        ([FINDING, FINDING], Rejected),
        ([1], Rejected),
        ("none", Rejected),
    ],
)
def test_an_unsure_place_must_be_on_its_line_too_and_was_judged(verify, unsure, expected):
    verdict = verify(report(unsure=unsure))
    assert isinstance(verdict, expected)
    if expected is Accepted:
        assert verdict.evidence.endswith("the model is unsure about 1")


def test_a_line_without_letters_can_be_quoted_as_a_whole(tmp_path):
    (tmp_path / "a.js").write_text("f = {\n  }\n")
    (gate,) = build([{"findings": {"rules": {"bare": "error"}}}], tmp_path)
    texts = load(["."], tmp_path)
    for quote, expected in (("}", Accepted), ("  ", Rejected), ("", Rejected)):
        finding = {**FINDING, "file": "a.js", "line": 2, "quote": quote}
        assert isinstance(gate.verify(Submission(report(finding), tmp_path, texts)), expected)


def test_the_same_finding_twice_and_a_place_unjudged_are_rejected(verify):
    assert "twice" in verify(report(FINDING, FINDING)).evidence
    left = verify(report(FINDING, unjudged=[{"rule": "bare", "file": "a.py", "line": 8, "why": "no reply"}]))
    assert isinstance(left, Rejected)
    assert "1 place was not judged" in left.reason


@pytest.mark.parametrize(
    "answer", ["", "no JSON", "[]", '{"format": 2}', report(1), report({**FINDING, "line": True}), "[" * 9999]
)
def test_what_is_no_report_is_rejected(verify, answer):
    assert isinstance(verify(answer), Rejected)


def test_a_changed_input_breaks_the_gate(verify, tmp_path):
    (tmp_path / "a.py").write_text(TEXT + "# later\n")
    assert isinstance(verify(report(FINDING)), Broken)


def test_rules_without_severities_are_refused(tmp_path):
    with pytest.raises(VerifierError, match="rules"):
        build([{"findings": {"rules": {"bare": "fatal"}}}], tmp_path)


@pytest.mark.parametrize(
    "reason",
    [
        "It does not comply with the rule.",
        "The line is not fine.",
        "It is allowed in tests, but this is production code.",
        "No problem is reported when it fails.",
        "The call is not allowed.",
        "It would be fine if the exception were named.",
    ],
)
def test_a_reason_that_holds_the_line_against_the_rule_is_no_denial(verify, reason):
    assert isinstance(verify(report({**FINDING, "reason": reason})), Accepted)
