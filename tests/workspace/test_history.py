"""Reading a run folder from outside, while it runs and afterwards."""

import os

import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.records import Usage
from loop_runner.workspace.git.git import ObjectReader
from loop_runner.workspace.history import History
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call, turn


def test_the_story_of_a_run_can_be_read_while_it_runs(workspace, run_folder):
    workspace.commit_turn(turn(1, 1, seconds=1.0), {})
    workspace.commit_pass(1, "rejected", seconds=2.0)
    workspace.commit_turn(turn(2, 1, seconds=4.0), {})
    with History(run_folder) as history:
        assert history.head() == workspace.head()
        holder = history.running()
        assert holder is not None
        assert holder.pid == os.getpid()
        assert [entry.subject for entry in history.passes()] == ["pass 1: rejected"]
        assert [entry.subject for entry in history.commits()] == [
            "pass 2 turn 1: ran",
            "pass 1: rejected",
            "pass 1 turn 1: ran",
            "run: count words",
        ]
        assert [entry.seconds for entry in history.commits()] == [4.0, 2.0, 1.0, 0.0]
        workspace.commit_turn(turn(2, 2), {})
        assert history.head().turn == 2
        workspace.close()
        assert history.running() is None


def test_spend_counts_every_committed_call_once(workspace, run_folder):
    workspace.commit_turn(turn(1, 1, calls=(call("a"), call("b", kind="sub"), call("b", 1, kind="sub"))), {})
    workspace.journal.append(call("judge", kind="judge"))
    workspace.commit_pass(1, "rejected")
    workspace.journal.append(call("not committed yet"))
    with History(run_folder) as history:
        spend = history.spend(lambda _model, _usage: 0.5)
    assert (spend.requests, spend.subcalls, spend.passes, spend.turns) == (4, 2, 1, 1)
    assert spend.usage == Usage(input_tokens=40, output_tokens=20)
    assert spend.usd == 2.0


def test_one_call_of_unknown_price_makes_the_sum_unknown(workspace):
    workspace.commit_turn(turn(1, 1, calls=(call("a"), call("b", model="new:x"))), {})
    assert workspace.history.spend(lambda model, _usage: None if model == "new:x" else 1.0).usd is None


def test_earlier_commits_can_be_read(workspace, run_folder):
    first = workspace.commit_turn(turn(1, 1), {})
    workspace.commit_turn(turn(1, 2), {})
    with History(run_folder) as history:
        assert history.read("answer.md") == b"draft 1.2"
        assert history.read("answer.md", at=first.commit) == b"draft 1.1"
        assert history.read("answer.md", at="HEAD~2") == b""
        assert history.read("answer.md", at="no-such-revision") is None
        assert history.read("workspace") is None, "a folder has no bytes"
        assert len(history.turns(1)) == 2
        assert len(history.turns(1, at=first.commit)) == 1


@pytest.mark.parametrize("at", ["--output=owned", "-x", "HEAD\nHEAD", "HEAD:answer.md\n"])
@pytest.mark.usefixtures("workspace")
def test_a_revision_is_never_taken_for_an_option(run_folder, at):
    with History(run_folder) as history:
        assert history.read("answer.md", at=at) is None
        with pytest.raises(WorkspaceError):
            history.files("", at=at)
    assert not list(run_folder.rglob("owned"))


def test_looking_at_a_run_changes_nothing_in_it(workspace, run_folder):
    workspace.commit_turn(turn(), {})
    workspace.close()
    before = {path: path.lstat().st_mtime_ns for path in run_folder.rglob("*")}
    with History(run_folder) as history:
        history.head(), history.spend(), history.passes(), history.running(), history.snapshot()
    assert {path: path.lstat().st_mtime_ns for path in run_folder.rglob("*")} == before


@pytest.mark.usefixtures("workspace")
def test_a_reader_that_is_forgotten_leaves_no_process_behind(run_folder):
    reader = ObjectReader(run_folder / ".git")
    assert reader.get("HEAD") is not None
    assert reader._process is not None
    pid = reader._process.pid
    del reader
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.usefixtures("workspace")
def test_a_reading_git_that_was_killed_is_started_again(run_folder):
    reader = ObjectReader(run_folder / ".git")
    assert reader.get("HEAD") is not None
    assert reader._process is not None
    reader._process.kill()
    reader._process.wait()
    assert reader.get("HEAD") is not None
    reader.close()


def test_a_run_folder_without_the_private_folder_can_be_read(workspace, run_folder, git, tmp_path):
    workspace.commit_turn(turn(), {})
    git("clone", "-q", str(run_folder), str(tmp_path / "clone"))
    with History(tmp_path / "clone") as history:
        assert history.running() is None
        assert history.head().turn == 1


def test_a_variable_blob_is_read_as_it_was_at_a_commit(workspace, run_folder):
    first = workspace.commit_turn(turn(1, 1), {})
    workspace.commit_turn(turn(1, 2), {})
    with History(run_folder) as history:
        assert list(history.snapshot(at=first.commit).blobs.values()) == [b"words 1"]
    with pytest.raises(WorkspaceError, match="in use"):
        Workspace.open(run_folder)
