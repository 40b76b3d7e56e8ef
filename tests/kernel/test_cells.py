"""What a cell does to the namespace, what the model is shown, and what is repaired."""

# ruff: noqa: E501 - cells are shorter to read on one line each

import pytest


def test_variables_stay_from_cell_to_cell(kernel):
    kernel.run("x = 41")
    assert kernel.value("x + 1") == "42"


def test_functions_see_later_assignments_to_globals(kernel):
    kernel.run("k = 1\ndef f(): return k")
    kernel.run("k = 2")
    assert kernel.value("f()") == "2"


def test_the_value_of_a_last_bare_expression_is_shown(kernel):
    assert kernel.run("x = 'a'\nx * 3").output == "'aaa'\n"


def test_none_as_the_last_expression_shows_nothing(kernel):
    assert "nothing was printed" in kernel.run("x = 1").output
    assert "nothing was printed" in kernel.run("None").output


def test_an_expression_that_is_not_last_shows_nothing(kernel):
    assert kernel.run("'first'\n'second'").output == "'second'\n"


def test_a_cell_that_raises_shows_its_own_lines_and_none_of_ours(kernel):
    kernel.run("def divide(a):\n    return a / 0")
    result = kernel.run("print('before')\n\ndivide(1)")
    assert result.end == "raised"
    assert result.error == "ZeroDivisionError: division by zero"
    assert result.output.startswith("before\nTraceback")
    assert 'File "<cell 2>", line 3, in <module>\n    divide(1)' in result.output
    assert 'File "<cell 1>", line 2, in divide\n    return a / 0' in result.output
    assert "loop_runner" not in result.output


def test_an_error_inside_a_helper_does_not_show_the_helper(kernel):
    result = kernel.run("search_text('')")
    assert "search_text needs at least one word" in result.output
    assert "loop_runner" not in result.output
    assert "helpers.py" not in result.output


def test_a_chained_error_shows_both_and_none_of_ours(kernel):
    result = kernel.run("try:\n    1/0\nexcept Exception as e:\n    raise ValueError('x') from e")
    assert "ZeroDivisionError" in result.output
    assert result.error == "ValueError: x"
    assert "loop_runner" not in result.output


def test_a_syntax_error_names_the_line(kernel):
    result = kernel.run("x = 1\nif x\n    pass")
    assert result.end == "raised"
    assert result.error.startswith("SyntaxError")
    assert 'File "<cell 1>", line 2' in result.output
    assert "if x" in result.output


@pytest.mark.parametrize(
    "code", ["x = '\0'", "(" * 5000 + ")" * 5000, "\ud800"], ids=["null", "deep", "surrogate"]
)
def test_source_that_cannot_be_compiled_is_the_cells_error(kernel, code):
    assert kernel.run(code).end == "raised"
    assert kernel.value("1 + 1") == "2"


def test_an_exception_that_cannot_be_shown_is_named(kernel):
    result = kernel.run("class Bad(Exception):\n    def __str__(self): raise RuntimeError\nraise Bad")
    assert result.end == "raised"
    assert "Bad" in result.output


def test_sys_exit_ends_the_cell_and_not_the_kernel(kernel):
    kernel.run("x = 1")
    result = kernel.run("import sys; sys.exit(3)")
    assert result.end == "raised"
    assert result.error == "SystemExit: 3"
    assert any("the kernel and its variables are kept" in notice for notice in result.notices)
    assert kernel.value("x") == "1"


@pytest.mark.parametrize(
    "code",
    ["exit()", "quit()", "raise SystemExit", "class E(SystemExit): pass\nraise E", "raise KeyboardInterrupt"],
)
def test_other_ways_to_leave_end_the_cell_only(kernel, code):
    kernel.run("x = 1")
    assert kernel.run(code).end == "raised"
    assert kernel.value("x") == "1"


def test_reading_input_ends_at_once(kernel):
    assert kernel.run("input()").error.startswith("EOFError")
    assert kernel.value("__import__('sys').stdin.read() == ''") == "True"


@pytest.mark.parametrize(
    "name",
    ["context", "input_data", "search_text", "llm_query", "llm_batch_queries"[:9], "FINAL", "cite", "chunks"],
)
def test_a_protected_name_is_restored_with_a_notice(kernel, name):
    before = kernel.value(f"id({name})")
    for code in (f"{name} = 5", f"del {name}"):
        result = kernel.run(code)
        assert any(f"`{name}` was restored" in notice for notice in result.notices), result
        assert kernel.value(f"id({name})") == before


def test_damaged_builtins_are_restored_with_a_notice(kernel):
    result = kernel.run(
        "import builtins\nbuiltins.len = None\ndel builtins.sorted\nbuiltins.isinstance = None"
    )
    assert any("`len`" in notice for notice in result.notices)
    assert kernel.value("len(sorted([2, 1]))") == "2"


def test_deleted_builtins_and_a_lost_print_come_back(kernel):
    assert any("`__builtins__`" in notice for notice in kernel.run("del __builtins__").notices)
    assert any("`print`" in notice for notice in kernel.run("print = 5").notices)
    assert kernel.value("len('abc')") == "3"


def test_streams_trace_functions_and_a_tiny_recursion_limit_are_put_back(kernel):
    kernel.run("import sys\nsys.stdout = None\nsys.settrace(lambda *a: 1/0)")
    kernel.run("import sys\nsys.setrecursionlimit(60)")
    assert kernel.value("'still here'") == "still here"


