"""Bad input gets a clear error and loses nothing.

Every case is a real ``loop-runner`` process: what it says (what happened, why it matters, what to do), its
exit code, and that what was there before is there afterwards.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.runs.new_folders import make_way
from tests.support.commands import argv, clean_environment, loop_runner, started
from tests.support.owned import owned_copy
from tests.support.tasks import cell, ready, write_task

NO_KEYS = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"), "")
IS_ROOT = os.geteuid() == 0


def assert_output(result, exit_code, *parts):
    """The three-part message, after checking that it has its parts and the exit code."""
    assert result.returncode == exit_code, result.stderr
    assert result.stderr.startswith("loop-runner: ") or "\nloop-runner: " in result.stderr
    assert "Traceback" not in result.stderr
    for part in ("why it matters: ", "what to do: ", *parts):
        assert part in result.stderr
    return result.stderr


def content(folder):
    """Every file below ``folder`` with its bytes, but for the lock, which names whoever held it last."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"lock", "index"}
    }


def git(folder, *args):
    identity = ["-c", "user.name=A Person", "-c", "user.email=person@localhost"]
    return subprocess.run(
        ["git", *identity, "-C", folder, *args],
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task", root=[ready("41"), ready("42")])


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a task and, in runs/scripted, a run of it whose one pass was rejected."""
    folder = tmp_path_factory.mktemp("begun")
    task = write_task(folder / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    assert loop_runner("run", task, cwd=folder).returncode == 3
    return folder


@pytest.fixture
def rejected(begun, tmp_path):
    """A copy of that run; `resume --passes 2` brings it to its end."""
    return owned_copy(begun / "runs/scripted", tmp_path / "runs/scripted")


def resume_ends_verified(folder):
    result = loop_runner("resume", folder, "--passes", "2", "--json", cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# ── the task file ───────────────────────────────────────────────────────────────────────────────────

TASK = "name: t\nprompt: What?\nverifiers: [{contains: x}]\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            TASK + "budgt:\n  passes: 3\n",
            ["task.yaml, line 4: unknown key `budgt`", "did you mean `budget`?"],
        ),
        (
            TASK + "budget:\n  pases: 3\n",
            ["task.yaml, line 5: unknown key `pases`", "did you mean `passes`?"],
        ),
        (TASK + "budget:\n  passes: three\n", ["task.yaml, line 5: `budget.passes` takes an integer"]),
        (TASK + "name: u\n", ["task.yaml, line 4: duplicate key `name`, first defined on line 1"]),
        (TASK + "reentry: again\n", ["task.yaml, line 4: `reentry` takes fresh or continue, not 'again'"]),
        (TASK + "budget: {passes: 3\n", ["task.yaml, line", "not valid YAML"]),
        ("name: t\nprompt: What?\n", ["the task has no verifiers"]),
        ("name: t\nverifiers: [{contains: x}]\n", ["neither `prompt` nor `prompt_file`"]),
        ("", ["a task file is a mapping of keys"]),
        (TASK.replace("contains", "contians"), ["contians", "contains"]),
    ],
)
def test_a_mistake_in_the_task_file_is_named_with_its_place_and_the_nearest_key(tmp_path, text, parts):
    (tmp_path / "task.yaml").write_text(text)
    unused = {"ANTHROPIC_API_KEY": "unused", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    assert_output(loop_runner("run", "task.yaml", cwd=tmp_path, env=unused), 2, *parts)
    assert content(tmp_path) == {"task.yaml": text.encode()}


def test_a_task_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    assert_output(
        loop_runner("run", "nope.yaml", cwd=tmp_path), 2, "there is no task file nope.yaml", "loop-runner ask"
    )


def test_a_task_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "task.yaml").write_bytes(b"name: \xff\xfe\n")
    assert_output(loop_runner("run", "task.yaml", cwd=tmp_path), 2, "task.yaml cannot be read", "UTF-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a task and, in runs/scripted, a run of it that was accepted."""
    folder = tmp_path_factory.mktemp("finished")
    task = write_task(folder / "task", root=[ready("42")])
    assert loop_runner("run", task, cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "task/task.yaml", "--run-dir", "runs/scripted"],
        ["run", "task/task.yaml", "--set", "run_dir=runs/scripted"],
        ["run", "other/task.yaml"],  # its `run_dir` names the folder
        ["ask", "What is it?", "task/notes.txt", "--model", "script:x.yaml", "--run-dir", "runs/scripted"],
        ["hook", "start", "task/task.yaml", "--session", "s", "--run-dir", "runs/scripted"],
    ],
)
def test_a_finished_run_in_the_folder_that_was_chosen_is_not_replaced(tmp_path, finished, arguments):
    shutil.copytree(finished / "task", tmp_path / "task")
    folder = owned_copy(finished / "runs/scripted", tmp_path / "runs/scripted")
    write_task(tmp_path / "other", root=[ready("42")], run_dir=str(folder))
    before = content(folder)
    env = {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    hint = "loop-runner show "
    assert_output(loop_runner(*arguments, cwd=tmp_path, env=env), 2, "holds a finished run", hint)
    assert content(folder) == before


def test_a_run_that_was_committed_to_meanwhile_is_not_removed_to_make_way(rejected):
    before = content(rejected)
    with pytest.raises(WorkspaceError, match="holds a run with committed work"):
        make_way(rejected)
    assert content(rejected) == before


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("notes.txt", None, ["input 'notes.txt' does not exist", "did you mean 'nodes.txt'?"]),
        ("notes.txt", b"", ["input 'notes.txt' cannot be used: empty"]),
        ("notes.txt", b"a\0b" * 100, ["input 'notes.txt' cannot be used: binary: it holds NUL bytes"]),
        (
            "notes.txt",
            b"%PDF-1.7 ...",
            ["input 'notes.txt' cannot be used: broken: it is damaged, or it is not a PDF"],
        ),
    ],
)
def test_an_input_that_cannot_be_used_is_named_and_nothing_is_created(tmp_path, task, name, data, parts):
    (tmp_path / "task/nodes.txt").write_text("another file\n")
    (tmp_path / "task" / name).unlink()
    if data is not None:
        (tmp_path / "task" / name).write_bytes(data)
    assert_output(loop_runner("run", task, cwd=tmp_path), 2, *parts)
    assert not (tmp_path / "runs").exists()


