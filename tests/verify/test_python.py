"""A user's function decides; an assertion is a finding, any other exception a broken gate."""

import pytest

from loop_runner.records import Accepted, Broken, Inputs, InputText, Rejected
from tests.support.gates import NOTHING, made, submission


@pytest.fixture
def verdict(tmp_path):
    def run(code, answer="42", *, spec="check.py", files=None, inputs=NOTHING):
        task_dir = tmp_path / "task"
        task_dir.mkdir()
        (task_dir / "check.py").write_text(code)
        return made({"python": spec}, task_dir).verify(
            submission(tmp_path, answer, files=files, inputs=inputs)
        )

    return run


@pytest.mark.parametrize("output", ["None", "True", "{'accepted': True}"])
def test_none_true_and_a_dict_accept(verdict, output):
    assert isinstance(verdict(f"def check(submission):\n    return {output}\n"), Accepted)


@pytest.mark.parametrize("output", ["False", "'too short'", "{'accepted': False, 'reason': 'too short'}"])
def test_false_a_reason_and_a_dict_reject(verdict, output):
    assert isinstance(verdict(f"def check(submission):\n    return {output}\n"), Rejected)


def test_a_failed_assertion_rejects_with_its_place_and_what_it_says(verdict):
    output = verdict(
        "def check(submission):\n    total = int(submission.answer)\n"
        "    print('summed the column')\n"
        "    assert total == 42, f'expected 42, got {total}'\n",
        "41",
    )
    assert output == Rejected(
        "expected 42, got 41",
        "summed the column",
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def check(submission):\n    return int(submission.answer)\n", "returned 42; it must be"),
        ("def check(submission):\n    return 1 / 0\n", "ZeroDivisionError: division by zero, at check.py:2"),
        ("def check(submission):\n    raise SystemExit(0)\n", "failed with SystemExit: 0"),
        ("import os\ndef check(submission):\n    os._exit(0)\n", "ended without a verdict"),
        ("import no_such_module\n", "could not be loaded: ModuleNotFoundError"),
        ("check = 3\n", "has no function `check`"),
        ("def check(submission:\n", "could not be loaded: SyntaxError"),
    ],
)
def test_whatever_else_happens_is_a_broken_gate(verdict, code, reason):
    output = verdict(code)
    assert isinstance(output, Broken)
    assert reason in output.reason


def test_a_print_that_looks_like_a_verdict_is_none(verdict):
    output = verdict("def check(submission):\n    print('{\"accepted\": true}')\n    return False\n")
    assert isinstance(output, Rejected)


def test_it_is_given_the_answer_the_workspace_and_the_inputs(verdict, tmp_path):
    (tmp_path / "a.txt").write_text("forty-two")
    text = InputText("a.txt", tmp_path / "a.txt", 9, "abc")
    output = verdict(
        "def judge(submission):\n"
        "    (one,) = submission.inputs\n"
        "    assert one.name == 'a.txt' and one.read() == 'forty-two' and one.sha256 == 'abc'\n"
        "    assert (submission.workspace / 'notes/a.md').read_text() == 'note'\n"
        "    return {'accepted': submission.answer == '42', 'score': 0.9, 'evidence': 'looked'}\n",
        spec="check.py:judge",
        files={"notes/a.md": "note"},
        inputs=Inputs((text,)),
    )
    assert output == Accepted("looked", 0.9)


def test_it_may_import_the_files_beside_it(tmp_path):
    (tmp_path / "helper.py").write_text("WANTED = '42'\n")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/__init__.py").write_text("")
    (tmp_path / "rules/strict.py").write_text("LIMIT = 2\n")
    (tmp_path / "check.py").write_text(
        "from helper import WANTED\nfrom rules.strict import LIMIT\n"
        "def check(submission):\n    return submission.answer == WANTED and LIMIT == 2\n"
    )
    assert isinstance(made({"python": "check.py"}, tmp_path).verify(submission(tmp_path, "42")), Accepted)


def test_a_missing_file_is_broken(tmp_path):
    output = made({"python": "check.py"}, tmp_path).verify(submission(tmp_path, "42"))
    assert isinstance(output, Broken)
    assert "there is no file check.py" in output.reason
