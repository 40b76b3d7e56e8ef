"""A user's own repository: what is read of it, and the one branch that is written."""

import pytest

from loop_runner.errors import ConfigError
from loop_runner.workspace.foreign import Foreign
from loop_runner.workspace.walk import Limits
from tests.agents.conftest import git, project  # noqa: F401 - a fixture


def test_a_worktree_is_read_at_its_own_commit(project, tmp_path):  # noqa: F811
    git(project, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "new.txt").write_text("n")
    git(tmp_path / "side", "add", "-A")
    git(tmp_path / "side", "commit", "-qm", "side")
    main, side = Foreign.around(project / "src"), Foreign.around(tmp_path / "side")
    assert main is not None
    assert side is not None
    assert main.head() != side.head()
    assert b"workspace/new.txt" in side.files(side.head())
    assert b"workspace/new.txt" not in main.files(main.head())
    assert side.common_dir == main.git_dir


def test_only_committed_bytes_are_read_with_no_filter_of_the_users(project):  # noqa: F811
    (project / "src" / "number.txt").write_text("changed")
    (project / ".gitattributes").write_text("* ident text eol=crlf filter=x\n")
    result = Foreign.around(project)
    assert result is not None
    files = result.files(result.head())
    assert files[b"workspace/src/number.txt"].data == b"0\n"
    assert set(files) == {b"workspace/src/number.txt", b"workspace/.gitignore"}


def test_a_repository_without_a_commit_or_with_too_much_is_refused(project, tmp_path):  # noqa: F811
    git(tmp_path, "init", "-q", "empty")
    empty = Foreign.around(tmp_path / "empty")
    assert empty is not None
    with pytest.raises(ConfigError, match="no commit yet"):
        empty.head()
    result = Foreign.around(project)
    assert result is not None
    with pytest.raises(ConfigError, match="holds more than 1 files"):
        result.files(result.head(), Limits(files=1))
    assert Foreign.around(tmp_path) is None
