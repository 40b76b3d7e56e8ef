"""Snapshots: small names, a 50 MB dict that grows 1 % per pass, what is stored of it, and restoring it."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bench.timing import report
from loop_runner.kernel.kernel import Kernel
from loop_runner.records import Answer, Inputs, Snapshot, TurnRecord
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.workspace import chunking
from loop_runner.workspace.workspace import Workspace

SMALL = "for i in range(500):\n    globals()[f'a{i}'] = i\n    globals()[f'b{i}'] = [i, str(i)]"
GROW = """
def grow(to):
    for i in range(len(big), to):
        text = f'finding number {i} in some file with words {i * 7919 % 100003}'
        big[f'doc-{i:07d}'] = {'line': i, 'text': text, 'score': i / 7.0, 'tags': ['open', 'beta']}
big = {}
grow(450_000)
"""
FORK = """
import os, time
began = time.perf_counter()
pid = os.fork()
if pid == 0:
    os._exit(0)
ms = (time.perf_counter() - began) * 1000
os.waitpid(pid, 0)
print(ms)
"""
ROUNDS = 5


class Echo:
    """Answers at once."""

    async def query(self, prompt: str) -> str:
        return prompt


@contextmanager
def kernels() -> Iterator[Callable[[Snapshot], Kernel]]:
    """Makes kernels that are closed in the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made: list[Kernel] = []
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        workspace.mkdir()

        def make(snapshot: Snapshot) -> Kernel:
            kernel = Kernel(KernelSettings(), Inputs(()), workspace, Echo(), loop)
            made.append(kernel)
            kernel.start(snapshot, Answer())
            return kernel

        yield make
        for kernel in made:
            kernel.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the figures of this file."""
    with kernels() as make:
        _small(make(Snapshot()))
        _big(make)


def _small(kernel: Kernel) -> None:
    kernel.run_cell(SMALL, 1)
    kernel.snapshot()
    written, tried = [], []
    for number in range(2, 22):
        kernel.run_cell(f"a1 = {number}", number)
        written.append(timed_ms(lambda: kernel._take(full=False)))  # noqa: SLF001 - the part without the trial
        kernel.run_cell(f"a1 = -{number}", number)
        tried.append(timed_ms(kernel.snapshot))
    took = statistics.median(written)
    report("1,000 small names, written", took, target="under 10")
    report("1,000 small names, written and loaded in a trial", statistics.median(tried))
    _peers("1,000 small names", SMALL, took)


def _peers(what: str, code: str, took_ms: float) -> None:
    """What libraries take to dump the same names, in this process: no links, no chunks, no trial."""
    names: dict[str, object] = {}
    exec(code, names)
    names = {name: value for name, value in names.items() if name[0] in "ab" and name != "builtins"}
    for library in ("cloudpickle", "dill"):
        if find_spec(library) is None:
            continue
        dump_all = partial(import_module(library).dumps, names)
        peer_ms = statistics.median(timed_ms(dump_all) for _ in range(ROUNDS))
        report(f"{what}: {library}.dumps of all at once", peer_ms)
        report(f"{what}: ours as a multiple of {library}", took_ms / peer_ms, "x")


def _big(make: Callable[[Snapshot], Kernel]) -> None:
    kernel = make(Snapshot())
    kernel.run_cell(GROW, 1)
    whole_ms = timed_ms(kernel.snapshot)
    taken = kernel.snapshot()
    report("the dict, pickled", sum(map(len, taken.blobs.values())) / 1e6, "MB")
    report("first snapshot of it", whole_ms)
    with (
        tempfile.TemporaryDirectory() as folder,
        Workspace.create(Path(folder) / "run", name="b", files={}) as run,
    ):
        committed, stored, pauses, grown, untouched = [], [], [], [], []
        for number in range(1, ROUNDS + 2):
            before = _objects_bytes(run)
            committed.append(timed_ms(lambda: run.commit_turn(_turn(number, taken), {})))  # noqa: B023
            stored.append((_objects_bytes(run) - before) / 1e6)
            kernel.run_cell("x = 1", number)
            untouched.append(timed_ms(kernel.snapshot))
            kernel.run_cell(f"grow({450_000 + 4_500 * number})", number)
            pauses.append(float(kernel.run_cell(FORK, number).output))
            grown.append(timed_ms(kernel.snapshot))
            taken = kernel.snapshot()
    report("grown by 1 %: pause of the model's process (fork)", statistics.median(pauses), target="under 60")
    report("grown by 1 %: snapshot, trial included", statistics.median(grown))
    _peers("the dict", GROW, statistics.median(grown))
    report("not touched: snapshot", statistics.median(untouched))
    report("grown by 1 %: stored in git", statistics.median(stored[1:]), "MB", "under 1")
    report("grown by 1 %: commit of the turn", statistics.median(committed[1:]))
    blob = max(taken.blobs.values(), key=len)
    report("cut into chunks", statistics.median(timed_ms(lambda: list(chunking.cut(blob))) for _ in range(5)))
    restored = [timed_ms(lambda: make(taken)) for _ in range(ROUNDS)]
    report("restored, start of the kernel included", statistics.median(restored), target="under 1000")


def _turn(number: int, taken: Snapshot) -> TurnRecord:
    return TurnRecord(1, number, "", "x = 1", "", "ok", Answer(), (), taken)


def _objects_bytes(run: Workspace) -> int:
    objects = run.folder / ".git" / "objects"
    return sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
