"""--changed-since: what counts as changed, and that an audit of nothing does not look clean."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from loop_runner.audit import chosen_files
from loop_runner.errors import ConfigError
from tests.audit.conftest import SHOP
from tests.support.git import git

IDENTITY = ("-c", "user.name=u", "-c", "user.email=u@example.org", "-c", "protocol.file.allow=always")


def run(folder, *args):
    git(folder, *IDENTITY, *args)


def repository(folder, files):
    folder.mkdir(parents=True)
    run(folder, "init", "-q", "-b", "main")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    run(folder, "add", "-A")
    run(folder, "commit", "-qm", "begin")
    return folder


def changed(folder, since="HEAD", paths=(".",)):
    chosen = chosen_files.choose([folder / path for path in paths], folder, since=since)
    return [text.name for text in chosen.texts.texts]


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_checkout_with_crlf_is_unchanged(tmp_path):
    top = repository(tmp_path / "top", {"a.py": b"x = 1\ny = 2\n", ".gitattributes": b"*.py text eol=crlf\n"})
    (top / "a.py").unlink()
    run(top, "checkout", "a.py")
    assert b"\r\n" in (top / "a.py").read_bytes()
    os.utime(top / "a.py")  # also where the index knows nothing of it
    assert changed(top) == []
    (top / "a.py").write_bytes(b"x = 1\r\ny = 3\r\n")
    assert changed(top) == ["a.py"]


def test_a_file_of_lfs_is_unchanged_while_its_pointer_is(tmp_path):
    import hashlib

    data = b"large = 1\n"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\n"
    top = repository(tmp_path / "top", {"a.py": f"{pointer}size {len(data)}\n".encode()})
    (top / "a.py").write_bytes(data)  # as the filter of LFS does
    assert changed(top) == []
    (top / "a.py").write_bytes(b"large = 2\n")
    assert changed(top) == ["a.py"]


@pytest.mark.parametrize(
    ("attributes", "stored"),
    [("*.py filter=upper", b"x = 1\n"), ("*.py ident", b"# $Id$\n")],
    ids=["a filter", "ident"],
)
def test_a_file_that_git_checked_out_through_a_filter_is_unchanged(tmp_path, attributes, stored):
    top = repository(tmp_path / "top", {"a.py": stored, ".gitattributes": f"{attributes}\n".encode()})
    run(top, "config", "filter.upper.smudge", "tr a-z A-Z")
    run(top, "config", "filter.upper.clean", "tr A-Z a-z")
    (top / "a.py").unlink()
    run(top, "checkout", "a.py")
    assert (top / "a.py").read_bytes() != stored
    old = (top / ".git" / "index").stat().st_mtime_ns + 10**9
    os.utime(top / ".git" / "index", ns=(old, old))
    assert changed(top) == []
    (top / "a.py").write_bytes(b"other = 1\n")
    assert changed(top) == ["a.py"]


@pytest.fixture
def with_module(tmp_path):
    repository(tmp_path / "module", {"m.py": b"x = 1\n", "deep/n.py": b"x = 1\n"})
    top = repository(tmp_path / "top", {"a.py": b"x = 1\n"})
    run(top, "submodule", "--quiet", "add", str(tmp_path / "module"), "lib/module")
    run(top, "commit", "-qm", "module")
    return top


def test_the_files_of_a_submodule_are_unchanged_until_they_change(with_module):
    assert changed(with_module) == []
    (with_module / "lib/module/m.py").write_text("x = 2\n")
    assert changed(with_module) == ["lib/module/m.py"]


def test_a_new_commit_of_a_submodule_changes_only_its_own_files(with_module):
    module = with_module / "lib/module"
    (module / "deep/n.py").write_text("x = 2\n")
    run(module, "commit", "-qam", "more")
    run(with_module, "commit", "-qam", "newer module")
    assert changed(with_module, "HEAD~1") == ["lib/module/deep/n.py"]
    assert changed(with_module) == []


def test_a_worktree_compares_like_its_repository(tmp_path):
    top = repository(tmp_path / "top", {"a.py": b"x = 1\n", "b.py": b"x = 1\n"})
    run(top, "worktree", "add", "-q", "-b", "work", str(tmp_path / "tree"))
    (tmp_path / "tree" / "b.py").write_text("x = 2\n")
    assert changed(tmp_path / "tree", "main") == ["b.py"]


def test_a_sha256_repository_compares_by_its_own_hash(tmp_path):
    folder = tmp_path / "top"
    folder.mkdir()
    run(folder, "init", "-q", "--object-format=sha256", "-b", "main")
    (folder / "a.py").write_bytes(b"x = 1\n")
    run(folder, "add", "-A")
    run(folder, "commit", "-qm", "begin")
    assert changed(folder) == []


# ── the history ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def branches(tmp_path):
    """``main`` has moved on after ``work`` left it; ``work`` changed one file."""
    top = repository(tmp_path / "top", {"a.py": b"x = 1\n", "b.py": b"x = 1\n", "c.py": b"x = 1\n"})
    run(top, "checkout", "-qb", "work")
    (top / "a.py").write_text("x = 2\n")
    run(top, "commit", "-qam", "work")
    run(top, "checkout", "-q", "main")
    (top / "b.py").write_text("x = 2\n")
    run(top, "commit", "-qam", "main moves on")
    run(top, "checkout", "-q", "work")
    return top


def cloned(branches, tmp_path, *options, base=("--depth", "1")):
    clone = tmp_path / "clone"
    run(tmp_path, "clone", "-q", *options, "-b", "work", f"file://{branches}", str(clone))
    run(clone, "fetch", "-q", *base, "origin", "main:refs/remotes/origin/main")
    return clone


@pytest.mark.parametrize("depth", ["1", "2"])
def test_a_base_that_was_fetched_with_a_depth_is_refused_or_right(branches, tmp_path, depth):
    clone = cloned(branches, tmp_path, "--depth", depth)
    with pytest.raises(ConfigError, match="the history ends before HEAD left") as error:
        changed(clone, "origin/main")
    assert "fetch-depth: 0" in error.value.hint


def test_the_whole_history_gives_what_the_branch_changed(branches, tmp_path):
    clone = cloned(branches, tmp_path, base=())
    assert changed(clone, "origin/main") == ["a.py"]


def test_unrelated_histories_are_compared_and_reported(tmp_path):
    top = repository(tmp_path / "top", {"a.py": b"x = 1\n", "b.py": b"x = 1\n"})
    run(top, "checkout", "-q", "--orphan", "other")
    (top / "b.py").write_text("x = 2\n")
    run(top, "add", "-A")
    run(top, "commit", "-qm", "other")
    chosen = chosen_files.choose([top], top, since="main")
    assert [text.name for text in chosen.texts.texts] == ["b.py"]
    assert "shares no commit" in chosen.comparison


def test_main_compared_with_itself_is_not_clean_but_nothing_judged(project):
    run(project.folder, "init", "-q", "-b", "main")
    run(project.folder, "add", "-A")
    run(project.folder, "commit", "-qm", "begin")
    ended = project.audit(
        "src", "--changed-since", "main", "--output", "junit=out.xml", "--output", "markdown"
    )
    assert ended.returncode == 0
    assert "NOTHING JUDGED: no file differs; HEAD is a part of main" in ended.stdout
    assert "CLEAN" not in ended.stdout
    assert (project.folder / "out.xml").read_text().count("<skipped") == 2


@pytest.mark.parametrize("case", ["no rule", "excluded", "empty"])
def test_an_audit_of_no_file_says_why(project, case):
    project.write("docs/a.txt", "x\n")
    project.write("empty.py", "")
    args = {"no rule": ["docs"], "excluded": ["src", "--exclude", "src"], "empty": ["empty.py"]}[case]
    report = project.report(*args)
    assert report["verdict"].startswith("NOTHING JUDGED: ")
    assert report["exit_code"] == 0


def test_a_rule_that_is_about_no_file_is_named(project):
    text = (project.folder / "rules.yaml").read_text()
    (project.folder / "rules.yaml").write_text(text.replace("'*.py'", "'lib/*.py'", 1))
    report = project.report("src")
    assert report["unused_rules"] == ["bare-except"]
    assert "No file fits `files` of `bare-except`" in project.audit("src").stdout


def test_a_clone_that_was_copied_compares_by_bytes(tmp_path):
    top = repository(tmp_path / "top", {"a.py": SHOP.encode(), "b.py": b"x = 1\n"})
    shutil.copytree(top, tmp_path / "copy", symlinks=True)
    for path in (tmp_path / "copy").glob("*.py"):
        os.utime(path)
    assert changed(tmp_path / "copy") == []


def test_the_repository_is_only_read(tmp_path):
    top = repository(tmp_path / "top", {"a.py": b"x = 1\n"})
    (top / "a.py").write_bytes(b"x = 2\n")

    def seen():
        command = ["find", ".git", "-type", "f", "-newer", "a.py"]
        return subprocess.run(command, cwd=top, capture_output=True, text=True, check=True).stdout

    os.utime(top / "a.py")
    before = seen()
    assert changed(top) == ["a.py"]
    assert seen() == before
    assert Path(top / ".git/index").is_file()
