"""How long a durable turn commit takes, against porcelain git in the same run.

    python -m bench.bench_commit [TURNS]

The workspace has 20 notes of 2 kB and variables of 200 kB. Each turn appends a line to two notes and changes
the variables. Both sides start from the same bytes and take turns, so that a busy machine is busy for both.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loop_runner.records import Answer, Call, Reply, Snapshot, TurnRecord, Usage, Variable
from loop_runner.workspace.workspace import Workspace

NOTES, NOTE_LINES, BLOB_BYTES, PASS_TURNS = 20, 40, 200_000, 10
WORDS = [f"word{number}" for number in range(5000)]


def main(turns: int = 100) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder, "ours")
        others = Path(folder, "theirs")
        with Workspace.create(path, name="bench", files={"prompt.md": b"count\n"}) as workspace:
            _porcelain_start(others)
            times = _run(workspace, others, turns)
    _report(times)


def _run(workspace: Workspace, path: Path, turns: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {
        "turn": [],
        "pass": [],
        "journal": [],
        "git default": [],
        "git fsync": [],
    }
    random_state = random.Random(1)
    for number in range(1, turns + 1):
        blob = _blob(random_state)
        _write_notes(workspace.model_folder / "notes", number)
        _write_notes(path / "notes", number)
        (path / "blob").write_bytes(blob)
        pass_number, turn = (number - 1) // PASS_TURNS + 1, (number - 1) % PASS_TURNS + 1
        call = Call("root", "bench:x", f"{number:064d}", 0, "", Reply("x" * 2000, usage=Usage(1000, 500)))
        times["journal"].append(_seconds(workspace.journal.append, call))
        record = _turn(pass_number, turn, blob, workspace)
        times["turn"].append(_seconds(workspace.commit_turn, record, {}))
        if turn == PASS_TURNS:
            times["pass"].append(_seconds(workspace.commit_pass, pass_number, "rejected"))
        fsync = number % 2 == 0
        times["git fsync" if fsync else "git default"].append(_seconds(_porcelain, path, fsync))
    return times


def _turn(pass_number: int, number: int, blob: bytes, workspace: Workspace) -> TurnRecord:
    name = hashlib.sha256(blob).hexdigest()
    return TurnRecord(
        pass_number=pass_number,
        number=number,
        reply="x" * 2000,
        code="print(1)\n" * 20,
        output="y" * 2000,
        end="ok",
        answer=Answer(f"draft {number}"),
        calls=workspace.journal.calls(),
        snapshot=Snapshot((Variable("found", "dict", len(blob), "{…}", "saved", "", name),), {name: blob}),
    )


def _blob(random_state: random.Random) -> bytes:
    parts: list[str] = []
    size = 0
    while size < BLOB_BYTES:
        parts.append(random_state.choice(WORDS))
        size += len(parts[-1]) + 1
    return " ".join(parts).encode()


def _write_notes(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(NOTES):
        path = folder / f"note{index:02d}.md"
        if not path.exists():
            path.write_text(f"a line of the note {index}, long enough to be 50 bytes\n" * NOTE_LINES)
    for index in (number % NOTES, (number + 7) % NOTES):
        with (folder / f"note{index:02d}.md").open("a") as file:
            file.write(f"turn {number}\n")


def _porcelain_start(folder: Path) -> None:
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / "notes").mkdir()


def _porcelain(folder: Path, fsync: bool) -> None:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
    env = {"PATH": os.environ["PATH"], "GIT_COMMITTER_EMAIL": "a@b", "HOME": "/dev/null", **identity}
    git = ["git", "-C", str(folder), "-c", "gc.auto=0", *(["-c", "core.fsync=all"] if fsync else [])]
    subprocess.run([*git, "add", "-A"], check=True, env=env)
    subprocess.run([*git, "commit", "-qm", "turn"], check=True, env=env)


def _seconds(work: Callable[..., object], *args: object) -> float:
    started = time.perf_counter()
    work(*args)
    return time.perf_counter() - started


def _report(times: dict[str, list[float]]) -> None:
    for name, values in times.items():
        ordered = sorted(values)
        high = ordered[int(len(ordered) * 0.95)] if ordered else 0.0
        median = statistics.median(values) if values else 0.0
        print(f"{name:12} n={len(values):4}  median {median * 1000:7.2f} ms   p95 {high * 1000:7.2f} ms")
    for name in ("git default", "git fsync"):
        if times[name]:
            ratio = statistics.median(times["turn"]) / statistics.median(times[name])
            print(f"a durable turn commit takes {ratio:.2f} of `git add -A && git commit` ({name})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
