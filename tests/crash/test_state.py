"""Anything that may happen to a run, in any order, against a model of what must hold.

Run, break, go on, ask for more passes, edit by hand, leave locks behind, start a second runner. The model:
where an unbroken run of so many passes ends; that the server is asked no more than what is kept and what is
counted; that what was acknowledged stays; that a person's bytes are on disk or named by a ref.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loop_runner import failpoints
from loop_runner.workspace.history import History
from loop_runner.workspace.workspace import Workspace
from tests.crash.forker import Ended, Forker
from tests.crash.scenario import acknowledged, durable, fingerprint, git
from tests.crash.walk import ACTIONS
from tests.support.commands import wait_for
from tests.support.model_server import ModelServer
from tests.support.tasks import cell, write_task

EXAMPLES = int(os.environ.get("CRASH_STATES", "3"))
PASSES = 3  # the answer of the third is accepted

_COUNT = cell(
    "try:\n    n += 1\nexcept NameError:\n    n = 1\n"
    "parts = llm_batch([f'{n} a', f'{n} b', f'{n} a'])\n"
    "open('notes/log.md', 'a').write(f'pass {n}\\n')"
)
_ANSWER = cell("answer['content'] = str(40 + n)\nanswer['ready'] = True")
_EDITED = ("workspace/notes/log.md", "workspace/mine.txt", "answer.md", "passes/0001/injected.md")
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
            self.ends[passes] = git(folder, "rev-parse", "HEAD^{tree}")

    def command(self, folder: Path, passes: int, failpoint: str = "", forker: int = 0) -> Ended:
        env = {"OPENAI_BASE_URL": self.server.openai_url, "OPENAI_API_KEY": "k"}
        env["LOOP_RUNNER_FAILPOINT"] = failpoint
        is_there = (folder / ".git" / "loop-runner").is_dir()
        args = ("resume", folder) if is_there else ("run", self.task, "--run-dir", folder)
        ended = self.forkers[forker].run(*args, "-q", "--json", "--passes", passes, env=env)
        wait_for(lambda: not self.server.is_busy)
        return ended

    def close(self) -> None:
        for forker in self.forkers:
            forker.close()
        self.server.close()


_world: World | None = None


@pytest.fixture(scope="module", autouse=True)
def world():
    global _world  # noqa: PLW0603 - hypothesis makes the machines, and hands them nothing
    with tempfile.TemporaryDirectory(prefix="loop-runner-states-") as place:
        _world = World(Path(place))
        yield
        _world.close()


class AnyOrder(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        assert _world is not None
        self.world = _world
        self.world.server.requests.clear()
        self.folder = self.world.place / "run"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.passes = 1  # that are asked for
        self.done = 0
        self.said: set[str] = set()  # commits that a runner acknowledged
        self.edits: dict[str, bytes] = {}  # by path: what a person wrote and no ref is known to have
        self.count = 0

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
        asked = len(self.world.server.requests)
        with Workspace.open(self.folder):
            ended = self.world.command(self.folder, self.passes)
        assert ended.exit_code == 2
        assert f"is in use by another runner (pid {os.getpid()} on" in ended.stderr
        assert len(self.world.server.requests) == asked

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

    # Here go `fork` and `rewind`: rules like `go_on`, with the number of passes that they leave in the model.

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────

    def _is_at_its_end(self, ended: Ended):
        assert ended.exit_code == (0 if self.passes == PASSES else 3), ended
        assert git(self.folder, "rev-parse", "HEAD^{tree}") == self.world.ends[self.passes], self._story()
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
            told = (history.read(path) or b"" for path in history.files("passes/") if "output" in path)
            return "\n".join([*(entry.subject for entry in history.commits()), *map(repr, told)])

    @invariant()
    def nothing_is_lost_and_nothing_is_paid_for_twice(self):
        if not self.is_there:
            return
        asked = Counter(map(fingerprint, self.world.server.requests))
        with History(self.folder) as history:
            counted = history.in_flight() + history.spend().unanswered
        assert (asked - durable(self.folder)).total() <= counted
        self.said |= acknowledged(self.folder)
        assert self.said <= set(git(self.folder, "rev-list", "HEAD").split())
        assert git(self.folder, "fsck", "--strict", "--no-dangling") == ""

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
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestAnyOrder = pytest.mark.timeout(900)(AnyOrder.TestCase)
