"""The model sees what a checker prints or returns, as far as the task allows, and never its source."""

import json

import pytest

from loop_runner.errors import HookError, VerifierError
from loop_runner.records import Block, Rejected
from loop_runner.verify import Means, build, external_hook
from tests.support.gates import stop_hook, submission

KEY = "4711"
LEAKY = [
    f"def check(s):\n    total = 1\n    assert total == {KEY}\n",
    f"def check(s):\n    assert s.answer == '{KEY}'  # the right answer\n",
    f"KEY = '{KEY}'\ndef check(s):\n    return s.answer == KEY\n",
    f"def inner(s):\n    assert {{'a': {KEY}}} == s\ndef check(s):\n    inner(s.answer)\n",
    f"def check(s):\n    if s.answer != '{KEY}':\n        return False\n",
    f"import subprocess\ndef check(s):\n    subprocess.run(['false'], check=True)  # {KEY}\n",
]


def reason(tmp_path, spec, code="", answer="41"):
    (tmp_path / "check.py").write_text(code)
    decision = stop_hook([spec], tmp_path).decide(submission(tmp_path, answer))
    assert isinstance(decision, Block), decision
    verdicts = [report.verdict for report in decision.reports]
    return decision.reason + json.dumps([getattr(verdict, "reason", "") for verdict in verdicts])


@pytest.mark.parametrize("code", LEAKY)
@pytest.mark.parametrize("evidence", [None, "message", "none"])
def test_a_python_check_does_not_show_its_source(tmp_path, code, evidence):
    settings = {"file": "check.py"} | ({"evidence": evidence} if evidence else {})
    assert KEY not in reason(tmp_path, {"python": settings}, code)


@pytest.mark.parametrize("code", LEAKY[:2])
def test_full_evidence_shows_the_failed_line(tmp_path, code):
    assert KEY in reason(tmp_path, {"python": {"file": "check.py", "evidence": "full"}}, code)
    assert KEY in reason(tmp_path, {"python": "check.py", "evidence": "full"}, code)


def test_what_a_check_prints_and_returns_is_its_message(tmp_path):
    code = "def check(s):\n    print('looked at 3 lines')\n    assert False, 'too short'\n"
    shown = reason(tmp_path, {"python": "check.py"}, code)
    assert "too short" in shown
    assert "looked at 3 lines" in shown
    hidden = reason(tmp_path, {"python": "check.py", "evidence": "none"}, code)
    assert "too short" not in hidden
    assert "looked at" not in hidden


OTHERS = [
    {"command": ["sh", "-c", f"echo {KEY}; exit 1"]},
    {"command": {"run": ["sh", "-c", f"echo {KEY}; exit 1"]}},
    {"regex": f"^{KEY}$"},
    {"contains": KEY},
    {"schema": {"type": "integer", "minimum": int(KEY)}},
]


@pytest.mark.parametrize("spec", OTHERS)
def test_every_gate_can_hide_what_it_found(tmp_path, spec):
    named = {**spec, "name": "gate"}
    assert KEY in reason(tmp_path, named)
    assert KEY not in reason(tmp_path, {**named, "evidence": "none"})


@pytest.mark.parametrize("spec", OTHERS[:2])
def test_message_leaves_out_what_a_command_prints(tmp_path, spec):
    shown = reason(tmp_path, {**spec, "name": "gate", "evidence": "message"})
    assert KEY not in shown
    assert "exit code 1" in shown


@pytest.mark.parametrize("group", ["all", "any"])
def test_a_member_of_a_group_hides_it_too(tmp_path, group):
    member = {"command": ["sh", "-c", f"echo {KEY}; exit 1"], "name": "gate", "evidence": "none"}
    assert KEY not in reason(tmp_path, {group: [member]})


def test_a_setting_inside_a_kind_counts_as_one_beside_it(tmp_path):
    spec = {"command": {"run": ["sh", "-c", f"echo {KEY}; exit 1"], "evidence": "none"}, "name": "gate"}
    assert KEY not in reason(tmp_path, spec)


def test_a_stop_hook_can_hide_its_reason(tmp_path):
    code = f"echo {KEY}; exit 2"
    for evidence, is_shown in (("full", True), ("none", False)):
        (hook,) = external_hook.build(
            [{"command": ["sh", "-c", code], "name": "gate", "evidence": evidence}], tmp_path
        )
        verdict = hook.verify(submission(tmp_path, "41"), Means())
        assert isinstance(verdict, Rejected)
        assert (KEY in verdict.reason) is is_shown


@pytest.mark.parametrize("value", ["some", "", None, True, 3])
def test_another_value_is_refused(tmp_path, value):
    for spec in ({"command": ["true"], "evidence": value}, {"python": {"file": "c.py", "evidence": value}}):
        with pytest.raises(VerifierError, match="evidence"):
            build([spec], tmp_path)
    with pytest.raises(HookError):
        external_hook.build([{"command": ["true"], "evidence": value}], tmp_path)
