"""Kill the runner while child sessions are at work: nothing that was answered is asked again."""

import os
import signal
import subprocess
import threading

import pytest

from tests.support.commands import argv, clean_environment
from tests.support.model_server import Scripted
from tests.support.tasks import cell, write_task

ROOT = (
    "first = llm_query('start')\n"
    "got = [rlm_query(f'question {n}', 'one two three') for n in range(2)]\n"
    "got += rlm_batch([('question 7', 'x')] * 2)\n"
    "FINAL(f'42 {first} {got}')"
)


class Plan:
    """Answers like a root model, a child's root model and a sub-model; calls ``kill`` at one request."""

    def __init__(self):
        self.prompts = []
        self.kill_at = 0
        self.kill = lambda: None
        self._lock = threading.Lock()

    def __call__(self, received):
        system, conversation = received.system, str(received.messages)
        with self._lock:
            self.prompts.append((system[:20], conversation))
            if len(self.prompts) == self.kill_at:
                self.kill()
                return Scripted("nobody reads this", delay_s=1.0)
        if "You answer one question" in system:
            turn = len(received.messages) // 2
            return cell("FINAL(part)" if turn else "part = llm_query('part ' + context)\nprint(part)")
        if system:
            return cell(ROOT)
        return f"reply to {received.last_user_text}"


def tree(folder):
    command = ["git", "-C", folder, "rev-parse", "HEAD^{tree}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def command(env, *args):
    return subprocess.Popen(
        [*argv(*args), "-q"],
        env=clean_environment(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kill_at", [3, 5, 7, 9])
def test_killed_inside_a_child_session_the_run_ends_the_same_and_pays_for_nothing_twice(
    tmp_path, model_server, kill_at
):
    plan = Plan()
    model_server.answer_with(plan)
    task = write_task(tmp_path / "task", root=[], model="anthropic:large", sub_model="anthropic:small")
    process = command(model_server.env, "run", task, "--run-dir", tmp_path / "unbroken")
    _, output = process.communicate()
    assert process.returncode == 0, output.decode()
    whole, plan.prompts = plan.prompts, []

    plan.kill_at = kill_at
    process = command(model_server.env, "run", task, "--run-dir", tmp_path / "killed")
    plan.kill = lambda: os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before, plan.prompts = plan.prompts, []
    plan.kill_at = 0
    process = command(model_server.env, "resume", tmp_path / "killed")
    _, output = process.communicate()
    assert process.returncode == 0, output.decode()
    assert sorted(before[:-1] + plan.prompts) == sorted(whole), "each request was answered once"
    assert tree(tmp_path / "killed") == tree(tmp_path / "unbroken")
