"""Which files a pass changed, told rightly whatever they are called and whatever surrounds the runner."""

import os
import pathlib

import git as gitpython
import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.workspace import changes
from loop_runner.workspace.git.git import Git, GitFailed
from loop_runner.workspace.history import History
from tests.support.turns import turn

assert (
    gitpython.__version__
)  # imported here: it asks git for its version once, in whatever environment there is

HOSTILE = [
    b"two\nlines",
    b"one\n:100644 100644 0000000 1111111 M\tforged",
    b" space at both ends ",
    b"tab\tand \"quotes\" and 'more'",
    b"-rf",
    b":(exclude)*",
    b"*",
    b"not utf-8 \xff\xfe",
    "bidi \u202egpj.exe".encode(),
    b"back\\slash",
    b"newline at the end\n",
]


@pytest.fixture
def model(workspace, run_folder):
    """The model's folder and a way to commit what lies in it as the next turn."""
    folder = run_folder / "workspace"

    def commit(number, pass_number=1):
        workspace.commit_turn(turn(pass_number, number), {})

    return folder, commit


def test_a_pass_tells_what_it_added_changed_and_deleted(workspace, run_folder, model):
    folder, commit = model
    (folder / "notes").mkdir(exist_ok=True)
    for name in ("kept", "edited", "removed", "renamed", "executed", "linked"):
        (folder / "notes" / name).write_text(f"{name}\n" * 5)
    commit(1)
    workspace.commit_pass(1, "rejected")
    (folder / "notes/edited").write_text("other\n")
    (folder / "notes/removed").unlink()
    (folder / "notes/renamed").rename(folder / "notes/with-another-name")
    (folder / "notes/executed").chmod(0o755)
    (folder / "notes/linked").unlink()
    (folder / "notes/linked").symlink_to("kept")
    commit(1, 2)
    (folder / "second-turn.txt").write_text("new\n")
    commit(2, 2)
    in_all = (
        ("changed", "workspace/notes/edited"),
        ("changed", "workspace/notes/executed"),
        ("changed", "workspace/notes/linked"),
        ("deleted", "workspace/notes/removed"),
        ("deleted", "workspace/notes/renamed"),
        ("added", "workspace/notes/with-another-name"),
        ("added", "workspace/second-turn.txt"),
    )
    with History(run_folder) as history:
        assert history.changes(2) == in_all, "also while the pass is active"
        workspace.commit_pass(2, "rejected")
        assert history.changes(2) == in_all
        assert {kind for kind, _ in history.changes(1)} == {"added"}
        assert history.changes(3) == ()


def test_a_pass_without_turns_changed_nothing(workspace, run_folder):
    workspace.commit_pass(1, "rejected")
    assert workspace.history.changes(1) == ()


def test_what_a_person_committed_between_two_passes_is_not_the_models(workspace, run_folder, model, git):
    folder, commit = model
    commit(1)
    workspace.commit_pass(1, "rejected")
    workspace.close()
    (folder / "mine.txt").write_text("a person wrote this\n")
    git("add", "workspace/mine.txt")
    git("-c", "user.name=P", "-c", "user.email=p@localhost", "commit", "-q", "-m", "A hint")
    with type(workspace).open(run_folder) as again:
        (folder / "notes.txt").write_text("the model's\n")
        again.commit_turn(turn(2, 1), {})
        assert again.history.changes(2) == (("added", "workspace/notes.txt"),)


def test_hostile_names_come_through_byte_for_byte(workspace, run_folder, model):
    folder, commit = model
    for name in HOSTILE:
        pathlib.Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("x")
    commit(1)
    result = [(kind, os.fsencode(path)) for kind, path in workspace.history.changes(1)]
    assert result == [("added", b"workspace/" + name) for name in sorted(HOSTILE)]


def test_nothing_of_the_surroundings_and_of_the_models_files_has_a_say(
    workspace, run_folder, model, monkeypatch, tmp_path
):
    folder, commit = model
    trap = tmp_path / "trap"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {trap}\n")
    program.chmod(0o755)
    (folder / ".gitattributes").write_text("* diff=evil\n")
    (folder / "a.txt").write_text("x\n")
    commit(1)
    surroundings = {
        "GIT_DIR": str(tmp_path / "elsewhere"),
        "GIT_COMMON_DIR": str(tmp_path / "elsewhere"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path),
        "GIT_EXTERNAL_DIFF": str(program),
        "GIT_TRACE": str(trap),
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "diff.evil.textconv",
        "GIT_CONFIG_VALUE_0": str(program),
        "GIT_CONFIG_KEY_1": "core.fsmonitor",
        "GIT_CONFIG_VALUE_1": str(program),
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert workspace.history.changes(1) == (
        ("added", "workspace/.gitattributes"),
        ("added", "workspace/a.txt"),
    )
    assert not trap.exists()


def test_a_damaged_history_is_an_error_that_says_so(workspace, run_folder, model):
    _, commit = model
    commit(1)
    for pack in (run_folder / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(b"PACK" + bytes(60))
    with pytest.raises(WorkspaceError, match="is damaged"):
        workspace.history.changes(1)


def test_a_commit_that_is_not_there_is_a_failure_of_git(workspace, run_folder):
    with pytest.raises(GitFailed, match="diff-tree ended with 128"):
        changes.between(run_folder / ".git", "HEAD", "0123456789" * 4)


def test_a_pass_whose_turns_a_repair_gave_up_has_no_changes_to_tell(workspace, run_folder, git):
    workspace.commit_turn(turn(1, 1), {})
    workspace.commit_pass(1, "rejected")
    output = git("cat-file", "commit", "HEAD")
    for parent in git("rev-parse", "HEAD^1", "HEAD^2").split():
        output = output.replace(parent, parent[::-1])  # ids that nothing has
    own = Git(run_folder / ".git")
    cut = (
        own.run("hash-object", "-w", "-t", "commit", "--stdin", stdin=f"{output}\n".encode()).decode().strip()
    )
    own.run("update-ref", "refs/heads/main", cut)

    with History(run_folder) as history:
        assert history.newest_of(1) is not None
        assert history.changes(1) == ()
