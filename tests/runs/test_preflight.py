"""What would fail after a pass is found before it: by ``check``, by ``run`` and by ``resume --retask``."""

import json
import os
import shlex

import pytest
import yaml
from click.testing import CliRunner

from loop_runner.cli import main_group
from loop_runner.errors import LoopRunnerError
from loop_runner.runs.prepare import check
from loop_runner.task import config
from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, write_task


def faults_of(task):
    """What the preflight says of a task file, as one text; "" when it finds nothing."""
    try:
        check(config.read_task(task), os.environ)
    except LoopRunnerError as error:
        return str(error)
    return ""


def with_files(folder, verifier, files, **keys):
    task = write_task(folder, root=[ready("42")], verifiers=[verifier], **keys)
    for name, content in files.items():
        (folder / name).write_text(content)
    return task


CHECK = "def check(submission):\n    assert '42' in submission.answer\n"
SCRIPT = "#!/bin/sh\ngrep -q 42 answer.md\n"


@pytest.mark.parametrize(
    ("verifier", "files", "output"),
    [
        ({"python": "check.py"}, {}, "there is no file check.py"),
        ({"python": "check.py"}, {"check.py": "def check(:\n"}, "check.py does not compile: line 1"),
        ({"python": "check.py"}, {"check.py": "return 1\n"}, "check.py does not compile"),
        ({"python": "check.py"}, {"check.py": "def chek(s): ...\n"}, "did you mean `chek`?"),
        ({"python": "check.py:verify"}, {"check.py": CHECK}, "has no function `verify`"),
        ({"python": "check.py"}, {"check.py": "def check(): ...\n"}, "takes no argument"),
        ({"python": "check.py"}, {"check.py": "def check(a, b): ...\n"}, "takes 2 arguments"),
        ({"python": "check.py"}, {"check.py": "async def check(s): ...\n"}, "would never be awaited"),
        (
            {"python": {"file": "check.py", "interpreter": "no-such-python"}},
            {"check.py": CHECK},
            "no such program",
        ),
        ({"command": "no-such-program"}, {}, "no-such-program could not be started"),
        ({"command": "/no/such/program"}, {}, "there is no such program"),
        ({"command": "./check.sh"}, {}, "there is no program ./check.sh"),
        ({"command": "./check.sh"}, {"check.sh": SCRIPT}, "check.sh is not executable"),
        ({"command": ["python3", "check.py"]}, {}, "there is no file check.py"),
        ({"command": ["python3", "check.py"]}, {"check.py": "def (\n"}, "check.py does not compile: line 1"),
        (
            {"command": ["sh", "check.sh"]},
            {"check.sh": "if true; then\n"},
            "is not a script that sh can read",
        ),
        ({"command": "make check"}, {}, "make looks for Makefile"),
        ({"command": {"run": ["true"], "pin": "data.json"}}, {}, "names 'data.json'"),
        ({"schema": "schema.json"}, {}, "there is no schema schema.json"),
        ({"schema": "schema.json"}, {"schema.json": "{"}, "schema.json is not JSON"),
        ({"schema": {"type": "objekt"}}, {}, "the schema cannot be used"),
        (
            {"judge": {"rubric": "rubric.md", "model": "script:script.yaml"}},
            {},
            "there is no rubric rubric.md",
        ),
        ({"regex": "("}, {}, "regex"),
        ({"all": [{"contains": "42"}, {"schema": "schema.json"}]}, {}, "there is no schema schema.json"),
        ({"any": [{"python": "check.py"}, {"contains": "42"}]}, {}, "there is no file check.py"),
    ],
)
def test_what_keeps_a_verifier_from_judging_is_found_before_anything_starts(
    tmp_path, verifier, files, output
):
    assert output in faults_of(with_files(tmp_path / "task", verifier, files))


