"""Finds the first pass whose answer fails a command, or passes it, by halving.

Owns the search and what an exit code means (as for ``git bisect run``: 0 good, 125 skip, up to 127 bad, any
other ends it). The command sees a checkout of the pass and nothing of the run folder, which is only read: no
state of a search is kept anywhere. Like every search by halving it takes for granted that the answer changes
from good to bad once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loop_runner import process, scratch
from loop_runner.errors import ConfigError
from loop_runner.workspace import checkout
from loop_runner.workspace.history import History

Judgement = Literal["good", "bad", "skip"]

_SKIP = 125
_LAST_BAD = 127


@dataclass(frozen=True, slots=True)
class Step:
    """One pass that was tried; ``output`` is what the command printed, cut in the middle."""

    pass_number: int
    commit: str
    judgement: Judgement
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """``first`` is the pass looked for; None when there is none, or when it is one of ``candidates``."""

    first: Step | None
    candidates: tuple[int, ...] = ()  # passes that were skipped and may be the first; the last one is known


def search(numbers: Sequence[int], try_pass: Callable[[int], Step], wanted: Judgement) -> SearchResult:
    """The first of ``numbers`` (ascending) that is ``wanted``, with as few tries as halving needs."""
    tried: dict[int, Step] = {}

    def is_wanted(index: int) -> bool | None:
        step = tried[index] = try_pass(numbers[index])
        return None if step.judgement == "skip" else step.judgement == wanted

    high = len(numbers) - 1  # will be wanted; all up to ``low`` are not
    while high >= 0 and (last := is_wanted(high)) is None:
        high -= 1
    if high < 0 or not last:
        return SearchResult(None)
    low = -1
    while left := [index for index in range(low + 1, high) if index not in tried]:
        middle = left[len(left) // 2]
        answer = is_wanted(middle)
        if answer is not None:
            low, high = (low, middle) if answer else (middle, high)
    if high == low + 1:
        return SearchResult(tried[high])
    return SearchResult(None, tuple(numbers[low + 1 : high + 1]))


def of_run(
    history: History,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    wanted: Judgement = "bad",
    timeout_s: float = 600.0,
    tell: Callable[[Step], object] = lambda _: None,
) -> SearchResult:
    """The first pass of a run whose answer is ``wanted``, as ``command`` says; ``tell`` hears of each try."""
    env = {name: value for name, value in env.items() if not name.startswith("GIT_")}
    env["LOOP_RUNNER_RUN"] = str(history.folder.absolute())
    trial = Trial(history, _absolute(command), env, timeout_s, tell)
    numbers = sorted(trial.passes())
    if not numbers:
        raise ConfigError(f"no pass of {history.folder} has ended yet", why="there is nothing to try")
    return search(numbers, trial, wanted)


def _absolute(command: Sequence[str]) -> Sequence[str]:
    """A program given as ``./check.sh`` is relative to the current folder, not to the checkout."""
    program = command[0]
    if "/" in program and not Path(program).is_absolute() and Path(program).exists():
        return (str(Path(program).absolute()), *command[1:])
    return command


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs the command on the passes of one run; ``tell`` hears of each try."""

    history: History
    command: Sequence[str]
    env: Mapping[str, str]
    timeout_s: float
    tell: Callable[[Step], object]

    def passes(self) -> dict[int, str]:
        """The passes that have ended: number to commit."""
        return {item.checkpoint.pass_number: item.checkpoint.commit for item in self.history.passes()}

    def __call__(self, number: int) -> Step:
        """Check pass ``number`` out and run the command there. ``ConfigError`` when it cannot be told."""
        commit = self.passes()[number]
        with scratch.make("bisect") as folder:
            place = folder / f"pass-{number}"
            checkout.write(self.history, commit, place)
            env = {**self.env, "LOOP_RUNNER_PASS": str(number)}
            done = process.run(self.command, cwd=place, env=env, timeout_s=self.timeout_s)
        step = Step(number, commit, self._judgement(number, done), done.exit_code or 0, done.output)
        self.tell(step)
        return step

    def _judgement(self, number: int, done: process.Finished) -> Judgement:
        code = done.exit_code
        if done.timed_out:
            problem, hint = (
                f"did not end within {self.timeout_s:g} s",
                "give it more time: --timeout SECONDS (timeout_s= in a program)",
            )
        elif code is None:
            problem, hint = f"could not be started: {done.output}", "check the command; it needs no shell"
        elif code == _SKIP:
            return "skip"
        elif 0 <= code <= _LAST_BAD:
            return "bad" if code else "good"
        else:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            problem, hint = how, "0 means good, 125 skip, 1 to 127 bad"
        raise ConfigError(
            f"on pass {number} the command {problem}",
            why="this does not show whether the answer is good",
            hint=hint,
        )