def test_a_folder_with_nothing_to_read_in_it_says_what_was_left_out(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")], inputs=["texts"])
    (tmp_path / "task/texts").mkdir()
    (tmp_path / "task/texts/empty.txt").touch()
    assert_output(loop_runner("run", task, cwd=tmp_path), 2, "nothing to read in texts", "empty.txt (empty)")
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def mixed(tmp_path):
    """A task over a folder with two good texts, one that is not UTF-8, and three files that are no texts."""
    task = write_task(
        tmp_path / "task",
        root=[cell("FINAL(context['latin.txt'] + ' 42')")],
        texts={"texts/a.txt": "one\n", "texts/b.txt": "two\n"},
        inputs=["texts"],
    )
    folder = tmp_path / "task/texts"
    (folder / "latin.txt").write_bytes(b"caf\xe9 na\xefve")
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "core").write_bytes(bytes(2000))
    (folder / "empty.txt").touch()
    return task


def test_what_is_read_skipped_and_replaced_is_said_when_a_run_starts(tmp_path, mixed):
    result = loop_runner("run", mixed, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[:3] == [
        "run folder: runs/scripted",
        "model: script:script.yaml",
        (
            "inputs: 3 texts, 18 bytes; 1 image; 2 skipped (1 binary, 1 empty); "
            "1 text has bytes that are not UTF-8 (2 bytes read as U+FFFD)"
        ),
    ]
    assert json.loads(result.stdout)["answer"] == "caf\ufffd na\ufffdve 42"


def test_each_skipped_file_and_its_reason_is_shown_on_request_and_kept(tmp_path, mixed):
    result = loop_runner("run", mixed, "-v", cwd=tmp_path)
    assert "core: binary: it holds NUL bytes" in result.stderr
    kept = json.loads((tmp_path / "runs/scripted/inputs.json").read_text())
    assert sorted(Path(path).name for path, _ in kept["skipped"]) == ["core", "empty.txt"]
    assert [image["name"] for image in kept["images"]] == ["image.png"]
    trace = (tmp_path / "runs/scripted/.git/loop-runner/events.jsonl").read_text().splitlines()
    assert json.loads(trace[0])["data"]["skipped"] == {"binary": 1, "empty": 1}


def test_an_input_that_changed_since_the_last_pass_stops_a_resume_until_it_is_put_back(tmp_path):
    texts = {"a.txt": "one\n", "b.txt": "The answer is 42.\n"}
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], texts=texts, budget={"passes": 1})
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    run = tmp_path / "runs/scripted"
    before = content(run)
    (tmp_path / "task/b.txt").write_text("The answer is 41.\n")
    result = loop_runner("resume", "scripted", "--passes", "2", cwd=tmp_path)
    assert_output(result, 2, "1 of 2 inputs has changed since the run began: b.txt", "restore the old files")
    assert content(run) == before
    (tmp_path / "task/b.txt").write_text(texts["b.txt"])
    assert resume_ends_verified(run)["passes"] == 2


