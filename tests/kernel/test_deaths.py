"""Whatever a cell does to the process costs that cell only."""

# ruff: noqa: E501 - cells are shorter to read on one line each

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from loop_runner.errors import KernelError
from loop_runner.records import Answer, Snapshot, Variable
from tests.support.confined import count_processes, eventually


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.abort()", "signal 6"),
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("import os; os.closerange(3, 200)", "kernel"),
    ],
)
def test_a_crash_costs_that_cell_only(kernel, code, what):
    kernel.run("x = [1]")
    kernel.snapshot()
    result = kernel.run(code)
    assert result.end == "died"
    assert what in result.error
    assert any("restarted" in notice for notice in result.notices)
    assert kernel.value("x") == "[1]"


def test_a_crash_shows_the_line_of_the_cell(kernel):
    result = kernel.run("import ctypes\n\nctypes.string_at(0)")
    assert 'File "<cell 1>", line 3' in result.output
    assert "loop_runner" not in result.output


def test_a_crash_names_the_variables_that_are_lost(kernel):
    kernel.run("kept = 1\ngen = (i for i in open('out.txt', 'w+'))")
    kernel.snapshot()
    kernel.run("later = 2")
    result = kernel.run("import os; os._exit(1)")
    shown = " ".join(result.notices)
    assert "later" in shown
    assert "gen (TypeError: cannot pickle 'generator' object)" in shown
    assert "kept" not in shown
    assert kernel.run("later").error.startswith("NameError")


def test_the_answer_survives_a_crash_and_is_not_ready(kernel):
    kernel.run("answer['content'] = 'draft'")
    result = kernel.run("answer.update(content='other', ready=True)\nimport os; os._exit(1)")
    assert result.answer == Answer("draft")
    assert kernel.value("answer['content']") == "draft"


def test_an_endless_loop_is_interrupted_and_keeps_its_assignments(start):
    kernel = start(timeout_s=0.3, grace_s=2)
    result = kernel.run("x = 5\nprint('begun')\nwhile True: pass")
    assert result.end == "timed_out"
    assert result.error == "KeyboardInterrupt"
    assert "begun" in result.output
    assert "while True" in result.output
    assert 0.3 <= result.seconds < 2
    assert kernel.value("x") == "5"


@pytest.mark.parametrize(
    "code",
    [
        "sum(range(10**12))",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nwhile True: pass",
    ],
    ids=["in C", "swallowed", "blocked"],
)
def test_a_cell_that_ignores_the_interrupt_is_killed(start, code):
    kernel = start(timeout_s=0.2, grace_s=0.2)
    kernel.run("x = 1")
    kernel.snapshot()
    began = time.monotonic()
    result = kernel.run(code)
    assert result.end == "timed_out"
    assert time.monotonic() - began < 3
    assert kernel.value("x") == "1"


def test_a_finished_answer_of_an_interrupted_cell_is_not_ready(start):
    kernel = start(timeout_s=0.2, grace_s=2)
    result = kernel.run("try:\n    while True: pass\nexcept KeyboardInterrupt:\n    FINAL('late')")
    assert result.end == "timed_out"
    assert not result.answer.is_ready


def test_a_memory_bomb_is_a_memory_error_or_a_death_of_that_cell(start):
    kernel = start(memory_mb=256)
    kernel.run("x = 1")
    kernel.snapshot()
    assert kernel.run("bytearray(10**10)").error.startswith("MemoryError")
    result = kernel.run("def fill():\n    hoard = []\n    while True: hoard.append(bytes(10**6))\nfill()")
    assert result.end in {"raised", "died"}
    assert kernel.value("x") == "1"


def test_a_hoard_in_a_global_is_the_models_to_delete(start):
    kernel = start(memory_mb=256)
    result = kernel.run("hoard = []\nwhile True: hoard.append(bytes(10**6))")
    assert result.end in {"raised", "died"}
    assert kernel.run("hoard = None").end == "ok"
    assert kernel.value("len(bytes(10**8))") == "100000000"


def test_a_forked_copy_of_the_cell_does_not_speak_to_the_host(kernel):
    result = kernel.run("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('once')")
    assert result.end == "ok"
    assert result.output == "once\n"
    assert kernel.value("1") == "1"


