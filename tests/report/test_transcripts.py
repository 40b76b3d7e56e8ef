"""Transcripts for other tools: whole, valid, and in the formats that they read."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import loop_runner as lr
from loop_runner.cli import main_group
from loop_runner.report import transcripts
from tests.report.test_report import ANSWER, ATTACKS, make_run

# A Python with `inspect-ai`, which needs other versions than the lock file's: `make test-inspect`.
INSPECT = os.environ.get("INSPECT_PYTHON", "")
READ = """
import json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(sys.argv[1])
print(json.dumps({
    "status": log.status, "task": log.eval.task, "epochs": [sample.epoch for sample in log.samples],
    "scores": [sample.scores["verifiers"].value for sample in log.samples],
    "answer": log.samples[-1].output.completion, "roles": [m.role for m in log.samples[0].messages],
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    attack = " ".join(ATTACKS)
    return make_run(tmp_path_factory.mktemp("export") / "scene", answers=[attack, ANSWER], attack=attack)


def exported(run, kind, *more):
    result = CliRunner().invoke(main_group, ["export", str(run), "--format", kind, *map(str, more)])
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def test_json_lines_hold_the_run_each_turn_and_each_pass(run):
    rows = [json.loads(line) for line in exported(run, "jsonl").splitlines()]
    assert [row["kind"] for row in rows] == ["run", "turn", "pass", "turn", "pass"]
    assert rows[0]["answer"] == ANSWER
    assert rows[1]["output"] == f"saw {' '.join(ATTACKS)}\n"
    assert [row["outcome"] for row in rows if row["kind"] == "pass"] == ["rejected", "accepted"]


def test_chat_messages_take_turns_and_begin_with_the_prompt(run):
    rows = [json.loads(line) for line in exported(run, "openai").splitlines()]
    assert [row["metadata"]["pass"] for row in rows] == [1, 2]
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"]
        assert all(isinstance(message["content"], str) for message in row["messages"])


def test_long_texts_are_whole(tmp_path):
    long = "a long line of an answer\n" * 5000
    made = make_run(tmp_path / "scene", answers=[long], accepted=False)
    rows = [json.loads(line) for line in exported(made, "jsonl").splitlines()]
    assert rows[-1]["answer"] == long


@pytest.mark.parametrize("kind", sorted(transcripts.FORMATS))
def test_a_transcript_goes_into_a_file_and_is_the_same_each_time(run, tmp_path, kind):
    exported(run, kind, "-o", tmp_path / "a.json")
    exported(run, kind, "-o", tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes() != b""


@pytest.mark.parametrize("kind", sorted(transcripts.FORMATS))
def test_no_secret_of_the_environment_is_in_a_transcript(run, kind, monkeypatch):
    from loop_runner import redaction

    monkeypatch.setattr(redaction, "_known", redaction._Known())
    redaction.learn({"PORT_TOKEN": "The port is 8080."})
    assert "The port is 8080." not in transcripts.FORMATS[kind](lr.open(run).record())


@pytest.mark.parametrize("more", [["--branch", "x"], ["--to", "."]])
def test_options_of_a_branch_are_refused_with_a_format(run, more):
    result = CliRunner().invoke(main_group, ["export", str(run), "--format", "jsonl", *more])
    assert result.exit_code == 2


def test_a_file_without_a_format_is_refused(run):
    assert CliRunner().invoke(main_group, ["export", str(run), "-o", "x"]).exit_code == 2


@pytest.mark.skipif(
    not INSPECT, reason="INSPECT_PYTHON names no Python with inspect-ai (`make test-inspect`)"
)
@pytest.mark.slow
def test_the_log_opens_in_inspect(run, tmp_path):
    exported(run, "inspect", "-o", tmp_path)
    (log,) = tmp_path.iterdir()
    done = subprocess.run([INSPECT, "-c", READ, str(log)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "status": "success",
        "task": "port",
        "epochs": [1, 2],
        "scores": ["I", "C"],
        "answer": ANSWER,
        "roles": ["user", "assistant"],
    }
    listed = subprocess.run(
        [str(Path(INSPECT).with_name("inspect")), "log", "list", "--json", "--log-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert log.name in listed.stdout
