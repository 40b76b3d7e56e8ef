"""The warm process beside the kernel: it takes the kernel's place, and losing it costs nothing."""

import os
import signal
import time

import pytest

from loop_runner.records import Snapshot
from loop_runner.sandbox.wrap import inner_pid


def warm_pid(driver):
    """The process that would be the kernel next."""
    process = driver.kernel._checker._process
    if not process._launch.is_wrapped:
        return process._process.pid
    deadline = time.monotonic() + 10
    while (pid := inner_pid(process._process.pid)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pid


@pytest.fixture
def driver(start):
    made = start()
    made.run("kept = ['a', 1]")
    made.snapshot()
    return made


def test_the_warm_process_takes_the_place_of_a_kernel_that_died(driver):
    next_one = warm_pid(driver)
    assert driver.pid != next_one
    assert driver.run("import os; os._exit(3)").end == "died"
    assert driver.pid == next_one
    assert driver.value("kept") == "['a', 1]"


def test_what_was_tried_in_the_warm_process_left_nothing_in_it(driver):
    driver.run(
        "class Loud:\n    def __reduce__(self): return (exec, ('import builtins; builtins.seen = 1',))"
    )
    driver.run("loud = Loud()")
    driver.snapshot()
    driver.run("del loud, Loud")
    driver.snapshot()
    driver.run("import os; os._exit(3)")
    assert driver.value("__import__('builtins').__dict__.get('seen')") == "None"


def test_a_warm_process_that_is_gone_is_no_reason_to_lose_variables(driver):
    os.kill(warm_pid(driver), signal.SIGKILL)
    time.sleep(0.05)
    result = driver.run("import os; os._exit(3)")
    assert not any("kept" in notice for notice in result.notices)
    assert driver.value("kept") == "['a', 1]"


def test_a_warm_process_that_was_stopped_is_given_up(driver):
    driver.run("more = 1")
    os.kill(warm_pid(driver), signal.SIGSTOP)
    driver.kernel._checker.close()
    driver.run("import os; os._exit(3)")
    assert driver.value("kept") == "['a', 1]"


def test_sub_calls_work_in_a_kernel_that_was_the_warm_process(driver):
    driver.run("import os; os._exit(3)")
    assert driver.value("llm_query('hello')") == "echo: hello"
    assert driver.run("import sys; print(sys.path.count(os.getcwd()) if 'os' in dir() else 0)").end == "ok"


def test_restarts_one_after_the_other_each_get_a_process_of_their_own(driver):
    seen = {driver.pid}
    for _ in range(4):
        driver.run("import os; os._exit(3)")
        assert driver.pid not in seen
        seen.add(driver.pid)
        driver.run("kept.append(0)")
        driver.snapshot()
    assert driver.value("kept") == "['a', 1, 0, 0, 0, 0]"


def test_modules_named_in_preload_are_there_before_the_first_cell_asks(start):
    driver = start(preload=("fractions", "no_such_module_anywhere", "json.tool"))
    assert driver.value("'fractions' in __import__('sys').modules") == "True"
    assert driver.value("'json.tool' in __import__('sys').modules") == "True"


def test_a_file_of_the_models_is_never_preloaded(start, tmp_path):
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "planted_module.py").write_text("import builtins; builtins.planted = 1\n")
    driver = start(preload=("planted_module",), workspace=folder)
    assert driver.value("hasattr(__import__('builtins'), 'planted')") == "False"


def test_a_second_start_forgets_all_of_the_first(start):
    driver = start()
    driver.run("mine = 1; answer['content'] = 'draft'")
    driver.kernel.start(Snapshot(), driver.kernel._answer)
    assert driver.run("mine").error == "NameError: name 'mine' is not defined"
