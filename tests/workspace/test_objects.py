"""Git's files read without git: the same as git reads, and of a damaged one all that is whole."""

import random
import subprocess

import pytest

from loop_runner.workspace.git import objects
from loop_runner.workspace.git.packs import Joiner, lost
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import snapshot, turn


@pytest.fixture(params=[(), ("--delta-base-offset",)], ids=["deltas by name", "deltas by offset"])
def pack(request, workspace, run_folder):
    """A pack with deltas in it, and every object of it as git says."""
    for number in range(1, 7):
        (workspace.model_folder / "notes" / "log.md").write_text("a line of the log\n" * 200 * number)
        workspace.commit_turn(turn(1, number, snapshot=snapshot(x=b"%d " % number * 900)), {})
    listed = subprocess.check_output(
        ["git", "rev-list", "--objects", "--no-object-names", "--all"], cwd=run_folder
    )
    made = subprocess.run(
        ["git", "pack-objects", "-q", "--no-reuse-delta", *request.param, str(run_folder / "all")],
        input=listed, cwd=run_folder, capture_output=True, check=True,
    )  # fmt: skip
    path = run_folder / f"all-{made.stdout.decode().strip()}.pack"
    return path, set(listed.decode().split())


def test_every_object_of_a_whole_pack_is_read_with_the_name_that_git_gives_it(pack):
    path, expected = pack
    data = path.read_bytes()
    result = objects.salvage(data, lambda _: None)
    assert set(result) == expected == objects.ids_in(path.with_suffix(".idx"))
    assert objects.is_whole_pack(data)
    assert all(objects.object_id(*item) == oid for oid, item in result.items())


def test_of_a_damaged_pack_everything_but_what_was_hit_is_read(pack):
    path, expected = pack
    moments = random.Random(4)
    data = bytearray(path.read_bytes())
    for _ in range(40):
        damaged = bytearray(data)
        damaged[moments.randrange(12, len(data) - 20)] ^= 1 << moments.randrange(8)
        assert not objects.is_whole_pack(bytes(damaged))
        result = set(objects.salvage(bytes(damaged), lambda _: None))
        assert len(result & expected) > len(expected) // 4
        assert len(expected - result) >= 0
    cut = objects.salvage(bytes(data[: len(data) // 2]), lambda _: None)
    assert 0 < len(set(cut) & expected) < len(expected)


def test_what_was_read_makes_a_pack_that_git_takes(pack, run_folder, tmp_path):
    path, expected = pack
    result = objects.salvage(path.read_bytes(), lambda _: None)
    saved = tmp_path / "saved.pack"
    saved.write_bytes(objects.make_pack(result.values()))
    subprocess.run(["git", "index-pack", saved], cwd=tmp_path, check=True, capture_output=True)
    assert objects.ids_in(saved.with_suffix(".idx")) == expected


def test_trees_are_read_and_made_in_gits_order(workspace, run_folder, git):
    for name in ("a", "a.b", "a0"):
        (workspace.model_folder / name).mkdir()
        (workspace.model_folder / name / "f").write_text("x")
    (workspace.model_folder / "a-b").write_text("x")
    workspace.commit_turn(turn(1, 1), {})
    data = subprocess.check_output(["git", "cat-file", "tree", "HEAD:workspace"], cwd=run_folder)
    entries = list(objects.tree_entries(data))
    assert objects.make_tree(random.Random(1).sample(entries, len(entries))) == data
    assert objects.object_id("tree", data) == git("rev-parse", "HEAD:workspace")


def test_a_commit_that_no_branch_got_is_cleared_away_and_nothing_else(workspace, run_folder, git):
    workspace.commit_turn(turn(1, 1), {})
    before = git("rev-parse", "HEAD")
    (workspace.model_folder / "new").write_text("made in the turn that was lost")
    workspace.commit_turn(turn(1, 2), {})
    workspace.close()
    git("update-ref", "refs/heads/main", before)  # as if the runner died before the branch moved
    (gone,) = lost(run_folder / ".git")
    with Workspace.open(run_folder) as again:
        assert not gone.exists()
        assert "set-aside/1" in (again.set_aside or "")
        again.commit_turn(turn(1, 2), {})
    assert lost(run_folder / ".git") == []
    git("fsck", "--strict")
    assert git("show", "refs/loop-runner/set-aside/1:workspace/new") == "made in the turn that was lost"


def test_a_lost_commit_whose_bytes_others_need_stays(workspace, run_folder, git):
    workspace.commit_turn(turn(1, 1), {})
    before = git("rev-parse", "HEAD")
    (workspace.model_folder / "new").write_text("x" * 5000)
    workspace.commit_turn(turn(1, 2), {})
    workspace.close()
    git("update-ref", "refs/heads/main", before)
    blob = git("hash-object", "workspace/new")
    tree = subprocess.run(["git", "mktree"], input=f"100644 blob {blob}\tnew\n", cwd=run_folder, text=True,
                          capture_output=True, check=True).stdout.strip()  # fmt: skip
    identity = ("-c", "user.name=P", "-c", "user.email=p@example.org")
    git("update-ref", "refs/heads/mine", git(*identity, "commit-tree", tree, "-m", "mine"))
    assert lost(run_folder / ".git") == []
    Workspace.open(run_folder).close()
    assert git("show", "mine:new") == "x" * 5000


def test_joined_packs_are_smaller_than_the_sum(workspace, run_folder):
    for number in range(1, 8):
        (workspace.model_folder / "notes" / "log.md").write_text("a line of the log\n" * 200 * number)
        workspace.commit_turn(turn(1, number), {})
    folder = run_folder / ".git/objects/pack"
    before = sum(path.stat().st_size for path in folder.glob("*.pack"))
    assert Joiner(run_folder / ".git", at_least=3).join()
    assert sum(path.stat().st_size for path in folder.glob("*.pack")) < before
