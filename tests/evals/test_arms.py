"""The arms: what each shows the model, and what it makes of the reply or of a failure."""

import os
import subprocess
import sys

import pytest
import yaml

from evals.arms import ARMS, bm25, peers
from evals.arms.arm import Setup
from evals.families import FAMILIES
from evals.questions import Key, Question
from tests.support.tasks import ready


def question_about(texts, text="Which port does the host db listen on?"):
    return Question("needles", 0, 100, text, texts, Key("number", ("8080",)))


@pytest.mark.parametrize("arm", ["direct", "bm25"])
def test_a_call_shows_the_texts_and_the_question_and_never_the_key(served, tmp_path, arm):
    question = FAMILIES["traps"](0, 3000)
    attempt = ARMS[arm](Setup("x", served.endpoint, 10)).answer(question, tmp_path)
    assert (attempt.answer, attempt.verified, attempt.tokens_out, attempt.error) == ("42", None, 3, "")
    (prompt,) = served.prompts
    assert question.text in prompt
    assert "=== records.txt" in prompt
    assert "Key(" not in prompt


def test_the_direct_call_cuts_the_texts_to_the_window_and_again_when_they_are_too_long(served, tmp_path):
    served.answer = lambda prompt: (400, "exceeds the context") if len(prompt) > 8000 else (200, "8080")
    attempt = ARMS["direct"](Setup("x", served.endpoint, 10)).answer(
        question_about({"a.txt": "word " * 9000}), tmp_path
    )
    assert attempt.answer == "8080"
    lengths = [len(prompt) for prompt in served.prompts]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] < 4096 * 4


@pytest.mark.parametrize("arm", ["direct", "bm25"])
@pytest.mark.parametrize(
    ("status", "text"), [(500, "out of memory"), (401, "wrong key"), (400, "exceeds the context")]
)
def test_a_call_that_fails_is_an_attempt_without_an_answer(served, tmp_path, arm, status, text):
    served.answer = lambda prompt: (status, text)
    attempt = ARMS[arm](Setup("x", served.endpoint, 10)).answer(question_about({"a.txt": "x\n"}), tmp_path)
    assert attempt.answer == ""
    assert attempt.error


def test_bm25_finds_the_passage_of_a_needle_in_a_long_text():
    question = FAMILIES["needles"](2, 200_000)
    pieces = bm25.best(question.text, list(bm25.passages(question.texts)), 6000)
    shown = "\n".join(piece.text for piece in pieces)
    assert f" is {question.key.accepted[0]} " in shown
    assert len(shown) < 6500


def test_passages_hold_every_line_once_with_its_number():
    texts = {"a.txt": "\n".join(f"line {number} " + "x" * (number % 90) for number in range(1, 200)), "b": ""}
    lines = []
    for piece in bm25.passages(texts):
        for offset, line in enumerate(piece.text.split("\n")):
            if line:
                lines.append(line)
                assert line.startswith(f"line {piece.line + offset} ")
    assert lines == texts["a.txt"].split("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_size", ["max", "size"]),
        ("maxSize 3", ["max", "size", "3"]),
        ("HTTPError", ["httperror"]),
        ("", []),
    ],
)
def test_words_of_names_are_words(text, expected):
    assert bm25.words(text) == expected


def test_a_rare_word_weighs_more_than_a_frequent_one():
    pieces = [bm25.Passage("a", number, "the pump is here") for number in range(20)]
    pieces.append(bm25.Passage("a", 20, "the kiln is there"))
    assert [piece.line for piece in bm25.best("the kiln", pieces, 17)] == [20]


@pytest.fixture
def script(tmp_path):
    def write(*answers):
        path = tmp_path / "script.yaml"
        path.write_text(yaml.safe_dump({"root": [ready(answer) for answer in answers]}))
        return f"script:{path}"

    return write


