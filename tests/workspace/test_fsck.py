"""What ``fsck`` looks at, what it says of it, and that it changes nothing."""

import json
import os
import subprocess

import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.workspace.repair import fsck
from loop_runner.workspace.repair.repair import repair
from loop_runner.workspace.workspace import Workspace
from tests.support.commands import loop_runner
from tests.support.turns import call, snapshot, turn


@pytest.fixture
def closed(workspace, run_folder):
    """A run folder at rest: two turns and the end of a pass, a variable in chunks among them."""
    for number in (1, 2):
        (workspace.model_folder / "notes" / "plan.md").write_text("plan\n" * 50 * number)
        workspace.commit_turn(turn(1, number, snapshot=snapshot(big=os.urandom(1 << 21), x=b"x")), {})
    workspace.commit_pass(1, "rejected", files={"passes/0001/verdict.json": b"{}\n"})
    workspace.close()
    return run_folder


def findings_of(folder, level="damage"):
    return " | ".join(finding.text for finding in fsck.examine(folder).findings(level))


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commit_edit(git, path, change):
    change(path)
    git("add", "--all")
    git("-c", "user.name=P", "-c", "user.email=p@example.org", "commit", "-qm", "an edit of mine")


def test_a_whole_folder_is_whole_every_part_is_named_and_nothing_is_touched(closed):
    before = everything(closed)
    report = fsck.examine(closed)
    assert report.is_whole
    assert report.findings("note") == []
    assert report.newest_whole.startswith("pass 1 (")
    assert {check.name for check in report.checks} == {
        "settings", "refs", "other refs", "objects", "history", "committed files", "journal", "files",
        "leftovers",
    }  # fmt: skip
    assert everything(closed) == before


def test_what_is_no_run_folder_is_refused_and_a_newer_format_too(tmp_path, closed, git):
    with pytest.raises(WorkspaceError, match="is not a run folder"):
        fsck.examine(tmp_path)
    commit_edit(git, closed / "loop-runner.json", lambda path: path.write_text('{"format": 99}\n'))
    with pytest.raises(WorkspaceError, match="has format 99"):
        fsck.examine(closed)


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("answer.md", "another answer", "answer.md does not have the hash"),
        ("answer.json", "{", "answer.json does not"),
        ("passes/0001/turns/0002/calls.jsonl", "{}\n", "calls.jsonl does not hold"),
        ("passes/0001/turns/0001/turn.json", '{"requests": 7}\n', "says 7 requests"),
        ("variables/manifest.json", '{"variables": [{}]}\n', "manifest.json does not hold"),
        ("passes/0001/turns/0001/reply.md", None, "0001/reply.md is missing"),
        ("passes/0002/verdict.json", "{}\n", "the files of pass 2 are there"),
    ],
)  # fmt: skip
def test_files_that_contradict_each_other_are_named_and_repair_goes_behind_them(
    closed, git, path, data, words
):
    def change(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink() if data is None else target.write_text(data)

    tip = git("rev-parse", "HEAD")
    commit_edit(git, closed / path, change)
    mine = git("rev-parse", "HEAD")
    assert words in findings_of(closed)
    done = repair(closed)
    if "pass 2" in words:
        return  # a contradiction with the commits, not within the files: told, and left to the person
    assert git("rev-parse", "HEAD") == tip, done.steps
    assert git("rev-parse", "HEAD") != mine
    shown = git("show", "--name-only", "--format=", done.ref)
    assert path in shown, "what the person had committed is kept"
    assert fsck.examine(closed).is_whole


def test_a_chunk_and_a_blob_with_other_bytes_are_named(closed, git):
    chunk = next((closed / "variables/chunks").rglob("*/*"))
    commit_edit(git, chunk, lambda path: path.write_bytes(b"other bytes"))
    assert "does not have the hash that names it" in findings_of(closed)


def test_turns_out_of_order_are_named(closed, git):
    oid = git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "pass 3 turn 2: ran\n\nLoop-Pass: 3\n"
              "Loop-Turn: 2\nLoop-Runner: 1\n")  # fmt: skip
    git("update-ref", "HEAD", oid)
    assert "does not follow turn 1 of its pass" in findings_of(closed, "gap")


