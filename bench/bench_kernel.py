"""Numbers of the kernel, as medians. Run: ``python bench/bench_kernel.py``."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loop_runner.kernel.kernel import Kernel
from loop_runner.records import Answer, Inputs, InputText, Snapshot
from loop_runner.task.kernel_settings import KernelSettings

HUNDRED_MB = 100_000_000
GIGABYTE = 1_000_000_000


class Echo:
    """Answers at once."""

    async def query(self, prompt: str) -> str:
        return prompt


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Median time of ``work`` in milliseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def show(what: str, milliseconds: float) -> None:
    print(f"{what:<66}{milliseconds:>10.2f} ms")


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def standard_library() -> Inputs:
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    return Inputs(
        tuple(InputText(path.relative_to(root).as_posix(), path, path.stat().st_size, "") for path in paths)
    )


def one_file(folder: Path, size: int = HUNDRED_MB) -> Inputs:
    path = folder / f"{size}.txt"
    path.write_bytes((b"an ordinary line of text, as it comes\n" * (size // 37))[:size])
    return Inputs((InputText(path.name, path, size, ""),), is_single=True)


def sources(folder: Path, size: int = HUNDRED_MB) -> Inputs:
    """The standard library's sources in one text, again and again up to ``size``."""
    whole = b"".join(text.path.read_bytes() for text in standard_library().texts)
    path = folder / "sources.txt"
    path.write_bytes((whole * (size // len(whole) + 1))[:size])
    return Inputs((InputText(path.name, path, size, ""),), is_single=True)


def warm_restart(kernel: Kernel, taken: Snapshot) -> float:
    """Milliseconds until a kernel is ready again when another process stands by."""
    kernel.run_cell("x = 1", 1)
    time.sleep(0.2)  # as a model thinks; the process beside it gets ready
    began = time.perf_counter()
    kernel.start(taken, Answer())
    return (time.perf_counter() - began) * 1000


def resident_bytes(kernel: Kernel) -> int:
    """Peak resident memory of the kernel process, as it says itself."""
    code = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    return int(kernel.run_cell(code, 1).output) * 1024


def main() -> None:
    with running_loop() as loop, tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)

        def kernel(inputs: Inputs, snapshot: Snapshot | None = None) -> Kernel:
            made = Kernel(KernelSettings(), inputs, workspace, Echo(), loop)
            made.start(snapshot or Snapshot(), Answer())
            return made

        bare = [sys.executable, "-I", "-c", "pass"]
        show("bare `python -I`", median_ms(lambda: subprocess.run(bare, check=True), 15))
        show("kernel start and end, no context", median_ms(lambda: kernel(Inputs(())).close(), 15))
        with kernel(Inputs(())) as plain:
            show(
                "cell round trip: x = 1; print(x)",
                median_ms(lambda: plain.run_cell("x = 1; print(x)", 1), 1000),
            )
            show("first snapshot (imports what saves)", median_ms(plain.snapshot, 1))
            show("snapshot of one name", median_ms(plain.snapshot, 200))
            show("one sub-call", median_ms(lambda: plain.run_cell("llm_query('x')", 1), 200))
            show(
                "a batch of 1,000 sub-calls",
                median_ms(lambda: plain.run_cell("llm_batch(['x'] * 1000)", 1), 5),
            )
            plain.run_cell("for i in range(1000): globals()[f'n{i}'] = [i, str(i)]", 1)
            show("snapshot of 1,000 small names", median_ms(plain.snapshot, 20))
            taken = plain.snapshot()
        show("start from that snapshot", median_ms(lambda: kernel(Inputs(()), taken).close(), 7))
        with kernel(Inputs(()), taken) as again:
            ready = statistics.median(warm_restart(again, taken) for _ in range(11))
            show("start from that snapshot, a warm process standing by", ready)
        with kernel(Inputs(())) as again:
            ready = statistics.median(warm_restart(again, Snapshot()) for _ in range(11))
            show("start with nothing, a warm process standing by", ready)
        with kernel(Inputs(())) as large:
            large.run_cell("big = {f'key {i}': [i, i * 0.5, 'some text %d' % i] for i in range(400_000)}", 1)
            show("snapshot of a dict of 400,000 entries", median_ms(large.snapshot, 3))
            taken = large.snapshot()
        print(f"{'':<20}its blob: {sum(map(len, taken.blobs.values())) / 1e6:.1f} MB")
        show("start from that snapshot", median_ms(lambda: kernel(Inputs(()), taken).close(), 3))
        big = one_file(workspace)
        show("start with 100 MB as one text", median_ms(lambda: kernel(big).close(), 5))
        with kernel(big) as item:
            show(
                "first search in 100 MB",
                median_ms(lambda: item.run_cell("search_text('ordinary zebra')", 1), 1),
            )
            show("search in 100 MB", median_ms(lambda: item.run_cell("search_text('ordinary zebra')", 1), 3))
        question = "search_text('What is the default maxsize of functools.lru_cache?')"
        with kernel(sources(workspace)) as item:
            show("first search in 100 MB of sources", median_ms(lambda: item.run_cell(question, 1), 1))
            show("search in 100 MB of sources", median_ms(lambda: item.run_cell(question, 1), 3))
        huge = one_file(workspace, GIGABYTE)
        show("start with 1 GB as one text", median_ms(lambda: kernel(huge).close(), 3))
        with kernel(huge) as item:
            print(f"{'':<20}peak resident memory: {resident_bytes(item) / GIGABYTE:.2f} times the text")
        library = standard_library()
        print(f"{'':<20}standard library: {len(library.texts):,} texts, {library.total_bytes / 1e6:.1f} MB")
        show("start with the standard library", median_ms(lambda: kernel(library).close(), 5))
        with kernel(library) as searcher:
            show("first search", median_ms(lambda: searcher.run_cell(question, 1), 1))
            show("search", median_ms(lambda: searcher.run_cell(question, 1), 7))


if __name__ == "__main__":
    main()
