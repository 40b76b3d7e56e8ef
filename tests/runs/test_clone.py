"""A run folder is a git repository: it is cloned and pushed with plain git, and continues elsewhere."""

import json
import shutil

import pytest

from tests.support.commands import loop_runner
from tests.support.git import assert_clean, git, tree
from tests.support.tasks import cell, ready, write_task

pytestmark = pytest.mark.slow

ROOT = [
    cell(
        "words = ['one']\nopen('notes/plan.md', 'w').write('count\\r\\n')\n"
        "open('.gitattributes', 'w').write('* text\\n')"
    ),
    ready("41"),
    cell("words.append(llm_query('which?'))\nprint(words)"),
    ready("42"),
]
PROGRAM = (
    "import os\nopen('run.sh', 'w').write('#!/bin/sh\\n')\nos.chmod('run.sh', 0o755)\nos.mkdir('empty')\n"
)


def json_of(*args, cwd, code=0):
    result = loop_runner(*args, "--json", cwd=cwd)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def place(tmp_path):
    """``runs/scripted`` stopped after its first pass, and ``kept``, which went on where it was."""
    root = [ROOT[0], cell(PROGRAM), *ROOT[1:]]
    write_task(tmp_path / "task", root=root, sub=[{"reply": "two"}])
    assert loop_runner("run", "task/task.yaml", "-q", "--passes", "1", cwd=tmp_path).returncode == 3
    shutil.copytree(tmp_path / "runs/scripted", tmp_path / "kept", symlinks=True)
    assert loop_runner("resume", "kept", "-q", "--passes", "5", "--trust", cwd=tmp_path).returncode == 0
    return tmp_path


def goes_on(place, copy, *args):
    """Resume ``copy`` and see that it ends as the original does."""
    data = json_of("resume", copy, "-q", "--passes", "5", "--trust", *args, cwd=place)
    assert (data["status"], data["turns"]) == ("verified", 5)
    assert tree(place / copy) == tree(place / "kept")
    assert_clean(place / copy)
    assert git(place / copy, "for-each-ref", "refs/loop-runner") == "", "nothing looked like an edit"


def test_a_clone_goes_on_where_the_run_stood(place):
    git(place, "clone", "-q", "runs/scripted", "copy")
    assert not (place / "copy/.git/loop-runner").exists()
    assert json_of("status", "copy", cwd=place)["runs"][0]["turns"] == 3
    goes_on(place, "copy")
    assert (place / "copy/workspace/empty").is_dir(), "what git cannot hold is recreated"
    assert json_of("replay", "copy", cwd=place)["status"] == "same"


def test_a_clone_that_was_checked_out_with_other_line_ends_is_put_right(place):
    git(place, "clone", "-q", "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "runs/scripted", "copy")
    data = json_of("resume", "copy", "-q", "--passes", "5", "--trust", cwd=place)
    assert data["status"] == "verified"
    assert tree(place / "copy") == tree(place / "kept")


def test_a_run_goes_through_a_bare_remote_to_another_machine_and_back(place):
    """The other machine has the inputs and the task's files at another place."""
    git(place, "init", "-q", "--bare", "-b", "main", "remote.git")
    git(place / "runs/scripted", "push", "-q", "../../remote.git", "main")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "clone", "-q", "../remote.git", "copy")
    (place / "task").rename(elsewhere / "sources")
    refused = loop_runner("resume", "copy", "-q", "--trust", cwd=elsewhere)
    assert refused.returncode == 2
    assert "1 of 1 input is not there" in refused.stderr
    moved = ("--inputs", "sources", "--set", f"task_dir={elsewhere}/sources")
    data = json_of("resume", "copy", "-q", "--passes", "5", *moved, cwd=elsewhere)
    assert data["status"] == "verified"
    assert tree(elsewhere / "copy") == tree(place / "kept")
    git(elsewhere / "copy", "push", "-q", "origin", "main")
    git(place / "runs/scripted", "pull", "-q", "../../remote.git", "main")
    assert json_of("status", "scripted", cwd=place)["runs"][0]["state"] == "verified"
    assert_clean(place / "runs/scripted")


def test_inputs_with_other_bytes_are_refused_wherever_they_lie(place):
    git(place, "clone", "-q", "runs/scripted", "copy")
    (place / "task/notes.txt").unlink()
    (place / "other").mkdir()
    (place / "other/notes.txt").write_text("The answer is 43.\n")
    result = loop_runner("resume", "copy", "--trust", "--inputs", "other", cwd=place)
    assert result.returncode == 2
    assert "1 of 1 input is not there" in result.stderr


def test_a_clone_of_a_remote_whose_head_is_elsewhere_says_what_to_type(place):
    git(place, "init", "-q", "--bare", "-b", "trunk", "remote.git")
    git(place / "runs/scripted", "push", "-q", "../../remote.git", "main")
    git(place, "clone", "-q", "remote.git", "copy")
    result = loop_runner("resume", "copy", cwd=place)
    assert result.returncode == 2
    assert "what to do: `git -C " in result.stderr
    assert "copy switch main`" in result.stderr
    git(place / "copy", "switch", "-q", "main")
    goes_on(place, "copy")


def test_a_fork_of_a_clone_needs_nothing_of_either(place):
    git(place, "clone", "-q", "runs/scripted", "copy")
    json_of("fork", "copy@1.1", "./other", "--passes", "5", cwd=place)
    shutil.rmtree(place / "runs/scripted")
    shutil.rmtree(place / "copy")
    assert json_of("resume", "other", "-q", "--trust", cwd=place)["status"] == "verified"
    assert_clean(place / "other")


def test_what_a_rewind_keeps_is_pushed_when_its_ref_is_named(place):
    json_of("rewind", "kept", "1", cwd=place)
    git(place, "init", "-q", "--bare", "-b", "main", "remote.git")
    git(place / "kept", "push", "-q", "../remote.git", "main", "refs/loop-runner/*:refs/loop-runner/*")
    git(place, "clone", "-q", "remote.git", "copy")
    git(place / "copy", "fetch", "-q", "origin", "refs/loop-runner/*:refs/loop-runner/*")
    json_of("rewind", "copy", "rewound/1", cwd=place)
    assert json_of("status", "copy", cwd=place)["runs"][0]["state"] == "verified"
