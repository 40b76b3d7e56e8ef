"""What models know from notebooks works in cells: top-level ``await``, ``exit()`` and ``inspect.getsource``."""

# ruff: noqa: E501 - cells are shorter to read on one line each

import pytest

from tests.support.machines import path_without

ASYNC = (
    "import asyncio\n"
    "async def double(x):\n"
    "    await asyncio.sleep(0)\n"
    "    return 2 * x\n"
    "async def count(n):\n"
    "    for i in range(n):\n"
    "        yield i\n"
    "class Open:\n"
    "    async def __aenter__(self): return 'opened'\n"
    "    async def __aexit__(self, *why): print('closed')\n"
)


@pytest.fixture(params=["A", "B"])
def kernel(request, start, tmp_path, monkeypatch):
    """A kernel in each of the tiers."""
    if request.param == "B":
        monkeypatch.setenv("PATH", path_without({"bwrap"}, tmp_path / "programs"))
    kernel = start()
    if kernel.kernel.sandbox().tier != request.param:
        pytest.skip(f"TIER {request.param} UNTESTED: this machine does not have it")
    return kernel


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("x = await double(1)\nx + 1", "3\n"),
        ("await asyncio.gather(*map(double, range(3)))", "[0, 2, 4]\n"),
        ("async for i in count(2):\n    print(i)", "0\n1\n"),
        ("async with Open() as it:\n    print(it)", "opened\nclosed\n"),
        ("[i async for i in count(3)]", "[0, 1, 2]\n"),
        ("total = sum([await double(i) async for i in count(3)])\ntotal", "6\n"),
        ("t = asyncio.create_task(double(4))\nawait t", "8\n"),
        ("async with asyncio.timeout(5):\n    print(await double(5))", "10\n"),
        ("print(await asyncio.to_thread(len, 'abc'))", "3\n"),
        ("await asyncio.sleep(0)", ""),
        ("if True:\n    await double(1)\nprint('done')", "done\n"),
        ("asyncio.run(double(8))", "16\n"),
    ],
)
def test_every_form_of_top_level_await_runs_and_shows_its_value(kernel, cell, shown):
    kernel.run(ASYNC)
    result = kernel.run(cell)
    assert result.end == "ok", result.output
    assert result.output == shown or (not shown and "nothing was printed" in result.output)


def test_a_coroutine_of_one_cell_can_be_awaited_in_the_next(kernel):
    kernel.run(ASYNC + "left = double(3)")
    assert kernel.run("await left").output == "6\n"


def test_sub_calls_can_be_made_from_a_cell_that_awaits(kernel):
    cell = "import asyncio\nawait asyncio.gather(*(asyncio.to_thread(llm_query, p) for p in 'ab'))"
    assert kernel.run(cell).output == "['echo: a', 'echo: b']\n"


def test_an_exception_in_a_coroutine_shows_the_lines_of_cells_and_no_event_loop(kernel):
    kernel.run("async def fail(x):\n    return 1 / x")
    result = kernel.run("y = 1\nawait fail(0)")
    assert result.error == "ZeroDivisionError: division by zero"
    assert 'File "<cell 2>", line 2, in <module>\n    await fail(0)' in result.output
    assert 'File "<cell 1>", line 2, in fail\n    return 1 / x' in result.output
    assert "loop_runner" not in result.output
    assert "asyncio" not in result.output
    assert kernel.value("y") == "1"


def test_an_exception_in_one_of_many_is_the_cells(kernel):
    kernel.run("import asyncio\nasync def fail(x):\n    return 1 / x")
    result = kernel.run("await asyncio.gather(fail(1), fail(0))")
    assert result.end == "raised"
    assert "in fail" in result.output
    assert "base_events" not in result.output


def test_a_task_that_is_left_over_is_cancelled_with_a_notice(kernel):
    kernel.run(ASYNC + "async def for_ever():\n    await asyncio.sleep(1000)")
    result = kernel.run("tasks = [asyncio.create_task(for_ever()) for _ in range(2)]\nawait double(1)")
    assert (result.end, result.output) == ("ok", "2\n")
    assert any("cancelled (for_ever, for_ever)" in notice for notice in result.notices)
    assert kernel.value("[task.cancelled() for task in tasks]") == "[True, True]"
    assert not kernel.run("await double(1)").notices