@pytest.mark.slow
def test_the_loop_returns_what_its_gates_accepted(script, tmp_path):
    question = question_about({"notes.txt": "The port is 8080.\nThe host is db.\n"})
    wrong = "9090\n\n> notes.txt:1: The port is 9090."
    right = "8080\n\n> notes.txt:1: The port is 8080."
    model = script(wrong, right, right)
    (tmp_path / "loop").mkdir()
    attempt = ARMS["loop"](Setup(model, None, 60)).answer(question, tmp_path / "loop")
    assert attempt.verified is True
    assert attempt.answer.startswith("8080")
    assert attempt.passes == 2
    assert attempt.tokens_in > 0
    (tmp_path / "pass").mkdir()
    once = ARMS["pass"](Setup(model, None, 60)).answer(question, tmp_path / "pass")
    assert (once.verified, once.passes) == (False, 1)
    assert once.error.startswith("unverified")


def test_a_run_that_cannot_begin_is_an_attempt_without_an_answer(tmp_path):
    attempt = ARMS["loop"](Setup("script:missing.yaml", None, 60)).answer(
        question_about({"a": "x\n"}), tmp_path
    )
    assert (attempt.answer, attempt.verified) == ("", False)
    assert "missing.yaml" in attempt.error


def test_an_arm_without_its_package_says_what_is_missing(served, monkeypatch, tmp_path):
    monkeypatch.setenv("EVALS_PEERS", str(tmp_path / "python"))
    peers.version_of.cache_clear()
    for name in ("rlms", "dspy"):
        assert "is not installed" in ARMS[name](Setup("x", served.endpoint, 10)).missing()
        assert ARMS[name](Setup("x", None, 10)).missing() == "no endpoint for the model"
    peers.version_of.cache_clear()


def _peer(tmp_path, monkeypatch, code):
    """A Python that runs ``code`` in the place of the packages' program."""
    program = tmp_path / "program.py"
    program.write_text(code)
    monkeypatch.setattr(peers, "_PROGRAM", program)
    monkeypatch.setenv("EVALS_PEERS", sys.executable)


def test_a_package_answers_with_the_last_line_that_its_process_prints(served, tmp_path, monkeypatch):
    code = """
import json, sys
request = json.load(sys.stdin)
print("noise")
print(json.dumps({"answer": request["texts"]["a"]}))
"""
    _peer(tmp_path, monkeypatch, code)
    attempt = ARMS["rlms"](Setup("x", served.endpoint, 30)).answer(question_about({"a": "8080"}), tmp_path)
    assert (attempt.answer, attempt.verified) == ("8080", None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no memory')", "ended with 1: no memory"),
        ("print('noise')", "ended with 0"),
        ("print('{\"what\": 1}')", "ended with 0"),
        ("import time; time.sleep(60)", "no answer within"),
    ],
)
def test_a_package_that_fails_is_an_attempt_without_an_answer(served, tmp_path, monkeypatch, code, words):
    _peer(tmp_path, monkeypatch, code)
    limit = 0.5 if "sleep" in code else 30
    attempt = ARMS["dspy"](Setup("x", served.endpoint, limit)).answer(question_about({"a": "8080"}), tmp_path)
    assert attempt.answer == ""
    assert words in attempt.error


@pytest.mark.slow
@pytest.mark.skipif(not peers.python().exists(), reason="make eval-quick installs the packages")
@pytest.mark.parametrize("name", ["rlms", "dspy"])
def test_a_real_package_reaches_the_endpoint_and_its_answer_comes_back(served, tmp_path, name):
    def answer(prompt):
        if name == "rlms":
            return 200, "```repl\nanswer['content'] = str(len(context))\nanswer['ready'] = True\n```"
        code = "```python\nSUBMIT(answer=str(len(context)))\n```"
        return 200, f"[[ ## reasoning ## ]]\nx\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"

    served.answer = answer
    os.environ.pop("EVALS_PEERS", None)
    peers.version_of.cache_clear()
    attempt = ARMS[name](Setup("x", served.endpoint, 100)).answer(
        question_about({"a.txt": "x" * 100}), tmp_path
    )
    assert attempt.answer == str(len("=== a.txt ===\n") + 100), attempt
    assert attempt.tokens_out >= 3


def test_the_program_for_the_packages_needs_only_the_standard_library_to_start():
    ended = subprocess.run(
        [sys.executable, "-I", "-S", peers._PROGRAM],
        input='{"package": "rlms"}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModuleNotFoundError" in ended.stdout
