"""The run folder as its one writer sees it: turns, passes, what is committed and what is refused."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop_runner import __version__
from loop_runner.errors import EnvironmentFault, WorkspaceError
from loop_runner.records import Answer, Snapshot, Variable
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call, snapshot, turn


def run_pass(workspace, number=1, turns=2, outcome="rejected", **changes):
    for item in range(1, turns + 1):
        workspace.commit_turn(turn(number, item, **changes), {})
    return workspace.commit_pass(number, outcome, files={f"passes/{number:04d}/verdict.json": b"{}\n"})


# ── what a person sees ──────────────────────────────────────────────────────────────────────────────


def test_a_new_run_folder_is_a_clean_repository_with_one_commit(workspace, git):
    workspace.wait_for_maintenance()  # the index is written in the background
    assert git("status", "--porcelain") == ""
    assert git("log", "--format=%s %an <%ae>") == "run: count words loop-runner <loop-runner@localhost>"
    assert git("ls-files").split() == ["answer.json", "answer.md", "loop-runner.json", "prompt.md"]
    assert (workspace.folder / "workspace" / "notes").is_dir()
    assert json.loads((workspace.folder / "loop-runner.json").read_text()) == {"format": 1}


def test_git_status_is_clean_after_every_pass_and_after_close(workspace, git):
    for number in (1, 2):
        (workspace.model_folder / "notes" / "plan.md").write_text(f"pass {number}\n")
        run_pass(workspace, number)
        workspace.wait_for_maintenance()
        assert git("status", "--porcelain") == ""
    workspace.commit_turn(turn(3, 1), {})
    workspace.close()
    assert git("status", "--porcelain") == ""


def test_what_is_committed_also_stands_on_disk(workspace):
    workspace.commit_turn(turn(answer=Answer("42")), {"passes/0001/injected.md": b"Count.\n"})
    folder = workspace.folder
    assert (folder / "answer.md").read_text() == "42"
    assert (folder / "passes/0001/injected.md").read_text() == "Count.\n"
    assert (folder / "passes/0001/turns/0001/cell.py").read_text() == "print(1)"
    assert (folder / "variables/manifest.json").exists()


def test_a_clone_can_be_gone_on_with(workspace, git, tmp_path):
    (workspace.model_folder / "notes" / "plan.md").write_bytes(b"crlf\r\n")
    run_pass(workspace)
    workspace.commit_turn(turn(2, 1), {})
    clone = tmp_path / "clone"
    git("clone", "-q", str(workspace.folder), str(clone))
    with Workspace.open(clone) as there:
        assert there.head() == workspace.head()
        assert there.set_aside is None
        there.commit_turn(turn(2, 2), {})
    assert git("status", "--porcelain", cwd=clone) == ""
    assert (clone / "workspace/notes/plan.md").read_bytes() == b"crlf\r\n"


# ── turns ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_turn_is_a_commit_with_the_documented_trailers(workspace, git):
    checkpoint = workspace.commit_turn(turn(seconds=1.5), {})
    assert git("rev-parse", "HEAD") == checkpoint.commit
    assert git("log", "-1", "--format=%B").splitlines() == [
        "pass 1 turn 1: ran",
        "",
        "Loop-Pass: 1",
        "Loop-Turn: 1",
        "Loop-Seconds: 1.500",
        f"Loop-Runner: {__version__}",
    ]
    assert git("log", "-1", "--format=%(trailers:key=Loop-Turn,valueonly)") == "1"
    assert checkpoint == workspace.head()
    assert (checkpoint.pass_number, checkpoint.turn, checkpoint.outcome) == (1, 1, None)


@pytest.mark.parametrize(
    ("end", "is_ready", "words"),
    [
        ("ok", True, "ran, ready"),
        ("raised", False, "raised"),
        ("timed_out", False, "timed out"),
        ("died", False, "died"),
        ("no_code", False, "no code"),
    ],
)
def test_the_subject_says_how_the_turn_ended(workspace, end, is_ready, words):
    code = None if end == "no_code" else "print(1)"
    done = workspace.commit_turn(turn(end=end, code=code, answer=Answer("x", is_ready)), {})
    assert done.subject == f"pass 1 turn 1: {words}"
    assert (workspace.history.read("passes/0001/turns/0001/cell.py") is None) == (code is None)


def test_text_comes_back_as_it_was_said(workspace):
    reply, output = "a\r\nb\rc \ud83d \x00 end", "no newline at the end"
    workspace.commit_turn(turn(reply=reply, output=output, answer=Answer(reply, extra={"why": "\udcff"})), {})
    assert [(item.reply, item.output) for item in workspace.history.turns(1)] == [(reply, output)]
    assert workspace.answer() == Answer(reply, extra={"why": "\udcff"})


def test_the_tree_depends_neither_on_clocks_nor_on_the_order_in_which_calls_ended(tmp_path, git):
    trees = []
    for name, order in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        calls = [call("root"), *(call(f"part {index}", kind="sub") for index in order)]
        with Workspace.create(tmp_path / name, name=name, files={}) as item:
            item.commit_turn(turn(calls=tuple(calls), seconds=float(order[0])), {})
            item.commit_pass(1, "rejected", seconds=float(order[1]))
        trees.append(git("rev-parse", "HEAD^{tree}", cwd=tmp_path / name))
    assert trees[0] == trees[1]


def test_the_roots_call_stands_first_in_calls_jsonl(workspace):
    calls = (call("z", kind="sub"), call("a", kind="sub"), call("root"))
    workspace.commit_turn(turn(calls=calls), {})
    lines = workspace.history.read("passes/0001/turns/0001/calls.jsonl").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["root", "sub", "sub"]


def test_a_turn_that_is_not_the_next_one_is_refused(workspace):
    workspace.commit_turn(turn(1, 1), {})
    for wrong in ((1, 1), (1, 3), (2, 1)):
        with pytest.raises(ValueError, match="does not follow"):
            workspace.commit_turn(turn(*wrong), {})
    assert workspace.head().turn == 1


@pytest.mark.parametrize("path", ["../up", "/etc/x", "workspace/mine.md", "a/../b", ".git/config", "a//b"])
def test_files_of_the_runner_stay_in_its_own_places(workspace, path):
    with pytest.raises(ValueError, match="does not write"):
        workspace.commit_turn(turn(), {path: b""})


# ── passes ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_pass_is_a_merge_of_its_last_turn_into_the_story_of_passes(workspace, git):
    first = run_pass(workspace, 1)
    second = run_pass(workspace, 2, outcome="accepted")
    last_turn = git("rev-parse", "HEAD^2")
    assert git("log", "--first-parent", "--format=%s").splitlines() == [
        "pass 2: accepted",
        "pass 1: rejected",
        "run: count words",
    ]
    assert git("log", "-1", "--format=%P", second.commit).split() == [first.commit, last_turn]
    assert git("log", "-1", "--format=%s", last_turn) == "pass 2 turn 2: ran"
    assert second.outcome == "accepted"
    assert git("log", "-1", "--format=%(trailers:key=Loop-Outcome,valueonly)").strip() == "accepted"


def test_the_tree_of_a_pass_is_that_of_its_last_turn_and_the_verdict(workspace, git):
    (workspace.model_folder / "early.md").write_text("1")
    workspace.commit_turn(turn(1, 1), {})
    (workspace.model_folder / "early.md").unlink()
    (workspace.model_folder / "late.md").write_text("2")
    workspace.commit_turn(turn(1, 2), {})
    (workspace.model_folder / "too-late.md").write_text("3")
    workspace.commit_pass(1, "rejected", files={"passes/0001/verdict.json": b"{}\n"})
    assert git("diff", "--name-only", "HEAD^2", "HEAD") == "passes/0001/verdict.json"
    assert workspace.history.files("workspace/") == ["workspace/late.md"]


def test_a_pass_without_a_turn_is_an_ordinary_commit(workspace, git):
    first = run_pass(workspace, 1)
    second = workspace.commit_pass(2, "stopped")
    assert git("log", "-1", "--format=%P") == first.commit
    assert (second.subject, second.outcome, second.turn) == ("pass 2: stopped", "stopped", 0)
    assert workspace.commit_turn(turn(3, 1), {}).pass_number == 3


def test_where_the_run_stands_comes_from_git(workspace, run_folder):
    run_pass(workspace, 1)
    assert workspace.head().outcome == "rejected"
    stands = workspace.commit_turn(turn(2, 1), {})
    workspace.close()
    with Workspace.open(run_folder) as again:
        assert again.head() == stands
        ended = again.commit_pass(2, "accepted")
    with Workspace.open(run_folder) as again:
        assert again.head() == ended


def test_the_answer_of_an_earlier_pass_can_be_had(workspace):
    run_pass(workspace, 1, turns=1, answer=Answer("first"))
    run_pass(workspace, 2, turns=1, answer=Answer("second", is_ready=True))
    assert workspace.answer() == Answer("second", is_ready=True)
    assert workspace.answer(at_pass=1) == Answer("first")
    with pytest.raises(WorkspaceError, match="no pass 3"):
        workspace.answer(at_pass=3)


def test_a_persons_own_commit_is_built_upon(workspace, run_folder, git):
    run_pass(workspace, 1)
    workspace.close()
    (run_folder / "prompt.md").write_text("Count again.\n")
    git("-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qam", "Ask for more")
    mine = git("rev-parse", "HEAD")
    with Workspace.open(run_folder) as again:
        assert again.head().commit == mine
        assert (again.head().pass_number, again.head().turn) == (1, 0)
        run_pass(again, 2)
        assert again.history.read("prompt.md") == b"Count again.\n"
    assert git("rev-parse", "HEAD^1") == mine


def test_a_branch_that_another_program_moved_is_not_committed_over(workspace, git):
    workspace.commit_turn(turn(1, 1), {})
    git("-c", "user.name=me", "-c", "user.email=me@here", "commit", "-q", "--allow-empty", "-m", "mine")
    with pytest.raises(WorkspaceError, match="was moved by another program") as caught:
        workspace.commit_turn(turn(1, 2), {})
    assert caught.value.hint
    assert git("log", "-1", "--format=%s") == "mine"


def test_a_run_may_go_on_on_a_branch_of_its_own(workspace, run_folder, git):
    run_pass(workspace, 1)
    workspace.close()
    git("switch", "-qc", "experiment")
    with Workspace.open(run_folder) as again:
        run_pass(again, 2)
    assert git("log", "-1", "--format=%s", "main") == "pass 1: rejected"
    assert git("log", "-1", "--format=%s", "experiment") == "pass 2: rejected"


# ── the model's files ───────────────────────────────────────────────────────────────────────────────


def test_a_file_that_becomes_a_folder_and_back_is_followed(workspace):
    thing = workspace.model_folder / "thing"
    thing.write_text("file")
    workspace.commit_turn(turn(1, 1), {})
    thing.unlink()
    thing.mkdir()
    (thing / "inner").write_text("inside")
    workspace.commit_turn(turn(1, 2), {})
    assert workspace.history.files("workspace/") == ["workspace/thing/inner"]
    (thing / "inner").unlink()
    thing.rmdir()
    thing.write_text("file again")
    workspace.commit_turn(turn(1, 3), {})
    assert workspace.history.read("workspace/thing") == b"file again"
    assert workspace.history.files("workspace/") == ["workspace/thing"]


def test_only_the_executable_bit_of_a_mode_is_kept(workspace, git):
    script = workspace.model_folder / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o644)
    workspace.commit_turn(turn(1, 1), {})
    script.chmod(0o6755)
    workspace.commit_turn(turn(1, 2), {})
    assert git("ls-tree", "HEAD^", "workspace/run.sh").startswith("100644")
    assert git("ls-tree", "HEAD", "workspace/run.sh").startswith("100755")


def test_what_is_not_stored_is_reported_and_the_report_is_kept(workspace, run_folder):
    os.mkfifo(workspace.model_folder / "pipe")
    workspace.commit_turn(turn(1, 1), {})
    assert workspace.unstored == (("workspace/pipe", "a fifo, not a file"),)
    workspace.close()
    with Workspace.open(run_folder) as again:
        assert again.unstored == (("workspace/pipe", "a fifo, not a file"),)
        again.commit_turn(turn(1, 2), {})
        assert again.history.read("workspace.json") is None
        assert not again.unstored


# ── variables ───────────────────────────────────────────────────────────────────────────────────────


def test_variables_come_back_byte_for_byte(workspace):
    kept = snapshot(words=bytes(range(256)) * 100, same=b"one\r\n")
    workspace.commit_turn(turn(snapshot=kept), {})
    got = workspace.history.snapshot()
    assert got.blobs == kept.blobs
    assert sorted(got.variables, key=lambda item: item.name) == sorted(
        kept.variables, key=lambda item: item.name
    )


def test_a_blob_that_is_stored_need_not_be_handed_over_again(workspace, git):
    kept = snapshot(words=b"many words")
    workspace.commit_turn(turn(1, 1, snapshot=kept), {})
    workspace.commit_turn(turn(1, 2, snapshot=Snapshot(kept.variables, {})), {})
    assert workspace.history.snapshot().blobs == kept.blobs
    assert "variables" not in git("diff", "--name-only", "HEAD^", "HEAD")


def test_a_blob_that_no_variable_names_any_more_leaves_the_tree(workspace, run_folder):
    workspace.commit_turn(turn(1, 1, snapshot=snapshot(words=b"old", other=b"kept")), {})
    workspace.commit_turn(turn(1, 2, snapshot=snapshot(words=b"new", other=b"kept")), {})
    names = {f"variables/blobs/{hashlib.sha256(data).hexdigest()}" for data in (b"new", b"kept")}
    assert set(workspace.history.files("variables/blobs/")) == names
    assert {f"variables/blobs/{path.name}" for path in (run_folder / "variables/blobs").iterdir()} == names


@pytest.mark.parametrize(
    ("name", "blobs", "reason"),
    [
        ("../../../../tmp/x", {"../../../../tmp/x": b"escape"}, "no SHA-256"),
        ("a" * 64, {"a" * 64: b"other bytes"}, "does not have the hash"),
        ("b" * 64, {}, "not handed over"),
    ],
)
def test_the_kernels_word_is_not_taken_for_a_blob(workspace, name, blobs, reason):
    liar = Variable("liar", "dict", 3, "{}", "saved", "", name)
    workspace.commit_turn(turn(snapshot=Snapshot((liar,), blobs)), {})
    (kept,) = workspace.history.snapshot().variables
    assert kept.status == "lost"
    assert reason in kept.reason
    assert workspace.history.files("variables/blobs/") == []


def test_a_variable_whose_committed_blob_is_damaged_is_lost_and_the_run_is_not(workspace, run_folder, git):
    workspace.commit_turn(turn(snapshot=snapshot(good=b"good", bad=b"bad")), {})
    workspace.close()
    name = hashlib.sha256(b"bad").hexdigest()
    (run_folder / "variables/blobs" / name).write_bytes(b"changed")
    git("-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qam", "Change a blob")
    with Workspace.open(run_folder) as again:
        got = {variable.name: variable for variable in again.history.snapshot().variables}
    assert got["good"].status == "saved"
    assert (got["bad"].status, got["bad"].reason) == ("lost", "its blob is missing or damaged")


# ── the journal and the commits ─────────────────────────────────────────────────────────────────────


def one_after_another(workspace):
    """Two passes that leave different files, answers and variables; the last turn of the first."""
    files = workspace.model_folder
    (files / "old.md").write_text("old")
    (files / "notes" / "n.md").write_text("first")
    workspace.commit_turn(turn(1, 1, snapshot=snapshot(words=b"one")), {})
    first = workspace.commit_pass(1, "rejected")
    (files / "old.md").unlink()
    (files / "notes" / "n.md").write_text("second")
    (files / "new.md").write_text("new")
    workspace.commit_turn(turn(2, 1, snapshot=snapshot(words=b"two", more=b"x")), {})
    return first


def is_as_after_the_first(workspace):
    files = workspace.model_folder
    there = {path.name: path.read_text() for path in files.rglob("*") if path.is_file()}
    variables = {variable.name for variable in workspace.history.snapshot().variables}
    return (there, variables, workspace.answer().content) == (
        {"old.md": "old", "n.md": "first"},
        {"words"},
        "draft 1.1",
    )


def test_what_a_pass_made_can_be_put_back_and_stays_in_its_turns(workspace, git):
    one_after_another(workspace)
    assert workspace.end_of(1) != workspace.end_of(0)
    ended = workspace.commit_pass(2, "rejected", put_back=workspace.end_of(1))
    assert is_as_after_the_first(workspace)
    assert workspace.handed_in(2).content == "draft 2.1"
    assert git("show", f"{ended.commit}^2:workspace/new.md") == "new"
    workspace.wait_for_maintenance()
    assert git("status", "--porcelain") == ""
    # What the next turn commits is derived from what was restored.
    (workspace.model_folder / "later.md").write_text("later")
    workspace.commit_turn(turn(3, 1, snapshot=snapshot(words=b"one")), {})
    assert workspace.history.files("workspace/") == [
        "workspace/later.md",
        "workspace/notes/n.md",
        "workspace/old.md",
    ]


def test_everything_may_be_put_back_to_the_beginning(workspace):
    one_after_another(workspace)
    workspace.commit_pass(2, "rejected", put_back=workspace.end_of(0))
    assert [path for path in workspace.model_folder.rglob("*") if path.is_file()] == []
    assert workspace.history.snapshot().variables == ()
    assert workspace.answer().content == ""


def test_a_runner_that_is_killed_before_the_files_are_put_back_loses_and_sets_aside_nothing(
    workspace, run_folder
):
    one_after_another(workspace)
    before = {
        path: path.read_bytes() for path in run_folder.joinpath("workspace").rglob("*") if path.is_file()
    }
    answer = (run_folder / "answer.md").read_bytes()
    workspace.commit_pass(2, "rejected", put_back=workspace.end_of(1))
    workspace.close()
    # As the disk would be if the commit were the last thing that happened.
    for path in run_folder.joinpath("workspace").rglob("*"):
        if path.is_file():
            path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    (run_folder / "answer.md").write_bytes(answer)
    with Workspace.open(run_folder) as again:
        assert is_as_after_the_first(again)
        assert again.set_aside is None


def test_the_journal_is_empty_after_the_commit_that_holds_its_calls(workspace):
    workspace.journal.append(call("root"))
    workspace.commit_turn(turn(calls=workspace.journal.calls()), {})
    assert workspace.journal.calls() == ()
    assert workspace.journal.find(call("root").fingerprint, 0) is None


def test_a_reply_that_was_paid_for_survives_the_runner(workspace, run_folder):
    workspace.journal.append(call("root", text="paid"))
    workspace.close()
    with Workspace.open(run_folder) as again:
        result = again.journal.find(call("root").fingerprint, 0)
    assert result == call("root", text="paid")


def test_calls_that_the_turn_does_not_name_are_committed_with_it(workspace):
    workspace.journal.append(call("late", kind="sub"))
    workspace.commit_turn(turn(calls=(call("root"),)), {})
    assert b"late" in workspace.history.read("passes/0001/turns/0001/calls.jsonl")


def test_calls_made_while_verifying_are_kept_with_the_pass(workspace):
    workspace.commit_turn(turn(calls=(call("root"),)), {})
    workspace.journal.append(call("is it right?", kind="judge"))
    workspace.commit_pass(1, "rejected")
    assert b"is it right?" in workspace.history.read("passes/0001/calls.jsonl")
    assert workspace.journal.calls() == ()
    assert workspace.history.spend().requests == 2


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────


def test_making_a_run_where_an_unfinished_one_is_names_resume(workspace, run_folder):
    workspace.commit_turn(turn(), {})
    with pytest.raises(WorkspaceError, match="unfinished run") as caught:
        Workspace.create(run_folder, name="again", files={})
    assert f"loop-runner resume {run_folder}" in caught.value.hint


def test_making_a_run_where_a_finished_one_is_says_so(workspace, run_folder):
    run_pass(workspace, 1, outcome="accepted")
    with pytest.raises(WorkspaceError, match="finished run") as caught:
        Workspace.create(run_folder, name="again", files={})
    assert f"loop-runner show {run_folder}" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_folder_with_other_things_in_it_is_left_alone(run_folder):
    run_folder.mkdir()
    (run_folder / "thesis.tex").write_text("mine")
    with pytest.raises(WorkspaceError, match=r"not empty.*thesis\.tex"):
        Workspace.create(run_folder, name="x", files={})
    assert [path.name for path in run_folder.iterdir()] == ["thesis.tex"]


def test_a_run_folder_whose_making_was_killed_is_taken_over(run_folder):
    (run_folder / ".git.new" / "objects").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match="making was interrupted"):
        Workspace.open(run_folder)
    with Workspace.create(run_folder, name="x", files={}) as workspace:
        assert workspace.head().subject == "run: x"
    assert not (run_folder / ".git.new").exists()


def test_an_empty_folder_for_the_model_that_a_killed_start_left_is_taken_over(run_folder):
    (run_folder / "workspace").mkdir(parents=True)
    (run_folder / ".git.new").mkdir()
    at = (run_folder / "workspace").stat().st_ino
    with Workspace.create(run_folder, name="x", files={}) as workspace:
        assert workspace.model_folder.stat().st_ino == at  # a kernel that runs already has it mounted


@pytest.mark.parametrize("what", ["file", "link", "full", "hidden"])
def test_another_workspace_than_an_empty_folder_is_refused_and_left_alone(run_folder, tmp_path, what):
    path = run_folder / "workspace"
    run_folder.mkdir()
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        path.symlink_to(tmp_path)
    else:
        path.mkdir()
        (path / (".mine" if what == "hidden" else "mine")).write_text("mine")
    claimed: list[Path] = []
    with pytest.raises(WorkspaceError, match=r"not empty.*workspace"):
        Workspace.create(run_folder, name="x", files={}, when_claimed=claimed.append)
    assert claimed == []
    assert path.is_symlink() is (what == "link")
    assert os.path.lexists(path)


def test_who_is_called_when_the_folder_is_claimed_finds_the_folder_of_the_model_empty(run_folder):
    seen = []

    def look(folder):
        seen.append((folder, list(folder.iterdir()), (run_folder / ".git").exists()))

    with Workspace.create(run_folder, name="x", files={}, when_claimed=look) as workspace:
        assert seen == [(workspace.model_folder, [], False)]


def test_what_is_no_run_folder_is_refused_and_left_alone(tmp_path, git):
    with pytest.raises(WorkspaceError, match="does not exist"):
        Workspace.open(tmp_path / "missing")
    with pytest.raises(WorkspaceError, match="is not a run folder"):
        Workspace.open(tmp_path)
    other = tmp_path / "other"
    git("init", "-q", str(other), cwd=tmp_path)
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x", cwd=other)
    with pytest.raises(WorkspaceError, match="is not a run folder"):
        Workspace.open(other)
    assert not (other / ".git" / "loop-runner").exists()


def test_a_run_folder_of_a_newer_format_asks_for_an_upgrade(workspace, run_folder, git):
    workspace.close()
    (run_folder / "loop-runner.json").write_text('{"format": 2}')
    git("-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qam", "from the future")
    with pytest.raises(WorkspaceError, match="format 2") as caught:
        Workspace.open(run_folder)
    assert "--upgrade" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_damaged_head_is_named_and_nothing_is_changed(workspace, run_folder):
    tip = workspace.commit_turn(turn(), {}).commit
    workspace.close()
    for pack in (run_folder / ".git/objects/pack").iterdir():
        pack.unlink()
    with pytest.raises(WorkspaceError, match="is damaged: HEAD"):
        Workspace.open(run_folder)
    assert (run_folder / ".git/refs/heads/main").read_text().strip() == tip


def test_a_second_runner_is_told_who_the_first_is(workspace, run_folder):
    with pytest.raises(WorkspaceError, match=f"in use by another runner .pid {os.getpid()}") as caught:
        Workspace.open(run_folder)
    assert str(os.getpid()) in caught.value.hint
    workspace.close()
    Workspace.open(run_folder).close()


def test_without_git_the_error_says_so_and_nothing_is_left(run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="git was not found") as caught:
        Workspace.create(run_folder, name="x", files={})
    assert caught.value.exit_code == 4
    monkeypatch.undo()
    Workspace.create(run_folder, name="x", files={}).close()


def test_neither_the_users_git_settings_nor_a_hooks_environment_reach_our_git(tmp_path, monkeypatch):
    home, marker = tmp_path / "home", tmp_path / "ran"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-commit", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
        (hooks / name).chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[core]\nhooksPath = {hooks}\nautocrlf = true\n[commit]\ngpgsign = true\n"
        f"[gpg]\nprogram = {hooks}/x\n[init]\ndefaultBranch = other\ntemplateDir = /nowhere\n"
        "[user]\nname = somebody\nemail = else@where\n"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    with Workspace.create(tmp_path / "run", name="x", files={}) as workspace:
        (workspace.model_folder / "a.txt").write_bytes(b"a\r\nb\n")
        run_pass(workspace)
        assert workspace.history.read("workspace/a.txt") == b"a\r\nb\n"
    assert not marker.exists()
    assert not (tmp_path / "index").exists()


def test_opening_a_run_folder_imports_nothing_heavy():
    code = (
        "import sys, loop_runner.workspace.workspace\n"
        "print(*{'git', 'anthropic', 'httpx2', 'jinja2', 'yaml', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_unknown_spend_is_not_called_nothing(workspace):
    assert workspace.history.spend().usd == 0.0
    workspace.commit_turn(turn(calls=(call("root"), call("part", kind="sub"))), {})
    workspace.commit_pass(1, "rejected", seconds=1.0)
    assert workspace.history.spend().usd is None
    spend = workspace.history.spend(lambda _model, usage: usage.total_tokens / 10)
    assert dataclasses.astuple(spend)[1:7] == (1, 1, 2, 1, 1.25, 3.0)
    assert spend.usage.total_tokens == 30


def test_no_descriptor_is_left_by_the_run_folders_that_one_process_opens(tmp_path):
    def count():
        return len(os.listdir("/proc/self/fd"))

    for number in range(3):
        with Workspace.create(tmp_path / str(number), name="n", files={"prompt.md": b"p\n"}):
            pass
        if number == 0:
            first = count()
    assert count() == first
