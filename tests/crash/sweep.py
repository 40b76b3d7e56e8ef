"""Kill the runner, or one of the gits that it starts, at every system call that could matter.

    python -m tests.crash.sweep                # every point: thousands
    python -m tests.crash.sweep --sample 150   # so many of them, the same ones each time

A dry run lists the calls of the runner and of each git; a point is (process, call, count): the process dies
by SIGKILL, injected by strace, on entering the call for the count-th time, so before the call does anything.
Then the run continues, and its end is compared with that of the unbroken one. Counting begins when the work
does: the runner is held until strace is attached, so that no point is spent on the start-up of Python. Prints
a table of points and of what was wrong, and ends with 1 if anything was.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from loop_runner.workspace.history import History
from loop_runner.workspace.journal import answered
from tests.crash import driver
from tests.crash.forker import Ended, Forker
from tests.crash.waiting import wait_for_all
from tests.support.commands import wait_for
from tests.support.owned import owned_copy

CALLS = (
    "openat,close,read,write,pread64,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat,rmdir,mkdir,mkdirat,symlinkat,fchmod,chmod,flock,getdents64,mmap,munmap,exit_group,"
    "vfork,clone,clone3,execve"
)
SEED = 20261121
RUNNER = 0  # gits are numbered from 1, in the order in which they are started
_WORKERS = 2
_LINE = re.compile(r"^(\d+ +)?([a-z0-9_]+)\(", re.MULTILINE)
_GIT = """\
#!/bin/sh
# Stands before git in PATH; the builtins of the shell only, so that it costs little.
read -r n < {here}/count; n=$((n + 1)); echo $n > {here}/count
read -r at options < {here}/plan
if [ "$at" = every ]; then exec {strace} -f -qq -o {here}/git.$n -e trace={calls} {git} "$@"; fi
if [ "$at" = "$n" ]; then exec {strace} -f -qq -o /dev/null $options {git} "$@"; fi
exec {git} "$@"
"""


@dataclass(frozen=True)
class Point:
    """The moment at which process number ``process`` makes ``call`` for the ``count``-th time."""

    process: int
    call: str
    count: int

    @property
    def options(self) -> list[str]:
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:signal=KILL:when={self.count}"]


@dataclass
class Result:
    point: Point
    was_reached: bool
    problems: list[str] = field(default_factory=list)


class Scene:
    """A place to sweep in. One for each thread."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True)
        self._place = place
        self._template, self.run = place / "template", place / "run"
        driver.make(self._template)
        strace, git = shutil.which("strace"), shutil.which("git")
        if strace is None:
            raise SystemExit("the sweep needs strace (Debian and Ubuntu: apt-get install strace)")
        self._strace = strace
        script = _GIT.format(here=place, strace=strace, git=git, calls=CALLS)
        (place / "bin").mkdir()
        (place / "bin/git").write_text(script)
        (place / "bin/git").chmod(0o755)
        self._forker = Forker(place / "scratch")
        self.tree = ""

    def close(self) -> None:
        self._forker.close()

    def dry_run(self) -> list[Point]:
        """Every point there is."""
        self._begin("every")
        options = ["-o", str(self._place / "runner"), "-e", f"trace={CALLS}"]
        assert self._traced(options).exit_code == 0
        self.tree = self._git("rev-parse", "HEAD^{tree}")
        points = list(_points(RUNNER, self._place / "runner"))
        for number in range(1, int((self._place / "count").read_text()) + 1):
            points += _points(number, self._place / f"git.{number}")
        return points

    def check(self, point: Point) -> Result:
        """Kill at ``point``, go on, compare."""
        self._begin("never" if point.process == RUNNER else f"{point.process} {' '.join(point.options)}")
        ended = self._traced(["-o", "/dev/null", *point.options]) if point.process == RUNNER else self._run()
        result = Result(point, was_reached=ended.was_killed or ended.exit_code == 4)
        if ended.exit_code not in (0, 4, -signal.SIGKILL) or "Traceback" in ended.stderr:
            result.problems.append(f"broken, it ended with {ended.exit_code}: {ended.stderr[-300:]}")
        output = ended.stdout.splitlines()
        result.problems += self._lost(output)
        (self._place / "plan").write_text("never\n")
        again = self._run()
        result.problems += self._wrong_in_the_end(again, output + again.stdout.splitlines())
        return result

    def _begin(self, plan: str) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        owned_copy(self._template, self.run)
        (self._place / "count").write_text("0\n")
        (self._place / "plan").write_text(plan + "\n")

    def _run(self) -> Ended:
        env = {"PATH": f"{self._place}/bin:/usr/bin:/bin"}
        return self._forker.run(self.run, env=env, module="tests.crash.driver")

    def _traced(self, options: Sequence[str]) -> Ended:
        tracers: list[subprocess.Popen[bytes]] = []
        env = {"PATH": f"{self._place}/bin:/usr/bin:/bin"}
        attach = partial(_attach, [self._strace, "-qq", *options], tracers)
        ended = self._forker.run(self.run, env=env, module="tests.crash.driver", attach=attach)
        for tracer in tracers:
            tracer.wait(10)
        return ended

    def _lost(self, output: Iterable[str]) -> Iterator[str]:
        with History(self.run) as history:
            subjects = {entry.subject for entry in history.commits()}
            safe = {call.fingerprint for call in history.calls()}
            journal = answered(self.run / ".git/loop-runner/journal", history.since_checkpoint())
        safe |= {name for name, _ in journal}
        for line in output:
            word, _, what = line.partition(" ")
            if word == "paid" and what not in safe:
                yield f"{line} is lost"
            if word == "turn" and "pass 2 turn 1: ran, ready" not in subjects:
                yield f"{line} is lost"
            if word == "pass" and "pass 2: accepted" not in subjects:
                yield f"{line} is lost"

    def _wrong_in_the_end(self, again: Ended, output: Sequence[str]) -> Iterator[str]:
        if again.exit_code:
            yield f"gone on with, it ended with {again.exit_code}: {again.stderr[-300:]}"
            return
        if (tree := self._git("rev-parse", "HEAD^{tree}")) != self.tree:
            yield f"the tree is {tree}"
        paid = [line for line in output if line.startswith("paid")]
        if len(paid) != len(set(paid)):
            yield "a call that was acknowledged was made twice"
        asides = self._git("for-each-ref", "--format=%(refname)", "refs/loop-runner/set-aside").split()
        kept = [self._git("cat-file", "-p", f"{ref}:workspace/notes/log.md") for ref in asides]
        if driver.EDIT.decode().strip() not in kept:
            yield "a person's edit is lost"
        if dirty := self._git("status", "--porcelain"):
            yield f"`git status` says {dirty!r}"
        if broken := self._git("fsck", "--strict", "--no-dangling"):
            yield f"`git fsck` says {broken!r}"

    def _git(self, *args: str) -> str:
        done = subprocess.run(["git", "-C", self.run, *args], check=True, capture_output=True, text=True)
        return done.stdout.strip()


