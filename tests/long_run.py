"""A long run in short: a thousand passes of notes-sized work through the workspace, with no model.

`make long-run` prints size and medians as they grow, and ends with 1 when the git folder is over its
megabytes or the last hundred passes are slower than the first hundred of a new run, which are made by turns
with them: then what else the machine does slows both. A pass is two turns: in each, two of twenty notes get a
line, one of twenty variables of 100 words changes, and there are a reply, a cell, its output, two sub-calls.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loop_runner.records import Answer, Call, Reply, Snapshot, TurnRecord, Usage, Variable
from loop_runner.workspace.workspace import Workspace

MAX_MB_PER_1000 = 10.0
SLOWER = 1.5  # how much slower the last hundred may be than those of a new run: machines are noisy
_COMPARED = 100  # passes
_TURNS = 2
_NOTES, _VARIABLES, _WORDS_EACH = 20, 20, 100
_WORDS = ("the", "of", "clause", "party", "notice", "term", "renewal", "breach", "remedy", "data", "audit")


@dataclass
class Work:
    """What a model does to its notes and variables, the same for the same seed."""

    rng: random.Random
    values: list[bytes] = field(default_factory=list)

    def begin(self, notes: Path) -> None:
        self.values = [self._text(_WORDS_EACH).encode() for _ in range(_VARIABLES)]
        for number in range(_NOTES):
            (notes / f"{number:02d}.md").write_text(self._text(100))

    def take_turn(self, workspace: Workspace, pass_number: int, turn: int) -> float:
        """Do a turn's work and commit it; seconds that the commit took."""
        for number in self.rng.sample(range(_NOTES), 2):
            with (workspace.model_folder / "notes" / f"{number:02d}.md").open("a") as note:
                note.write(self._text(10))
        self.values[self.rng.randrange(_VARIABLES)] = self._text(_WORDS_EACH).encode()
        calls = [self._call("root", 80), self._call("sub", 40), self._call("sub", 40)]
        workspace.journal.append_many(calls)
        record = TurnRecord(
            pass_number=pass_number,
            number=turn,
            reply=calls[0].reply.text,
            code=self._text(30),
            output=self._text(40),
            end="ok",
            answer=Answer(self._text(60)),
            calls=tuple(calls),
            snapshot=self._snapshot(),
            seconds=1.0,
        )
        started = time.perf_counter()
        workspace.commit_turn(record, {})
        return time.perf_counter() - started

    def _snapshot(self) -> Snapshot:
        """Everything small is in one blob, as the kernel's saver has it."""
        blob = b"".join(self.values)
        name = hashlib.sha256(blob).hexdigest()
        variables = tuple(
            Variable(f"v{number}", "str", len(item), item[:60].decode(), "saved", "", name)
            for number, item in enumerate(self.values)
        )
        return Snapshot(variables, {name: blob})

    def _call(self, kind: str, words: int) -> Call:
        reply = Reply(self._text(words), usage=Usage(input_tokens=900, output_tokens=words))
        fingerprint = self.rng.randbytes(32).hex()
        return Call("root" if kind == "root" else "sub", "script:x", fingerprint, 0, self._text(20), reply)

    def _text(self, words: int) -> str:
        return " ".join(self.rng.choices(_WORDS, k=words)) + f" {self.rng.randrange(10**6)}\n"


def size_mb(folder: Path) -> float:
    """What the files below ``folder`` take, in megabytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


@dataclass
class Going:
    """A run folder that is worked in, and how long its commits took, in seconds."""

    workspace: Workspace
    work: Work
    turns: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)

    def take_pass(self) -> None:
        number = len(self.passes) + 1
        self.turns += [self.work.take_turn(self.workspace, number, turn) for turn in range(1, _TURNS + 1)]
        started = time.perf_counter()
        files = {f"passes/{number:04d}/verdict.json": b"{}\n"}
        self.workspace.commit_pass(number, "rejected", files=files)
        self.passes.append(time.perf_counter() - started)
        # A model's pass takes longer than joining packs and writing the index: there no commit waits.
        self.workspace.wait_for_maintenance()


@contextlib.contextmanager
def _begun(folder: Path, seed: int) -> Iterator[Going]:
    with Workspace.create(folder, name="long", files={"prompt.md": b"Read them all.\n"}) as workspace:
        work = Work(random.Random(seed))
        work.begin(workspace.model_folder / "notes")
        yield Going(workspace, work)


def run(folder: Path, passes: int, say: Callable[[str], None]) -> list[str]:
    """Run it; what is too large or has become slow, as sentences."""
    say(f"{'passes':>6} {'git MB':>7} {'packs':>6} {'turn ms':>8} {'pass ms':>8}   medians of the last 100")
    beside = folder.with_name(f"{folder.name}-young")
    with _begun(folder, 4) as old, _begun(beside, 5) as young:
        for number in range(1, passes + 1):
            old.take_pass()
            if number > passes - _COMPARED:
                young.take_pass()  # by turns with it, so that both have the same machine
            if number % max(passes // 10, 1) == 0:
                packs = len(list((folder / ".git/objects/pack").glob("*.pack")))
                row = f"{number:>6} {size_mb(folder / '.git'):>7.2f} {packs:>6}"
                say(f"{row} {_ms(old.turns[-100:]):>8.1f} {_ms(old.passes[-100:]):>8.1f}")
    took = {"turns": (young.turns, old.turns), "passes": (young.passes, old.passes)}
    return _judged(folder, passes, took, say)


def _judged(
    folder: Path,
    passes: int,
    took: dict[str, tuple[list[float], list[float]]],
    say: Callable[[str], None],
) -> list[str]:
    wrong = []
    mb = size_mb(folder / ".git")
    # Small runs are allowed more each: their last packs are not joined yet.
    allowed = MAX_MB_PER_1000 * max(passes, 500) / 1000
    if mb > allowed:
        wrong.append(f".git takes {mb:.1f} MB after {passes} passes, over {allowed:g}")
    for what, (young, old) in took.items():
        first, last = _ms(young), _ms(old[-len(young) :])
        output = f"the last hundred {what} took {last:.1f} ms, those of a new run {first:.1f} ms"
        say(f"{output} (medians, by turns)")
        if last > SLOWER * first:
            wrong.append(output)
    return wrong


def _ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A long run in short.")
    parser.add_argument("--passes", type=int, default=1000)
    passes = parser.parse_args().passes
    with tempfile.TemporaryDirectory(prefix="long-run-") as name:
        wrong = run(Path(name) / "run", passes, lambda line: print(line, flush=True))
    print("\n".join(wrong) or f"{passes} passes: small enough, and the last commits as fast as the first")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
