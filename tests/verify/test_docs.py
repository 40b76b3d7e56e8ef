"""``docs/verifiers.md`` shows what really happens: its blocks are built, run and compared."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from loop_runner.inputs import load
from loop_runner.records import Accepted, Block, Rejected
from loop_runner.verify import Submission, build, short_answer
from loop_runner.verify.agreement import Agreement
from loop_runner.verify.answer_text import Regex
from loop_runner.verify.built_in import KINDS
from loop_runner.verify.citations import Citations
from loop_runner.verify.command import Command
from loop_runner.verify.judge import Judge
from loop_runner.verify.python import Python
from loop_runner.verify.schema import Schema
from loop_runner.verify.stable import Stable
from loop_runner.verify.stop_hook import StopHook
from tests.support.gates import built, stop_hook

TEXT = (Path(__file__).parents[2] / "docs" / "verifiers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
YAML = [body for tag, body in BLOCKS if tag == "yaml"]
SHOWN = [body for tag, body in BLOCKS if tag == "text"]
(CHECKER,) = (body for tag, body in BLOCKS if tag == "python")
(FUNCTION,) = (body for tag, body in BLOCKS if tag == "py")


@pytest.fixture
def submit(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "functools.py").write_text(
        "import abc\n\ndef lru_cache(maxsize=128, typed=False):\n    pass\n"
    )
    (tmp_path / "check.py").write_text("raise SystemExit(0)\n")
    checkout = tmp_path / "checkout"
    (checkout / "workspace").mkdir(parents=True)
    (checkout / "answer.md").write_text("")
    inputs = load(["lib/functools.py"], tmp_path)
    return lambda answer: Submission(answer, checkout, inputs)


@pytest.mark.parametrize("block", YAML)
def test_every_task_shown_can_be_built(block, tmp_path):
    (tmp_path / "expected.json").write_text("{}")
    assert build(yaml.safe_load(block)["verifiers"], tmp_path)


def test_every_kind_and_every_setting_is_described():
    for kind in KINDS:
        assert f"\n## {kind}\n" in TEXT
    for key in (*Citations.KEYS, *Regex.KEYS, *Command.KEYS, *Judge.KEYS):
        assert f"| `{key}` |" in TEXT
    for key in (*Python.KEYS, *Schema.KEYS, *Agreement.KEYS, *Stable.KEYS):
        assert f"`{key}" in TEXT or f"{key}: " in TEXT


def test_the_answer_shown_is_accepted(submit, tmp_path):
    (verifier,) = build([{"citations": {"answer_in_quote": True}}], tmp_path)
    assert isinstance(verifier.verify(submit(SHOWN[0])), Accepted)
    assert short_answer(SHOWN[0]) == "128"


def test_the_rejection_shown_is_what_is_said(submit, tmp_path):
    hook = StopHook(build(["citations"], tmp_path))
    decision = hook.decide(submit("128\n> functools.py:1: def lru_cache(maxsize=128, typed=False):"))
    assert isinstance(decision, Block)
    assert decision.reason.strip() == SHOWN[1].strip()


def test_the_feedback_shown_is_what_is_said(submit, tmp_path):
    hook = stop_hook(yaml.safe_load(YAML[0])["verifiers"], tmp_path)
    decision = hook.decide(submit("The default is 129."))
    assert isinstance(decision, Block)
    assert decision.reason.strip() == SHOWN[2].strip()


def test_the_checker_shown_works(submit, tmp_path):
    (tmp_path / "planets.py").write_text(CHECKER)
    (verifier,) = built([{"command": [sys.executable, "planets.py"]}], tmp_path)
    assert verifier.verify(submit("Mercury to Neptune")) == Accepted("looked for Mercury and Neptune", 1.0)
    output = verifier.verify(submit("Mercury"))
    assert output == Rejected("missing: Neptune", "looked for Mercury and Neptune", 0.5)


def test_the_function_shown_works(submit, tmp_path):
    (tmp_path / "check.py").write_text(FUNCTION)
    (tmp_path / "checkout/answer.md").write_text("40\n2")
    (verifier,) = built([{"python": "check.py"}], tmp_path)
    assert verifier.verify(submit("40\n2")) == Accepted()
    (tmp_path / "checkout/answer.md").write_text("40\n1")
    output = verifier.verify(submit("40\n1"))
    assert isinstance(output, Rejected)
    assert output.reason == "expected the lines to sum to 42, got 41"
