"""What works without Linux: a system without its features is imitated, and only two places name them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.agents.conftest import agent_task
from tests.support.commands import argv, clean_environment, loop_runner, wait_for
from tests.support.git import git
from tests.support.portable import FEATURES, hidden
from tests.support.tasks import cell, ready, write_task

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
STORED = ROOT / "tests/data/format1"
MODULES = sorted((ROOT / "loop_runner").rglob("*.py"))
FLOOR = "linux.py"
NAMES = re.compile(
    r"pidfd|prctl|landlock|seccomp|cgroup|/proc\b|/sys/|memfd|O_PATH\b|O_TMPFILE|SO_PASSCRED|SO_PEERCRED"
    r"|SCM_CREDENTIALS|SEQPACKET|sched_[gs]etaffinity|unshare|bubblewrap|bwrap|PDEATHSIG|\bMS_BIND"
    r"|pivot_root|setres[ug]id|getres[ug]id|inotify|libc\.mount",
    re.IGNORECASE,
)
_IS_LINUX = sys.platform == "linux"
C = ("--set", "kernel.require_tier=C")


@pytest.fixture
def env(tmp_path):
    """The environment of a system with none of the features."""
    return {**hidden(FEATURES, tmp_path / "hidden"), "HOME": str(tmp_path / "home")}


@pytest.fixture
def command(tmp_path, env):
    """Runs ``loop-runner ARGS`` there and gives what it printed, both streams together."""

    def run(*args, code=0, env=env):
        ended = loop_runner(*args, cwd=tmp_path, env=env)
        output = ended.stdout + ended.stderr
        assert ended.returncode == code, output
        assert "Traceback" not in output
        assert "AttributeError" not in output
        return output

    return run


def stored(name, folder):
    """A clone of a run of ``tests/data/format1`` in ``folder/NAME``, with what its history does not hold."""
    git(folder, "clone", "-q", "-n", "-b", "main", STORED / f"{name}.bundle", name)
    (folder / name / ".git/info/attributes").write_text("* -text\n")
    git(folder / name, "checkout", "-q", "main")
    if (private := STORED / f"{name}.private.tar.gz").exists():
        with tarfile.open(private) as tar:
            tar.extractall(folder / name / ".git/loop-runner", filter="data")
    return folder / name


# ── where features of Linux are named ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "loop_runner")))
def test_only_the_sandbox_and_one_module_of_the_ground_floor_name_features_of_linux(path):
    relative = path.relative_to(ROOT / "loop_runner")
    if relative.parts[0] in ("sandbox", FLOOR):
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    named = [f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if NAMES.search(line)]
    assert named == []


# ── the imitation ───────────────────────────────────────────────────────────────────────────────────


def test_the_imitated_system_has_none_of_the_features(env):
    code = (
        "import ctypes, os, pathlib, sys\n"
        "assert sys.platform == 'darwin', sys.platform\n"
        "names = ('pidfd_open', 'memfd_create', 'sched_getaffinity', 'setresuid', 'O_PATH')\n"
        "assert [name for name in names if hasattr(os, name)] == []\n"
        "assert not pathlib.Path('/proc/self').exists()\n"
        "for read in open, os.stat, os.listdir:\n"
        "    try:\n        read('/proc/self')\n        raise SystemExit(f'{read} works')\n"
        "    except FileNotFoundError:\n        pass\n"
        "try:\n    ctypes.CDLL(None).prctl\n    raise SystemExit('prctl works')\n"
        "except AttributeError:\n    pass\n"
    )
    for python in (sys.executable, env["PYTHONPATH"].partition(":")[0] + "/python3"):
        subprocess.run([python, "-c", code], env=clean_environment(env), check=True)


# ── importing and reading ───────────────────────────────────────────────────────────────────────────


def test_every_module_can_be_imported(env):
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.stem != "__main__"
        and not {"_resources", "integrations"} & set(path.parts)  # those need a package
    ]
    code = (
        "import importlib, sys, traceback\nfailed = []\nfor name in sys.argv[1:]:\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except BaseException:\n        failed.append(name)\n        traceback.print_exc()\n"
        "sys.exit(', '.join(failed) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        env=clean_environment(env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["agent", "audit", "direct", "plain", "session"])
def test_a_run_is_looked_at(tmp_path, command, name):
    run = stored(name, tmp_path)
    assert json.loads(command("status", run, "--json"))["runs"][0]["state"] == "verified"
    assert "accepted" in command("log", run)
    assert command("show", run)
    assert command("show", f"{run}@1.1")
    command("cost", run)
    command("fsck", run)
    command("diff", run, "0", "head")


@pytest.mark.parametrize("name", ["agent", "audit", "direct", "plain"])
def test_built_in_verifiers_verify_a_run(tmp_path, command, name):
    task = STORED / "tasks" / name
    output = command("verify", stored(name, tmp_path), "--task-dir", task, "--json")
    assert json.loads(output[output.index("{") :])["status"] == "same"


def test_programs_of_verifiers_verify_a_run_only_where_that_is_allowed(tmp_path, command):
    run, task = stored("gates", tmp_path), STORED / "tasks/gates"
    output = command("verify", run, "--task-dir", task, code=4)
    assert "tier=C   for programs of verifiers, as darwin has no sandbox" in output
    assert "--allow tier=C" in output
    command("verify", run, "--task-dir", task, "--allow", "tier=C")


# ── running ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "task",
    [
        {"root": [ready("42")]},
        {"root": ["42"], "session": "direct", "verifiers": [{"command": ["true"]}]},
        {"root": ["42"], "session": "direct", "verifiers": [{"any": [{"command": ["true"]}, "agreement"]}]},
        {"root": ["42"], "session": "direct", "verifiers": ["agreement"]},
        {"root": ["42"], "session": "direct", "stop_hooks": [["true"]]},
        {"root": [ready("42")], "kernel": {"require_tier": "B"}},
    ],
    ids=["model code", "command", "command in a group", "a session of a verifier", "stop hook", "tier B"],
)
def test_one_message_at_the_start_says_that_code_needs_tier_c(tmp_path, command, task):
    write_task(tmp_path / "task", **task)
    output = command("run", "task/task.yaml", code=4)
    assert output.count("there is no sandbox on this system (darwin)") == 1
    assert "model code and command gates need kernel.require_tier: C here" in output
    assert "--set kernel.require_tier=C" in output
    assert not (tmp_path / "runs").exists(), "nothing was made"
    assert "there is no sandbox on this system" in command("check", "task/task.yaml", code=4)


def test_the_command_of_that_message_works(tmp_path, command):
    gate = {"command": ["python3", "-c", "import sys; sys.exit('42' not in sys.stdin.read())"]}
    root = [cell("words = llm_batch(['a', 'b'])\nprint(words)"), cell("import os; os._exit(3)"), ready("42")]
    write_task(tmp_path / "task", root=root, sub=[{"reply": "yes"}], verifiers=[gate, {"contains": "42"}])
    output = command("run", "task/task.yaml", *C)
    assert "sandbox tier C; not enforced: reading files outside" in output
    turns = tmp_path / "runs/scripted/passes/0001/turns"
    assert "['yes', 'yes']" in (turns / "0001/output.txt").read_text()
    assert "the kernel died (exit code 3)" in (turns / "0002/output.txt").read_text()


def test_a_python_check_gives_its_verdict(tmp_path, command):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/rules.py").write_text("def check(one):\n    return '42' in one.answer or 'no 42'\n")
    write_task(tmp_path / "task", root=["41", "42"], session="direct", verifiers=[{"python": "rules.py"}])
    assert "pass 1: rejected" in command("run", "task/task.yaml", *C)


def test_a_direct_session_needs_no_sandbox(tmp_path, command):
    write_task(tmp_path / "task", root=["41", "42"], session="direct")
    command("run", "task/task.yaml")
    command("verify", "runs/scripted")


@pytest.mark.parametrize("name", ["plain-killed", "session-killed", "children-killed", "forked-limit"])
def test_a_run_is_resumed(tmp_path, command, name):
    run = stored(name, tmp_path)
    task = STORED / "tasks" / {"forked-limit": "session"}.get(name, name.partition("-")[0])
    moved = ("--trust", "--inputs", task, "--set", f"task_dir={task}", "--set", "budget.passes=6")
    assert "VERIFIED" in command("resume", run, *moved, *C)


def test_a_documents_text_is_read_at_tier_c(tmp_path, command):
    shutil.copytree(STORED / "tasks/session", tmp_path / "task")
    assert "VERIFIED" in command("run", "task/task.yaml", *C)


def test_an_audit_judges_files_at_tier_c(tmp_path, command):
    shutil.copytree(STORED / "tasks/audit", tmp_path / "project")
    (tmp_path / "script.yaml").symlink_to("project/script.yaml")
    options = ("--rules", "project/rules.yaml", "--model", "script:script.yaml", "--runs", "runs")
    assert "there is no sandbox on this system (darwin)" in command("audit", "project/src", *options, code=4)
    assert "bare-except" in command("audit", "project/src", *options, *C, code=1)


def test_an_agent_does_the_passes_and_its_stop_hook_is_answered(tmp_path, command, env):
    agent_task(tmp_path / "task", [{"say": "it is 41", "files": {"a.txt": "1"}}, {"say": "it is 42"}])
    command("run", "task/task.yaml", env={**env, "LOOP_RUNNER_STATE": str(tmp_path / "state")})
    command("verify", "runs/mend")


def test_a_hook_lets_a_session_without_a_run_end(tmp_path, command, env):
    ended = subprocess.run(
        argv("hook", "stop"),
        input=json.dumps({"session_id": "s", "hook_event_name": "Stop", "stop_hook_active": False}),
        env=clean_environment(env),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "{}", "")


def test_the_kernel_ends_with_a_runner_that_is_killed(tmp_path, env):
    code = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nos.rename('pid', 'kernel')\n"
    write_task(tmp_path / "task", root=[cell(code + "time.sleep(99)")])
    place = tmp_path / "runs/scripted/workspace/kernel"
    with subprocess.Popen(
        argv("run", "task/task.yaml", "-q", *C), cwd=tmp_path, env=clean_environment(env)
    ) as process:
        try:
            wait_for(place.exists, 60)
            pid = place.read_text()
        finally:
            process.kill()
    wait_for(lambda: not _is_alive(pid), 20)


def _is_alive(pid):
    """False for a process that has ended, on Linux also while nothing has waited for it."""
    try:
        os.kill(int(pid), 0)
        stat = Path(f"/proc/{pid}/stat").read_text() if _IS_LINUX else ") R"
    except (ProcessLookupError, FileNotFoundError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


# ── one feature is missing, on Linux ────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not _IS_LINUX, reason="it takes single features away from Linux")
@pytest.mark.parametrize("feature", [name for name in FEATURES if name != "platform"])
def test_on_linux_without_one_feature_runs_are_made_and_looked_at(tmp_path, command, feature):
    env = {**hidden([feature], tmp_path / "one"), "HOME": str(tmp_path / "home")}
    write_task(tmp_path / "task", root=["41", "42"], session="direct")
    agent_task(tmp_path / "agent", [{"say": "it is 41"}, {"say": "it is 42"}])
    state = {"LOOP_RUNNER_STATE": str(tmp_path / "state")}
    for name in ("task", "agent"):
        command("run", f"{name}/task.yaml", env={**env, **state})
    for run in ("runs/scripted", "runs/mend"):
        for look in ("status", "log", "show", "verify", "fsck"):
            command(look, run, env=env)