# ── models ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("flag", ["--model", "--sub-model"])
@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("nonsense", "'nonsense' is not a model id"),
        ("antropic:x", "did you mean anthropic:x?"),
        ("script:none.yaml", "there is no script file"),
    ],
)
def test_an_unknown_model_is_refused_and_nothing_is_created(tmp_path, task, flag, model, part):
    assert_output(loop_runner("run", task, flag, model, cwd=tmp_path), 2, part)
    assert not (tmp_path / "runs").exists()


def test_a_local_model_that_is_not_fetched_names_the_command_that_fetches_it(tmp_path, task):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    result = loop_runner("run", task, "--model", "local:coder", cwd=tmp_path, env=cache)
    assert_output(result, 4, "local:coder is not fetched yet", "loop-runner models fetch coder")
    assert not (tmp_path / "runs").exists()


def test_without_a_key_the_message_names_the_variable_and_the_way_without_one(tmp_path, task):
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    model = "anthropic:claude-sonnet-5-5"
    result = loop_runner("run", task, "--model", model, cwd=tmp_path, env={**NO_KEYS, **home})
    assert_output(result, 2, f"{model} needs a key", "ANTHROPIC_API_KEY", "loop-runner models fetch coder")
    assert not (tmp_path / "runs").exists()


def test_without_a_model_and_without_a_key_the_message_names_the_two_commands(tmp_path):
    task = write_task(tmp_path / "task", root=[], model=None)
    empty = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    result = loop_runner("run", task, cwd=tmp_path, env={**empty, **NO_KEYS})
    assert_output(result, 2, "loop-runner models fetch coder", "export ANTHROPIC_API_KEY=")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_gone_stops_a_resume_and_loses_nothing(begun, rejected):
    before = content(rejected)
    result = loop_runner(
        "resume", rejected, "--passes", "2", "--set", "sub_model=script:gone.yaml", cwd=begun
    )
    assert_output(result, 2, "there is no script file", "gone.yaml")
    assert content(rejected) == before
    resume_ends_verified(rejected)


# ── the machine ─────────────────────────────────────────────────────────────────────────────────────


def test_without_git_the_message_says_what_to_install_and_the_run_can_be_started_afterwards(tmp_path, task):
    assert_output(
        loop_runner("run", task, cwd=tmp_path, env={"PATH": "/nonexistent"}),
        4,
        "git was not found",
        "install git",
    )
    assert loop_runner("run", task, cwd=tmp_path).returncode == 0


