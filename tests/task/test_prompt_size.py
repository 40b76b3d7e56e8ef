"""A prompt that no request could hold is refused before anything is sent, with what to do."""

import time

import pytest
import yaml

from loop_runner.errors import ConfigError
from loop_runner.runs import models
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.runs.models import prompt_fault
from loop_runner.task import config
from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, run_task, write_task

WORDS = "word after word "
HUGE = WORDS * (50_000_000 // len(WORDS))


def refused(folder, *args):
    """What the command prints; it must end with exit code 2."""
    ended = loop_runner(*args, cwd=folder)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    return " ".join(ended.stderr.split())


def prompt_of(chars):
    return (WORDS * (chars // len(WORDS) + 1))[:chars]


@pytest.mark.parametrize("way", ["prompt", "prompt_file"])
def test_a_prompt_of_50_mb_is_refused_within_seconds_and_nothing_is_created(tmp_path, way):
    task = write_task(tmp_path / "task", root=[ready("42")])
    if way == "prompt":
        task.write_text(task.read_text().replace("What is the answer?", HUGE))
    else:
        (tmp_path / "task" / "long.txt").write_text(HUGE)
        task.write_text(task.read_text().replace("prompt: What is the answer?", "prompt_file: long.txt"))
    began = time.monotonic()
    output = refused(tmp_path, "run", task, "--run-dir", tmp_path / "run")
    assert time.monotonic() - began < 5
    assert "under `inputs:`" in output
    assert "bytes" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_prompt_over_the_window_of_the_model_is_refused(tmp_path, command):
    task = write_task(tmp_path / "task", root=[ready("42")], prompt=prompt_of(600_000))
    output = refused(tmp_path, command, task)
    assert "600,000 characters" in output
    assert "script:script.yaml takes about 190,308 tokens" in output
    assert "under `inputs:`" in output


def test_a_prompt_just_below_the_window_runs(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")], prompt=prompt_of(560_000))
    assert run_task(task, tmp_path / "run").status == "verified"


def task_with(folder, model, chars):
    return config.parse_task(
        yaml.safe_dump({"name": "a", "prompt": "p", "verifiers": [{"contains": "x"}]}),
        label="t",
        base_dir=folder,
        overrides=[("prompt", prompt_of(chars)), *([("model", model)] if model else [])],
    )


@pytest.mark.parametrize(
    ("model", "chars", "is_refused"),
    [
        ("local:coder", 18_000, False),
        ("local:coder", 40_000, True),
        ("anthropic:claude-sonnet-4-6", 5_000_000, False),  # may fit: the provider can count
        ("anthropic:claude-sonnet-4-6", 6_100_000, True),
        ("anthropic:claude-old", 1_300_000, True),
        ("openai:gpt-4o", 350_000, False),
        ("openai:gpt-4o", 800_000, True),
        ("openai:own-model", 150_000, True),
        (None, 5_000_000, False),  # a user's agent: its limit is not known
    ],
)
def test_what_certainly_does_not_fit_the_window_is_refused_without_a_request(
    tmp_path, model, chars, is_refused
):
    assert bool(prompt_fault(task_with(tmp_path, model, chars), None)) is is_refused


@pytest.mark.parametrize(("counted", "is_refused"), [(None, True), (150_000, False), (199_000, True)])
def test_between_the_guesses_the_providers_count_decides(tmp_path, monkeypatch, counted, is_refused):
    monkeypatch.setattr(models, "count_tokens", lambda *_: counted)
    fault = prompt_fault(task_with(tmp_path, "anthropic:claude-old", 600_000), {})
    assert bool(fault) is is_refused
    assert counted is None or fault is None or "199,000 tokens" in fault.message


def test_a_question_over_the_window_says_how_to_ask_about_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("The answer is 42.\n")
    output = refused(tmp_path, "ask", prompt_of(60_000), "notes.txt", "--model", "local:coder")
    assert "loop-runner ask 'QUESTION' FILE" in output
    with pytest.raises(ConfigError, match="at most 8,388,608") as caught:
        config.parse_task(
            "{}",
            label="ask",
            base_dir=tmp_path,
            overrides=[("name", "a"), ("type", "ask"), ("prompt", prompt_of(9_000_000))],
        )
    assert "ask 'QUESTION' FILE" in caught.value.hint


@pytest.mark.parametrize("chars", [1_300_000, 9_000_000])
def test_a_fork_with_a_prompt_file_over_the_window_is_refused(tmp_path, chars):
    task = write_task(tmp_path / "task", root=[cell("x = 1"), ready("42")])
    run_task(task, tmp_path / "run")
    (tmp_path / "long.txt").write_text(prompt_of(chars))
    output = refused(tmp_path, "fork", f"{tmp_path / 'run'}@1.1", "new", "--prompt", tmp_path / "long.txt")
    assert "under `inputs:`" in output


def test_a_prompt_over_the_window_of_another_model_is_refused_by_resume(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")], prompt=prompt_of(500_000), budget={"passes": 1})
    run_task(task, tmp_path / "run")
    context = RunContext({"OPENAI_API_KEY": "k"})
    with pytest.raises(ConfigError, match="openai:gpt-4o takes"):
        runs.resume(tmp_path / "run", context, (("model", "openai:gpt-4o"), ("budget.passes", 2)))
