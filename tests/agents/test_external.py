"""``stop_hooks:`` of a task: programs of others, asked after the verifiers; the ten lines of the README."""

import json
import re
import socket
import sys

import pytest

from loop_runner.errors import HookError
from loop_runner.records import Accepted, Broken, Inputs, Rejected
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.runs.reverify import exit_code, verify_run
from loop_runner.verify import Gates, Means, Submission, external_hook
from tests.agents.conftest import ROOT, agent_task, run, started
from tests.support.tasks import ready, run_task, write_task


@pytest.fixture
def ask(tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "workspace").mkdir(parents=True)
    (checkout / "answer.md").write_text("it is 42")

    def verdict(code, **keys):
        (tmp_path / "hook.py").write_text(code)
        spec = {"command": [sys.executable, "hook.py"], **keys}
        (hook,) = external_hook.build([spec], tmp_path)
        gates = Gates.of([], tmp_path, more=[lambda: hook])
        return hook.verify(Submission("it is 42", checkout, Inputs(())), Means(programs=gates.programs))

    return verdict


def reply_of(**answer):
    return f"print({json.dumps(json.dumps(answer))})"


@pytest.mark.parametrize(
    "code", [reply_of(), "", "print('a note')\n" + reply_of(), reply_of(systemMessage="fine")]
)
def test_a_hook_that_does_not_block_accepts(ask, code):
    assert isinstance(ask(code), Accepted)


@pytest.mark.parametrize(
    "code",
    [
        reply_of(decision="block", reason="look again"),
        reply_of(decision="deny", reason="look again"),
        reply_of(followup_message="look again"),
        "import sys\nsys.stderr.write('look again')\nsys.exit(2)",
        reply_of(**{"continue": False, "stopReason": "look again"}),
    ],
)
def test_a_hook_that_blocks_rejects_with_its_reason(ask, code):
    verdict = ask(code)
    assert isinstance(verdict, Rejected)
    assert "look again" in verdict.reason


@pytest.mark.parametrize(
    "code", ["raise ValueError", "print('all good')", "import time; time.sleep(60)", "import os; os.abort()"]
)
def test_a_hook_that_does_not_answer_is_a_broken_gate_and_no_yes(ask, code):
    assert isinstance(ask(code, timeout_s=2), Broken)


def test_a_hook_reads_what_a_client_would_send(ask):
    code = "import json, os, sys\nd = json.load(sys.stdin)\n"
    code += "assert d['hook_event_name'] == 'Stop' and d['last_assistant_message'] == 'it is 42'\n"
    code += "assert os.path.isdir(d['cwd']) and 'ANTHROPIC_API_KEY' not in os.environ\nprint('{}')"
    assert isinstance(ask(code), Accepted)


def test_a_hook_that_changes_during_a_run_is_broken_until_it_is_pinned_anew(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[ready("42 TODO"), ready("42")],
        stop_hooks=[["python3", "hook.py"]],
        budget={"passes": 1},
    )
    hook = task.parent / "hook.py"
    hook.write_text(reply_of(decision="block", reason="look again"))
    assert run_task(task, tmp_path / "run").status == "unverified"
    hook.write_text(reply_of())
    more = (("budget.passes", 2),)
    stopped = runs.resume(tmp_path / "run", RunContext({}), more)
    assert stopped.status == "broken"
    assert "hook.py has changed since the run began" in stopped.reason
    assert "--repin" in stopped.reason
    outcome = runs.resume(tmp_path / "run", RunContext({}), more, repin=True)
    assert (outcome.status, outcome.spend.turns) == ("verified", 2)
    assert exit_code(verify_run(tmp_path / "run", RunContext({}))) == 0


def test_a_hook_runs_in_the_sandbox_and_reaches_the_network_only_where_the_task_says_so(tmp_path):
    code = (
        "import json, os, socket, sys\n"
        "said = []\n"
        "try:\n    open(json.load(sys.stdin)['cwd'] + '/new', 'w')\n    said.append('wrote')\n"
        "except OSError:\n    pass\n"
        f"said += ['home'] if os.path.exists({str(tmp_path / 'secret')!r}) else []\n"
        "try:\n    socket.create_connection(('127.0.0.1', PORT), 2)\n    said.append('network')\n"
        "except OSError:\n    pass\n"
        "print(json.dumps({'decision': 'block', 'reason': 'can: ' + ' '.join(said)}))\n"
    )
    (tmp_path / "secret").write_text("key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        task = write_task(
            tmp_path / "task",
            root=[ready("42")],
            stop_hooks=[["python3", "hook.py"], {"command": ["python3", "hook.py"], "network": True}],
            budget={"passes": 1},
        )
        (task.parent / "hook.py").write_text(code.replace("PORT", port))
        run_task(task, tmp_path / "run")
    verdict = json.loads((tmp_path / "run/passes/0001/verdict.json").read_text())
    reasons = [item["reason"] for item in verdict["reports"] if item["verifier"].startswith("stop hook")]
    assert reasons == ["can: ", "can: network"]
    assert verdict["sandbox"]["network"] is True


@pytest.mark.parametrize(
    "spec", [{}, {"command": []}, {"command": 3}, {"comand": ["x"]}, {"command": ["x"], "timeout_s": 0}]
)
def test_a_hook_that_is_none_is_refused_before_the_run(spec, tmp_path):
    with pytest.raises(HookError, match="is not a hook"):
        external_hook.build([spec], tmp_path)


def test_the_ten_lines_of_the_readme_are_a_hook(tmp_path, env):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "hooks" / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    task = agent_task(
        tmp_path / "task",
        [{"say": "42 TODO: more"}, {"say": "it is 42"}],
        stop_hooks=[[sys.executable, "no_todo.py"]],
    )
    (task.parent / "no_todo.py").write_text(code)
    outcome = run(task, tmp_path / "run", env)
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)
    assert "TODO" in started(task)[1]["prompt"].split("What failed", 1)[1]
