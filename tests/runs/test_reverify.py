"""A proof holds for anybody with a clone: the same verifiers say the same, and a forgery is noticed."""

import json
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from loop_runner.errors import ConfigError
from loop_runner.runs.context import RunContext
from loop_runner.runs.reverify import exit_code, verify_run
from tests.support.tasks import ready, run_task, write_task

AROUND = RunContext({})
CHECK = "def check(submission):\n    print('looked')\n    assert submission.answer.startswith('42')\n"


def git(folder, *args):
    settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *settings, "-C", folder, *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def run_folder(tmp_path):
    task = tmp_path / "task"
    task.mkdir()
    (task / "check.py").write_text(CHECK)
    (task / "rubric.md").write_text("It is 42.")
    file = write_task(
        task,
        root=[ready("41"), ready("42\n> notes.txt:1: The answer is 42.")],
        verifiers=[{"python": "check.py"}, "citations", {"judge": "rubric.md"}],
    )
    script = task / "script.yaml"
    vote = json.dumps({"verdict": "accept", "score": 1})
    script.write_text(script.read_text() + f"judge:\n- reply: {vote!r}\n")
    assert run_task(file, tmp_path / "run").status == "verified"
    return tmp_path / "run"


@pytest.fixture
def clone(run_folder, tmp_path):
    """A plain clone; the run folder and what the verifiers are made of are gone."""
    git(tmp_path, "clone", "-q", "run", "clone")
    shutil.rmtree(run_folder)
    (tmp_path / "task/check.py").unlink()
    (tmp_path / "task/rubric.md").unlink()
    return tmp_path / "clone"


def statuses(result):
    return {gate.verifier: gate.status for gate in result.gates}


def test_the_proof_names_what_was_proven_and_holds_no_clock_and_no_path_of_the_run(run_folder):
    proof = json.loads((run_folder / "proof.json").read_text())
    assert proof["pass"] == 2
    assert proof["tree"] == git(run_folder, "rev-parse", "HEAD^2^{tree}")
    assert [gate["verdict"] for gate in proof["gates"]] == ["accepted"] * 3
    record = proof["gates"][0]["record"]
    assert set(record["programs"]) == {"check.py"}
    assert record["exit_code"] == 0
    assert set(proof["versions"]) == {"loop-runner", "python"}
    assert "loop-runner-tmp-gate" not in json.dumps(proof)
    assert git(run_folder, "log", "--format=%s", "-1", "--", "proof.json") == "pass 2: accepted"


def test_two_runs_that_did_the_same_have_the_same_tree_proof_included(run_folder, tmp_path):
    task = tmp_path / "task/task.yaml"
    assert run_task(task, tmp_path / "again").status == "verified"
    trees = {git(folder, "rev-parse", "HEAD^{tree}") for folder in (run_folder, tmp_path / "again")}
    assert len(trees) == 1


def test_a_clone_without_the_task_says_the_same_and_asks_nobody(clone):
    result = verify_run(clone, AROUND)
    assert (result.status, exit_code(result), result.requests, result.faults) == ("same", 0, 0, ())
    assert set(statuses(result).values()) == {"same"}
    assert result.gates[0].is_output_same is True
    assert git(clone, "status", "--porcelain") == ""


def test_inputs_that_are_elsewhere_are_found_by_task_dir_and_missed_without(clone, tmp_path):
    shutil.move(tmp_path / "task", tmp_path / "moved")
    missed = verify_run(clone, AROUND)
    assert (statuses(missed)["citations"], exit_code(missed)) == ("broken", 4)
    result = verify_run(clone, AROUND, task_dir=tmp_path / "moved")
    assert exit_code(result) == 0


def test_jurors_are_asked_anew_only_on_request(clone):
    result = verify_run(clone, AROUND, ask_again=True)
    assert (exit_code(result), result.requests) == (0, 1)


def test_an_answer_that_somebody_changed_and_committed_is_different(clone):
    (clone / "answer.md").write_text("42, trust me")
    git(clone, "commit", "-qam", "better")
    result = verify_run(clone, AROUND)
    assert (result.status, exit_code(result)) == ("different", 3)
    assert result.faults == ("answer.md is not what was proven",)
    assert statuses(result)["citations"] == "different"
    assert exit_code(verify_run(clone, AROUND, at="HEAD^")) == 0


def test_a_weakened_check_is_different_even_where_it_is_pinned_anew(clone):
    import hashlib

    weak = b"def check(submission):\n    return True\n"
    index = json.loads((clone / "gates/pins.json").read_text())
    entry = next(item for item in index["programs"] if item["place"] == "task/check.py")
    entry |= {"sha256": hashlib.sha256(weak).hexdigest(), "size": len(weak)}
    (clone / "gates/files/task/check.py").write_bytes(weak)
    (clone / "gates/pins.json").write_text(json.dumps(index))
    git(clone, "commit", "-qam", "weaker")
    result = verify_run(clone, AROUND)
    assert any("check.py" in fault for fault in result.faults)
    assert exit_code(result) == 3


def test_a_rejected_pass_is_compared_with_its_verdict_and_is_never_verified(clone):
    first = git(clone, "log", "--format=%H", "--grep=^pass 1: rejected")
    result = verify_run(clone, AROUND, at=first)
    assert (result.pass_number, result.has_proof, result.status) == (1, False, "same")
    assert (result.is_accepted, exit_code(result)) == (False, 3)


def test_a_commit_that_is_none_and_a_run_without_a_pass_are_refused(clone):
    with pytest.raises(ConfigError, match="has no commit 'nonsense'"):
        verify_run(clone, AROUND, at="nonsense")
    with pytest.raises(Exception, match="no pass was finished"):
        verify_run(clone, AROUND, at=git(clone, "rev-list", "--max-parents=0", "HEAD"))


def test_the_command_says_for_each_verifier_whether_it_is_the_same(clone):
    output = CliRunner().invoke(main_group, ["verify", str(clone)], standalone_mode=False)
    assert output.return_value == 0
    assert "same       python check.py:check: accepted, same output" in output.output
    assert "VERIFIED again" in output.output


def test_the_command_speaks_json(clone):
    (clone / "answer.md").write_text("41")
    git(clone, "commit", "-qam", "worse")
    output = CliRunner().invoke(main_group, ["verify", str(clone), "--json"], standalone_mode=False)
    data = json.loads(output.output)
    assert (data["status"], data["verified"], output.return_value) == ("different", False, 3)
    assert {gate["verifier"]: gate["status"] for gate in data["verifiers"]}[
        "python check.py:check"
    ] == "different"
