"""Loops inside sessions that a person started: ``hook start``, stops of the session, ``hook cancel``."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from loop_runner.agents import call
from loop_runner.workspace.history import History
from tests.agents.conftest import git
from tests.support.commands import wait_for


@pytest.fixture
def person(tmp_path, env):
    """Somebody with a project folder and a task; whatever was started ends with the test."""
    result = Person(tmp_path, env)
    yield result
    for run in result.runs:
        (run / "STOP").touch()
    wait_for(lambda: not any((run / call.ADDRESS_FILE).exists() for run in result.runs))
    for run in result.runs:
        result.wait_for_lock(run)


class Person:
    def __init__(self, folder, env):
        self.env, self.folder, self.runs = env, folder, []
        self.project = folder / "project"
        self.project.mkdir(exist_ok=True)

    def loop_runner(self, *args, stdin=""):
        argv = [sys.executable, "-m", "loop_runner", *map(str, args)]
        return subprocess.run(
            argv, env=self.env, cwd=self.project, input=stdin, capture_output=True, text=True, check=False
        )

    def start(self, session, name="one", wanted="42", **keys):
        task = {"name": name, "prompt": "Say it.", "verifiers": [{"contains": wanted}], **keys}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
        run = self.folder / name
        done = self.loop_runner(
            "hook", "start", self.folder / f"{name}.yaml", "--session", session, "--run-dir", run
        )
        if done.returncode == 0:
            self.runs.append(run)
        return done

    def stop(self, session, message):
        payload = {"hook_event_name": "Stop", "session_id": session, "cwd": str(self.project)}
        payload |= {"stop_hook_active": False, "last_assistant_message": message}
        done = self.loop_runner("hook", "stop", stdin=json.dumps(payload))
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def wait_for_lock(self, run):
        with History(run) as history:
            wait_for(lambda: history.running() is None)


def test_a_session_is_blocked_until_its_work_is_accepted_and_is_then_free(person, tmp_path):
    output = person.start("s1").stdout
    assert "Say it." in output
    (person.project / "found.md").write_text("41?")
    blocked = person.stop("s1", "it is 41")
    assert blocked["decision"] == "block"
    assert blocked["reason"].startswith("Say it.")
    assert "the answer does not contain '42'" in blocked["reason"]
    assert "found.md" in blocked["reason"]
    assert "verified after 2 passes" in person.stop("s1", "it is 42")["systemMessage"]
    person.wait_for_lock(tmp_path / "one")
    wait_for(lambda: not os.listdir(tmp_path / "state" / "sessions"))
    assert person.stop("s1", "something else") == {}
    assert git(tmp_path / "one", "show", "HEAD:workspace/found.md") == "41?"


def test_the_users_folder_is_read_only_to_a_loop_and_its_repository_is_not_touched(person, tmp_path):
    git(tmp_path, "init", "-q", "project")
    (person.project / "node_modules").mkdir()
    (person.project / "node_modules" / "big.js").write_text("x")
    (person.project / ".gitattributes").write_text("* filter=evil\n")
    git(person.project, "config", "filter.evil.clean", f"touch {tmp_path}/evil")
    before = sorted(str(path) for path in person.project.rglob("*"))
    person.start("s1")
    assert person.stop("s1", "no")["decision"] == "block"
    assert sorted(str(path) for path in person.project.rglob("*")) == before
    assert not (tmp_path / "evil").exists()
    listed = git(tmp_path / "one", "ls-tree", "-r", "--name-only", "HEAD").splitlines()
    assert [path for path in listed if path.startswith("workspace/")] == ["workspace/.gitattributes"]


def test_two_sessions_in_one_folder_have_a_loop_each(person):
    assert person.start("s1", "one", "alpha").returncode == 0
    assert person.start("s2", "two", "beta").returncode == 0
    assert person.stop("s3", "alpha beta") == {}, "a third has none"
    assert person.stop("s2", "alpha")["decision"] == "block"
    assert person.stop("s1", "beta")["decision"] == "block"
    assert "verified" in person.stop("s1", "alpha")["systemMessage"]
    assert "verified" in person.stop("s2", "beta")["systemMessage"]


def test_a_session_has_one_loop_at_a_time(person):
    person.start("s1", "one")
    again = person.start("s1", "two")
    assert again.returncode == 2
    assert "has a run already" in again.stderr
    assert person.start("null", "three").returncode == 2


def test_a_loop_whose_process_was_killed_is_woken_by_the_next_stop(person, tmp_path):
    person.start("s1")
    assert person.stop("s1", "it is 40")["decision"] == "block"
    address = tmp_path / "one" / call.ADDRESS_FILE
    os.kill(json.loads(address.read_text())["pid"], signal.SIGKILL)
    time.sleep(0.2)
    blocked = person.stop("s1", "it is 41")
    assert "pass 3" in blocked["reason"]
    assert "verified after 3 passes" in person.stop("s1", "it is 42")["systemMessage"]


def test_a_cancelled_loop_lets_its_session_end(person, tmp_path):
    person.start("s1")
    assert person.stop("s1", "no")["decision"] == "block"
    assert person.loop_runner("hook", "cancel", tmp_path / "one").returncode == 0
    assert person.stop("s1", "no") == {}


def test_when_the_passes_are_used_up_the_session_may_end_and_is_told(person):
    person.start("s1", budget={"passes": 2})
    assert person.stop("s1", "40")["decision"] == "block"
    assert "unverified after 2 passes" in person.stop("s1", "41")["systemMessage"]


def test_a_broken_gate_lets_the_session_end_and_is_asked_again_at_the_next_stop(person, tmp_path):
    machine = tmp_path / "machine"
    machine.mkdir()
    code = f"test -e {machine}/works || kill -9 $$; grep -q 42 answer.md"
    person.start("s1", verifiers=[{"command": {"run": ["sh", "-c", code], "show": [str(machine)]}}])
    assert "broken" in person.stop("s1", "42")["systemMessage"]
    person.wait_for_lock(tmp_path / "one")
    (machine / "works").touch()
    assert "decision" not in person.stop("s1", "42")


@pytest.mark.parametrize("name", ["CLAUDE_CODE_SESSION_ID", "CODEX_SESSION_ID"])
def test_the_session_is_known_from_the_shell_of_its_agent(person, name, tmp_path):
    (tmp_path / "one.yaml").write_text("name: one\nprompt: Say it.\nverifiers: [{contains: x}]\n")
    argv = ["hook", "start", tmp_path / "one.yaml", "--run-dir", tmp_path / "one"]
    refused = person.loop_runner(*argv)
    assert refused.returncode == 2
    assert "no session was named" in refused.stderr
    assert not (tmp_path / "one").exists()
    person.env[name] = "s1"
    assert person.loop_runner(*argv).returncode == 0
    person.runs.append(tmp_path / "one")
    assert person.stop("s1", "no")["decision"] == "block"
