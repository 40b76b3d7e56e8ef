"""The two weak verifiers: a settled answer, a promised phrase."""

import pytest

from loop_runner.records import Accepted, Rejected
from tests.support.gates import made, submission


@pytest.mark.parametrize(
    ("earlier", "answer", "accepts"),
    [
        ((), "42", False),
        (("42",), "42", False),
        (("42", "Answer: 42."), "42", True),
        (("42", "42", "41"), "42", False),
        (("42", "41", "42"), "42", False),
        (("1", "42", "42"), "42", True),
    ],
)
def test_the_same_answer_must_come_in_so_many_passes_in_a_row(tmp_path, earlier, answer, accepts):
    output = made({"stable": 3}, tmp_path).verify(submission(tmp_path, answer, earlier=earlier))
    assert isinstance(output, Accepted) is accepts


def test_a_rejection_says_how_many_there_are(tmp_path):
    output = made({"stable": 3}, tmp_path).verify(submission(tmp_path, "42", earlier=["42"]))
    assert isinstance(output, Rejected)
    assert output.reason == "2 passes have handed in this answer, 3 in a row must"


@pytest.mark.parametrize(
    ("answer", "accepts"),
    [
        ("All tests pass.\n\n<promise>ALL DONE</promise>\n", True),
        ("<promise>\nALL   DONE\n</promise>", True),
        ("It is ALL DONE", True),
        ("ALL DONE when the tests pass", False),
        ("<promise>ALL DONE</promise> but not really", False),
        ("NOTALL DONE", False),
        ("", False),
    ],
)
def test_the_answer_must_end_with_the_promised_phrase(tmp_path, answer, accepts):
    output = made({"promise": "ALL DONE"}, tmp_path).verify(submission(tmp_path, answer))
    assert isinstance(output, Accepted) is accepts
