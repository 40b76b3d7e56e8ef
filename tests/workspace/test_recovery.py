"""What ``open`` finds after a crash or an edit: nothing is lost, and everything stands where HEAD says."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git.fast_import import Blob
from loop_runner.workspace.repair import fsck
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import turn


@pytest.fixture
def closed(workspace, run_folder):
    """A run folder at rest, with two turns committed."""
    (workspace.model_folder / "notes" / "plan.md").write_text("one\n")
    (workspace.model_folder / "tool.sh").write_text("#!/bin/sh\n")
    (workspace.model_folder / "tool.sh").chmod(0o755)
    (workspace.model_folder / "link").symlink_to("notes/plan.md")
    workspace.commit_turn(turn(1, 1), {})
    workspace.commit_turn(turn(1, 2), {})
    workspace.close()
    return run_folder


def test_a_folder_at_rest_is_left_as_it_is(closed, git):
    before = {path: path.lstat().st_mtime_ns for path in closed.rglob("*") if ".git" not in path.parts}
    with Workspace.open(closed) as again:
        assert again.set_aside is None
    after = {path: path.lstat().st_mtime_ns for path in closed.rglob("*") if ".git" not in path.parts}
    assert after == before
    assert git("for-each-ref", "refs/loop-runner") == ""


def test_half_a_turn_of_the_model_is_set_aside_and_taken_back(closed, git):
    (closed / "workspace/notes/plan.md").write_text("one\nhalf a tho")
    (closed / "workspace/new.txt").write_bytes(b"\r\n\xff")
    (closed / "workspace/link").unlink()
    with Workspace.open(closed) as again:
        assert again.set_aside == "git ref refs/loop-runner/set-aside/1"
        assert again.head().turn == 2
    assert (closed / "workspace/notes/plan.md").read_text() == "one\n"
    assert not (closed / "workspace/new.txt").exists()
    assert (closed / "workspace/link").readlink() == Path("notes/plan.md")
    aside = "refs/loop-runner/set-aside/1"
    assert git("show", f"{aside}:workspace/notes/plan.md") == "one\nhalf a tho"
    assert git("rev-parse", f"{aside}^") == git("rev-parse", "HEAD")
    shown = subprocess.run(
        ["git", "show", f"{aside}:workspace/new.txt"], cwd=closed, capture_output=True, check=True
    )
    assert shown.stdout == b"\r\n\xff"
    assert git("status", "--porcelain") == ""


def test_every_setting_aside_has_a_ref_of_its_own(closed, git):
    for number in (1, 2, 3):
        (closed / "answer.md").write_text(f"edited {number}")
        with Workspace.open(closed) as again:
            assert again.set_aside == f"git ref refs/loop-runner/set-aside/{number}"
    assert git("show", "refs/loop-runner/set-aside/2:answer.md") == "edited 2"


def test_a_persons_extra_files_stay_where_they_are(closed):
    (closed / "my-thoughts.txt").write_text("mine")
    (closed / "docs").mkdir()
    (closed / "docs" / "a.txt").write_text("mine")
    with Workspace.open(closed) as again:
        assert again.set_aside is None
    assert (closed / "my-thoughts.txt").read_text() == "mine"
    assert (closed / "docs" / "a.txt").read_text() == "mine"


def test_files_that_a_crash_left_behind_the_commit_are_brought_up_without_a_fuss(closed, git):
    git("checkout", "-q", "HEAD^", "--", ".")  # as if the runner died between commit and files
    with Workspace.open(closed) as again:
        assert again.set_aside is None
        assert again.history.read("answer.md") == (closed / "answer.md").read_bytes()
    assert git("status", "--porcelain") == ""


def test_missing_files_are_put_back(closed, git):
    subprocess.run(
        ["rm", "-rf", "answer.md", "passes", "workspace", "variables", "prompt.md"], cwd=closed, check=True
    )
    with Workspace.open(closed) as again:
        assert again.set_aside is None
    assert git("status", "--porcelain") == ""
    assert (closed / "workspace/tool.sh").stat().st_mode & stat.S_IXUSR
    assert (closed / "workspace/link").is_symlink()


def test_what_git_cannot_hold_is_moved_aside_and_said(closed):
    os.mkfifo(closed / "workspace" / "pipe")
    inner = closed / "workspace" / "project"
    subprocess.run(["git", "init", "-q", inner], check=True)
    with Workspace.open(closed) as again:
        assert "workspace/pipe is now" in (again.set_aside or "")
        assert "workspace/project/.git is now" in (again.set_aside or "")
    assert not (closed / "workspace" / "pipe").exists()
    assert not inner.exists()
    assert len(list((closed / ".git/loop-runner/displaced").iterdir())) == 2


def test_links_in_the_way_are_replaced_and_never_written_through(closed, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "answer.md").write_text("precious")
    (outside / "plan.md").write_text("precious")
    for name in ("answer.md", "workspace/notes/plan.md"):
        (closed / name).unlink()
        (closed / name).symlink_to(outside / Path(name).name)
    subprocess.run(["rm", "-r", "variables"], cwd=closed, check=True)
    (closed / "variables").symlink_to(outside)
    with Workspace.open(closed) as again:
        again.commit_turn(turn(1, 3), {})
    assert sorted(path.name for path in outside.iterdir()) == ["answer.md", "plan.md"]
    assert {path.read_text() for path in outside.iterdir()} == {"precious"}
    assert not (closed / "variables").is_symlink()


def test_a_link_that_appears_during_the_run_is_not_written_through(workspace, tmp_path):
    workspace.commit_turn(turn(1, 1), {})
    outside = tmp_path / "outside"
    outside.mkdir()
    subprocess.run(["rm", "-r", "passes"], cwd=workspace.folder, check=True)
    (workspace.folder / "passes").symlink_to(outside)
    workspace.commit_turn(turn(1, 2), {})
    assert list(outside.iterdir()) == []
    assert (workspace.folder / "passes/0001/turns/0002/reply.md").exists()


def test_a_folder_where_a_file_belongs_makes_way(closed, git):
    (closed / "workspace/tool.sh").unlink()
    (closed / "workspace/tool.sh/inner").mkdir(parents=True)
    (closed / "workspace/tool.sh/inner/file").write_text("x")
    (closed / "answer.md").unlink()
    (closed / "answer.md").mkdir()
    (closed / "answer.md" / "mine").write_text("precious")
    with Workspace.open(closed) as again:
        assert "refs/loop-runner/set-aside/1" in (again.set_aside or "")
        assert "answer.md is now" in (again.set_aside or "")
    assert git("status", "--porcelain") == ""
    assert [path.read_text() for path in (closed / ".git/loop-runner/displaced").glob("*/mine")] == [
        "precious"
    ]
    assert git("show", "refs/loop-runner/set-aside/1:workspace/tool.sh/inner/file") == "x"


def test_what_a_killed_git_left_behind_is_cleared(closed):
    left = [
        ".git/index.lock",
        ".git/HEAD.lock",
        ".git/refs/heads/main.lock",
        ".git/objects/pack/tmp_pack_abc",
        ".git/objects/pack/tmp_idx_abc",
        ".git/fast_import_crash_123",
    ]
    for name in left:
        (closed / name).write_text("")
    pack = min((closed / ".git/objects/pack").glob("*.pack"))
    pack.with_suffix(".keep").write_text("fast-import")
    mine = closed / ".git/objects/pack/pack-mine.keep"
    mine.write_text("keep this, please")
    with Workspace.open(closed) as again:
        again.commit_turn(turn(1, 3), {})
    assert [name for name in left if (closed / name).exists()] == []
    assert not pack.with_suffix(".keep").exists()
    assert mine.exists()


def test_the_empty_mark_of_a_git_that_died_while_writing_it_goes_and_a_persons_empty_one_stays(closed):
    packs = closed / ".git/objects/pack"
    died = packs / f"pack-{'1' * 40}.keep"
    died.write_text("")
    mine = min(packs.glob("*.pack")).with_suffix(".keep")
    mine.write_text("")
    with Workspace.open(closed):
        assert not died.exists(), "the same commit, repeated in the same second, could not be made"
        assert mine.exists()


def test_an_index_whose_pack_a_power_cut_took_is_no_damage_and_goes(closed):
    packs = closed / ".git/objects/pack"
    whole = min(packs.glob("*.idx"))
    left = [packs / f"pack-{'1' * 40}{suffix}" for suffix in (".idx", ".rev")]
    for path in left:
        path.write_bytes(whole.read_bytes())
    report = fsck.examine(closed)
    assert [
        finding for check in report.checks for finding in check.findings if finding.level == "damage"
    ] == []
    assert [path.name for path in left if path.name not in str(report)] == []
    with Workspace.open(closed):
        assert [path for path in left if path.exists()] == []
        assert whole.exists()


def test_files_that_a_killed_writer_left_half_done_are_removed(closed):
    for folder in ("", "workspace/", "passes/0001/"):
        (closed / f"{folder}.loop-runner-new-1-1").write_text("half")
    with Workspace.open(closed) as again:
        assert again.set_aside is None
    assert list(closed.rglob(".loop-runner-new-*")) == []


def test_what_a_killed_writer_left_beside_a_file_of_the_task_is_removed(run_folder, git):
    with Workspace.create(run_folder, name="n", files={"gates/files/task/check.py": b"print('ok')\n"}):
        pass
    left = run_folder / "gates/files/task/.loop-runner-new-1-1"
    left.write_text("half")
    with Workspace.open(run_folder):
        assert not left.exists()
    assert git("status", "--porcelain") == ""


def test_a_write_that_fails_leaves_nothing_beside_its_target(tmp_path, monkeypatch):
    folder = Folder(tmp_path, tmp_path / "aside")

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write(b"a/b/file.txt", Blob(b"text"))
    folder.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
