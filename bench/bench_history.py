"""How a long run ages: time per commit over hundreds of passes, size on disk, time to open and to read.

    python -m bench.bench_history [PASSES]

Notes-sized work: each pass is two turns and a verdict; each turn appends to two of 20 notes and changes 4 kB
of variables.
"""

from __future__ import annotations

import hashlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from loop_runner.records import Answer, Call, Reply, Snapshot, TurnRecord, Usage, Variable
from loop_runner.workspace.history import History
from loop_runner.workspace.workspace import Workspace

TURNS = 2


def main(passes: int = 200) -> None:
    random_state = random.Random(1)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as parent:
        folder = Path(parent, "run")
        times: list[float] = []
        with Workspace.create(folder, name="bench", files={"prompt.md": b"count\n"}) as workspace:
            for number in range(1, passes + 1):
                for turn in range(1, TURNS + 1):
                    record = _turn(workspace, number, turn, random_state)
                    started = time.perf_counter()
                    workspace.commit_turn(record, {})
                    times.append(time.perf_counter() - started)
                workspace.commit_pass(
                    number, "rejected", files={f"passes/{number:04d}/verdict.json": b'{"reason": "no"}\n'}
                )
        _report(folder, times)


def _turn(workspace: Workspace, number: int, turn: int, random_state: random.Random) -> TurnRecord:
    words = " ".join(f"word{random_state.randrange(1000)}" for _ in range(60))
    for index in (number % 20, (number * 7 + turn) % 20):
        with (workspace.model_folder / "notes" / f"note{index:02d}.md").open("a") as file:
            file.write(f"pass {number} turn {turn}: {words[:80]}\n")
    blob = (words * 10).encode()
    name = hashlib.sha256(blob).hexdigest()
    call = Call("root", "bench:x", f"{number:060d}{turn:04d}", 0, "", Reply(words, usage=Usage(1000, 500)))
    workspace.journal.append(call)
    return TurnRecord(
        pass_number=number,
        number=turn,
        reply=words,
        code=f"print({number})\n",
        output=words[:200],
        end="ok",
        answer=Answer(f"draft {number}.{turn}"),
        calls=workspace.journal.calls(),
        snapshot=Snapshot((Variable("found", "dict", len(blob), "{…}", "saved", "", name),), {name: blob}),
    )


def _report(folder: Path, times: list[float]) -> None:
    edge = min(100, len(times) // 2)
    first, last = statistics.median(times[:edge]), statistics.median(times[-edge:])
    print(f"turn commit: first {edge} {first * 1000:.1f} ms, last {edge} {last * 1000:.1f} ms (medians)")
    print(f"             p95 of all {sorted(times)[int(len(times) * 0.95)] * 1000:.1f} ms")
    packs = list((folder / ".git" / "objects" / "pack").glob("*.pack"))
    size = sum(path.stat().st_size for path in (folder / ".git").rglob("*") if path.is_file())
    print(f".git: {size / 1e6:.1f} MB in {len(packs)} packs")
    for name, work in (("open", _open), ("passes", _passes), ("spend", _spend)):
        started = time.perf_counter()
        work(folder)
        print(f"{name}: {(time.perf_counter() - started) * 1000:.0f} ms")


def _open(folder: Path) -> None:
    Workspace.open(folder).close()


def _passes(folder: Path) -> None:
    with History(folder) as history:
        history.passes()


def _spend(folder: Path) -> None:
    with History(folder) as history:
        history.spend()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
