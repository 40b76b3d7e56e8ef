"""Bytes of the history that changed by themselves: found and named, never taken for something else."""

import random
import shutil

import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import turn

TRIES = 25


@pytest.fixture
def whole(workspace, run_folder):
    for number in (1, 2):
        (workspace.model_folder / "notes" / "plan.md").write_text("plan\n" * 50 * number)
        workspace.commit_turn(turn(1, number), {})
    workspace.commit_pass(1, "rejected", files={"passes/0001/verdict.json": b"{}\n"})
    workspace.close()
    return run_folder


def damage(path, moments):
    data = bytearray(path.read_bytes())
    how = moments.choice(["flip", "cut", "zero"])
    if how == "flip":
        data[moments.randrange(len(data))] ^= 1 << moments.randrange(8)
    elif how == "cut":
        del data[moments.randrange(len(data)) :]
    else:
        data[:] = bytes(len(data))
    path.chmod(0o644)
    path.write_bytes(data)


def damage_found(folder):
    """What opening the folder complains about; None when all that was committed is there."""
    try:
        with Workspace.open(folder) as again:
            assert (again.head().pass_number, again.head().outcome) == (1, "rejected")
            assert again.answer().content == "draft 1.2"
            assert [item.reply for item in again.history.turns(1)] == [
                "I look at part 1.",
                "I look at part 2.",
            ]
    except WorkspaceError as error:
        return error
    return None


def test_a_damaged_history_is_said_to_be_damaged_or_does_no_harm(whole, tmp_path):
    moments = random.Random(3)
    result = []
    for number in range(TRIES):
        folder = tmp_path / f"copy{number}"
        shutil.copytree(whole, folder, symlinks=True)
        damage(moments.choice(sorted((folder / ".git/objects/pack").glob("pack-*"))), moments)
        result.append(damage_found(folder))
        shutil.rmtree(folder)
    errors = [error for error in result if error is not None]
    assert errors
    assert all("damaged" in error.message and "fsck" in error.hint for error in errors)
    assert {error.exit_code for error in errors} == {4}


def test_a_branch_that_points_nowhere_is_named(whole):
    (whole / ".git/refs/heads/main").write_text("0" * 39 + "1\n")
    with pytest.raises(WorkspaceError, match="is damaged: HEAD"):
        Workspace.open(whole)


def test_an_empty_branch_file_as_a_power_cut_leaves_it_is_named(whole):
    (whole / ".git/refs/heads/main").write_text("")
    with pytest.raises(WorkspaceError, match="is damaged: HEAD"):
        Workspace.open(whole)


def test_a_head_without_a_branch_says_what_to_type(whole, git):
    git("switch", "-q", "--detach")
    with pytest.raises(WorkspaceError, match="no branch checked out") as caught:
        Workspace.open(whole)
    assert "switch main" in caught.value.hint
