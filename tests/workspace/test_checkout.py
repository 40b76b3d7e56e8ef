"""What the verifiers are given: committed bytes, read-only, and nothing that leads out."""

import os
import stat

import pytest

from loop_runner.errors import WorkspaceError
from loop_runner.records import Answer
from tests.support.turns import turn


@pytest.fixture
def checked_out(workspace, tmp_path):
    """Commits what a function puts into the model's folder and returns the checkout."""

    def run(prepare=lambda _folder: None):
        prepare(workspace.model_folder)
        workspace.commit_turn(turn(answer=Answer("42", is_ready=True)), {})
        into = tmp_path / "verify" / "checkout"
        into.parent.mkdir()
        workspace.checkout(into)
        return into

    return run


def test_the_checkout_holds_the_answer_and_the_models_files_and_no_more(checked_out):
    into = checked_out(lambda folder: (folder / "notes" / "a.md").write_bytes(b"a\r\n"))
    assert (into / "answer.md").read_text() == "42"
    assert (into / "workspace/notes/a.md").read_bytes() == b"a\r\n"
    assert sorted(path.name for path in into.iterdir()) == ["answer.json", "answer.md", "workspace"]


def test_files_are_read_only_and_programs_stay_executable(checked_out):
    def prepare(folder):
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o755)

    into = checked_out(prepare)
    assert stat.S_IMODE((into / "answer.md").stat().st_mode) == 0o444
    assert stat.S_IMODE((into / "workspace/run.sh").stat().st_mode) == 0o555


def test_what_changed_after_the_commit_is_not_in_it(workspace, tmp_path):
    (workspace.model_folder / "a.md").write_text("committed")
    workspace.commit_turn(turn(), {})
    (workspace.model_folder / "a.md").write_text("changed since")
    (workspace.folder / "answer.md").write_text("changed since")
    workspace.checkout(tmp_path / "out")
    assert (tmp_path / "out/workspace/a.md").read_text() == "committed"
    assert (tmp_path / "out/answer.md").read_text() == "draft 1.1"


INSIDE = {
    "same": "file",
    "deep": "notes/sub",
    "round": "notes/../file",
    "chain": "same",
}
OUTSIDE = {
    "absolute": "/etc/passwd",
    "there-and-back": "../workspace/file",
    "above": "../../secret",
    "to-answer": "../answer.md",
    "missing": "nothing",
    "loop": "loop",
    "through-file": "file/../../x",
    "escape": "hop/../../secret",
    "chained": "absolute",
    "empty-ish": "..",
}


def test_links_are_kept_only_when_they_lead_inside(checked_out):
    def prepare(folder):
        (folder / "file").write_text("x")
        (folder / "notes" / "sub").mkdir(parents=True)
        (folder / "notes" / "sub" / "inner").write_text("y")
        (folder / "hop").symlink_to("notes/sub")
        for name, target in {**INSIDE, **OUTSIDE}.items():
            (folder / name).symlink_to(target)

    into = checked_out(prepare)
    links = {path.name for path in (into / "workspace").iterdir() if path.is_symlink()}
    assert links == {*INSIDE, "hop"}
    root = os.path.realpath(into / "workspace")
    assert all(os.path.realpath(into / "workspace" / name).startswith(root) for name in links)
    assert (into / "workspace" / "chain").read_text() == "x"


def test_a_folder_with_something_in_it_is_refused(workspace, tmp_path):
    (tmp_path / "here").write_text("x")
    with pytest.raises(WorkspaceError, match="is not empty"):
        workspace.checkout(tmp_path)