def test_a_persons_own_commit_is_no_damage(closed, git):
    commit_edit(git, closed / "mine.txt", lambda path: path.write_text("mine"))
    with Workspace.open(closed) as workspace:
        workspace.commit_turn(turn(2, 1), {})
        workspace.commit_pass(2, "rejected")
    assert fsck.examine(closed).is_whole, findings_of(closed)


def test_edited_files_torn_journals_and_leftovers_are_notes_and_resume_deals_with_them(closed, git):
    with Workspace.open(closed) as workspace:
        workspace.journal.append(call("paid"))
    with (closed / ".git/loop-runner/journal").open("ab") as journal:
        journal.write(b"\xffLRJ torn")
    (closed / "answer.md").write_text("edited")
    (closed / ".git/refs/heads/main.lock").write_text("")
    report = fsck.examine(closed)
    assert report.is_whole
    notes = " | ".join(item.text for item in report.findings("note"))
    for words in ("the journal has 9 torn bytes", "answer.md differs", "main.lock; `resume` clears it"):
        assert words in notes
    with Workspace.open(closed) as workspace:
        assert [item.reply.text for item in workspace.journal.calls()] == ["a reply"]
        assert "set-aside/1" in (workspace.set_aside or "")
    assert fsck.examine(closed).findings("note") == []
    (kept,) = (closed / ".git/loop-runner/damaged").glob("journal-*")
    assert kept.read_bytes().endswith(b"\xffLRJ torn")


def test_a_folder_that_runs_is_looked_at_without_its_lock(workspace, run_folder):
    workspace.commit_turn(turn(1, 1), {})
    report = fsck.examine(run_folder)
    assert report.runner is not None
    assert report.runner.pid == os.getpid()
    assert report.is_whole
    workspace.commit_turn(turn(1, 2), {})
    with pytest.raises(WorkspaceError, match="in use"):
        repair(run_folder)


def test_fsck_is_not_told_what_to_do_by_the_folder(closed, tmp_path):
    """Settings and attributes that run programs in an ordinary git run none here."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    program.chmod(0o755)
    with (closed / ".git/config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {tmp_path}\n")
        config.write(f'[filter "x"]\n\tclean = {program}\n[gc]\n\tpackRefs = true\n')
    (closed / "workspace/.gitattributes").write_text("* filter=x\n")
    (closed / ".git/refs/heads/main").write_text("garbage")
    fsck.examine(closed)
    repair(closed)
    assert not (tmp_path / "was-run").exists()


# ── the command ─────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_it_checked_and_how_to_repair(closed, git, tmp_path):
    done = loop_runner("fsck", str(closed), cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "whole: " in done.stdout
    assert "each read to its end" in done.stdout
    tip = git("rev-parse", "HEAD")
    (closed / ".git/refs/heads/main").write_text("")
    for args in (("resume", str(closed)), ("status", str(closed))):
        refused = loop_runner(*args, cwd=tmp_path)
        assert refused.returncode == 4
        assert f"loop-runner fsck {closed}" in refused.stderr
    result = loop_runner("fsck", str(closed), cwd=tmp_path)
    assert result.returncode == 4
    assert "refs/heads/main holds no commit id" in result.stdout
    assert "--repair" in result.stdout
    done = loop_runner("fsck", str(closed), "--repair", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["whole"]
    assert shown["repaired"]
    assert git("rev-parse", "HEAD") == tip


def test_when_nothing_whole_is_left_it_says_so_and_leaves_the_files(closed, tmp_path):
    for path in (closed / ".git/objects/pack").iterdir():
        path.chmod(0o644)
        path.write_bytes(b"")
    done = loop_runner("fsck", str(closed), "--repair", cwd=tmp_path)
    assert done.returncode == 4
    assert "no whole checkpoint left" in done.stdout
    assert (closed / "answer.md").read_text() == "draft 1.2"
    assert subprocess.run(["git", "--version"], check=True, capture_output=True).returncode == 0
