"""One commit as one stream: whole or not at all, and durable without a loose end."""

import pytest

from loop_runner.workspace.git import fast_import
from loop_runner.workspace.git.fast_import import Blob, NewCommit
from loop_runner.workspace.git.git import Git, GitFailed
from tests.support.turns import turn

BRANCH = "refs/heads/main"


@pytest.fixture
def repository(workspace, run_folder):
    """Our git on a run folder, and where its branch is."""
    return Git(run_folder / ".git"), workspace.head().commit


def test_no_object_is_ever_loose_for_nobody_would_make_it_durable(workspace, run_folder):
    workspace.commit_turn(turn(1, 1), {})
    workspace.commit_pass(1, "stopped")
    workspace.commit_pass(2, "stopped")
    folders = {path.name for path in (run_folder / ".git/objects").iterdir()}
    assert folders == {"pack", "info"}


def test_a_commit_is_named_by_nothing_until_the_branch_is_moved_to_it(repository, git):
    own, tip = repository
    made = fast_import.write(own, NewCommit("next\n", 1, [tip], set_paths={b"a": Blob(b"a")}))
    assert git("rev-parse", "HEAD") == tip
    assert git("for-each-ref", "--format=%(refname)") == BRANCH
    assert git("cat-file", "-t", made) == "commit"
    fast_import.point(own, BRANCH, made, was=tip)
    assert git("rev-parse", "HEAD") == made


def test_a_branch_moves_only_from_where_it_is_known_to_be(repository, git):
    own, tip = repository
    first = fast_import.write(own, NewCommit("first\n", 1, [tip]))
    second = fast_import.write(own, NewCommit("second\n", 1, [tip]))
    fast_import.point(own, BRANCH, first, was=tip)
    with pytest.raises(GitFailed, match="but expected"):
        fast_import.point(own, BRANCH, second, was=tip)
    with pytest.raises(GitFailed):
        fast_import.point(own, BRANCH, second, was=None)
    assert git("rev-parse", "HEAD") == first


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99, 0.9999])
def test_half_a_stream_makes_no_commit(repository, git, share):
    own, tip = repository
    new = NewCommit("half\n", 1, [tip], set_paths={b"%d" % n: Blob(b"x" * 1000) for n in range(20)})
    whole = fast_import.stream(new)
    with pytest.raises(GitFailed):
        own.run("fast-import", "--quiet", "--done", stdin=whole[: int(len(whole) * share)])
    assert git("rev-parse", "HEAD") == tip
    assert git("for-each-ref", "--format=%(refname)") == BRANCH


def test_dates_and_identity_are_those_given(repository, git):
    own, tip = repository
    made = fast_import.write(own, NewCommit("x\n", 1_000_000_000, [tip]))
    assert git("log", "-1", "--format=%an <%ae> %ad %cn <%ce> %cd", "--date=format-local:%s", made) == (
        "loop-runner <loop-runner@localhost> 1000000000 loop-runner <loop-runner@localhost> 1000000000"
    )


def test_a_git_that_does_not_end_is_ended(repository):
    own, _ = repository
    with pytest.raises(GitFailed, match="no end after"):
        own.run("-c", "alias.wait=!sleep 30", "wait", timeout_s=0.3)


def test_where_the_tree_is_given_no_parent_needs_to_have_its_files(repository, git):
    own, tip = repository
    nobody = "nobody <nobody@localhost> 1 +0000"
    raw = f"tree {'1' * 40}\nauthor {nobody}\ncommitter {nobody}\n\nits files are lost\n"
    stream = ["hash-object", "-w", "-t", "commit", "--stdin"]
    lost = own.run(*stream, stdin=raw.encode()).decode().strip()
    tree = git("rev-parse", f"{tip}^{{tree}}")

    made = fast_import.write(
        own, NewCommit("end of a pass\n", 1, [lost, tip], tree=tree, set_paths={b"verdict": Blob(b"{}")})
    )

    assert git("rev-parse", f"{made}^1", f"{made}^2").split() == [lost, tip]
    assert git("show", f"{made}:verdict") == "{}"
    assert git("diff", "--name-only", tip, made) == "verdict"
