"""The real Claude Code and Codex with our MCP server: they call a tool and read a run's result."""

import json

import pytest

import loop_runner as lr
from tests.clients.server import Call
from tests.support.service import write_models


@pytest.fixture
def project(place, monkeypatch):
    """A project whose client knows the server."""
    place.env |= write_models(place.folder / "tasks")
    for name in ("LOOP_RUNNER_CACHE", "LOOP_RUNNER_STATE"):
        monkeypatch.setenv(name, place.env[name])
    return place


def outputs(place):
    """What the tools returned, as the provider saw it."""
    return [text for text in place.provider.texts() if "verified" in text]


def the_run(place):
    (status,) = lr.list_runs(place.folder / "runs")
    return status


def test_claude_code_starts_a_run_and_reads_its_verified_answer(project, claude):
    project.loop_runner("mcp", "install", "claude", "--runs", project.folder / "runs")
    start = {"task": str(project.folder / "tasks/good/task.yaml"), "wait_s": 45}
    project.provider.replies = [Call("mcp__loop-runner__start_run", start)]
    command = [
        claude,
        "-p",
        "Use the run.",
        "--mcp-config",
        project.folder / ".mcp.json",
        "--strict-mcp-config",
    ]
    command += ["--allowedTools", "mcp__loop-runner", "--output-format", "json"]
    done = project.call(command, timeout=200)
    assert done.returncode == 0, done.stderr + done.stdout
    run = the_run(project)
    assert run.state == "verified"
    assert any(run.folder.name in text for text in outputs(project)), project.provider.texts()[-1][-3000:]

    project.provider.replies = [Call("mcp__loop-runner__run_result", {"run": run.folder.name}), "It is 42."]
    done = project.call(command, timeout=200)
    assert json.loads(done.stdout)["result"] == "It is 42."
    assert any("It is 42." in text for text in project.provider.texts()[-1:])


def test_codex_starts_a_run_and_reads_its_verified_answer(project, codex):
    project.loop_runner("mcp", "install", "codex", "--runs", project.folder / "runs")
    with (project.folder / "home/.codex/config.toml").open("a") as config:
        config.write("required = true\n")  # the script's first reply comes before Codex has started a server
    start = {"task": str(project.folder / "tasks/good/task.yaml"), "wait_s": 45}
    project.provider.replies = [Call("start_run", start, "mcp__loop_runner"), "done"]
    command = [
        codex,
        "exec",
        "--skip-git-repo-check",
        "--json",
        "--dangerously-bypass-approvals-and-sandbox",
        "-",
    ]
    done = project.call(command, stdin="Use the run.", timeout=200)
    assert done.returncode == 0, done.stderr
    run = the_run(project)
    assert run.state == "verified", done.stdout[-2000:]
    project.provider.replies = [Call("run_result", {"run": run.folder.name}, "mcp__loop_runner"), "It is 42."]
    project.call(command, stdin="Read it.", timeout=200)
    assert any("It is 42." in text for text in outputs(project))
