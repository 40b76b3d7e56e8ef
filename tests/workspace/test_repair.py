"""Damaged run folders: found, named, brought back to the newest whole checkpoint, and then run to the end."""

import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from loop_runner.workspace.git.packs import Joiner
from loop_runner.workspace.history import History
from loop_runner.workspace.repair import fsck, repair
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call
from tests.workspace import scripted_run

SAMPLED = 20  # of about a hundred; `make test-damage` does them all
SEED = 11
ROOT = Path(__file__).parent.parent.parent


def git(folder, *args):
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def build(folder, turns=4):
    """An unfinished scripted run: one pass of three turns with its end, and the next pass's first turn."""
    with Workspace.create(folder, name="scripted", files={"prompt.md": b"Count.\n"}) as workspace:
        for number in range(1, turns + 1):
            pass_number, turn_number = (number - 1) // 3 + 1, (number - 1) % 3 + 1
            scripted_run.take_turn(workspace, pass_number, turn_number)
            if turn_number == 3:
                workspace.commit_pass(
                    pass_number, "rejected", files={f"passes/{pass_number:04d}/verdict.json": b"{}\n"}
                )
    return folder


@pytest.fixture(scope="module", params=["packs", "one pack", "loose"])
def whole(request, tmp_path_factory):
    """The same run as the runner leaves it, as a clone has it, and with every object in a file of its own."""
    folder = build(tmp_path_factory.mktemp("whole") / "run")
    git_dir = folder / ".git"
    with Workspace.open(folder) as workspace:
        workspace.journal.append(call("paid for"))
    if request.param == "one pack":
        assert Joiner(git_dir, at_least=2).join()
        git(folder, "pack-refs", "--all")
    if request.param == "loose":
        for pack in list((git_dir / "objects/pack").glob("*.pack")):
            moved = pack.rename(git_dir / pack.name)
            pack.with_suffix(".idx").unlink()
            with moved.open("rb") as stream:
                subprocess.run(["git", "unpack-objects", "-q"], cwd=folder, stdin=stream, check=True)
            moved.unlink()
    assert fsck.examine(folder).is_whole
    return folder


def damages(folder):
    """Every way in which each kind of file of git's is damaged here: (path, how)."""
    git_dir = folder / ".git"
    files = [path for path in sorted(git_dir.rglob("*")) if path.is_file()]
    loose = [path for path in files if len(path.parent.name) == 2 and path.parent.parent.name == "objects"]
    chosen = [path for path in files if path not in loose] + random.Random(5).sample(
        loose, min(len(loose), 6)
    )
    every = [(path.relative_to(folder), how) for path in chosen for how in HOW]
    if os.environ.get("LOOP_RUNNER_EVERY_DAMAGE"):
        return every
    return random.Random(SEED).sample(every, min(len(every), SAMPLED))


def emptied(data, moments):
    return b""


def halved(data, moments):
    return data[: len(data) // 2]


def flipped(data, moments):
    changed = bytearray(data)
    for _ in range(3):
        if changed:
            changed[moments.randrange(len(changed))] ^= 1 << moments.randrange(8)
    return bytes(changed)


def zeroed(data, moments):
    return bytes(len(data))


def deleted(data, moments):
    return None


HOW = (emptied, halved, flipped, zeroed, deleted)


def damage(path, how, moments):
    data = how(path.read_bytes(), moments)
    path.chmod(0o644)
    path.unlink() if data is None else path.write_bytes(data)


def finish(folder):
    """Run the scripted run to its end, in this process."""
    scripted_run.main(folder)
    with History(folder) as history:
        assert history.head().outcome == "accepted"
        subjects = [entry.subject for entry in history.commits() if entry.checkpoint.turn]
        assert len(subjects) == len(set(subjects))
        return sum(path.endswith("/turn.json") for path in history.files("passes/"))


def digests(folder):
    """Each file of the model's and the runner's, by hash."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_file_of_gits_is_damaged_the_run_ends_or_nothing_whole_is_left(whole, tmp_path, capsys):
    moments = random.Random(11)
    with History(whole) as history:
        stands = history.head()
    ends = {"untouched": 0, "repaired": 0, "went back": 0, "nothing whole": 0}
    for number, (path, how) in enumerate(damages(whole)):
        folder = tmp_path / f"copy{number}"
        shutil.copytree(whole, folder, symlinks=True)
        damage(folder / path, how, moments)
        what = f"{path} {how.__name__}"
        before = digests(folder)
        report = fsck.examine(folder)
        if report.is_whole:
            ends["untouched"] += 1
        else:
            done = repair.repair(folder)
            assert digests(folder) == before, f"{what}: a repair touches git's files only"
            if not done.stands_at:
                assert not report.newest_whole, what
                ends["nothing whole"] += 1
                shutil.rmtree(folder)
                continue
            again = fsck.examine(folder)
            assert not again.findings("damage"), (what, again.findings("damage"), done)
            if done.ref:
                ends["went back"] += 1
                git(folder, "rev-parse", done.ref)
            else:
                ends["repaired"] += 1
        if "loop-runner" not in path.parts and not report.findings("damage"):
            with History(folder) as history:
                assert history.head() == stands, what
        assert finish(folder) == 6, what
        left = fsck.examine(folder)
        assert not left.findings("damage"), (what, left.findings("damage"))
        shutil.rmtree(folder)
    capsys.readouterr()
    print(ends)
    assert ends["untouched"]
    assert ends["repaired"]
    assert ends["nothing whole"] <= ends["repaired"] + ends["went back"]
