"""Joining packs: fewer of them, the same history, at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from loop_runner.workspace.git.packs import Joiner
from tests.support.turns import snapshot, turn


def packs(folder):
    return sorted(path.name for path in (folder / ".git/objects/pack").glob("*.pack"))


def commit_turns(workspace, count):
    for number in range(1, count + 1):
        (workspace.model_folder / "notes" / "log.md").write_text(f"{number}\n" * number)
        workspace.commit_turn(turn(1, number, snapshot=snapshot(x=b"%d " % number * 500)), {})


def test_many_small_packs_become_one_and_nothing_is_gone(workspace, run_folder, git):
    commit_turns(workspace, 8)
    before = git("rev-list", "--objects", "--all")
    assert len(packs(run_folder)) == 9
    assert Joiner(run_folder / ".git", at_least=5).join() == 9
    assert len(packs(run_folder)) == 1
    assert git("rev-list", "--objects", "--all") == before
    git("fsck", "--strict")
    assert len(workspace.history.turns(1)) == 8
    workspace.commit_turn(turn(1, 9), {})


def test_few_packs_are_left_alone(workspace, run_folder):
    commit_turns(workspace, 3)
    assert Joiner(run_folder / ".git", at_least=5).join() == 0
    assert len(packs(run_folder)) == 4


def test_a_large_pack_is_not_copied_again_for_a_few_small_ones(workspace, run_folder):
    (workspace.model_folder / "big").write_bytes(os.urandom(300_000))
    commit_turns(workspace, 6)
    large = max((run_folder / ".git/objects/pack").glob("*.pack"), key=lambda path: path.stat().st_size)
    Joiner(run_folder / ".git", at_least=3).join()
    assert large.exists()
    assert len(packs(run_folder)) == 2


def test_packs_that_somebody_keeps_are_not_touched(workspace, run_folder):
    commit_turns(workspace, 5)
    kept = run_folder / ".git/objects/pack" / packs(run_folder)[0]
    kept.with_suffix(".keep").write_text("mine")
    Joiner(run_folder / ".git", at_least=3).join()
    assert kept.exists()


def test_a_joiner_that_is_stopped_ends_at_once_and_harms_nothing(workspace, run_folder, git):
    commit_turns(workspace, 6)
    joiner = Joiner(run_folder / ".git", at_least=3)
    joiner.start()
    joiner.stop()
    joiner.start()
    joiner.stop()
    git("fsck", "--strict")
    assert not list((run_folder / ".git/objects/pack").glob("tmp_*")) or workspace.head()


def test_a_runner_killed_while_joining_leaves_a_whole_history(workspace, run_folder, git):
    commit_turns(workspace, 12)
    workspace.close()
    before = git("rev-list", "--objects", "--all")
    code = (
        "import sys\nfrom pathlib import Path\nfrom loop_runner.workspace.git.packs import Joiner\n"
        "print('go', flush=True)\nJoiner(Path(sys.argv[1]), at_least=3).join()"
    )
    for index in range(8):
        root = Path(__file__).parent.parent.parent
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(run_folder / ".git")], stdout=subprocess.PIPE, cwd=root
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.002 * index)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert git("rev-list", "--objects", "--all") == before
    git("fsck", "--strict")
