"""What a run cannot store stays as it was: in its commits, in what it restores, and in what it exports."""

import json
from pathlib import Path
from typing import Any

import pytest

from loop_runner.workspace.workspace import Workspace
from tests.agents.conftest import agent_task, git, run, started
from tests.support.commands import loop_runner
from tests.support.turns import turn

LONG_LINE = "x" * 3000 + " text\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12345\n"


@pytest.fixture
def project_with_submodule(tmp_path: Path, project: Path) -> Path:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q", "-b", "main")
    (library / "code.txt").write_text("library\n")
    git(library, "add", "-A")
    git(library, "-c", "user.name=u", "-c", "user.email=u@u", "commit", "-qm", "first")
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "libs/one")
    (project / "data.bin").write_text(LFS)
    git(project, "add", "-A")
    git(project, "-c", "user.name=u", "-c", "user.email=u@u", "commit", "-qm", "with a submodule")
    return project


def exported(tmp_path: Path, project: Path, env: dict[str, str], files: dict[str, str]) -> dict[str, Any]:
    task = agent_task(tmp_path / "task", [{"files": files, "say": "42"}], agent={"repository": str(project)})
    assert run(task, tmp_path / "run", env).status == "verified"
    done = loop_runner("export", tmp_path / "run", "--branch", "made", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_an_export_keeps_submodules_and_gitmodules(tmp_path, env, project_with_submodule):
    project = project_with_submodule
    exported(tmp_path, project, env, {"src/number.txt": "42\n"})
    assert git(project, "diff", "--name-only", "main", "made") == "src/number.txt"
    git(project, "checkout", "-q", "made")
    assert "libs/one" in git(project, "submodule", "status")


def test_the_agent_is_shown_which_files_are_not_what_their_names_say(tmp_path, env, project_with_submodule):
    exported(tmp_path, project_with_submodule, env, {"src/number.txt": "42\n"})
    prompt = started(tmp_path / "task" / "task.yaml")[0]["prompt"]
    assert "each is a submodule, whose files are not included: `libs/one`." in prompt
    assert "pointers of Git LFS, without their contents: do not change them: `data.bin`." in prompt


def test_files_written_into_a_submodule_are_listed_and_not_carried_over(
    tmp_path, env, project_with_submodule
):
    project = project_with_submodule
    files = {"libs/one/new.txt": "x", ".gitmodules": "changed\n", "src/number.txt": "42\n"}
    shown = exported(tmp_path, project, env, files)
    assert git(project, "diff", "--name-only", "main", "made") == "src/number.txt"
    not_carried = {item["path"]: item["reason"] for item in shown["not_carried"]}
    assert not_carried["libs/one/new.txt"] == "it is in a submodule, another repository"
    assert ".gitmodules" in not_carried


def test_an_export_keeps_attributes_that_git_refuses_to_store(tmp_path, env, project):
    (project / ".gitattributes").write_text(LONG_LINE)
    git(project, "add", "-A")
    git(project, "-c", "user.name=u", "-c", "user.email=u@u", "commit", "-qm", "long")
    exported(tmp_path, project, env, {"src/number.txt": "42\n"})
    assert git(project, "diff", "--name-only", "main", "made") == "src/number.txt"


# ── the kind: "not in the walk" is not "gone" ───────────────────────────────────────────────────────

GOOD = {"notes/a.txt": "a", "kept/b.txt": "b"}


def too_large(folder: Path) -> None:
    with (folder / "kept/b.txt").open("wb") as file:
        file.truncate(65 * 2**20)


def too_deep(folder: Path) -> None:
    (folder / "kept/b.txt").unlink()
    (folder / "kept" / "b.txt").mkdir()
    deep = folder / "kept" / "b.txt" / "/".join("d" * 45)
    deep.mkdir(parents=True)


def unreadable_attributes(folder: Path) -> None:
    (folder / "kept/.gitattributes").write_text(LONG_LINE)


def a_pipe(folder: Path) -> None:
    import os

    (folder / "kept/b.txt").unlink()
    os.mkfifo(folder / "kept/b.txt")


@pytest.mark.parametrize("change", [too_large, unreadable_attributes, a_pipe])
def test_a_file_that_can_no_longer_be_stored_stays_in_the_commit_as_it_was(tmp_path, change):
    with Workspace.create(tmp_path / "run", name="x", files={"task.yaml": b""}) as workspace:
        for path, text in GOOD.items():
            (workspace.model_folder / path).parent.mkdir(exist_ok=True)
            (workspace.model_folder / path).write_text(text)
        (workspace.model_folder / "kept/.gitattributes").write_text("* text\n")
        workspace.commit_turn(turn(1, 1), {})
        change(workspace.model_folder)
        workspace.commit_turn(turn(1, 2), {})
        assert workspace.history.read("workspace/kept/b.txt") == b"b"
        assert workspace.history.read("workspace/kept/.gitattributes") == b"* text\n"
        assert workspace.left_out()
        (workspace.model_folder / "kept/b.txt").unlink()
        (workspace.model_folder / "notes/a.txt").unlink()
        workspace.commit_turn(turn(1, 3), {})
        assert workspace.history.read("workspace/kept/b.txt") is None, "what the model removed is gone"
        assert workspace.history.read("workspace/notes/a.txt") is None


def test_what_lies_under_a_folder_that_cannot_be_stored_stays(tmp_path):
    with Workspace.create(tmp_path / "run", name="x", files={"task.yaml": b""}) as workspace:
        folder = workspace.model_folder / "many"
        folder.mkdir()
        (folder / "first.txt").write_text("1")
        workspace.commit_turn(turn(1, 1), {})
        for number in range(10_001):
            (folder / f"{number}").touch()
        workspace.commit_turn(turn(1, 2), {})
        assert workspace.history.read("workspace/many/first.txt") == b"1"


def test_a_large_file_of_the_first_commit_is_not_moved_aside_when_a_run_is_opened(tmp_path, env, project):
    with (project / "big.bin").open("wb") as file:
        file.truncate(65 * 2**20)
    git(project, "add", "-A")
    git(project, "-c", "user.name=u", "-c", "user.email=u@u", "commit", "-qm", "big")
    exported(tmp_path, project, env, {"src/number.txt": "42\n"})
    assert git(project, "diff", "--name-only", "main", "made") == "src/number.txt"
    before = (tmp_path / "run/workspace/big.bin").stat().st_ino
    with Workspace.open(tmp_path / "run") as workspace:
        assert workspace.set_aside is None or "big.bin" not in workspace.set_aside
    assert (tmp_path / "run/workspace/big.bin").stat().st_ino == before
