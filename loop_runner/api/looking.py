"""What can be read of a run folder, and done with it: the methods of ``Run`` about its history.

Each is one function of ``runs``, for the folder and the moment of the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loop_runner.api.checked_task import Settings, as_overrides
from loop_runner.errors import LoopRunnerError
from loop_runner.runs import trust
from loop_runner.text import shell
from loop_runner.workspace import points
from loop_runner.workspace.history import History

if TYPE_CHECKING:
    from loop_runner.api.result import Result
    from loop_runner.records import Checkpoint
    from loop_runner.runs.bisect import SearchResult, Step
    from loop_runner.runs.compare import Comparison
    from loop_runner.runs.cost import Cost
    from loop_runner.runs.exporting import Export
    from loop_runner.runs.fork import Forked
    from loop_runner.runs.integrity import Checkup
    from loop_runner.runs.replay import Replayed
    from loop_runner.runs.rewind import Rewound
    from loop_runner.runs.story import LogEntry


class Looking:
    """The methods of ``Run`` that read its history, go back in it or check it."""

    __slots__ = ()
    folder: Path
    at: str | None

    @property
    def is_trusted(self) -> bool:
        """Whether you created the folder on this machine, or trusted it as it is now."""
        with History(self.folder) as history:
            return trust.is_marked(history, os.environ)

    def trust(self) -> None:
        """Take the folder, as it is now, as your own: ``lr.resume`` starts what it names."""
        trust.mark(self.folder, os.environ)

    def require_trust(
        self, settings: Settings = (), *, trust: bool = False, command: str | None = None
    ) -> None:
        """Raise ``WorkspaceError``, with what ``lr.resume`` would start, unless the folder is trusted.

        ``trust`` trusts it now. ``settings`` are keys of the task that hold for this time only. ``command``
        is what the error names to be repeated; None: ``loop-runner resume``.
        """
        command = command or shell("loop-runner", "resume", self.folder)
        _require_trust(self.folder, as_overrides(settings), command=command, is_trusted=trust)

    @property
    def story(self) -> tuple[str, ...]:
        """A line for each pass, the latest first."""
        with History(self.folder) as history:
            return tuple(entry.subject for entry in history.commits(first_parent=True))

    @property
    def forked_from(self) -> Forked | None:
        """Where the run was forked from, and which keys of its task changed; None if it was not."""
        from loop_runner.runs import fork

        with History(self.folder) as history:
            return fork.last(history)

    def log(self) -> tuple[LogEntry, ...]:
        """Every commit of the run, the first one first."""
        from loop_runner.runs import story

        with History(self.folder) as history:
            return tuple(story.log(history))

    def show(self, at: str | None = None) -> dict[str, Any]:
        """The answer with its verdict, or all of a pass (``"2"``) or a turn (``"2.4"``), as JSON has it."""
        from loop_runner.runs import story

        moment = self.at if at is None else at
        with History(self.folder) as history:
            return story.show(history, None if moment is None else points.named(moment))

    def diff(self, before: str, after: str = "head") -> Comparison:
        """What differs between two moments: answer, files, variables, spend. ``head`` is the latest one."""
        from loop_runner.runs import compare

        with History(self.folder) as history:
            return compare.compare(history, _moment(history, before), _moment(history, after))

    def costs(self, at: str | None = None) -> Cost:
        """What the run cost up to a moment, by pass, model and kind of request."""
        from loop_runner.runs import cost

        moment = self.at if at is None else at
        with History(self.folder) as history:
            commit = None if moment is None else _moment(history, moment).commit
            return cost.of_run(history, commit)

    def rewind(self, to: str) -> Rewound:
        """Take the run back to a moment; what it leaves is kept, and ``lr.resume`` continues from there."""
        from loop_runner.runs import rewind

        return rewind.rewind(self.folder, points.named(to))

    def replay(
        self,
        to: str | PathLike[str] | None = None,
        *,
        asks_gates: bool = True,
        inputs_dir: str | PathLike[str] | None = None,
        trust: bool = False,
    ) -> Replayed:
        """Run it again from its recorded replies, and say whether the same comes out, byte for byte.

        No model is asked. ``to`` keeps the replay's run folder there. ``asks_gates`` runs the verifiers
        again, instead of taking the recorded verdicts.
        """
        from loop_runner.audit import plan
        from loop_runner.runs import replay
        from loop_runner.runs.new_folders import with_room

        plan.refuse_other_format(self.folder)
        command = shell("loop-runner", "replay", self.folder)
        _require_trust(self.folder, (), command=command, is_trusted=trust)
        place = None if to is None else with_room(Path(to))
        inputs_folder = None if inputs_dir is None else Path(inputs_dir)
        result = replay.replay(
            self.folder, to=place, asks_gates=asks_gates, inputs_folder=inputs_folder, env=os.environ
        )
        if place is not None:
            _mark(place)
        return result

    def bisect(
        self,
        command: Sequence[str],
        *,
        wanted: Literal["good", "bad"] = "bad",
        timeout_s: float = 600.0,
        on_step: Callable[[Step], object] = lambda _: None,
    ) -> SearchResult:
        """The first pass whose answer a command calls bad (or good), trying few passes.

        The command runs in a checkout of the pass: exit code 0 means good, 125 skip, 1 to 127 bad.
        """
        from loop_runner.runs import bisect

        with History(self.folder) as history:
            return bisect.of_run(
                history, command, os.environ, wanted=wanted, timeout_s=timeout_s, tell=on_step
            )

    def fsck(self, *, repair: bool = False) -> Checkup:
        """Check the folder, without a lock. ``repair`` goes back to the newest whole checkpoint."""
        from loop_runner.runs import integrity

        return integrity.check(self.folder, repairs=repair)

    def export(self, branch: str | None = None, to: str | PathLike[str] | None = None) -> Export:
        """Put an agent's work into your repository, as a new branch with a commit for each pass."""
        from loop_runner.runs import exporting

        return exporting.export(self.folder, branch, None if to is None else Path(to))

    def next_steps(
        self,
        ended: Result | LoopRunnerError,
        settings: Settings = (),
        inputs_dir: str | PathLike[str] | None = None,
    ) -> tuple[str, ...]:
        """Commands that continue the run after it ended so. ``settings`` are what ``lr.resume`` was given."""
        from loop_runner.runs import next_steps

        place = None if inputs_dir is None else Path(inputs_dir)
        given = next_steps.Given(tuple(as_overrides(settings)), place)
        if isinstance(ended, LoopRunnerError):
            return tuple(next_steps.after_error(ended, self.folder, os.environ, given))
        with History(self.folder) as history:
            return tuple(next_steps.for_state(history, ended.status, ended.reason, given))


def _moment(history: History, name: str) -> Checkpoint:
    if name == "head":
        return history.head()
    return points.find(history, points.named(name.rpartition("@")[2]))


def _require_trust(
    folder: Path, settings: Sequence[tuple[str, Any]], *, command: str, is_trusted: bool
) -> None:
    trust.require_folder(folder, os.environ, settings, command=command, is_trusted=is_trusted)


def _mark(folder: Path) -> None:
    trust.mark(folder, os.environ)
