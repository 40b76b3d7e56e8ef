"""A table of wrong uses: the arguments, the exit code, and what the message says.

Each row is a real ``loop-runner`` process in the same folder, which holds a verified run, a rejected run and
files of every odd kind. No row may change a byte of it, and none may end in a traceback.
"""

import os
import subprocess

import pytest
import yaml

from tests.support.commands import clean_environment, loop_runner
from tests.support.tasks import ready, write_task

pytestmark = pytest.mark.slow

NO_KEYS = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"), "")
RULES = "rules:\n  - {id: a, title: t, description: d, regex: foo}\n"
SCRIPT = ["--model", "script:replies.yaml"]
GOOD = ["run", "good/task.yaml"]
AUDIT = ["audit", "code", "--rules", "rules.yaml", *SCRIPT]
NOT_A_TASK = "a task file is a mapping of keys"
BIG_NUMBER = "9" * 400

USES = [
    # commands and options
    (["frobnicate"], 2, "No such command 'frobnicate'"),
    (["rn", "good/task.yaml"], 2, "Did you mean 'run'?"),
    (["run"], 2, "Missing argument 'TASK.yaml'"),
    (["run", "good/task.yaml", "rejected/task.yaml"], 2, "unexpected extra argument"),
    ([*GOOD, "--quite"], 2, "Did you mean '--quiet'?"),
    (["hook"], 2, "install"),
    (["hook", "instal", "claude"], 2, "install"),
    (["models", "lst"], 2, "Did you mean 'list'?"),
    (["help", "nope"], 2, "nope"),
    (["docs", "nope"], 2, "nope"),
    (["docs", "../README"], 2, "README"),
    # what the task file is
    (["run", "nope.yaml"], 2, "there is no task file nope.yaml"),
    (["run", "empty.yaml"], 2, NOT_A_TASK),
    (["run", "list.yaml"], 2, NOT_A_TASK),
    (["run", "notes.txt"], 2, NOT_A_TASK),
    (["run", "binary.yaml"], 2, "binary.yaml cannot be read: it is not UTF-8: line 2 has the byte 0x80"),
    (["run", "latin.yaml"], 2, "latin.yaml cannot be read: it is not UTF-8: line 1 has the byte 0xe9"),
    (["run", "utf16.yaml"], 2, "utf16.yaml cannot be read: it is UTF-16, not UTF-8"),
    (["run", "tabs.yaml"], 2, "not valid YAML"),
    (["run", "bomb.yaml"], 2, "it has more than 200,000 values"),
    (["run", "code"], 2, "code is a folder, not a task file"),
    (["run", "good"], 2, "did you mean good/task.yaml?"),
    (["run", "runs/good"], 2, "it is a run folder: loop-runner resume runs/good"),
    (["run", "loop"], 2, "loop cannot be read: too many levels of symbolic links"),
    (["run", "dangling"], 2, "there is no task file dangling"),
    (["run", "pipe"], 2, "pipe cannot be read: it is a pipe or a device, not a regular file"),
    (["check", "pipe"], 2, "it is a pipe or a device"),
    (["run", "/dev/zero"], 2, "it is a pipe or a device"),
    (["run", "a" * 300], 2, "cannot be read: file name too long"),
    (["check", "rules.yaml"], 2, "unknown key `rules`"),
    # empty arguments
    (["run", ""], 2, "the argument after `loop-runner run` is empty"),
    ([*GOOD, "--input", ""], 2, "the argument after `loop-runner run good/task.yaml --input` is empty"),
    ([*GOOD, "--run-dir", ""], 2, "--run-dir` is empty"),
    (["ask", "What?", "", *SCRIPT], 2, "the argument after `loop-runner ask What?` is empty"),
    (["ask", "", "notes.txt", *SCRIPT], 2, "the argument after `loop-runner ask` is empty"),
    *(
        (["bisect", "runs/good", "--timeout", seconds, "--", "true"], 2, "'--timeout'")
        for seconds in ("nan", "NaN", "inf", "-inf", "0", "-1", "soon")
    ),
    (["init", "legal", ""], 2, "the argument after `loop-runner init legal` is empty"),
    (["status", ""], 2, "is empty"),
    (["fork", "runs/good@0", ""], 2, "is empty"),
    # values
    ([*GOOD, "--passes", "0"], 2, "0 is not in the range"),
    ([*GOOD, "--passes", "1e9"], 2, "is not a valid integer"),
    ([*GOOD, "--set", "passes=3"], 2, "did you mean `budget.passes`?"),
    ([*GOOD, "--set", "memory=4GB"], 2, "did you mean `kernel.memory`?"),
    ([*GOOD, "--set", "timeout_s=4"], 2, "did you mean `kernel.timeout_s`?"),
    ([*GOOD, "--set", "budget.passes"], 2, "is not KEY=VALUE"),
    ([*GOOD, "--set", "budget.passes=three"], 2, "takes an integer"),
    ([*GOOD, "--set", "budget.usd=nan"], 2, "takes a number over 0"),
    ([*GOOD, "--set", "budget.wall=5 parsecs"], 2, "takes a duration"),
    ([*GOOD, "--set", "width=99999"], 2, "takes an integer from 1 to 1,024"),
    ([*GOOD, "--set", "kernel.memory=1TBB"], 2, "takes a size"),
    ([*GOOD, "--set", "verifiers=[]"], 2, "the task has no verifiers"),
    ([*GOOD, "--set", "a.b.c=1"], 2, "unknown key `a`"),
    ([*GOOD, "--report", "nope"], 2, "there is no reporter 'nope'"),
    # models
    ([*GOOD, "--model", "script"], 2, "did you mean script:NAME?"),
    ([*GOOD, "--model", "script:nope.yaml"], 2, "there is no script file"),
    ([*GOOD, "--model", "script:../pipe"], 2, "it is a pipe or a device"),
    ([*GOOD, "--model", "opnai:x"], 2, "did you mean openai:x?"),
    ([*GOOD, "--model", "local:nope"], 2, "there is no local model 'nope'"),
    ([*GOOD, "--model", "local:/nope.gguf"], 2, "there is no model file /nope.gguf"),
    ([*GOOD, "--sub-model", "foo"], 2, "'foo' is not a model id"),
    (["models", "fetch", "nope"], 2, "nope"),
    # inputs
    ([*GOOD, "--input", "nope"], 2, "does not exist"),
    ([*GOOD, "--input", "emptydir"], 2, "nothing to read in"),
    ([*GOOD, "--input", "*.nope"], 2, "nothing to read in"),
    ([*GOOD, "--input", "pipe"], 2, "not a regular file"),
    ([*GOOD, "--input", "dangling"], 2, "a link that leads to no file"),
    ([*GOOD, "--input", "https://example.org/x"], 2, "--set inputs.urls=true"),
    ([*GOOD, "--input", "runs/good"], 2, "is in the run folder"),
    (["ask", "What?", "loop", *SCRIPT], 2, "a link that leads to no file"),
    (["ask", "What?", "odd\nname.txt", *SCRIPT], 2, "its name has a line break"),
    (["ask", "What?", "code/empty.py", *SCRIPT], 2, "cannot be used: empty"),
    (["ask", "notes.txt", "What is it?", *SCRIPT], 2, "loop-runner ask 'What is it?' notes.txt"),
    (["ask", "What", "is", "it?", "notes.txt"], 2, "Put a question into quotes"),
    # where a run goes
    ([*GOOD, "--run-dir", "notes.txt"], 2, "notes.txt is a file"),
    ([*GOOD, "--run-dir", "notes.txt/x"], 2, "notes.txt is a file"),
    ([*GOOD, "--run-dir", "code"], 2, "is not empty and is not a run folder"),
    ([*GOOD, "--run-dir", "runs/good"], 2, "runs/good holds a finished run"),
    ([*GOOD, "--run-dir", "runs/rejected"], 2, "loop-runner resume runs/rejected"),
    ([*GOOD, "--run-dir", "a" * 300], 2, "file name too long"),
    (["init", "leagl", "new"], 2, "did you mean legal?"),
    (["init", "legal", "notes.txt"], 2, "notes.txt is a file"),
    (["init", "custom", "good"], 2, "would be overwritten"),
    # which run
    (["resume", "nope"], 2, "runs here: "),
    (["resume", "rejcted"], 2, "did you mean runs/rejected?"),
    (["show", "runs/goood"], 2, "did you mean runs/good?"),
    (["resume", "good/task.yaml"], 2, "loop-runner run good/task.yaml"),
    (["resume", "notes.txt"], 2, "there is no run 'notes.txt'"),
    (["resume", "repository"], 2, "repository is not a run folder"),
    (["status", "repository"], 2, "repository is not a run folder"),
    (["verify", "committed"], 2, "committed is not a run folder"),
    (["fsck", "repository", "--repair"], 2, "repository is not a run folder"),
    (["fsck", "committed", "--repair"], 2, "committed is not a run folder"),
    (["fsck", "committed"], 2, "committed is not a run folder"),
    (["resume", "runs/rejected", "--inputs", "nope"], 2, "'nope' does not exist"),
    (["replay", "runs/good", "--inputs", "nope"], 2, "'nope' does not exist"),
    (["verify", "runs/good", "--task-dir", "nope"], 2, "'nope' does not exist"),
    (["resume", "runs/rejected", "--model", "foo"], 2, "'foo' is not a model id"),
    (["show", "runs/good", "9"], 2, "has no pass 9"),
    (["show", "runs/good@1.9"], 2, "has no point 1.9"),
    (["show", "runs/good@1", "1"], 2, "takes one pass or one turn"),
    (["diff", "runs/good", "1", "a"], 2, "'a' names no moment of a run"),
    (["bisect", "runs/good", "--", "nope-command"], 2, "could not be started"),
    (["rewind", "runs/good", "1"], 2, "stands at 1 already"),
    (["rewind", "runs/good", "rewound/9"], 2, "has no point rewound/9"),
    (["verify", "runs/good", "--at", "nope"], 2, "has no commit 'nope'"),
    (["verify", "runs/good", "--allow", "all"], 2, "network, show=PATH"),
    (["export", "runs/good"], 2, "did not begin with a repository"),
    (["fork", "runs/good", "new"], 2, "was accepted"),
    (["fork", "runs/good@0", "runs/rejected"], 2, "holds an unfinished run"),
    (
        ["fork", "runs/good@0", "new", "--prompt", "nope.md"],
        2,
        "nope.md cannot be read: there is no such file",
    ),
    (["fork", "runs/good@0", "new", "--prompt", "code"], 2, "code cannot be read: it is a folder"),
    (["fork", "runs/good@0", "new", "--prompt", "pipe"], 2, "it is a pipe or a device"),
    (["fork", "runs/good@0", "new", "--prompt", "binary.yaml"], 2, "it is not UTF-8"),
    (["replay", "runs/good", "--to", "notes.txt"], 2, "notes.txt is a file"),
    # audits
    (["audit", "code"], 2, "Missing option '--rules'"),
    (["audit", "code", "--rules", "nope.yaml", *SCRIPT], 2, "there is no rules file nope.yaml"),
    (["audit", "code", "--rules", "pipe", *SCRIPT], 2, "it is a pipe or a device"),
    (["audit", "code", "--rules", "code", *SCRIPT], 2, "code cannot be read: it is a folder"),
    (["audit", "code", "--rules", "good/task.yaml", *SCRIPT], 2, "a rules file is a mapping with `rules`"),
    (["audit", "nope", "--rules", "rules.yaml", *SCRIPT], 2, "'nope' does not exist"),
    ([*AUDIT, "--fail-on", "fatal"], 2, "fatal"),
    ([*AUDIT, "--baseline", "nope.json"], 2, "there is no baseline nope.json"),
    ([*AUDIT, "--baseline", "pipe"], 2, "it is a pipe or a device"),
    ([*AUDIT, "--baseline", "list.yaml"], 2, "list.yaml is not a baseline"),
    ([*AUDIT, "--write-baseline"], 2, "--baseline"),
    ([*AUDIT, "--output", "pdf"], 2, "pdf"),
    ([*AUDIT, "--keep", "0"], 2, "0 is not in the range"),
    ([*AUDIT, "--changed-since", "main"], 2, "lies in no git repository"),
    # hooks
    (["hook", "install", "emacs"], 2, "emacs"),
    (["hook", "install", "claude", "--project", "nope"], 2, "nope"),
    (["hook", "start", "good/task.yaml"], 2, "no session was named"),
    (["hook", "start", "nope.yaml", "--session", "s"], 2, "there is no task file nope.yaml"),
    (["hook", "start", "pipe", "--session", "s"], 2, "it is a pipe or a device"),
    (["hook", "cancel", "nope"], 2, "there is no run 'nope'"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a verified run, a rejected run, and files of every odd kind."""
    folder = tmp_path_factory.mktemp("place")
    good = write_task(folder / "good", root=[ready("42")], name="good")
    rejected = write_task(folder / "rejected", root=[ready("41")], name="rejected", budget={"passes": 1})
    assert loop_runner("run", good, cwd=folder).returncode == 0
    assert loop_runner("run", rejected, cwd=folder).returncode == 3
    _write_odd_files(folder)
    return folder


def _write_odd_files(folder):
    for name, data in {
        "empty.yaml": b"",
        "list.yaml": b"- a\n- b\n",
        "binary.yaml": bytes(range(256)),
        "latin.yaml": b"name: caf\xe9\n",
        "utf16.yaml": "name: t\n".encode("utf-16"),
        "tabs.yaml": b"name:\tt\n\tprompt: x\n",
        "bomb.yaml": _bomb(),
        "rules.yaml": RULES.encode(),
        "replies.yaml": yaml.safe_dump({"root": [ready("42")]}).encode(),
        "notes.txt": b"The answer is 42.\n",
        "odd\nname.txt": b"42\n",
        "code/a.py": b"foo = 1\n",
        "code/empty.py": b"",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "emptydir").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    for name in ("repository", "committed"):
        _git(folder, "init", "--quiet", name)
    _git(folder / "committed", "commit", "--quiet", "--allow-empty", "-m", "a person's own work")


def _bomb():
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 9)}]" for row in range(1, 6)]
    return "\n".join(rows).encode()


def _git(folder, *args):
    identity = ["-c", "user.name=A Person", "-c", "user.email=person@localhost"]
    subprocess.run(["git", "-C", folder, *identity, *args], env=clean_environment(), check=True)


def _state(folder):
    """Every path below ``folder`` with its bytes, but for locks, which name their last process."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != "lock"
    }


@pytest.mark.parametrize(("arguments", "exit_code", "text"), USES, ids=lambda value: str(value)[:70])
def test_a_wrong_use_is_explained_and_changes_nothing(place, arguments, exit_code, text):
    before = _state(place)
    result = loop_runner(*arguments, cwd=place, env={**NO_KEYS, "HOME": str(place), "COLUMNS": "400"})
    assert result.returncode == exit_code, result.stdout + result.stderr
    assert text in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
    assert "Errno" not in result.stderr
    assert _state(place) == before


def test_what_check_names_next_is_given_what_check_was_given(place):
    given = ["good/task.yaml", "--input", "notes.txt", "--model", "script:../replies.yaml", "--passes", "3"]
    checked = loop_runner("check", *given, "--set", "budget.turns=2", cwd=place, env=NO_KEYS)
    assert checked.returncode == 0, checked.stderr
    assert f"Next   loop-runner run {' '.join(given)} --set budget.turns=2" in checked.stdout


def test_the_table_has_a_hundred_wrong_uses():
    assert len(USES) >= 100
