"""The folders of a commit as the reading git gives them are what ``git ls-tree`` lists."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_runner.errors import WorkspaceError
from loop_runner.workspace.git import trees
from loop_runner.workspace.git.git import ObjectReader
from loop_runner.workspace.git.trees import Damaged, TooLarge, Trees
from loop_runner.workspace.workspace import Workspace

WANTED = [
    (),
    ("a",),
    ("a/",),
    ("a/b/",),
    ("a/b",),
    ("c.txt", "d/"),
    ("d", "a/b/x"),
    ("none/",),
    ("c.txt/",),
    ("a*",),
]


def root_of(result: Trees, name: str = "HEAD") -> str:
    root = result.root(name)
    assert root is not None
    return root


def git(folder, *args, stdin=None):
    env = {**os.environ, "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x", "GIT_COMMITTER_NAME": "x"}
    env |= {"GIT_COMMITTER_EMAIL": "x", "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(["git", *args], cwd=folder, env=env, input=stdin, capture_output=True, check=True)
    return done.stdout


def commit(folder: Path, form="sha1") -> Path:
    """A commit of everything in ``folder``; returns the git folder."""
    git(folder, "init", "-q", "-b", "main", f"--object-format={form}")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    return folder / ".git"


def listed(folder, *paths):
    where = ["--", *paths] if paths else []
    rows = git(folder, "ls-tree", "-r", "-z", "--full-tree", "HEAD", *where).split(b"\0")
    parts = (row.partition(b"\t") for row in rows if row)
    return {path: tuple(about.decode().split()[::2]) for about, _, path in parts if b" blob " in about}


def write(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def tree(tmp_path):
    write(tmp_path, ["a/b/x", "a/b/y", "a/b.c", "a-b/z", "c.txt", "d/e/f/g", "a b", "ä", "line\nend", "a*"])
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "link").symlink_to("c.txt")
    return tmp_path


@pytest.mark.parametrize("form", ["sha1", "sha256"])
@pytest.mark.parametrize("wanted", WANTED)
def test_files_are_those_that_git_lists(tree, wanted, form):
    reader = ObjectReader(commit(tree, form))
    result = Trees(reader.get)
    root = root_of(result)
    literal = [f":(literal){path}" if "*" in path else path for path in wanted]
    if wanted != ("a*",):  # ls-tree takes its paths as they are
        literal = list(wanted)
    expected = listed(tree, *(path.removeprefix(":(literal)") for path in literal))
    assert result.files(root, [os.fsencode(path) for path in wanted]) == expected
    assert list(result.files(root)) == list(listed(tree))
    reader.close()


def test_a_submodule_is_no_file(tree):
    git_dir = commit(tree)
    oid = git(tree, "rev-parse", "HEAD").decode().strip()
    git(tree, "update-index", "--add", "--cacheinfo", f"160000,{oid},sub")
    git(tree, "commit", "-q", "-m", "two")
    reader = ObjectReader(git_dir)
    result = Trees(reader.get)
    assert result.files(root_of(result)) == listed(tree)
    item = result.find(root_of(result), b"sub")
    assert item is not None
    assert not item.is_file
    reader.close()


@pytest.mark.parametrize(
    ("path", "is_there"),
    [
        ("a", True),
        ("a/b", True),
        ("a/b/x", True),
        ("a/b/z", False),
        ("c.txt/x", False),
        ("b", False),
        ("ä", True),
    ],
)
def test_a_path_is_found_where_git_has_it(tree, path, is_there):
    reader = ObjectReader(commit(tree))
    result = Trees(reader.get)
    assert (result.find(root_of(result), os.fsencode(path)) is not None) == is_there
    reader.close()


def test_many_folders_are_left_to_a_git_of_its_own(tmp_path):
    write(tmp_path, [f"{number}/x" for number in range(trees.MAX_FOLDERS)])
    reader = ObjectReader(commit(tmp_path))
    result = Trees(reader.get)
    with pytest.raises(TooLarge):
        result.files(root_of(result))
    assert len(result.files(root_of(result), [b"7/"])) == 1
    reader.close()


def test_a_run_folder_with_many_folders_is_listed_whole(tmp_path):
    files = {f"prompts/{number}/x.md": b"x" for number in range(100)}
    with Workspace.create(tmp_path / "run", name="many", files={"task.yaml": b"", **files}) as workspace:
        assert set(files) <= set(workspace.history.files())
        assert len(workspace.history.files("prompts/")) == 100


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_bytes_that_are_no_folder_are_damaged_or_read_and_never_anything_else(data):
    from loop_runner.workspace.git.git import GitObject

    try:
        entries = list(trees._entries(GitObject("0" * 40, "tree", data)))
    except Damaged:
        return
    assert sum(len(name) for name, _ in entries) <= len(data)


@pytest.mark.parametrize("name", ["HEAD", "v1", "HEAD^{tree}", "main"])
def test_a_tag_or_folder_is_read_as_what_it_stands_for(tree, name):
    git_dir = commit(tree)
    git(tree, "tag", "-a", "v1", "-m", "one")
    reader = ObjectReader(git_dir)
    result = Trees(reader.get)
    assert result.files(root_of(result, name)) == listed(tree)
    assert result.root("nothing") is None
    reader.close()


def test_an_object_that_is_not_what_its_id_says_is_damaged():
    from loop_runner.workspace.git.git import GitObject

    result = Trees(lambda name: GitObject(name if name != "HEAD" else "1" * 40, "tree", b""))
    with pytest.raises(Damaged):
        result.items("2" * 40)
    with pytest.raises(Damaged):
        result.root("HEAD")


def test_a_commit_whose_folder_is_gone_is_called_damaged(tmp_path):
    with Workspace.create(
        tmp_path / "run", name="x", files={"task.yaml": b"", "prompts/a": b""}
    ) as workspace:
        history = workspace.history
        get = history._objects.get
        tree = history.commit("HEAD").tree
        history._trees = Trees(lambda name: None if name == tree else get(name))
        for reading in (
            lambda: history.tree("HEAD"),
            lambda: history.top_level("HEAD"),
            lambda: history.read("none"),
        ):
            with pytest.raises(WorkspaceError, match="is damaged"):
                reading()
