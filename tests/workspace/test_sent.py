"""Marks of requests that went out: what is counted, and what is known not to be."""

import pytest

from loop_runner.workspace.sent import NAME, Sent, unanswered

HERE, BEFORE = "a" * 40, "b" * 40
KEYS = [(str(number) * 64, 0) for number in range(3)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


@pytest.fixture
def marks(path):
    marks = Sent(path, HERE)
    yield marks
    marks.close()


def reopened(path, after=HERE, *earlier):
    marks = Sent(path, after, earlier)
    marks.close()
    return marks.unanswered(())


def test_a_request_counts_until_its_reply_is_kept(marks, path):
    for key in KEYS:
        marks.mark(key)
    assert marks.unanswered(KEYS[:1]) == unanswered(path, {HERE}, KEYS[:1]) == 2
    assert marks.unanswered(KEYS) == 0


def test_a_request_that_is_sent_again_and_answered_counts_once(marks, path):
    marks.mark(KEYS[0])
    again = Sent(path, HERE)
    again.mark(KEYS[0])
    assert (again.unanswered(()), again.unanswered(KEYS)) == (2, 1)
    again.close()


def test_a_request_that_failed_and_was_not_billed_does_not_count(marks, path):
    marks.mark(KEYS[0])
    marks.take_back(KEYS[0])
    assert marks.unanswered(()) == reopened(path) == 0


def test_marks_of_another_commit_do_not_count(marks, path):
    marks.mark(KEYS[0])
    assert reopened(path, BEFORE) == 0
    assert reopened(path, BEFORE, HERE) == 1, "unless none of our commits came between"


def test_after_a_commit_counting_begins_again(marks, path):
    marks.mark(KEYS[0])
    marks.move_on(BEFORE)
    assert path.read_bytes() == b""
    marks.mark(KEYS[1])
    assert (reopened(path, HERE), reopened(path, BEFORE)) == (0, 1)


@pytest.mark.parametrize("left", range(2, 120, 13))
def test_a_torn_mark_is_not_taken_for_another(marks, path, left):
    marks.mark(KEYS[0])
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b"+", b"-")[:-left])
    assert reopened(path) == 1
    again = Sent(path, HERE)
    again.mark(KEYS[1])
    again.close()
    assert reopened(path) == 2, "what is written behind it is read"


def test_there_may_be_no_file_yet(path):
    assert unanswered(path, {HERE}, ()) == 0
