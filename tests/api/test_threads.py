"""Runs beside each other, in threads and in event loops, and how each of them is stopped."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import loop_runner as lr
from loop_runner.api.work import Work
from tests.api import leaks
from tests.support.commands import wait_for
from tests.support.tasks import cell, ready, write_task

SLOW = cell("import time; time.sleep(60)")


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task", root=[ready("41"), ready("42")])


@pytest.fixture
def slow(tmp_path):
    """A task that commits a turn and then computes for a minute."""
    return write_task(tmp_path / "slow", root=[cell("x = 1"), SLOW, ready("42")])


def open_files():
    return len(os.listdir("/proc/self/fd"))


def children():
    result = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        pid for pid in result if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    ]


def left():
    return threading.active_count(), open_files(), len(children())


def test_a_run_in_a_running_event_loop_lets_the_loop_go_on(task):
    ticks = []

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def main():
        ticking = asyncio.create_task(tick())
        result = await lr.arun(task, run_dir="mine")
        ticking.cancel()
        return result

    assert asyncio.run(main()).verified
    assert len(ticks) > 5


def test_the_plain_call_works_under_a_running_loop_too(task):
    async def main():
        return lr.run(task, run_dir="mine")

    assert asyncio.run(main()).verified


def test_an_error_is_raised_once_and_reported_by_nobody_else(tmp_path, caplog):
    task = write_task(tmp_path / "task", root=[cell("x = 1")])  # has no second reply

    async def failed():
        with pytest.raises(lr.ModelError, match="asked for reply number 2"):
            await lr.arun(task, run_dir=tmp_path / "run")

    asyncio.run(failed())
    gc.collect()
    assert not caplog.records


def test_runs_side_by_side_in_one_loop_do_not_mix(tmp_path):
    async def main():
        tasks = [
            write_task(tmp_path / f"t{number}", root=[ready(f"{number} 41"), ready(f"{number} 42")])
            for number in range(3)
        ]
        return await asyncio.gather(*(lr.arun(task, run_dir=f"r{at}") for at, task in enumerate(tasks)))

    assert [result.answer for result in asyncio.run(main())] == ["0 42", "1 42", "2 42"]


def test_runs_in_threads_do_not_mix(tmp_path):
    answers = {}

    def run(number):
        task = write_task(tmp_path / f"t{number}", root=[ready(f"{number} 42")])
        answers[number] = lr.run(task, run_dir=tmp_path / f"r{number}").answer

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"{number} 42" for number in range(3)}


def test_a_cancelled_run_ends_soon_keeps_its_commits_and_leaves_nothing(slow):
    before = left()

    async def main():
        committed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def heard(event):
            if event.kind == "turn_committed":
                loop.call_soon_threadsafe(committed.set)

        running = asyncio.create_task(lr.arun(slow, run_dir="mine", on_event=heard))
        await committed.wait()
        await asyncio.sleep(0.3)
        running.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await running
        return time.monotonic() - started

    assert asyncio.run(main()) < 15
    wait_for(lambda: left() == before)
    assert lr.open("mine").state == "unfinished"
    assert "pass 1 turn 1" in log("mine")


def log(run):
    return subprocess.run(
        ["git", "-C", run, "log", "--format=%s"], capture_output=True, text=True, check=True
    ).stdout


def test_a_time_out_of_asyncio_stops_the_run(slow):
    async def main():
        async with asyncio.timeout(2):
            await lr.arun(slow, run_dir="mine")

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert not Path("mine/.git/loop-runner/lock").exists() or lr.open("mine").state != "running"


INTERRUPTED = """
import signal, sys, threading
import loop_runner as lr
signal.signal(signal.SIGINT, signal.default_int_handler)
def heard(event):
    if event.kind == "turn_committed":
        threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
        threading.Timer(0.3, lambda: __import__("os").kill(__import__("os").getpid(), signal.SIGINT)).start()
try:
    lr.run(sys.argv[1], run_dir=sys.argv[2], on_event=heard)
except KeyboardInterrupt:
    print("interrupted", lr.open(sys.argv[2]).state, threading.active_count())
"""


def test_ctrl_c_in_the_caller_ends_the_run_in_order_and_is_raised(slow, tmp_path):
    code = INTERRUPTED.replace(
        "        threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()\n", ""
    )
    done = subprocess.run(
        [sys.executable, "-c", code, slow, tmp_path / "mine"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.startswith("interrupted unfinished"), done.stderr
    assert done.stderr == ""
    assert "pass 1 turn 1" in log(tmp_path / "mine")


def test_an_interrupted_run_is_resumed_as_if_nothing_had_happened(slow, tmp_path):
    with lr.stream(slow, run_dir="mine") as events:
        next(event for event in events if event.kind == "turn_committed")
    (tmp_path / "slow/script.yaml").write_text((tmp_path / "slow/script.yaml").read_text().replace("60", "0"))
    assert events.result.status == "interrupted"
    assert lr.resume("mine").status in ("verified", "unverified")


def test_many_runs_leave_no_thread_process_descriptor_or_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    leaks.many(tmp_path / "first", 1)
    before = leaks.count()
    leaks.many(tmp_path / "then", 8)  # one is stopped, one ends by an error; `make leaks` makes 200
    assert leaks.count() == before


def test_tokens_are_counted_under_a_running_loop(monkeypatch):
    from loop_runner.model import registry
    from loop_runner.records import Message, Request
    from loop_runner.runs.models import count_tokens

    class Counter:
        async def complete(self, request):
            raise NotImplementedError

        async def count_tokens(self, request):
            await asyncio.sleep(0)
            return 7

        async def close(self):
            return None

    monkeypatch.setattr(registry, "client_for", lambda *_, **__: Counter())

    async def main():
        return count_tokens(Request("x:y", (Message("user", "hello"),)), Path(), {})

    assert asyncio.run(main()) == 7


def test_a_signal_that_the_system_gives_to_another_thread_is_heeded_by_the_thread_that_waits():
    is_stopped = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: is_stopped.set())

    def send_to_this_thread():
        time.sleep(0.1)  # until the other one waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    try:
        work = Work(lambda _: is_stopped.wait(30))
        threading.Thread(target=send_to_this_thread).start()
        assert work.wait() is True
    finally:
        signal.signal(signal.SIGUSR1, before)
