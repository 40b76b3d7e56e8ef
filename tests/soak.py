"""A week in short: thousands of turns on one kernel, with kills, crashes, time-outs and floods at random.

    python -m tests.soak --turns 5000 [--seed 7]

A mirror of the model's variables is kept here, and every ordinary turn is checked against it. What the host
uses is read from outside (/proc, the file system) after every tenth of the turns and printed as a table; the
end is compared with the state after the first tenth. Exit code 1 when something has grown or was left over.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loop_runner.kernel.kernel import Kernel
from loop_runner.records import Answer, CellResult, Inputs, Snapshot
from loop_runner.task.kernel_settings import KernelSettings

RSS_TOLERANCE_MB = 12.0  # what the allocator keeps of a flood may lie in other places at the end
SETTINGS = KernelSettings(timeout_s=0.8, grace_s=0.3, max_output_chars=2000, memory_mb=1024)
_CHECKS = 10


@dataclass(frozen=True)
class Usage:
    """What the host holds at one moment."""

    rss_mb: float
    descriptors: int
    threads: int
    children: int
    zombies: int
    folders: int  # temporary ones
    groups: int  # control groups

    @classmethod
    def now(cls, temporary: Path) -> Usage:
        """Measured, after a collection."""
        gc.collect()
        states = [_state(pid) for pid in _children()]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            rss_mb=pages * os.sysconf("SC_PAGESIZE") / 2**20,
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            children=len(states),
            zombies=states.count("Z"),
            folders=len(list(temporary.iterdir())),
            groups=len(list(Path("/sys/fs/cgroup").rglob(f"loop-runner-{os.getpid()}-*"))),
        )

    def row(self) -> str:
        """A line of the table."""
        return (
            f"{self.rss_mb:8.1f} {self.descriptors:6} {self.threads:8} {self.children:9} {self.zombies:8} "
            f"{self.folders:8} {self.groups:7}"
        )


_COLUMNS = "turn:6 restarts:9 RSS/MB:8 fds:6 threads:8 children:9 zombies:8 folders:8 groups:7"
HEAD = " ".join(f"{name:>{width}}" for name, _, width in (item.partition(":") for item in _COLUMNS.split()))


def _children() -> list[int]:
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


class _Model:
    async def query(self, prompt: str) -> str:
        await asyncio.sleep(0)
        return prompt.upper()


class Soak:
    """Turns on one kernel, and the mirror of what its variables should be."""

    def __init__(self, kernel: Kernel, rng: random.Random) -> None:
        self._kernel = kernel
        self._rng = rng
        self._saved = Snapshot()
        self._saved_mirror: tuple[int, ...] = ()
        self._mirror: list[int] = []
        self.turn = 0
        self.restarts = 0
        self.kinds: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._actions: list[tuple[int, Callable[[], None]]] = [
            (560, self._ordinary), (120, self._sub_calls), (90, self._raises), (60, self._flood),
            (40, self._raw_flood), (30, self._files), (30, self._exits), (15, self._killed),
            (15, self._violates), (15, self._restored), (10, self._leaves_programs), (5, self._over_time),
            (4, self._deaf), (4, self._fills),
        ]  # fmt: skip

    def begin(self) -> None:
        """Start the kernel with an empty list."""
        self._kernel.start(Snapshot(), Answer())
        self._run("history = []")
        self._save()

    def step(self) -> None:
        """One turn of some kind."""
        weights, actions = zip(*self._actions, strict=True)
        action = self._rng.choices(actions, weights)[0]
        self.turn += 1
        self.kinds[action.__name__[1:]] += 1
        action()

    def settle(self) -> None:
        """One quiet turn, so that what is measured is not what the last one left."""
        self._expect("len(history)", str(len(self._mirror)))

    # ── turns that end well ─────────────────────────────────────────────────────────────────────────

    def _ordinary(self) -> None:
        number = self._rng.randrange(10**6)
        if len(self._mirror) > 200:
            self._mirror.clear()
            self._expect("history.clear(); len(history)", "0")
        self._mirror.append(number)
        code = f"history.append({number})\ndef total(): return sum(history)\nprint(len(history), total())"
        self._expect(code, f"{len(self._mirror)} {sum(self._mirror)}")
        self._save()

    def _sub_calls(self) -> None:
        count = self._rng.randrange(1, 20)
        self._expect(f"print(len(set(llm_batch([f'p{{n}}' for n in range({count})]))))", str(count))

    def _raises(self) -> None:
        result = self._run("before = 1\nhistory.no_such_thing")
        self._check(result.end == "raised", f"a cell that raises ended as {result.end}")

    def _flood(self) -> None:
        result = self._run("print('flood ' * 200_000)")
        self._check(result.dropped_chars > 10**6, "a flood was not cut")

    def _raw_flood(self) -> None:
        result = self._run("import os\nfor _ in range(30): os.write(1, b'raw' * 10_000)")
        self._check(result.end == "ok" and len(result.output) < 3000, "a raw flood was not cut")

    def _files(self) -> None:
        code = "import os, tempfile\nfor n in range(20): open(f'{n}.txt', 'w').write('x' * 1000)\n"
        self._expect(code + "held = tempfile.TemporaryFile()\nlen(os.listdir())", "20")

    # ── turns that cost the kernel ──────────────────────────────────────────────────────────────────

    def _exits(self) -> None:
        self._lost("import os; os._exit(3)", "died")

    def _killed(self) -> None:
        how = self._rng.choice(("os.kill(os.getpid(), 9)", "ctypes.string_at(0)", "os.abort()"))
        self._lost(f"import os, ctypes; llm_query('paid'); {how}", "died")

    def _violates(self) -> None:
        self._lost(
            "import os\nfor fd in range(3, 30):\n    try: os.write(fd, bytes([255]) * 64)\n"
            "    except OSError: pass",
            "died",
        )

    def _leaves_programs(self) -> None:
        self._lost(
            "import os\nfor _ in range(5):\n    if not os.fork(): __import__('time').sleep(600)\nos._exit(1)",
            "died",
        )

    def _deaf(self) -> None:
        self._lost("sum(range(10**12))", "timed_out")

    def _fills(self) -> None:
        result = self._run("hoard = []\nwhile True: hoard.append(bytes(50_000_000))")
        if result.end == "raised":
            self._run("del hoard")
        else:
            self._went_back()

    def _over_time(self) -> None:
        result = self._run("while True: pass")
        self._check(result.end == "timed_out", f"an endless loop ended as {result.end}")
        if any("restarted" in notice for notice in result.notices):
            self._went_back()

    def _restored(self) -> None:
        """As a resumed run does: the same object, from the last snapshot."""
        lost = self._kernel.start(self._saved, Answer("draft"))
        self._check({item.name for item in lost} <= {"held"}, f"lost on the way back: {lost}")
        self._went_back()

    # ── pieces ──────────────────────────────────────────────────────────────────────────────────────

    def _run(self, code: str) -> CellResult:
        return self._kernel.run_cell(code, self.turn)

    def _expect(self, code: str, output: str) -> None:
        result = self._run(code)
        self._check(result.output.strip() == output, f"{result.end}: {result.output!r} and not {output!r}")

    def _lost(self, code: str, end: str) -> None:
        result = self._run(code)
        self._check(result.end == end, f"ended as {result.end} and not as {end}: {code[:60]!r}")
        self._went_back()

    def _went_back(self) -> None:
        self.restarts += 1
        self._mirror = list(self._saved_mirror)

    def _save(self) -> None:
        self._saved = self._kernel.snapshot()
        self._saved_mirror = tuple(self._mirror)
        unsaved = {item.name for item in self._saved.variables if item.status != "saved"}
        self._check(unsaved <= {"held"}, f"not saved: {unsaved}")

    def _check(self, ok: bool, shown: str) -> None:
        if not ok:
            self.wrong.append(f"turn {self.turn}: {shown}")


def run(turns: int, seed: int, say: Callable[[str], None]) -> list[str]:
    """Run it; what was wrong, or has grown, as sentences. Temporary folders are made in one of our own."""
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        temporary, workspace = Path(folder) / "tmp", Path(folder) / "workspace"
        for item in (Path(folder), temporary, workspace):
            item.mkdir(exist_ok=True)
            item.chmod(0o755)
        tempfile.tempdir = str(temporary)
        try:
            return _run_in(temporary, workspace, turns, random.Random(seed), say)
        finally:
            tempfile.tempdir = usual


def _run_in(
    temporary: Path, workspace: Path, turns: int, rng: random.Random, say: Callable[[str], None]
) -> list[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    kernel = Kernel(SETTINGS, Inputs(()), workspace, _Model(), loop)
    try:
        soak = Soak(kernel, rng)
        say(HEAD)
        first, last = _turns(soak, turns, temporary, say)
    finally:
        kernel.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    after = Usage.now(temporary)
    say(f"{'closed':>6} {'':>9} {after.row()}")
    say(", ".join(f"{count} {kind}" for kind, count in soak.kinds.most_common()))
    return [*soak.wrong[:20], *_grown(first, last), *_left(after)]


def _turns(soak: Soak, turns: int, temporary: Path, say: Callable[[str], None]) -> tuple[Usage, Usage]:
    """What was used after the first tenth of the turns, and at the end."""
    soak.begin()
    seen: list[Usage] = []
    for part in range(_CHECKS):
        while soak.turn < turns * (part + 1) // _CHECKS:
            soak.step()
        soak.settle()
        seen.append(Usage.now(temporary))
        say(f"{soak.turn:>6} {soak.restarts:>9} {seen[-1].row()}")
    return seen[0], seen[-1]


def _grown(first: Usage, last: Usage) -> list[str]:
    shown = []
    if last.rss_mb > first.rss_mb + RSS_TOLERANCE_MB:
        shown.append(f"resident memory grew from {first.rss_mb:.1f} to {last.rss_mb:.1f} MB")
    for name in ("descriptors", "threads", "children", "folders", "groups"):
        before, now = getattr(first, name), getattr(last, name)
        if now > before:
            shown.append(f"{name} grew from {before} to {now}")
    if last.zombies:
        shown.append(f"{last.zombies} zombie processes")
    return shown


def _left(after: Usage) -> list[str]:
    names = ("children", "zombies", "folders", "groups")
    return [f"{getattr(after, name)} {name} left after close()" for name in names if getattr(after, name)]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A week in short.")
    parser.add_argument("--turns", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=7)
    requests = parser.parse_args()
    began = time.monotonic()
    print(
        f"{requests.turns} turns, seed {requests.seed}; RSS may differ by {RSS_TOLERANCE_MB:g} MB", flush=True
    )
    wrong = run(requests.turns, requests.seed, lambda line: print(line, flush=True))
    print("\n".join(wrong) or "nothing has grown, nothing is left, every turn was as expected")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