def test_a_task_that_is_left_over_when_the_cell_raises_is_cancelled_too(kernel):
    kernel.run(ASYNC + "async def for_ever():\n    await asyncio.sleep(1000)")
    result = kernel.run("t = asyncio.create_task(for_ever())\nawait double(1)\n1 / 0")
    assert result.error == "ZeroDivisionError: division by zero"
    assert any("for_ever" in notice for notice in result.notices)


def test_awaiting_for_too_long_is_interrupted_at_the_line_that_waits(start):
    kernel = start(timeout_s=1.0)
    kernel.run("x = 5")
    result = kernel.run("import asyncio\ny = 6\nawait asyncio.sleep(1000)")
    assert result.end == "timed_out"
    assert "line 3" in result.output
    assert "selectors" not in result.output
    assert kernel.value("x + y") == "11"


def test_an_await_outside_an_async_function_is_still_a_syntax_error(kernel):
    result = kernel.run("def f():\n    await g()")
    assert result.error.startswith("SyntaxError")
    assert "line 2" in result.output


def test_asyncio_run_in_a_cell_that_awaits_says_why_it_cannot(kernel):
    kernel.run(ASYNC)
    result = kernel.run("await double(1)\nasyncio.run(double(1))")
    assert result.error.startswith("RuntimeError: asyncio.run() cannot be called")
    assert "<end of the cell>:1: RuntimeWarning: coroutine 'double' was never awaited" in result.output
    assert kernel.run("asyncio.run(double(1))").output == "2\n"


def test_a_coroutine_that_is_shown_and_not_awaited_is_warned_of_in_its_own_cell(kernel):
    kernel.run(ASYNC)
    for _ in range(2):
        output = kernel.run("double(1)").output
        assert "<end of the cell>:1: RuntimeWarning: coroutine 'double' was never awaited" in output
        assert ".py" not in output
    assert kernel.run("print(1)").output == "1\n"


def test_variables_of_a_cell_that_awaits_are_saved(start):
    first = start()
    first.run(ASYNC + "async def add(a, b):\n    return a + b")
    first.run("rows = [i async for i in count(3)]\nbest = await add(2, 3)")
    again = start(snapshot=first.snapshot(), after=first)
    assert again.value("[rows, best]") == "[[0, 1, 2], 5]"
    assert again.run("await add(1, 1)").output == "2\n"


def test_a_coroutine_that_is_left_over_does_not_spoil_the_snapshot_or_the_next_output(start):
    first = start()
    first.run(ASYNC + "left = double(3)\nkept = 7")
    snapshot = first.snapshot()
    again = start(snapshot=snapshot, after=first, expect_lost=True)
    result = again.run("print(kept)")
    assert result.output == "7\n"
    assert first.run("await left").output == "6\n"


def test_a_cell_that_awaits_what_changes_a_variable_has_it_saved(start):
    first = start()
    first.run("big = ['x' * 1000] * 1\nasync def grow():\n    big.append(1)\ng = [grow()]")
    first.snapshot()
    first.run("await g[0]")
    assert start(snapshot=first.snapshot(), after=first, expect_lost=True).value("len(big)") == "2"


# ── exit ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("exit()", "SystemExit"),
        ("quit()", "SystemExit"),
        ("exit(3)", "SystemExit: 3"),
        ("exit('no rows')", "SystemExit: no rows"),
        ("def stop():\n    exit(2)\nstop()", "SystemExit: 2"),
        ("import builtins\nbuiltins.quit(4)", "SystemExit: 4"),
        ("import asyncio\nawait asyncio.sleep(0)\nexit(5)", "SystemExit: 5"),
        ("import sys\nsys.exit(6)", "SystemExit: 6"),
    ],
)
def test_exit_and_quit_end_the_cell_as_sys_exit_does(kernel, cell, error):
    kernel.run("x = 1")
    result = kernel.run(cell + "\nx = 2")
    assert result.end == "raised"
    assert result.error in (error, error + ": None")
    assert any("the kernel and its variables are kept" in notice for notice in result.notices)
    assert kernel.value("x") == "1"
    assert kernel.value("__import__('sys').stdin.read() == ''") == "True"


def test_exit_in_a_task_ends_the_cell(kernel):
    kernel.run("import asyncio\nx = 1\nasync def leave():\n    exit(7)")
    result = kernel.run("t = asyncio.create_task(leave())\nawait asyncio.sleep(5)\nx = 2")
    assert result.error == "SystemExit: 7"
    assert "base_events" not in result.output
    assert kernel.value("x") == "1"


def test_exit_without_a_call_says_how_to_call_it_and_ends_nothing(kernel):
    assert kernel.run("exit").output == "Use exit() to end the cell\n"