def test_programs_of_a_killed_cell_are_killed_too(start):
    kernel = start(timeout_s=0.2, grace_s=0.1)
    token = f"token-{os.getpid()}-of-a-program"
    program = f"[sys.executable, '-c', 'import time; time.sleep(100)', '{token}']"
    assert kernel.run(f"import subprocess, sys\np = subprocess.Popen({program})").end == "ok"
    eventually(lambda: count_processes(token) == 1)
    kernel.run("sum(range(10**12))")
    eventually(lambda: count_processes(token) == 0)


def test_a_kernel_dies_with_its_host(start):
    """The life line: what the system does when the host is gone is done when its end is closed."""
    kernel = start()
    pid = kernel.pid
    process = kernel.kernel._life.process
    os.close(process._life)
    process._life = -1
    assert process._process.wait(5) in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert not Path(f"/proc/{pid}").exists()


def children():
    """The processes that this one has started, whichever of its threads did so."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def test_twenty_deaths_leave_no_descriptor_no_thread_and_no_process_behind(start):
    others = children()
    kernel = start()
    kernel.run("import os; os._exit(1)")
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(20):
        kernel.run("llm_query('x')\nimport os; os._exit(1)")
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before
    assert len(children() - others) == 1  # the kernel that runs now: the warm one took its place


def test_closing_the_output_descriptors_hurts_nobody(kernel):
    assert kernel.run("import os; os.close(1); os.close(2); print('here')").output == "here\n"
    assert kernel.run("import sys; sys.stdout.close(); sys.stdin.close()").end == "ok"
    assert kernel.value("'and here'") == "and here"


def test_a_background_thread_of_an_earlier_cell_does_not_disturb(kernel):
    kernel.run(
        "import threading, time\ndef beat():\n    while True: print('beat'); time.sleep(0.01)\nthreading.Thread(target=beat, daemon=True).start()"
    )
    assert "42" in kernel.run("time.sleep(0.05); print(42)").output
    assert kernel.snapshot().variables


def test_a_saving_that_hangs_or_crashes_gives_the_last_snapshot_and_names_the_rest(start):
    kernel = start(timeout_s=0.5)
    kernel.run("x = 1")
    kernel.snapshot()
    kernel.run("import os\nclass Bomb:\n    def __reduce__(self): os._exit(1)\nbomb = Bomb()")
    taken = kernel.snapshot()
    assert {v.name: v.status for v in taken.variables} == {
        "x": "saved",
        "Bomb": "lost",
        "bomb": "lost",
        "os": "lost",
    }
    assert kernel.value("x") == "1"


def test_a_snapshot_that_kills_the_kernel_is_given_up_whole(start, tmp_path):
    first = start()
    # It loads in a trial, and ends the kernel all the same.
    first.run(
        "def load():\n    import os\n    if open('armed').read() == 'yes': os._exit(1)\n"
        "class Bomb:\n    def __reduce__(self): return load, ()\n"
        "open('armed', 'w').write('no')\nbomb = Bomb()\nx = 1"
    )
    taken = first.snapshot()
    first.run("open('armed', 'w').write('yes')")
    second = start(snapshot=taken, workspace=tmp_path / "workspace0", expect_lost=True)
    assert {v.name for v in second.lost} == {"Bomb", "bomb", "load", "x"}
    assert all("loading it ended the kernel" in v.reason for v in second.lost)
    assert second.value("1 + 1") == "2"


def test_a_blob_that_is_no_snapshot_is_reported_not_raised(start):
    forged = Snapshot((Variable("x", "int", 3, "1", "saved", blob="aa"),), {"aa": b"garbage"})
    kernel = start(snapshot=forged, expect_lost=True)
    assert [(v.name, v.reason) for v in kernel.lost] == [
        ("x", "the blob is not one of this version's snapshots")
    ]
    assert kernel.value("1") == "1"


def test_a_kernel_that_was_not_started_or_cannot_start_is_an_error(start):
    kernel = start()
    kernel.kernel.close()
    kernel.kernel.close()
    with pytest.raises(KernelError, match="not running"):
        kernel.run("1")
    with pytest.raises(KernelError, match="could not be started"):
        start(python="/no/such/python")
    with pytest.raises(KernelError, match="could not be started"):
        start(python="/bin/false")
