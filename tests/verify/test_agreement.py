"""Somebody who has not seen the answer gives it too; what they said is kept from the model."""

import pytest

from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Broken, Inputs, InputText, Rejected
from loop_runner.verify.agreement import normalise
from tests.support.gates import Says, made, submission


@pytest.fixture
def agree(tmp_path):
    (tmp_path / "a.txt").write_text("The tower is 1,024 feet high.")
    text = InputText("a.txt", tmp_path / "a.txt", 29, "abc")

    def run(answer, *replies, **settings):
        panel = Says(*replies)
        verifier = made({"agreement": settings or None}, tmp_path, panel=panel)
        return verifier.verify(submission(tmp_path, answer, inputs=Inputs((text,)))), panel

    return run


def test_the_same_short_answer_in_other_words_agrees(agree):
    assert isinstance(agree("Answer: 1024 \n> a.txt:1: The tower", "1,024.\nIt says so.")[0], Accepted)


def test_another_answer_rejects_and_is_not_told(agree):
    said, _ = agree("1024", "77777\nbecause")
    assert isinstance(said, Rejected)
    assert "77777" not in said.reason + said.evidence
    assert "what was compared: 1024" in said.evidence


def test_the_independent_request_holds_the_inputs_and_the_question_but_no_answer(agree):
    _, panel = agree("UNSEEN 1024", "1024")
    (request,) = panel.asked
    text = request.system + request.messages[-1].text
    assert "The tower is 1,024 feet high." in text
    assert "What is the answer?" in text
    assert "UNSEEN" not in text
    assert request.kind == "judge"


def test_the_majority_of_several_replies_decides(agree):
    assert isinstance(agree("5", "5", "6", "5", replies=3)[0], Accepted)
    assert isinstance(agree("5", "6", "6", "5", replies=3)[0], Rejected)


def test_an_empty_reply_and_too_long_inputs_are_broken(agree):
    assert isinstance(agree("5", " ")[0], Broken)
    assert isinstance(agree("5", "5", max_chars=10)[0], Broken)


def test_inputs_that_can_never_fit_are_refused_before_a_run(tmp_path):
    huge = Inputs((InputText("a.txt", tmp_path / "a.txt", 10_000_000, "abc"),))
    with pytest.raises(VerifierError, match="longer than `max_chars`"):
        made("agreement", tmp_path).refuse(huge)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("1,024", "1024", True),
        ("42.0", "42", True),
        (" The  Answer. ", "the answer", True),
        ("1,02", "102", False),
        ("-5", "5", False),
        ("1e3", "1000", True),
        ("nan", "NaN", True),
    ],
)
def test_answers_are_compared_without_what_makes_no_difference(one, other, is_same):
    assert (normalise(one) == normalise(other)) is is_same
