"""What is recorded of an attempt, what is asked again, and what the command refuses."""

import json

import pytest

from evals import __main__ as command
from evals import runner
from evals.arms.arm import Attempt
from evals.families import FAMILIES


class Fixed:
    """An arm that always answers the same."""

    def __init__(self, attempt=None, version="1"):
        self.attempt = attempt or Attempt("42", verified=True, tokens_in=5, tokens_out=2)
        self.kept_version = version
        self.questions = []

    def missing(self):
        return ""

    def version(self):
        return self.kept_version

    def answer(self, question, folder):
        self.questions.append(question.id)
        return self.attempt


def measured(path, arm, *, seeds=(0, 2), families=("needles",), **keys):
    questions = runner.questions(families, seeds, [3000])
    runner.measure({"loop": arm}, "m", questions, path, show=lambda _: None, **keys)
    return runner.read(path)


def test_each_attempt_is_a_line_that_is_read_back(tmp_path):
    rows = measured(tmp_path / "a.jsonl", Fixed())
    assert [(row.seed, row.verified, row.tokens_in, row.half) for row in rows] == [
        (0, True, 5, "tuning"),
        (2, True, 5, "tuning"),
    ]
    assert rows[0].is_right is (FAMILIES["needles"](0, 3000).key.accepted == ("42",))


def test_a_stopped_measurement_continues_where_it_was(tmp_path):
    arm = Fixed()
    measured(tmp_path / "a.jsonl", arm, seeds=[0])
    measured(tmp_path / "a.jsonl", arm, seeds=[0, 2])
    assert arm.questions == ["needles-0-3000", "needles-2-3000"]


def test_another_version_of_the_code_is_asked_again(tmp_path):
    measured(tmp_path / "a.jsonl", Fixed(version="1"))
    assert len(measured(tmp_path / "a.jsonl", Fixed(version="2"))) == 4


def test_no_attempt_begins_when_the_time_is_over(tmp_path):
    assert measured(tmp_path / "a.jsonl", Fixed(), end=0.0) == []


def test_a_family_without_its_texts_is_skipped_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALS_WORDNET", str(tmp_path))
    items = list(runner.questions(["glosses", "needles"], [0, 2], [3000]))
    assert [isinstance(item, str) for item in items] == [True, False, False]
    assert "skipped" in str(items[0])


@pytest.mark.parametrize(
    ("attempt", "is_right"),
    [
        (Attempt("7", verified=False, error="unverified: the budget is spent"), True),
        (Attempt("not in the texts", verified=False), True),
        (Attempt("not in the texts", verified=None), True),
        (Attempt("7", verified=True), False),
        (Attempt("7", verified=None), False),
        (Attempt("", verified=None, error="HTTP 500"), False),
        (Attempt("", verified=False, error="ModelError: no memory"), False),
    ],
)
def test_a_question_without_an_answer_is_right_when_it_ends_unverified_or_says_so(
    tmp_path, attempt, is_right
):
    (row,) = measured(tmp_path / "a.jsonl", Fixed(attempt), seeds=[0], families=["unanswerable"])
    assert row.is_right is is_right


@pytest.mark.parametrize("verified", [False, None])
def test_an_unverified_answer_to_a_question_that_has_one_is_graded_by_its_value(tmp_path, verified):
    attempt = Attempt("wrong", verified=verified, error="unverified: spent")
    (row,) = measured(tmp_path / "a.jsonl", Fixed(attempt), seeds=[0])
    assert not row.is_right


def test_unknown_fields_of_a_recorded_attempt_are_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    measured(path, Fixed(), seeds=[0])
    line = json.loads(path.read_text()) | {"added_later": 1}
    path.write_text(json.dumps(line) + "\n\n")
    assert len(runner.read(path)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--half", "unseen"], "--final"),
        (["show", "needles", "1"], "--final"),
        (["run", "--model", "local:none", "--arms", "direct"], "models fetch"),
        (["run", "--model", "nowhere:x", "--arms", "bm25"], "have an endpoint"),
    ],
)
def test_the_command_refuses_what_cannot_work_and_says_why(capsys, tmp_path, arguments, words):
    rest = ["--results", str(tmp_path / "results.jsonl")] if arguments[0] == "run" else []
    assert command.main([*arguments, *rest]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run", "--arms", "magic"], ["run", "--sizes", "huge"], ["dance"]])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(capsys, arguments):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "10kB" in (error := capsys.readouterr().err) or "direct" in error or "run" in error


def test_a_question_of_the_tuning_half_can_be_looked_at(capsys):
    assert command.main(["show", "needles", "2", "--size", "10kB"]) == 0
    assert FAMILIES["needles"](2, 10_000).text in capsys.readouterr().out
