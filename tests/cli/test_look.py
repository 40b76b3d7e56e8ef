"""``status``, ``log`` and ``show``: what a person and a program are told about a run."""

import json
import signal

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from tests.support.commands import started, wait_for
from tests.support.model_server import Scripted
from tests.support.tasks import cell, ready, run_task, write_task


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of two passes, the second accepted, as ``runs/story``."""
    task = write_task(
        tmp_path / "task",
        root=[
            cell("x = llm_query('how much?')\nprint('found', x)\nopen('a\\nb', 'w')"),
            ready("41"),
            ready("it is 42"),
        ],
        sub=[{"contains": "how much", "reply": "42"}],
    )
    run_task(task, tmp_path / "runs" / "story")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "story"


def output_of(*args):
    result = CliRunner().invoke(main_group, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_status_names_state_place_and_answer(run):
    output = output_of("status")
    assert "runs/story" in output
    assert "verified" in output
    assert "pass 2" in output
    assert "it is 42" in output


def test_status_as_json_has_the_keys_of_a_result(run):
    (entry,) = json.loads(output_of("status", "story", "--json"))["runs"]
    assert (entry["state"], entry["pass"], entry["passes"], entry["turns"]) == ("verified", 2, 2, 3)
    assert entry["usage"]["subcalls"] == 1


def test_status_of_a_run_whose_passes_are_used_up_is_unverified(tmp_path, monkeypatch):
    task = write_task(tmp_path / "task", root=[ready("41")], budget={"passes": 1})
    run_task(task, tmp_path / "runs" / "short")
    monkeypatch.chdir(tmp_path)
    assert "unverified" in output_of("status", "short")


def test_status_of_a_run_at_work_says_how_far_its_sub_calls_are(tmp_path, model_server, monkeypatch):
    def answer(request):
        if request.system:
            return cell("llm_batch([f'question {n}' for n in range(6)])\nFINAL('42')")
        return Scripted("ok", delay_s=0 if request.last_user_text < "question 4" else 60)

    model_server.answer_with(answer)
    task = write_task(tmp_path / "task", root=[], model="anthropic:large", name="busy")
    with started("run", task, cwd=tmp_path, env=model_server.env) as command:
        wait_for(lambda: len(model_server.requests) == 7, 60)
        monkeypatch.chdir(tmp_path)

        def now():
            return json.loads(output_of("status", "busy", "--json"))["runs"][0]["now"]

        wait_for(lambda: now()["answered"] == 5, 30)
        assert (now()["out"], now()["doing"], now()["batches"]) == (2, "turn", [])
        assert "in this turn so far: 5 replies, 2 out" in output_of("status", "busy")
        command.signal(signal.SIGKILL)
        command.finish()
    assert json.loads(output_of("status", "busy", "--json"))["runs"][0]["now"] is None


def test_status_names_a_batch_that_is_waited_for(tmp_path, model_server, monkeypatch):
    model_server.batches.is_held = True
    root = [cell("llm_batch(['a', 'b', 'c'])")]
    task = write_task(tmp_path / "task", root=root, sub_model="anthropic-batch:small", name="busy")
    with started("run", task, cwd=tmp_path, env=model_server.env) as command:
        command.wait_for_line("batch msgbatch_0 of 3 requests was made", timeout_s=60)
        monkeypatch.chdir(tmp_path)
        assert "waits for a batch of 3 requests (msgbatch_0)" in output_of("status", "busy")
        command.signal(signal.SIGKILL)
        command.finish()


def test_without_runs_status_says_how_to_start_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "loop-runner run TASK.yaml" in output_of("status")


def test_log_tells_turns_before_the_pass_they_belong_to_and_why_it_was_rejected(run):
    subjects = [line[10:].strip() for line in output_of("log", "story").splitlines()]
    order = ["run: scripted", "pass 1 turn 1: ran", "pass 1 turn 2: ran, ready", "pass 1: rejected"]
    places = [next(i for i, line in enumerate(subjects) if line.startswith(subject)) for subject in order]
    assert places == sorted(places)
    assert any("Failed" in line for line in subjects[places[3] :])


def test_log_as_json_has_every_commit(run):
    commits = json.loads(output_of("log", "story", "--json"))["commits"]
    assert [commit["outcome"] for commit in commits if commit["outcome"]] == ["rejected", "accepted"]
    assert len(commits) == 6


def test_show_gives_the_question_the_answer_and_the_verdict(run):
    output = output_of("show", "story")
    assert output.index("What is the answer?") < output.index("VERIFIED") < output.index("it is 42")
    assert "accepted" in output


def test_show_of_a_pass_gives_code_output_and_what_it_was_told(run):
    output = output_of("show", "story", "1")
    assert "llm_query('how much?')" in output
    assert "found 42" in output
    assert "Turn 1, 1 sub-call" in output
    data = json.loads(output_of("show", "story", "2", "--json"))
    assert data["told"].startswith("What is the answer?")
    assert data["verdict"]["decision"] == "allow"


def test_show_of_a_pass_lists_the_files_it_changed_each_on_one_line(run):
    assert "  added    'workspace/a\\nb'\n" in output_of("show", "story", "1")
    data = json.loads(output_of("show", "story", "1", "--json"))
    assert data["changes"] == [{"kind": "added", "path": "workspace/a\nb"}]
    assert json.loads(output_of("show", "story", "2", "--json"))["changes"] == []


def test_show_of_a_pass_that_is_not_there_says_which_are(run):
    from loop_runner.errors import ConfigError

    with pytest.raises(ConfigError, match="has no pass 7"):
        CliRunner().invoke(main_group, ["show", "story", "7"], catch_exceptions=False)