def _attach(command: list[str], tracers: list[subprocess.Popen[bytes]], pid: int) -> None:
    tracers.append(subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.DEVNULL))
    status = Path(f"/proc/{pid}/status")
    wait_for(lambda: "TracerPid:\t0\n" not in status.read_text())


def _points(process: int, trace: Path) -> Iterator[Point]:
    """What strace counts: each call by itself, and each thread by itself."""
    seen: Counter[tuple[str, str]] = Counter()
    for match in _LINE.finditer(trace.read_text(errors="replace")):
        seen[match[1] or "", match[2]] += 1
    most: Counter[str] = Counter()
    for (_, name), count in seen.items():
        most[name] = max(most[name], count)
    for name, count in sorted(most.items()):
        yield from (Point(process, name, number) for number in range(1, count + 1))


def sweep(place: Path, choose: int | None) -> tuple[int, list[Result]]:
    """How many points there are, and what came of all, or of ``choose``, of them."""
    scenes = [Scene(place / f"scene{number}") for number in range(_WORKERS)]
    try:
        points = scenes[0].dry_run()
        for scene in scenes:
            scene.tree = scenes[0].tree
        size = len(points) if choose is None else min(choose, len(points))
        chosen = random.Random(SEED).sample(points, size)  # one that is cut short is a sample too
        todo, results, errors = deque(chosen), list[Result](), list[BaseException]()

        def work(scene: Scene) -> None:
            while todo and not errors:
                point = todo.popleft()
                try:
                    results.append(scene.check(point))
                except BaseException as error:  # noqa: BLE001 - told to the one who waits
                    error.add_note(f"at {point}")
                    errors.append(error)

        threads = [threading.Thread(target=work, args=(scene,)) for scene in scenes]
        for thread in threads:
            thread.start()
        wait_for_all(threads, todo, results)
        if errors:
            raise errors[0]
        return len(points), results
    finally:
        for scene in scenes:
            scene.close()


def table(results: Sequence[Result]) -> Iterator[str]:
    """One line for each system call, then one for each problem."""
    yield f"{'call':<12}{'in the runner':>15}{'in a git':>10}{'killed':>8}{'wrong':>7}"
    names = sorted({result.point.call for result in results})
    for name in [*names, "all"]:
        item = [first for first in results if name in (first.point.call, "all")]
        runner = sum(first.point.process == RUNNER for first in item)
        killed, wrong = sum(first.was_reached for first in item), sum(bool(first.problems) for first in item)
        yield f"{name:<12}{runner:>15}{len(item) - runner:>10}{killed:>8}{wrong:>7}"
    for result in results:
        if result.problems:
            yield f"{result.point}: {'; '.join(result.problems)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, metavar="N", help="so many points, chosen at random")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loop-runner-sweep-") as place:
        count, results = sweep(Path(place), options.sample)
    print("\n".join(table(results)))
    print(f"{len(results)} of {count} points in {time.monotonic() - started:.0f} s")
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