def test_dataclasses_and_pickle_find_classes_of_cells(kernel):
    kernel.run("from dataclasses import dataclass\nimport pickle\n@dataclass\nclass P:\n    x: int = 1")
    assert kernel.value("pickle.loads(pickle.dumps(P(2)))") == "P(x=2)"


def test_the_workspace_is_the_folder_and_is_importable_but_hides_nothing(kernel):
    kernel.run("open('json.py', 'w').write('broken = 1')\nopen('mine.py', 'w').write('answer = 42')")
    assert kernel.value("__import__('mine').answer") == "42"
    assert kernel.value("hasattr(__import__('json'), 'broken')") == "False"
    assert kernel.value("__import__('os').path.exists('__pycache__')") == "False"


def test_nothing_that_is_installed_beside_the_host_can_be_imported(kernel):
    for name in ("pytest", "anthropic", "loop_runner.records"):
        assert kernel.run(f"import {name}").error.startswith("ModuleNotFoundError"), name


def test_the_environment_holds_nothing_of_the_hosts(kernel):
    names = "['HOME', 'LANG', 'LOGNAME', 'PYTHONHASHSEED', 'TMPDIR', 'USER']"
    assert kernel.value("sorted(__import__('os').environ)") == names
    assert kernel.value("{__import__('os').environ[name] for name in ('USER', 'LOGNAME')}") == "{'kernel'}"


def test_no_descriptor_of_the_host_is_inherited(kernel):
    kernel.run("import os\nopen_fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd'))")
    fds = eval(
        kernel.value(
            "[os.readlink(f'/proc/self/fd/{fd}') for fd in open_fds if os.path.exists(f'/proc/self/fd/{fd}') or os.path.islink(f'/proc/self/fd/{fd}')]"
        )
    )
    assert all(link.startswith(("/dev/null", "socket:", "pipe:", "/proc/")) for link in fds), fds
    assert sum(link.startswith("socket:") for link in fds) == 2


def test_show_vars_lists_the_models_own_names_without_asking_objects(kernel):
    kernel.run(
        "n = 3\nwords = ['a'] * 500\nimport json\n"
        "class Liar:\n    def __repr__(self): raise RuntimeError\n    def __len__(self): return 7\n"
        "liar = Liar()\nhuge = 10 ** 10000"
    )
    shown = kernel.run("SHOW_VARS()").output
    assert "n: int = 3" in shown
    assert "words: list of 500 = ['a', " in shown
    assert "liar: Liar = <Liar object>" in shown
    assert "huge: int = <int of 33220 bits>" in shown
    assert "json" not in shown
    assert "search_text" not in shown
    assert all(len(line) < 250 for line in shown.splitlines())


def test_print_from_threads_is_captured(kernel):
    code = "import threading\nts=[threading.Thread(target=print, args=(f'line {i}',)) for i in range(8)]\n"
    output = kernel.run(code + "[t.start() for t in ts]; [t.join() for t in ts]; None").output
    assert sorted(output.split("\n")[:-1]) == [f"line {i}" for i in range(8)]


def test_stdout_and_stderr_keep_their_order(kernel):
    code = "import sys\nprint('a'); print('b', file=sys.stderr); print('c'); sys.stderr.write('d'); sys.stdout.buffer.write(b'e')\nNone"
    assert kernel.run(code).output == "a\nb\nc\nde\n"


def test_what_programs_and_c_code_write_is_shown_after_what_was_printed(kernel):
    code = "import os, subprocess, sys\nos.write(1, b'raw\\n')\nsubprocess.run([sys.executable, '-c', 'print(\"from a program\")'])\nprint('printed')"
    assert kernel.run(code).output == "printed\nraw\nfrom a program\n"


def test_long_output_keeps_head_and_tail_and_is_whole_in_last_output(kernel):
    result = kernel.run("print('start' + 'x' * 100_000 + 'end')")
    assert result.output.startswith("startxxx")
    assert "xxxend\n" in result.output
    assert "the whole text is in the variable last_output" in result.output
    assert len(result.output) < 8200
    assert result.dropped_chars == 100_009 - 8000
    assert kernel.value("len(last_output)") == "100009"


def test_the_traceback_is_kept_when_output_is_cut(kernel):
    result = kernel.run("print('y' * 50_000)\nraise ValueError('at the end')")
    assert "ValueError: at the end" in result.output
    assert len(result.output) < 8300


def test_a_gigabyte_of_output_takes_no_memory(start):
    kernel = start(memory_mb=300, timeout_s=60)
    result = kernel.run("for _ in range(250): print('z' * 4_000_000)")
    assert result.end == "ok"
    assert result.dropped_chars >= 1_000_000_000 - 8000
    raw = kernel.run("import os\nfor _ in range(200): os.write(1, b'r' * 1_000_000)")
    assert raw.end == "ok"
    assert len(raw.output) < 8300


def test_control_characters_are_escaped_before_they_leave(kernel):
    result = kernel.run(r"print('\x1b]0;title\x07 \x1b[31mred \u202egnp \x9b tab\tend')")
    assert result.output == "\\x1b]0;title\\x07 \\x1b[31mred \\u202egnp \\x9b tab\tend\n"
    raw = kernel.run(r"import os; os.write(1, b'\x1b[2J'); None")
    assert "\x1b" not in raw.output
    error = kernel.run(r"raise ValueError('\x1b[31m')")
    assert "\x1b" not in error.output + error.error