@pytest.mark.parametrize(
    ("verifier", "files"),
    [
        ({"python": "check.py"}, {"check.py": CHECK}),
        ({"python": "check.py"}, {"check.py": "from helper import *\n", "helper.py": CHECK}),
        ({"python": "check.py"}, {"check.py": "from helper import check\n", "helper.py": CHECK}),
        ({"python": "check.py"}, {"check.py": "check = lambda s: True\n"}),
        ({"python": "check.py"}, {"check.py": "globals()['check'] = print\n"}),
        ({"python": "check.py"}, {"check.py": "def check(s, strict=False, *rest): ...\n"}),
        (
            {"python": "check.py"},
            {"check.py": "try:\n    import x\nexcept ImportError:\n    def check(s): ...\n"},
        ),
        ({"python": "check.py"}, {"check.py": "import warnings\nprint('\\d')\ndef check(s): ...\n"}),
        ({"command": ["python3", "workspace/made.py"]}, {}),
        ({"command": ["sh", "-c", "no-such-program"]}, {}),
        ({"command": ["sh", "check.sh"]}, {"check.sh": SCRIPT}),
        ({"command": "./workspace/run"}, {}),
        ({"command": ["pytest", "workspace"]}, {}),
        ({"schema": {"type": "object"}}, {}),
        ({"all": [{"contains": "42"}, {"python": "check.py"}]}, {"check.py": CHECK}),
    ],
)
def test_what_could_work_is_not_refused(tmp_path, verifier, files):
    assert faults_of(with_files(tmp_path / "task", verifier, files)) == ""


def test_nothing_of_the_users_is_run_by_the_preflight(tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n{CHECK}"
    task = with_files(tmp_path / "task", {"python": "check.py"}, {"check.py": code})
    assert faults_of(task) == ""
    assert not (tmp_path / "ran").exists()


def test_all_faults_of_a_task_are_reported_at_once(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[ready("42")],
        verifiers=[{"python": "check.py"}, {"schema": "schema.json"}, {"command": "no-such-program"}],
        stop_hooks=[["no-such-hook"]],
        sub_model="nobody:small",
        kernel={"python": "no-such-python"},
    )
    (tmp_path / "task/notes.txt").unlink()
    output = faults_of(task)
    for part in ("check.py", "schema.json", "no-such-program", "no-such-hook", "no-such-python", "notes.txt"):
        assert part in output


def test_run_refuses_the_same_and_creates_nothing(tmp_path):
    task = with_files(tmp_path / "task", {"python": "check.py"}, {})
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 2
    assert "there is no file check.py" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_check_says_what_a_run_would_use_and_starts_nothing(tmp_path, monkeypatch):
    task = write_task(tmp_path / "a task", root=[ready("42")])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main_group, ["check", "a task/task.yaml"])
    assert result.exit_code == 0, result.output
    assert "no fault found" in result.output
    assert "Next   loop-runner run 'a task/task.yaml'" in result.output
    data = json.loads(CliRunner().invoke(main_group, ["check", str(task), "--json"]).output)
    assert (data["ok"], data["texts"], data["model"]) == (True, 1, "script:script.yaml")
    assert not (tmp_path / "runs").exists()


# ── ways out ────────────────────────────────────────────────────────────────────────────────────────


def changed(task, **keys):
    task.write_text(yaml.safe_dump({**yaml.safe_load(task.read_text()), **keys}))


def next_lines(result):
    """The commands that a result names, without the words for the reader."""
    lines = result.stdout.partition("Next   ")[2].splitlines() if "Next   " in result.stdout else []
    lines += [line.partition("next: ")[2] for line in result.stderr.splitlines() if "  next: " in line]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip()]


