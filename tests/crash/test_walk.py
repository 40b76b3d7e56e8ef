"""A run broken at its named places, gone on with, ends as the unbroken one; nothing safe is paid for twice.

A sample over all places; ``make test-crash-full`` takes every hit of every place in every way.
"""

import multiprocessing
import os
import signal

import pytest

from loop_runner import failpoints
from loop_runner.workspace.git.packs import Joiner
from loop_runner.workspace.workspace import Workspace
from tests.crash.scenario import git
from tests.crash.walk import ACTIONS, Case, sample, table, walk
from tests.support.turns import turn

SAMPLE = int(os.environ.get("CRASH_SAMPLE", "60"))
PLACING = {
    "control.write",
    "control.place",
    "control.placed",
}  # another process: tests/runs/test_control_processes
PACKS = {"packs.make", "packs.sync", "packs.remove"}
QUEUE = {name for name in failpoints.NAMES if name.startswith("queue.")}  # tests/crash/test_queue_walk
PAGES = {"page.keep", "page.kept"}  # tests/crash/test_tool_walk


@pytest.mark.timeout(900)
def test_broken_at_any_place_in_any_way_a_run_ends_as_if_it_had_not_been(tmp_path):
    results = walk(tmp_path, SAMPLE)
    output = "\n".join(table(results))
    assert not any(result.problems for result in results), output
    assert {result.case.name for result in results} == failpoints.NAMES - PACKS - PAGES - PLACING - QUEUE, (
        "a place is never come by"
    )
    assert sum(result.was_reached for result in results) > 0.8 * len(results), output
    assert sum(result.in_flight for result in results) > 0, "no case had requests in flight"


def test_a_sample_takes_every_place_before_any_a_second_time():
    cases = [Case(0, name, hit, action) for name in "abc" for hit in (1, 2) for action in ACTIONS]
    assert {case.name for case in sample(cases, 3)} == set("abc")
    assert {case.action for case in sample(cases, 12)} == set(ACTIONS)
    assert len(set(sample(cases, 99))) == len(cases)


# ── joining packs: a short run never has enough of them ─────────────────────────────────────────────


def join(folder, spec):
    failpoints.arm(spec)
    Joiner(folder / ".git", at_least=2).join()


@pytest.mark.parametrize("action", ACTIONS)
def test_broken_anywhere_while_packs_are_joined_no_object_is_lost(tmp_path, action):
    folder = tmp_path / "run"
    for name, hits in (("packs.make", 1), ("packs.sync", 1), ("packs.remove", 3)):
        for hit in range(1, hits + 1):
            with Workspace.create(folder / f"{name}{hit}", name="x", files={}) as workspace:
                for number in range(1, 6):
                    workspace.commit_turn(turn(1, number), {})
            there = git(workspace.folder, "rev-list", "--objects", "HEAD").split()
            spec = f"{name}:{hit}:{'kill' if action == 'kill-group' else action}"
            broken = multiprocessing.get_context("spawn").Process(target=join, args=(workspace.folder, spec))
            broken.start()
            broken.join()
            assert broken.exitcode == (-signal.SIGKILL if action.startswith("kill") else 1)
            assert git(workspace.folder, "fsck", "--strict", "--no-dangling") == ""
            with Workspace.open(workspace.folder) as again:
                again.commit_turn(turn(1, 6), {})
                Joiner(workspace.folder / ".git", at_least=2).join()
            assert git(workspace.folder, "fsck", "--strict", "--no-dangling") == ""
            assert set(there) <= set(git(workspace.folder, "rev-list", "--objects", "HEAD").split())