def test_exit_can_be_a_variable_and_is_restored_as_a_builtin(start):
    first = start()
    assert any("`exit`" in notice for notice in first.run("import builtins\nbuiltins.exit = 5").notices)
    first.run("stop = exit")
    assert start(snapshot=first.snapshot(), after=first).run("stop(1)").error == "SystemExit: 1"


# ── the source of functions and classes ─────────────────────────────────────────────────────────────

F = "def f(x):\n    # doubles\n    return 2 * x"
C = "class C:\n    '''A class.'''\n    def m(self):\n        return 1"
P = "@dataclass\nclass P:\n    x: int = 1"


@pytest.mark.parametrize(
    ("before", "name", "source"),
    [
        (F, "f", F),
        ("y = 1\n\n" + F + "\nz = 2", "f", F),
        (C, "C", C),
        (C, "C.m", "    def m(self):\n        return 1"),
        ("from dataclasses import dataclass\n" + P, "P", P),
        ("async def a():\n    await b()", "a", "async def a():\n    await b()"),
        ("class E(Exception):\n    pass", "E", "class E(Exception):\n    pass"),
        ("class Out:\n    class In:\n        k = 1", "Out.In", "    class In:\n        k = 1"),
        ("square = lambda n: n * n", "square", "square = lambda n: n * n"),
        ("def w():\n    def inner():\n        return 3\n    return inner\nv = w()", "v", "    def inner():\n        return 3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_restarted", [False, True])
def test_getsource_shows_what_a_cell_defined(start, before, name, source, is_restarted):
    kernel = start()
    kernel.run(before)
    kernel.run("other = 1")
    if is_restarted:
        kernel = start(snapshot=kernel.snapshot(), after=kernel)
    result = kernel.run(f"import inspect\nprint(inspect.getsource({name}))")
    assert result.end == "ok", result.output
    assert result.output.rstrip("\n") == source


def test_getsource_works_in_the_cell_that_defines_and_from_an_import_by_name(kernel):
    assert kernel.run(F + "\nfrom inspect import getsource\nprint(getsource(f))").output == F + "\n\n"


@pytest.mark.parametrize("definition", ["def f():\n    return {}", "class f:\n    k = {}", "class f:\n    def m(self):\n        return {}"])  # fmt: skip
def test_getsource_of_a_redefined_name_shows_the_last_definition(start, definition):
    kernel = start()
    for value in "123":
        kernel.run(definition.format(value))
        kernel.snapshot()
    shown = "import inspect\nprint(inspect.getsource(f))"
    assert kernel.run(shown).output.strip() == definition.format(3)
    again = start(snapshot=kernel.snapshot(), after=kernel)
    assert again.run(shown).output.strip() == definition.format(3)


def test_getsource_of_an_old_function_under_another_name_shows_the_old_definition(kernel):
    kernel.run("def f():\n    return 1\nold = f")
    kernel.run("def f():\n    return 2")
    assert kernel.run("import inspect\nprint(inspect.getsource(old))").output.startswith(
        "def f():\n    return 1"
    )


def test_getsource_of_the_same_cell_number_in_two_passes_shows_each_its_own(kernel):
    kernel.kernel.run_cell("def first():\n    return 1", 1)
    kernel.kernel.run_cell("def second():\n    return 2", 1)
    shown = kernel.run("import inspect\nprint(inspect.getsource(first), inspect.getsource(second))").output
    assert "return 1" in shown
    assert "return 2" in shown


def test_getsource_finds_library_code_and_says_what_has_none(kernel):
    assert "def dumps" in kernel.run("import inspect, json\nprint(inspect.getsource(json.dumps))").output
    assert "class JSONEncoder" in kernel.run("print(inspect.getsource(json.JSONEncoder))").output
    assert kernel.run("inspect.getsource(len)").error.startswith("TypeError")
    assert kernel.run("inspect.getsource(type('Made', (), {}))").end == "raised"


def test_a_class_with_a_hostile_name_is_saved_and_ends_nothing(start):
    kernel = start()
    kernel.run(
        "class Text(str):\n"
        "    def rpartition(self, *a): raise SystemExit\n"
        "    def __hash__(self): raise SystemExit\n"
        "class C:\n    k = 4\n"
        "C.__qualname__ = Text('C')\nx = 1"
    )
    again = start(snapshot=kernel.snapshot(), after=kernel, expect_lost=True)
    assert again.value("x") == "1"
    assert kernel.value("C.k") == "4"
