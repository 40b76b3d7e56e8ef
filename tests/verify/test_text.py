"""``contains`` and ``regex`` on answers of any kind."""

import time
from pathlib import Path

import pytest

from loop_runner.records import Accepted, Broken, Inputs, Rejected
from loop_runner.verify import Submission, build


def verdict(spec, answer):
    (verifier,) = build([spec], Path("/"))
    return verifier.verify(Submission(answer, Path("/nowhere"), Inputs(())))


def test_contains_looks_anywhere_in_the_answer():
    assert isinstance(verdict({"contains": "42"}, "it is\n42."), Accepted)


def test_contains_says_what_is_missing_and_what_it_saw():
    output = verdict({"contains": "42"}, "it is 41")
    assert isinstance(output, Rejected)
    assert "does not contain '42'" in output.reason
    assert "it is 41" in output.evidence


def test_contains_minds_letter_case_unless_told_not_to():
    assert "letter case" in verdict({"contains": "Paris"}, "paris").reason
    assert isinstance(verdict({"contains": {"text": "Paris", "ignore_case": True}}, "PARIS"), Accepted)


@pytest.mark.parametrize(
    ("spec", "answer", "accepts"),
    [
        (r"^\d+$", "42", True),
        (r"^\d+$", "\n 42 \n", True),
        (r"^\d+$", "42\nmore", False),
        (r"(?m)^\d+$", "more\n42", True),
        ({"pattern": r"^\d+$", "part": "first_line"}, "42\nmore", True),
        ({"pattern": r"^Answer: \d+$", "part": "first_line"}, "Answer: 42", True),
        ({"pattern": r"^\d+$", "part": "short_answer"}, "Answer: `42`.\nmore", True),
        ({"pattern": "^PARIS$", "ignore_case": True}, "Paris", True),
        ({"pattern": "^PARIS$"}, "Paris", False),
        ("x", "", False),
        ("\ud800", "a\ud800b", True),
        ("ä\u2028", "ä\u2028", True),
    ],
)
def test_regex_searches_the_part_that_it_is_told(spec, answer, accepts):
    output = verdict({"regex": spec}, answer)
    assert isinstance(output, Accepted if accepts else Rejected), output


def test_regex_shows_what_it_looked_at():
    output = verdict({"regex": {"pattern": r"^\d+$", "part": "first_line"}}, "many\n42")
    assert "the first line does not match" in output.reason
    assert "many" in output.evidence


def test_a_pattern_that_never_ends_is_broken():
    started = time.monotonic()
    output = verdict({"regex": {"pattern": "(a+)+$", "timeout_s": 0.5}}, "a" * 60 + "b")
    assert isinstance(output, Broken)
    assert "did not finish in 0.5 s" in output.reason
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("answer", ["x" * 10_000_000, "\0" * 10_000_000, "\ud800" * 1000, "\x1b[2J" * 1000])
def test_hostile_answers_are_rejected_with_little_evidence(answer):
    for spec in ({"contains": "42"}, {"regex": r"^\d+$"}):
        output = verdict(spec, answer)
        assert isinstance(output, Rejected)
        assert len(output.evidence) < 2000
