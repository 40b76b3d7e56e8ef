"""Break a run at every named place, every time, in every way; go on; compare with the unbroken run.

    python -m tests.crash.walk                 # everything: about half an hour
    python -m tests.crash.walk --sample 80     # so many of them, the same ones each time

Prints one line for each place and what was wrong; ends with 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from loop_runner import failpoints
from loop_runner.workspace.history import History
from tests.crash.forker import Ended
from tests.crash.scenario import EDITS, Scene, Stage, acknowledged, durable, git, stages
from tests.crash.waiting import wait_for_all

ACTIONS = ("kill", "kill-group", "ENOSPC", "EIO")
# A process that cannot be started costs one call, and the run that continues is another than without it.
ONLY_KILLED = frozenset({"tool.start", "tool.started"})
SEED = 20261121
_WORKERS = 2
_ON_THE_WIRE_S = 0.1
_Scene = TypeVar("_Scene", bound=Scene)


@dataclass(frozen=True)
class Case:
    """The ``hit``-th time that stage number ``stage`` comes by ``name``."""

    stage: int
    name: str
    hit: int
    action: str

    @property
    def failpoint(self) -> str:
        return f"{self.name}:{self.hit}:{self.action}"


@dataclass
class Result:
    """What came of a case. ``problems`` is empty when all held."""

    case: Case
    was_reached: bool = True
    in_flight: int = 0  # received by the server, and no reply kept when the run was broken
    counted: int = 0  # what the run itself says of that
    problems: list[str] = field(default_factory=list)


def every_case(result: Sequence[Stage]) -> list[Case]:
    """All of them."""
    return [
        Case(number, name, hit, action)
        for number, stage in enumerate(result)
        for name, hits in Counter(stage.passed).items()
        for hit in range(1, hits + 1)
        for action in ACTIONS
        if action.startswith("kill") or name not in ONLY_KILLED
    ]


def sample(cases: Sequence[Case], size: int) -> list[Case]:
    """``size`` cases, every name before any name a second time, and the actions in turn."""
    by_name: dict[str, list[Case]] = {}
    for case in random.Random(SEED).sample(cases, len(cases)):
        by_name.setdefault(case.name, []).append(case)
    chosen: list[Case] = []
    names = sorted(by_name)
    for turn in range(len(cases)):
        for place, name in enumerate(names):
            wanted = ACTIONS[(turn + place) % len(ACTIONS)]
            left = by_name[name]
            if left and len(chosen) < size:
                chosen.append(next((case for case in left if case.action == wanted), left[0]))
                left.remove(chosen[-1])
    return chosen


def check(scene: Scene, stage: Stage, case: Case) -> Result:
    """Break the stage, look at what is left, go on, look at the end."""
    result = Result(case)
    scene.begin(stage)
    before = durable(scene.run)
    ended = scene.take(stage, failpoint=case.failpoint)
    result.problems += _wrong_end(ended, case, stage)
    result.was_reached = ended.was_killed or "failpoint" in ended.stderr or ended.exit_code == 4
    if ended.was_killed and case.name.startswith(("switchboard.", "sent.", "journal.")):
        time.sleep(_ON_THE_WIRE_S)  # what was on its way when the runner was killed comes in after its death
    requests, safe = scene.requests(), durable(scene.run) - before
    result.in_flight = (requests - safe).total()
    if (scene.run / ".git").is_dir():
        there = set(git(scene.run, "rev-list", "HEAD").split())
        if lost := acknowledged(scene.run) - there:
            result.problems.append(f"{len(lost)} acknowledged commits are lost")
        with History(scene.run) as history:
            result.counted = history.in_flight() + history.spend().unanswered
    if result.counted < result.in_flight:
        result.problems.append(f"{result.in_flight} requests were in flight, {result.counted} are counted")
    again = scene.take(stage)
    if not case.action.startswith("kill") and "--trust (once" in again.stderr:
        again = scene.take(stage, "--trust")  # the fault hit the mark that the folder is this user's
    result.problems += _wrong_in_the_end(scene, stage, again, result)
    issued = scene.requests() - requests
    if issued != stage.sent - safe:
        twice, never = issued - (stage.sent - safe), (stage.sent - safe) - issued
        result.problems.append(f"sent again: {twice.total()} that were safe; not sent: {never.total()}")
    return result


def _wrong_end(ended: Ended, case: Case, stage: Stage) -> Iterator[str]:
    if case.action.startswith("kill"):
        if ended.exit_code not in (-signal.SIGKILL, stage.exit_code):
            yield f"broken, it ended with {ended.exit_code}: {ended.stderr[-300:]}"
        return
    if ended.exit_code == stage.exit_code:
        return  # a fault that can be lived with
    if ended.exit_code != 4 or "what to do:" not in ended.stderr or "Traceback" in ended.stderr:
        yield f"{case.action} ended with {ended.exit_code}: {ended.stderr[-300:]}"
    elif ended.json().get("status") != "error":
        yield "the error is not in the JSON"


def _wrong_in_the_end(scene: Scene, stage: Stage, again: Ended, result: Result) -> Iterator[str]:
    if again.exit_code != stage.exit_code:
        yield f"gone on with, it ended with {again.exit_code}: {again.stderr[-300:]}"
        return
    with History(scene.run) as history:
        unknown = [call.prompt for call in history.unknown_tool_calls()]
    acted = scene.acted()
    if len(set(scene.acted_once())) < len(scene.acted_once()):
        yield f"tools acted twice: {acted}"
    if missing := [
        name for name in stage.acted if name not in acted and f'{{"name": "{name}"}}' not in unknown
    ]:
        yield f"tools did not act, and it is not said: {missing}"
    if scene.tree() != stage.tree and not unknown:
        yield f"the tree differs: {scene.tree()}"
    usage = again.json()["usage"]
    if usage["requests"] != stage.requests:
        yield f"{usage['requests']} requests are charged, not {stage.requests}"
    if usage["unanswered"] < result.in_flight:
        yield f"{result.in_flight} requests were in flight, {usage['unanswered']} are shown"
    if dirty := git(scene.run, "status", "--porcelain"):
        yield f"`git status` says {dirty!r}"
    if output := git(scene.run, "fsck", "--strict", "--no-dangling"):
        yield f"`git fsck` says {output!r}"
    kept = {
        git(scene.run, "cat-file", "-p", f"{ref}:{path}")
        for ref in git(scene.run, "for-each-ref", "--format=%(refname)", "refs/loop-runner/set-aside").split()
        for path in stage.edits
        if path in git(scene.run, "ls-tree", "-r", "--name-only", ref).split("\n")
    }
    if lost := {EDITS[path].decode().strip() for path in stage.edits} - kept:
        yield f"a person's edits are lost: {lost}"


# ── all of them ─────────────────────────────────────────────────────────────────────────────────────


def walk(place: Path, choose: int | None) -> list[Result]:
    """Check every case, or ``choose`` of them, on two processors."""
    scenes = [Scene(place / f"scene{number}") for number in range(_WORKERS)]
    return walked(scenes, stages, choose)


def walked(
    scenes: Sequence[_Scene],
    stages_of: Callable[[_Scene], list[Stage]],
    choose: int | None,
    *,
    wrong: Callable[[_Scene, Stage], Iterable[str]] = lambda _scene, _stage: (),
    is_walked: Callable[[str], bool] = lambda _name: True,
) -> list[Result]:
    """Check the cases of ``scenes``, which are equal, each in a thread; the scenes are closed.

    ``wrong`` looks at a scene after a case; of the places, those are taken that ``is_walked`` takes.
    """
    try:
        ready = [stages_of(scene) for scene in scenes]
        cases = [case for case in every_case(ready[0]) if is_walked(case.name)]
        todo = deque(sample(cases, len(cases) if choose is None else choose))
        results: list[Result] = []
        errors: list[BaseException] = []

        def work(scene: _Scene, own: list[Stage]) -> None:
            while todo and not errors:
                case = todo.popleft()
                try:
                    result = check(scene, own[case.stage], case)
                    result.problems += wrong(scene, own[case.stage])
                    results.append(result)
                except BaseException as error:  # noqa: BLE001 - told to the one who waits
                    error.add_note(f"in {case}")
                    errors.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in zip(scenes, ready, strict=True)]
        for thread in threads:
            thread.start()
        wait_for_all(threads, todo, results)
        if errors:
            raise errors[0]
        return results
    finally:
        for scene in scenes:
            scene.close()


def table(results: Iterable[Result]) -> Iterator[str]:
    """One line for each name, then one for each problem."""
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.case.name, []).append(result)
    yield f"{'place':<24}{'cases':>7}{'reached':>9}{'in flight':>11}{'counted':>9}{'wrong':>7}"
    for name, item in [
        *sorted(by_name.items()),
        ("all", [first for many in by_name.values() for first in many]),
    ]:
        yield (
            f"{name:<24}{len(item):>7}{sum(first.was_reached for first in item):>9}"
            f"{sum(first.in_flight for first in item):>11}{sum(first.counted for first in item):>9}"
            f"{sum(bool(first.problems) for first in item):>7}"
        )
    for result in (first for many in by_name.values() for first in many if first.problems):
        yield f"{result.case.stage} {result.case.failpoint}: {'; '.join(result.problems)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, metavar="N", help="so many cases, chosen over all places")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loop-runner-walk-") as place:
        results = walk(Path(place), options.sample)
    print("\n".join(table(results)))
    missing = failpoints.NAMES - {result.case.name for result in results}
    print(f"not in these stages: {', '.join(sorted(missing)) or 'none'}")
    print(f"{len(results)} cases in {time.monotonic() - started:.0f} s")
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
