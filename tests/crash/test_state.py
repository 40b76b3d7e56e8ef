"""Anything that may happen to a run, in any order, against a model of what must hold.

Run, break, go on, ask for more passes, edit by hand, leave locks behind, start a second runner, go back, go
forth again, branch off. The model: where an unbroken run of so many passes ends; that the bill is what the
server was asked, less at most what is counted as unanswered; that what was acknowledged stays, or is named
by the ref of the rewind that dropped it; that a person's bytes are on disk or named by a ref.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loop_runner import failpoints
from loop_runner.workspace import dropped
from loop_runner.workspace.history import History
from loop_runner.workspace.journal import answered
from loop_runner.workspace.workspace import Workspace
from tests.crash.forker import Ended, Forker
from tests.crash.scenario import acknowledged, copy, git
from tests.crash.walk import ACTIONS
from tests.support.commands import wait_for
from tests.support.model_server import ModelServer
from tests.support.tasks import cell, write_task

EXAMPLES = int(os.environ.get("CRASH_STATES", "4"))
PASSES = 3  # the answer of the third is accepted

_COUNT = cell(
    "try:\n    n += 1\nexcept NameError:\n    n = 1\n"
    "parts = llm_batch([f'{n} a', f'{n} b', f'{n} a'])\n"
    "open('notes/log.md', 'a').write(f'pass {n}\\n')"
)
_ANSWER = cell("answer['content'] = str(40 + n)\nanswer['ready'] = True")
_EDITED = ("workspace/notes/log.md", "workspace/mine.txt", "answer.md", "passes/0001/injected.md")
# What is not as in the unbroken run in a fork: where it came from, and the tree that was verified, with that.
_OF_FORKS = ("\tforks.json", "\tproof.json")
_REWOUND = "refs/loop-runner/rewound"
# What a rewind comes by: the bytes that it keeps, its two refs, the journal, the files.
_REWIND_PLACES = (
    *("lock.write", "recovery.restore", "commit.write", "commit.sync", "commit.point", "commit.pointed"),
    *("journal.write", "journal.move_on", "journal.truncate", "sent.truncate", "durable.replace"),
    *("folder.write", "folder.rename", "folder.remove", "index.set"),
)
_LOCKS = ("index.lock", "HEAD.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x", "index.new")


def reply_to(request):
    if not request.system:
        return f"about {request.last_user_text}"
    return _COUNT if len(request.messages) == 1 else _ANSWER


class World:
    """Started once: two forkers, a server, and where unbroken runs of 1, 2 and 3 passes end."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.server = ModelServer()
        self.server.answer_with(reply_to)
        self.forkers = [Forker(place / f"scratch{number}") for number in range(2)]
        self.task = write_task(
            place / "task",
            root=[],
            model="openai:test",
            verifiers=[{"contains": str(40 + PASSES)}],
            kernel={"memory": "1GB"},
            budget={"passes": 1},
        )
        self.ends = {}
        folder = place / "unbroken"
        for passes in range(1, PASSES + 1):
            ended = self.command(folder, passes)
            assert ended.exit_code == (0 if passes == PASSES else 3), ended
            self.ends[passes] = _files(folder)
            copy(folder, self.template(passes))

    def template(self, passes: int) -> Path:
        """An unbroken run of so many passes, to begin with."""
        return self.place / f"unbroken{passes}"

    def command(self, folder: Path, passes: int, failpoint: str = "", forker: int = 0) -> Ended:
        is_there = (folder / ".git" / "loop-runner").is_dir()
        args = ("resume", folder) if is_there else ("run", self.task, "--run-dir", folder)
        return self.any_command(*args, "-q", "--json", "--passes", passes, failpoint=failpoint, forker=forker)

    def any_command(self, *args: object, failpoint: str = "", forker: int = 0) -> Ended:
        env = {"OPENAI_BASE_URL": self.server.openai_url, "OPENAI_API_KEY": "k"}
        env["LOOP_RUNNER_FAILPOINT"] = failpoint
        ended = self.forkers[forker].run(*args, env=env)
        wait_for(lambda: not self.server.is_busy)
        return ended

    def close(self) -> None:
        for forker in self.forkers:
            forker.close()
        self.server.close()


def _files(folder: Path) -> list[str]:
    """What HEAD holds: mode, blob and path, a line each."""
    return git(folder, "ls-tree", "-r", "HEAD").split("\n")


_world: World | None = None


@pytest.fixture(scope="module", autouse=True)
def world():
    global _world  # noqa: PLW0603 - hypothesis makes the machines, and hands them nothing
    with tempfile.TemporaryDirectory(prefix="loop-runner-states-") as place:
        _world = World(Path(place))
        yield
        _world.close()


