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
        verifier = made({"agreement": {"session": "direct", **settings}}, tmp_path, panel=panel)
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
        made({"agreement": {"session": "direct"}}, tmp_path).refuse(huge)
    made("agreement", tmp_path).refuse(huge)


def test_a_session_is_told_the_task_and_nothing_of_the_answer(agree):
    said, panel = agree("UNSEEN 1024", "1024", session="rlm", turns=3)
    (inquiry,) = panel.inquiries
    assert inquiry.question.startswith("What is the answer?")
    assert "UNSEEN" not in inquiry.question
    assert (inquiry.turns, inquiry.inputs.texts[0].name, inquiry.model) == (3, "a.txt", "script:x")
    assert isinstance(said, Rejected)
    assert isinstance(agree("1024", "1024", session="rlm")[0], Accepted)


def test_several_sessions_are_different_ones_and_their_majority_decides(agree):
    said, panel = agree("5", "5", "6", "5", session="rlm", replies=3)
    assert isinstance(said, Accepted)
    assert len({inquiry.scope for inquiry in panel.inquiries}) == 3
    assert isinstance(agree("5", "6", "6", "5", session="rlm", replies=3)[0], Rejected)


def test_a_session_without_an_answer_is_replaced_once_and_never_counts(agree):
    said, panel = agree("5", "", "5", session="rlm")
    assert isinstance(said, Accepted)
    assert len(panel.inquiries) == 2
    said, panel = agree("5", "", "", "5", session="rlm")
    assert isinstance(said, Broken)
    assert "came to no answer: its turns were used up" in said.reason


def test_an_agreement_that_is_tried_again_holds_a_new_session_for_the_failed_ones(tmp_path):
    panel = Says("", "", "5")
    verifier = made("agreement", tmp_path, panel=panel)
    assert isinstance(verifier.verify(submission(tmp_path, "5")), Broken)
    assert isinstance(verifier.verify(submission(tmp_path, "5")), Accepted)
    assert len(panel.inquiries) == 3


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