def test_without_git_a_run_that_is_there_is_left_alone(rejected):
    before = content(rejected)
    for command in ("resume", "status", "log", "show"):
        result = loop_runner(command, rejected, cwd=rejected.parent, env={"PATH": "/nonexistent"})
        assert_output(result, 4, "git was not found")
    assert content(rejected) == before


# Gives up what lets root write where nobody may (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH), then runs the rest.
_WITHOUT_PRIVILEGE = """
import ctypes, os, sys
for capability in (1, 2):
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def unprivileged(*args, cwd):
    """Run a command for which permissions count, also when the tests are run by root."""
    prefix = [sys.executable, "-c", _WITHOUT_PRIVILEGE] if IS_ROOT else []
    return loop_runner(*args, cwd=cwd, prefix=prefix)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_created(tmp_path, task):
    (tmp_path / "sealed").mkdir(mode=0o555)
    result = unprivileged("run", task, "--run-dir", "sealed/run", cwd=tmp_path)
    assert_output(result, 4, "cannot be written (permission denied)", "sealed/run", "--run-dir")
    assert list((tmp_path / "sealed").iterdir()) == []


def test_a_run_folder_that_cannot_be_written_is_left_alone(rejected):
    paths = [rejected, *rejected.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = content(rejected)
    try:
        result = unprivileged("resume", rejected, "--passes", "2", cwd=rejected.parent)
        assert_output(result, 4, "cannot be written (permission denied)", "write permission")
        assert unprivileged("status", rejected, cwd=rejected.parent).returncode == 0, "it can still be read"
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert content(rejected) == before
    resume_ends_verified(rejected)


def test_a_run_folder_that_cannot_be_read_is_named_and_the_others_are_listed(rejected):
    sealed = rejected.with_name("sealed")
    shutil.copytree(rejected, sealed)
    sealed.chmod(0o000)
    try:
        result = unprivileged("status", cwd=rejected.parent.parent)
        assert result.returncode == 0, result.stderr
        assert "runs/scripted" in result.stdout
        assert "runs/sealed cannot be read" in result.stdout
        assert_output(
            unprivileged("resume", sealed, cwd=rejected.parent), 4, "cannot be read (permission denied)"
        )
    finally:
        sealed.chmod(0o755)


@pytest.mark.parametrize("place", ["task/task.yaml", "task/task.yaml/run"])
def test_a_run_folder_in_the_place_of_a_file_is_refused(tmp_path, task, place):
    before = content(tmp_path)
    assert_output(loop_runner("run", task, "--run-dir", place, cwd=tmp_path), 2, "task/task.yaml is a file")
    assert content(tmp_path) == before


def test_a_folder_with_other_files_in_it_is_refused_and_an_empty_one_is_taken(tmp_path, task):
    folder = tmp_path / "runs/scripted"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work\n")
    result = loop_runner("run", task, cwd=tmp_path)
    assert_output(result, 2, "is not empty and is not a run folder: it holds thesis.txt", "--run-dir")
    assert content(folder) == {"thesis.txt": b"years of work\n"}
    (folder / "thesis.txt").unlink()
    assert loop_runner("run", task, cwd=tmp_path).returncode == 0


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────────


class SmallDisk:
    """A file system of our own, in memory, that can be filled and made larger."""

    def __init__(self, folder):
        self.folder = folder

    def mount(self, megabytes):
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m"]
        return subprocess.run(["mount", *options, "tmpfs", self.folder], capture_output=True, check=False)

    def grow(self, megabytes):
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self.folder], check=True)

    def fill(self):
        with (self.folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def unmount(self):
        subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def small_disk(tmp_path):
    disk = SmallDisk(tmp_path / "disk")
    disk.folder.mkdir()
    if not IS_ROOT or disk.mount(5).returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield disk
    disk.unmount()


NOTE = "open('notes/a.md', 'w').write('seen')"
HEAP = "import os\nopen('heap', 'wb').write(os.urandom(3_000_000))"


def test_a_disk_that_fills_up_before_a_reply_is_written_down_stops_the_run(tmp_path, small_disk):
    long_reply = ready("42") + "\n" + "This is why. " * 2000
    task = write_task(tmp_path / "task", root=[cell(NOTE), long_reply])
    script = task.with_name("script.yaml")
    script.write_text(script.read_text() + "latency_s: 2.5\n")
    run = small_disk.folder / "run"
    with started("run", task, "--run-dir", run, cwd=tmp_path) as process:
        process.wait_for_line("pass 1 turn 2")
        small_disk.fill()
        exit_code, _, stderr = process.finish()
    assert exit_code == 4
    assert "the disk is full: writing the journal failed" in stderr
    assert f"free some space, then `loop-runner resume {run}`" in stderr
    assert git(run, "log", "-1", "--format=%s") == "pass 1 turn 1: ran"
    (small_disk.folder / "ballast").unlink()
    assert resume_ends_verified(run)["turns"] == 2
    assert (run / "workspace/notes/a.md").read_text() == "seen"
    git(run, "fsck", "--strict")


def test_a_disk_that_fills_up_while_a_turn_is_committed_costs_no_paid_reply(tmp_path, small_disk):
    task = write_task(
        tmp_path / "task",
        root=[cell(NOTE), cell(HEAP + "\nprint(llm_query('how many?'))"), ready("42")],
        sub=[{"reply": "42"}],
    )
    run = small_disk.folder / "run"
    result = loop_runner("run", task, "--run-dir", run, cwd=tmp_path)
    assert_output(result, 4, "the disk is full: committing pass 1 turn 2 failed", "nothing committed is lost")
    assert git(run, "log", "-1", "--format=%s") == "pass 1 turn 1: ran"
    small_disk.grow(40)
    ended = resume_ends_verified(run)
    assert (ended["turns"], ended["usage"]["requests"]) == (3, 4), "the replies came from the journal"
    git(run, "fsck", "--strict")


def test_a_disk_without_room_for_a_run_folder_takes_it_once_there_is_some(tmp_path, small_disk):
    task = write_task(tmp_path / "task", root=[ready("42")])
    small_disk.fill()
    run = small_disk.folder / "run"
    assert_output(
        loop_runner("run", task, "--run-dir", run, cwd=tmp_path), 4, "the disk is full", "free some space"
    )
    (small_disk.folder / "ballast").unlink()
    assert loop_runner("run", task, "--run-dir", run, cwd=tmp_path).returncode == 0


def test_progress_that_cannot_be_shown_does_not_stop_a_run(tmp_path, task):
    with open("/dev/full", "w") as full:
        command = argv("run", task, "--json")
        result = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, check=False)
    assert result.returncode == 0
    assert json.loads(result.stdout)["status"] == "verified"


def test_a_result_that_cannot_be_written_is_an_error(rejected):
    with open("/dev/full", "w") as full:
        command = argv("log", rejected)
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert_output(result, 4, "the result cannot be written to standard output", "loop-runner show")


def test_a_reader_that_goes_away_is_no_error(rejected):
    command = f"{' '.join(argv('log', rejected))} | head -n 1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[1:] == ["0"]
    assert result.stderr == ""


# ── the run folder ──────────────────────────────────────────────────────────────────────────────────


def test_a_second_runner_on_the_same_run_is_refused_and_the_first_goes_on(tmp_path):
    waiting = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.05)"
    task = write_task(tmp_path / "task", root=[cell(waiting), ready("42")])
    with started("run", task, "--json", cwd=tmp_path) as first:
        first.wait_for_line("turn 1")
        second = loop_runner("resume", "scripted", cwd=tmp_path)
        assert_output(second, 2, f"is in use by another runner (pid {first.pid}", f"kill -INT {first.pid}")
        again = loop_runner("run", task, cwd=tmp_path)
        assert_output(again, 2, "holds an unfinished run", "loop-runner resume")
        (tmp_path / "runs/scripted/workspace/go").touch()
        exit_code, stdout, _ = first.finish()
    assert exit_code == 0
    assert json.loads(stdout)["turns"] == 2


def make_newer(run):
    (run / "loop-runner.json").write_text('{"format": 2}\n')
    git(run, "commit", "-q", "-m", "migrate", "loop-runner.json")


@pytest.mark.parametrize("command", ["resume", "status", "log", "show"])
def test_a_run_folder_of_a_newer_format_is_left_alone_and_said_to_be_newer(rejected, command):
    make_newer(rejected)
    before = content(rejected)
    result = loop_runner(command, rejected, cwd=rejected.parent)
    assert_output(result, 2, "has format 2; this loop-runner knows formats up to 1", "--upgrade")
    assert content(rejected) == before


@pytest.mark.parametrize("command", ["resume", "status", "log", "show"])
def test_a_damaged_run_folder_is_left_alone_and_said_to_be_damaged(rejected, command):
    for pack in (rejected / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(b"PACK" + bytes(100))
    before = content(rejected)
    result = loop_runner(command, rejected, cwd=rejected.parent)
    assert_output(result, 4, "is damaged", "fsck")
    assert content(rejected) == before


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("answer.json", "show"),
        ("inputs.json", "resume"),
        ("task.yaml", "status"),
        ("passes/0001/verdict.json", "log"),
        ("passes/0001/turns/0001/calls.jsonl", "resume"),
        ("variables/manifest.json", "resume"),
    ],
)
def test_a_file_of_the_runs_that_somebody_changed_and_committed_is_named(rejected, path, command):
    (rejected / path).write_bytes(b'{"garbage": \xff')
    git(rejected, "commit", "-q", "-a", "-m", "Tidy up")
    result = loop_runner(command, rejected, cwd=rejected.parent)
    assert_output(result, 4, f"is damaged: {path} does not hold what it should", "lists the commits")
    if path == "inputs.json":
        git(rejected, "revert", "--no-edit", "HEAD")
        resume_ends_verified(rejected)


def test_status_lists_the_runs_that_can_be_read_beside_those_that_cannot(rejected):
    newer, damaged, sound = (rejected.with_name(name) for name in ("newer", "damaged", "sound"))
    for folder in (newer, damaged, sound):
        shutil.copytree(rejected, folder)
    make_newer(newer)
    (damaged / ".git/refs/heads/main").write_text("no commit\n")
    (rejected.parent / "notes").mkdir()
    result = loop_runner("status", cwd=rejected.parent.parent)
    assert result.returncode == 0, result.stderr
    assert "runs/sound" in result.stdout
    assert "has format 2" in result.stdout
    outcome = loop_runner("status", "--json", cwd=rejected.parent.parent)
    states = {entry["run"]: entry["state"] for entry in json.loads(outcome.stdout)["runs"]}
    assert states == {
        "runs/scripted": "unverified",
        "runs/sound": "unverified",
        "runs/newer": "unreadable",
        "runs/damaged": "unreadable",
    }


def test_a_run_that_is_not_there_names_those_that_are(rejected):
    result = loop_runner("resume", "scriptd", cwd=rejected.parent.parent)
    assert_output(result, 2, "there is no run 'scriptd' here", "did you mean runs/scripted?")


def test_a_run_folder_whose_making_was_killed_is_taken_over(tmp_path, task):
    (tmp_path / "runs/scripted/.git.new/objects").mkdir(parents=True)
    assert_output(
        loop_runner("resume", "scripted", cwd=tmp_path), 2, "making was interrupted", "start the run again"
    )
    assert loop_runner("run", task, cwd=tmp_path).returncode == 0


def test_files_that_somebody_changed_in_a_run_folder_are_set_aside_and_kept(rejected):
    (rejected / "answer.md").write_text("my own answer\n")
    result = loop_runner("resume", rejected, "--passes", "2", cwd=rejected.parent)
    assert result.returncode == 0
    assert "changed files were set aside: git ref refs/loop-runner/set-aside/1" in result.stderr
    assert git(rejected, "show", "refs/loop-runner/set-aside/1:answer.md") == "my own answer"
