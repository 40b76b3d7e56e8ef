"""The power fails at every moment of a run, and everything that was not flushed is lost, zeroed or mixed up.

`make power-loss` records two passes of a run under strace, rebuilds every state that a disk may be left in
(`tests/support/crash_states.py`), opens the run folder in each and looks whether all is there that was
acknowledged by then: each reply that was handed on, each turn and pass that was reported committed. It
prints a table and ends with 1 when something is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop_runner.errors import LoopRunnerError
from loop_runner.records import PassOutcome
from loop_runner.workspace.git.packs import Joiner
from loop_runner.workspace.history import History
from loop_runner.workspace.repair import fsck
from loop_runner.workspace.workspace import Workspace
from tests.support.crash_states import Recording, State, record, states
from tests.workspace import scripted_run

ROOT = Path(__file__).parent.parent
_RUN = "runs/x"  # below a folder that is made too: its name must be safe as well


@dataclass
class Result:
    """How many states of each policy were recovered from, and what was wrong in which."""

    tried: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    wrong: list[str] = field(default_factory=list)


def child(top: Path) -> None:
    """What is recorded: the scripted run, with packs joined after each pass."""
    with Workspace.create(top / _RUN, name="scripted", files={"prompt.md": b"Count.\n"}) as workspace:
        scripted_run.say("open")
        for number in (1, 2):
            for turn in range(1, scripted_run.TURNS + 1):
                scripted_run.take_turn(workspace, number, turn)
            outcome: PassOutcome = "accepted" if number == scripted_run.PASSES else "rejected"
            folder = f"passes/{number:04d}"
            workspace.commit_pass(number, outcome, files={f"{folder}/verdict.json": b"{}\n"})
            scripted_run.say(f"pass {number}")
            Joiner(workspace.folder / ".git", at_least=3).join()
    scripted_run.say("end")


def recorded(folder: Path) -> tuple[Recording, str]:
    """The recording of the run, made below ``folder``, and the tree that it ends with."""
    top = folder / "top"
    top.mkdir()
    argv = [sys.executable, "-m", "tests.power_loss", "--child", str(top)]
    recording = record(argv, top, folder / "strace.log", ROOT)
    (folder / "strace.log").unlink()
    with History(top / _RUN) as history:
        return recording, history.head_commit().tree


def try_all(
    recording: Recording, tree: str, moments: Sequence[int], folder: Path, *, mixes: int, finish_each: int
) -> Result:
    """Recover from every state of ``moments``; every ``finish_each``-th is run to the end as well."""
    result = Result()
    for number, state in enumerate(states(recording, moments, random.Random(1), mixes)):
        top = folder / f"state{number}"
        top.mkdir()
        state.write(top)
        output = [line for moment, line in recording.printed if moment <= state.at]
        is_finished = number % finish_each == 0
        try:
            wrong = _recovered(top / _RUN, output, tree if is_finished else None)
        except (LoopRunnerError, OSError, AssertionError) as error:
            wrong = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        result.tried[state.policy.partition(" (")[0]] += 1
        result.finished += is_finished
        if wrong:
            result.wrong.append(f"{_where(state, output)}: {wrong}")
        shutil.rmtree(top)
    return result


def _where(state: State, output: Sequence[str]) -> str:
    return f"moment {state.at}, {state.policy}, after {output[-1][:20] if output else 'nothing'!r}"


def _recovered(run: Path, output: Sequence[str], tree: str | None) -> str:
    """What is missing after a recovery; empty when nothing is."""
    with contextlib.redirect_stdout(io.StringIO()):
        if (run / ".git").is_dir():
            with Workspace.open(run) as workspace:
                wrong = _missing(workspace, output)
        elif "open" in output:
            return "the run folder is gone"
        else:
            Workspace.create(run, name="scripted", files={"prompt.md": b"Count.\n"}).close()
            wrong = ""
        if wrong or tree is None:
            return wrong
        scripted_run.main(run)
    with History(run) as history:
        if history.head_commit().tree != tree:
            return "it ends with another tree than the unbroken run"
    result = fsck.examine(run).findings("damage", "gap")
    return f"fsck: {result[0].text}" if result else ""


def _missing(workspace: Workspace, output: Sequence[str]) -> str:
    with History(workspace.folder) as history:
        subjects = {entry.subject.partition(":")[0] for entry in history.commits()}
        paid = {call.fingerprint for call in (*history.calls(), *workspace.journal.calls())}
    for line in output:
        word, _, what = line.partition(" ")
        if word == "paid" and what not in paid:
            return f"the reply {what[:10]} is lost"
        if word == "pass" and line not in subjects:
            return f"{line} is lost"
        if word == "turn" and "pass {} turn {}".format(*what.split(".")) not in subjects:
            return f"{line} is lost"
    return ""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="The power fails at every moment of a run.")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--mixes", type=int, default=3, help="random mixtures at each moment")
    parser.add_argument("--every", type=int, default=1, help="take each N-th moment only")
    requests = parser.parse_args()
    if requests.child:
        child(requests.child)
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="power-loss-") as name:
        recording, tree = recorded(Path(name))
        print(f"{len(recording.changes)} moments, {len(recording.printed)} acknowledgements", flush=True)
        moments = [0, *recording.changes][:: requests.every]
        result = try_all(recording, tree, moments, Path(name), mixes=requests.mixes, finish_each=10)
    for policy, count in sorted(result.tried.items()):
        print(f"{count:>6} states: what was not flushed: {policy}")
    print(f"{result.tried.total():>6} states in all, {result.finished} of them run to the end")
    print("\n".join(result.wrong[:40]) or "nothing that was acknowledged is missing in any of them")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
