"""Verifiers on the command line, a question that continues a run, and an agent in one line."""

import json
import subprocess

import pytest
import yaml

from loop_runner.agents import clients
from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task

PORT = 'The port is 8080.\n\nSources:\n- notes.txt:1 "The port is 8080."'
HOST = 'The host is db.\n\nSources:\n- notes.txt:2 "The host is db."'


@pytest.fixture
def folder(tmp_path):
    texts = {"notes.txt": "The port is 8080.\nThe host is db.\n"}
    write_task(tmp_path, root=[ready(PORT), ready(HOST)], texts=texts)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (tmp_path / "check.py").write_text("def check(submission):\n    return '8080' in submission.answer\n")
    return tmp_path


def verifiers_of(run):
    return yaml.safe_load((run / "task.yaml").read_text())["verifiers"]


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["--verify", "grep -q 8080 answer.md"], ["command"]),
        (["--verify", "true", "--verify", "test -s answer.md"], ["command", "command"]),
        (["--verify-python", "check.py"], ["python"]),
        (["--min-citations", "1"], ["citations"]),
        (["--verify", "true", "--min-citations", "1"], ["command", "citations"]),
        ([], ["citations"]),
    ],
)
def test_ask_takes_its_verifiers_from_the_command_line(folder, options, kinds):
    done = loop_runner(
        "ask", "Which port?", "notes.txt", "--model", "script:script.yaml", *options, "--json", cwd=folder
    )
    assert json.loads(done.stdout)["status"] == "verified", done.stderr
    assert [next(iter(spec)) for spec in verifiers_of(folder / "runs/which-port")] == kinds


def test_a_schema_on_the_command_line_rejects_what_is_no_json(folder):
    options = ["--schema", "schema.json", "--passes", "1", "--json"]
    done = loop_runner("ask", "Which?", "notes.txt", "--model", "script:script.yaml", *options, cwd=folder)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (3, "unverified")


def test_run_adds_them_to_those_of_the_task_file(folder):
    task = yaml.safe_load((folder / "task.yaml").read_text())
    (folder / "task.yaml").write_text(yaml.safe_dump({**task, "verifiers": [{"contains": "8080"}]}))
    done = loop_runner("run", "task.yaml", "--verify", "grep -q port answer.md", "--run-dir", "r", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [next(iter(spec)) for spec in verifiers_of(folder / "r")] == ["contains", "command"]


def test_a_question_continues_a_run_in_a_new_one(folder):
    loop_runner("ask", "Which port?", "notes.txt", "--model", "script:script.yaml", cwd=folder)
    done = loop_runner("ask", "--continue", "which-port", "And the host?", "--json", cwd=folder)
    result = json.loads(done.stdout)
    assert (result["status"], result["answer"]) == ("verified", HOST)
    assert result["run"].endswith("which-port-2")
    assert (folder / "runs/which-port/answer.md").read_text() == PORT, "the first run stays as it is"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "Which port?"], "name the files"),
        (["ask", "--continue", "nothing", "Which?"], "no run 'nothing'"),
        (["ask", "--continue", "nothing", "Which?", "notes.txt"], "name no files"),
        (["ask", "Which?", "notes.txt", "--verify-python", "missing.py"], "missing.py"),
        (["agent", "Do it"], "--verify"),
        (["agent", "Do it", "--verify", "true", "--with", "no-such-agent"], "no-such-agent"),
        (["agent", "Do it", "--verify", "true", "--with", ""], "empty"),
    ],
)
def test_what_cannot_work_is_refused_before_there_is_a_run(folder, arguments, words):
    done = loop_runner(*arguments, cwd=folder, env={"HOME": str(folder)})
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert not (folder / "runs").exists()


# ── an agent ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "a.txt").write_text("1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_an_agent_works_until_the_command_accepts_and_the_repository_stays(repository):
    agent = "sh -c 'cat > /dev/null; echo x >> a.txt; echo done'"
    check = "test $(wc -l < a.txt) -ge 3"
    done = loop_runner(
        "agent", "Add lines", "--verify", check, "--with", agent, "--run-dir", "r", cwd=repository
    )
    assert done.returncode == 0, done.stderr
    assert "outside any sandbox" in done.stderr
    assert "commits: one per pass, at most 20" in done.stderr
    log = subprocess.run(
        ["git", "-C", "r", "log", "--first-parent", "--format=%s"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert log.splitlines()[:2] == ["pass 2: accepted", "pass 1: rejected"]
    assert (repository / "a.txt").read_text() == "1\n"


def test_the_task_is_printed_and_can_be_run_from_a_file(repository):
    options = ["--verify", "true", "--with", "sh -c true", "--max-passes", "3", "--print-task"]
    done = loop_runner("agent", "Do it", *options, cwd=repository)
    task = yaml.safe_load(done.stdout)
    assert (task["session"], task["agent"]["command"], task["budget"]["passes"]) == (
        "command",
        ["sh", "-c", "true"],
        3,
    )
    assert not (repository / "runs").exists()
    (repository / "task.yaml").write_text(done.stdout)
    assert loop_runner("check", "task.yaml", cwd=repository).returncode == 0


def program(folder, name):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("installed", "login", "expected"),
    [
        ((), {}, None),
        (("claude", "codex"), {}, None),
        (("claude", "codex"), {"ANTHROPIC_API_KEY": "k"}, "claude"),
        (("claude", "codex"), {"OPENAI_API_KEY": "k"}, "codex"),
        (("codex",), {"ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k"}, "codex"),
        (("claude",), ".claude/.credentials.json", "claude"),
        (("codex",), ".codex/auth.json", "codex"),
        (("claude",), '{"oauthAccount": {"a": 1}}', "claude"),
        (("claude",), "{", None),
    ],
)
def test_the_default_is_the_client_that_is_installed_and_logged_in(tmp_path, installed, login, expected):
    env = {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}
    for name in installed:
        program(tmp_path / "bin", name)
    if isinstance(login, dict):
        env |= login
    elif login.startswith("."):
        (tmp_path / login).parent.mkdir()
        (tmp_path / login).write_text("{}")
    else:
        (tmp_path / ".claude.json").write_text(login)
    assert clients.logged_in(env) == expected