class AnyOrder(RuleBasedStateMachine):
    @initialize(passes=st.sampled_from((2, 1, 0)))
    def begin(self, passes):
        """A run of so many passes is there; 0: none yet."""
        assert _world is not None
        self.world = _world
        self.folders = self.world.place / "runs"
        shutil.rmtree(self.folders, ignore_errors=True)
        self.folders.mkdir()
        self._take_up(self.folders / "run", paid=0)
        self.passes = 1  # that are asked for
        self.done = 0
        self.count = 0
        if passes:
            copy(self.world.template(passes), self.folder)
            self.paid = self._billed()
            self._stand()

    def _take_up(self, folder: Path, paid: int):
        """From now on this is about the run in ``folder``, on whose bill are ``paid`` requests."""
        self.folder = folder
        self.world.server.requests.clear()
        self.paid = paid
        self.printed: set[str] = set()  # commits that a runner acknowledged
        self.left: set[str] = set()  # those of them that a rewind dropped
        self.edits: dict[str, bytes] = {}  # by path: what a person wrote and no ref is known to have

    @property
    def is_there(self) -> bool:
        return (self.folder / ".git" / "loop-runner").is_dir()

    # No rule has a precondition: what is possible depends on how the last command ended, and hypothesis takes
    # data that are drawn otherwise the second time for an error of the test.

    # ── what may happen ─────────────────────────────────────────────────────────────────────────────

    @rule()
    def go_on(self):
        self._is_at_its_end(self.world.command(self.folder, self.passes))

    @rule(
        name=st.sampled_from(sorted(failpoints.NAMES)), hit=st.integers(1, 4), action=st.sampled_from(ACTIONS)
    )
    def break_it(self, name, hit, action):
        ended = self.world.command(self.folder, self.passes, f"{name}:{hit}:{action}")
        if ended.was_killed or ended.exit_code == 4:
            assert "Traceback" not in ended.stderr
        else:
            self._is_at_its_end(ended)

    @rule()
    def ask_for_another_pass(self):
        if self.done == self.passes < PASSES:  # one more at a time: a pass is told how many are left
            self.passes += 1
            self.go_on()

    @rule(path=st.sampled_from(_EDITED))
    def edit(self, path):
        self.count += 1
        target = self.folder / path
        if self.is_there and target.parent.is_dir():
            self.edits[path] = b"a person's words, number %d\n" % self.count
            target.unlink(missing_ok=True)
            target.write_bytes(self.edits[path])

    @rule(path=st.sampled_from(_EDITED))
    def remove(self, path):
        if self.is_there:
            (self.folder / path).unlink(missing_ok=True)
            self.edits.pop(path, None)

    @rule(name=st.sampled_from(_LOCKS))
    def leave_a_lock_behind(self, name):
        if self.is_there:
            (self.folder / ".git" / name).write_text("")

    @rule()
    def start_a_second_runner(self):
        if not self.is_there:
            return
        requests = len(self.world.server.requests)
        with Workspace.open(self.folder):
            ended = self.world.command(self.folder, self.passes)
        assert ended.exit_code == 2
        assert f"is in use by another runner (pid {os.getpid()} on" in ended.stderr
        assert len(self.world.server.requests) == requests

    @rule()
    def start_two_at_once(self):
        if not self.is_there:
            return
        ends: list[Ended] = []
        threads = [
            threading.Thread(
                target=lambda n=n: ends.append(self.world.command(self.folder, self.passes, forker=n))
            )
            for n in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [ended for ended in ends if ended.exit_code == 2]
        assert len(refused) < 2
        assert all("is in use by another runner" in ended.stderr for ended in refused)
        for ended in ends:
            if ended.exit_code != 2:
                self._is_at_its_end(ended)

    @rule(choice=st.integers(0, 99))
    def rewind(self, choice):
        if self.is_there:
            self._rewind(self._moments()[choice % len(self._moments())])

    @rule(
        choice=st.integers(0, 99),
        name=st.sampled_from(_REWIND_PLACES),
        hit=st.integers(1, 3),
        action=st.sampled_from(ACTIONS),
    )
    def break_a_rewind(self, choice, name, hit, action):
        if self.is_there:
            self._rewind(self._moments()[choice % len(self._moments())], f"{name}:{hit}:{action}")

    def _rewind(self, moment: str, failpoint: str = ""):
        self.nothing_is_lost_and_the_bill_is_right()  # so that what was acknowledged so far is known
        before = self._reached("HEAD")
        ended = self.world.any_command("rewind", self.folder, moment, "--json", failpoint=failpoint)
        if not failpoint:
            is_there_already = ended.exit_code == 2 and "stands at" in ended.stderr
            assert is_there_already or ended.exit_code == 0, ended
        elif not ended.was_killed:
            assert ended.exit_code in (0, 2, 4), ended
            assert "Traceback" not in ended.stderr
        self.left = (self.left | (before & self.printed)) - self._reached("HEAD")
        self._stand()

    @rule(choice=st.integers(0, 99))
    def fork(self, choice):
        """What is branched off is gone on with; the other run is left as it was."""
        if not self.is_there:
            return
        self.count += 1
        new, moment = self.folders / f"fork{self.count}", self._moments()[choice % len(self._moments())]
        before = git(self.folder, "for-each-ref")
        ended = self.world.any_command("fork", f"{self.folder}@{moment}", new, "--json")
        assert git(self.folder, "for-each-ref") == before
        if ended.exit_code == 2:
            assert "was accepted: a fork from there would have nothing to do" in ended.stderr
            assert not new.exists()
            return
        assert ended.exit_code == 0, ended
        self._take_up(new, paid=0)
        self.paid = self._billed()
        self._stand()

    def _moments(self) -> list[str]:
        """All that have a name."""
        with History(self.folder) as history:
            result = [entry.checkpoint for entry in history.commits() if entry.runner]
            kept = [f"rewound/{number}" for number in history.refs(_REWOUND)]
        return [*(f"{at.pass_number}.{at.turn}".removesuffix(".0") for at in result), *kept]

    def _stand(self):
        """The model goes where the run is: the pass that it stands in is the last that is asked for."""
        with History(self.folder) as history:
            head = history.head()
        self.passes = max(head.pass_number, 1)
        self.done = 0 if head.turn else head.pass_number

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────

    def _is_at_its_end(self, ended: Ended):
        assert ended.exit_code == (0 if self.passes == PASSES else 3), ended
        there, expected = _files(self.folder), self.world.ends[self.passes]
        if any(line.endswith(_OF_FORKS[0]) for line in there):
            there, expected = (
                [line for line in item if not line.endswith(_OF_FORKS)] for item in (there, expected)
            )
        assert there == expected, self._story()
        assert git(self.folder, "status", "--porcelain") == ""
        self.done = self.passes
        with History(self.folder) as history:
            subjects = [entry.subject for entry in history.passes()]
        assert [subject.partition(":")[0] for subject in subjects] == [
            f"pass {number}" for number in range(1, self.passes + 1)
        ]

    def _story(self) -> str:
        """What the model was told, so that a tree that differs can be understood."""
        with History(self.folder) as history:
            shown = (history.read(path) or b"" for path in history.files("passes/") if "output" in path)
            return "\n".join([*(entry.subject for entry in history.commits()), *map(repr, shown)])

    @invariant()
    def nothing_is_lost_and_the_bill_is_right(self):
        if not self.is_there:
            return
        with History(self.folder) as history:
            spent = dropped.plus(history.spend(), history.dropped())
            unanswered = history.in_flight() + spent.unanswered
        # Each request that was answered and kept is on the bill once, wherever the run has gone since.
        requests = len(self.world.server.requests) + self.paid
        assert requests - unanswered <= self._billed() <= requests
        self.printed |= acknowledged(self.folder)
        assert self.printed - self.left <= self._reached("HEAD")
        assert self.left <= self._reached(f"--glob={_REWOUND}/*")
        assert git(self.folder, "fsck", "--strict", "--no-dangling") == ""

    def _billed(self) -> int:
        """Requests that the run says are paid for: of its history, dropped by rewinds, in the journal."""
        with History(self.folder) as history:
            journal = self.folder / ".git/loop-runner/journal"
            kept = answered(journal, history.since_checkpoint())
            return history.spend().requests + history.dropped().requests + len(kept)

    def _reached(self, name: str) -> set[str]:
        return set(git(self.folder, "rev-list", name).split())

    @invariant()
    def a_persons_bytes_are_on_disk_or_named(self):
        if not self.is_there:
            return
        named = set(git(self.folder, "rev-list", "--objects", "--no-object-names", "--all").split())
        for path, data in list(self.edits.items()):
            if hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() in named:
                del self.edits[path]
            else:
                assert (self.folder / path).read_bytes() == data, f"{path} is lost"


AnyOrder.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestAnyOrder = pytest.mark.timeout(900)(AnyOrder.TestCase)