def test_a_changed_task_file_is_named_and_retask_takes_it(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[ready("41"), ready("41")],
        verifiers=[{"contains": "43"}],
        budget={"passes": 1},
    )
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    changed(task, verifiers=[{"contains": "41"}], budget={"passes": 2})
    again = loop_runner("run", task, cwd=tmp_path)
    assert again.returncode == 2
    assert "task.yaml has changed since it began" in again.stderr
    assert "loop-runner resume runs/scripted --retask" in again.stderr
    old = loop_runner("resume", "scripted", cwd=tmp_path)
    assert old.returncode == 3
    assert "has changed since the run began" in old.stderr
    result = loop_runner("resume", "scripted", "--retask", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the task has changed: verifiers, budget" in result.stderr
    assert "--trust" not in loop_runner("resume", "scripted", cwd=tmp_path).stderr
    assert loop_runner("verify", "scripted", cwd=tmp_path).returncode == 0


def test_retask_without_a_change_continues_the_run(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    result = loop_runner("resume", "scripted", "--retask", "--passes", "2", cwd=tmp_path)
    assert (result.returncode, "the task has not changed" in result.stderr) == (0, True), result.stderr


@pytest.mark.parametrize(
    ("keys", "output"), [({"inputs": ["other.txt"]}, "other `inputs`"), ({"session": "direct"}, "`session`")]
)
def test_retask_refuses_what_a_run_keeps_for_its_life(tmp_path, keys, output):
    task = write_task(tmp_path / "task", root=[ready("41")], budget={"passes": 1})
    (tmp_path / "task/other.txt").write_text("other\n")
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    changed(task, **keys)
    result = loop_runner("resume", "scripted", "--retask", cwd=tmp_path)
    assert result.returncode == 2
    assert output in result.stderr


def test_a_run_without_a_committed_turn_starts_over(tmp_path):
    task = write_task(tmp_path / "task", root=[])
    assert loop_runner("run", task, cwd=tmp_path).returncode == 4
    assert (tmp_path / "runs/scripted/.git").is_dir()
    write_task(tmp_path / "task", root=[ready("42")])
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "starts over" in result.stderr
    assert not (tmp_path / "runs/scripted-2").exists()


def test_a_folder_that_a_person_added_to_is_not_removed(tmp_path):
    task = write_task(tmp_path / "task", root=[])
    assert loop_runner("run", task, cwd=tmp_path).returncode == 4
    (tmp_path / "runs/scripted/mine.txt").write_text("kept\n")
    assert loop_runner("run", task, cwd=tmp_path).returncode == 2
    assert (tmp_path / "runs/scripted/mine.txt").read_text() == "kept\n"


def test_a_mistyped_model_is_replaced_by_resume(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")])
    (tmp_path / "task/empty.yaml").write_text("root: []\n")
    failed = loop_runner("run", task, "--model", "script:empty.yaml", cwd=tmp_path)
    assert failed.returncode == 4
    result = loop_runner("resume", "scripted", "--model", "script:script.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


LIMITS = [
    {"passes": 1},
    {"passes": 9, "tokens": 40},
    {"passes": 9, "tokens_in": 40},
    {"passes": 9, "tokens_out": 1},
    {"passes": 9, "wall": "0.001s"},
]


@pytest.mark.parametrize("budget", LIMITS, ids=str)
def test_next_raises_the_limit_that_was_reached(tmp_path, budget):
    folder = tmp_path / "a folder"
    task = write_task(
        folder / "task", root=[cell("x = 1"), ready("41"), ready("42"), ready("42")], budget=budget
    )
    result = loop_runner("run", task, cwd=folder)
    assert result.returncode == 3, result.stderr
    for _ in range(4):
        first, *others = next_lines(result)
        result = loop_runner(*first, cwd=folder)
        assert result.returncode in (0, 3), result.stderr
        if result.returncode == 0:
            break
    assert result.returncode == 0
    for command in others:
        assert loop_runner(*command, cwd=folder).returncode == 0


RATES = {"script:script.yaml": {"input": 1000.0, "output": 1000.0}}
BOTH = {"budget.passes", "budget.subcalls"}
CALL = "print(llm_query('What is it?'))"


@pytest.mark.parametrize(
    ("budget", "limits", "root"),
    [
        ({"usd": 0.01}, {"budget.usd"}, [cell("x = 1"), ready("42")]),
        ({"usd": 1.5, "passes": 9}, {"budget.usd"}, [cell("x = 1"), ready("41"), ready("42")]),
        # A spent limit of sub-calls refuses further ones; what ends the run is the limit of passes.
        ({"subcalls": 1, "passes": 1}, BOTH, [cell(CALL), cell(CALL), ready("41"), ready("42")]),
        ({"subcalls": 2, "passes": 1}, BOTH, [cell(f"{CALL}\n{CALL}"), ready("41"), ready("42")]),
        ({"subcalls": 5, "passes": 1}, {"budget.passes"}, [cell(CALL), ready("41"), ready("42")]),
    ],
    ids=["dollars at once", "dollars later", "calls in two cells", "calls in one cell", "calls are left"],
)
def test_next_raises_the_limits_of_dollars_and_sub_calls_that_are_spent(tmp_path, budget, limits, root):
    task = write_task(
        tmp_path / "task",
        root=root,
        sub=[{"reply": "nothing"}],
        budget=budget,
        prices=RATES if "usd" in budget else {},
    )
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 3, result.stdout + result.stderr
    raised = {word.partition("=")[0] for word in next_lines(result)[0] if "=" in word}
    assert raised == limits
    for _ in range(6):
        command, *others = next_lines(result)
        result = loop_runner(*command, cwd=tmp_path)
        if result.returncode != 3:
            break
    assert result.returncode == 0, result.stdout + result.stderr
    assert all(loop_runner(*command, cwd=tmp_path).returncode == 0 for command in others)


def test_next_after_a_limit_that_resume_was_given_repeats_what_else_it_was_given(tmp_path):
    task = write_task(
        tmp_path / "task", root=[ready("41"), ready("41"), ready("42")], prices=RATES, budget={"passes": 1}
    )
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    given = ["--set", "budget.passes=9", "--set", "budget.usd=0.01"]
    result = loop_runner("resume", "scripted", *given, cwd=tmp_path)
    assert result.returncode == 3
    settings = dict(word.split("=") for word in next_lines(result)[0] if "=" in word)
    assert settings["budget.passes"] == "9"
    assert float(settings["budget.usd"]) > 0.01
    for _ in range(4):
        result = loop_runner(*next_lines(result)[0], cwd=tmp_path)
        if result.returncode != 3:
            break
    assert result.returncode == 0, result.stdout + result.stderr


def test_next_after_no_progress_lets_the_run_continue(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[ready("41")] * 2 + [ready("42")],
        budget={"passes": 2},
        no_progress={"passes": 2, "then": []},
        run_dir=str(tmp_path / "my run"),
    )
    result = loop_runner("run", task, "--set", "budget.passes=9", cwd=tmp_path)
    assert result.returncode == 3
    assert "no progress" in result.stdout
    result = loop_runner(*next_lines(result)[0], cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_next_after_a_broken_gate_takes_the_repaired_gate(tmp_path):
    files = {"check.py": "def check(s):\n    raise OSError('no network')\n"}
    task = with_files(tmp_path / "task", {"python": "check.py"}, files)
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 4
    (tmp_path / "task/check.py").write_text(CHECK)
    commands = next_lines(result)
    assert loop_runner(*commands[0], cwd=tmp_path).returncode == 0
    assert all(loop_runner(*command, cwd=tmp_path).returncode == 0 for command in commands)


def test_an_error_names_the_command_that_continues_the_run(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")], run_dir=str(tmp_path / "my run"))
    result = loop_runner("run", task, cwd=tmp_path)
    assert result.returncode == 4
    write_task(tmp_path / "task", root=[ready("41"), ready("42")])
    command, *_ = next_lines(result)
    assert loop_runner(*command, cwd=tmp_path).returncode == 0


def test_next_repeats_what_resume_was_given(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")], budget={"passes": 1})
    (tmp_path / "task/other.yaml").write_text(
        yaml.safe_dump({"root": [ready("41"), ready("41"), ready("42")]})
    )
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    given = ("--model", "script:other.yaml", "--passes", "2")
    result = loop_runner("resume", "scripted", *given, cwd=tmp_path)
    assert result.returncode == 3, result.stderr
    result = loop_runner(*next_lines(result)[0], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
