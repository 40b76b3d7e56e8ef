"""The defects that were reproduced in other tools, each asserted to be absent here."""

import os
from pathlib import Path

from loop_runner.kernel.kernel import Kernel


def test_an_assignment_before_an_error_is_kept(kernel):
    kernel.run("x = 'kept'\n1/0")
    assert kernel.value("x") == "kept"


def test_a_function_sees_the_new_value_of_a_global(kernel):
    kernel.run("k=1\ndef f(): return k")
    kernel.run("k=2")
    assert kernel.value("f()") == "2"


def test_an_exception_comes_with_traceback_and_line_number(kernel):
    assert 'File "<cell 1>", line 2' in kernel.run("x = 1\nx.y").output


def test_sys_exit_reaches_neither_host_nor_kernel(kernel):
    pid = kernel.pid
    assert kernel.run("import sys; sys.exit(3)").end == "raised"
    assert kernel.pid == pid


def test_the_environment_of_the_host_is_untouched(kernel):
    kernel.run("import os; os.environ['LEAKED'] = '1'; os.chdir('/')")
    assert "LEAKED" not in os.environ
    assert Path.cwd() != Path("/")


def test_ready_before_content_in_one_cell_is_whole(kernel):
    answer = kernel.run("answer['ready'] = True\nanswer['content'] = 'late'").answer
    assert (answer.content, answer.is_ready) == ("late", True)


def test_ready_and_no_content_is_not_an_answer(kernel):
    assert not kernel.run("answer['ready'] = True").answer.is_ready


def test_update_is_detected(kernel):
    assert kernel.run("answer.update(content='x', ready=True)").answer.is_ready


def test_ready_does_not_count_when_the_cell_fails(kernel):
    assert not kernel.run("answer.update(content='x', ready=True)\nraise ValueError").answer.is_ready


def test_context_and_its_other_name_are_restored(kernel):
    kernel.run("context = 'mine'; input_data = 'mine too'")
    assert kernel.value("context is input_data and not isinstance(context, str)") == "True"


def test_two_kernels_in_one_process_do_not_collide(start):
    item, two = start(), start()
    assert isinstance(item.kernel, Kernel)
    item.run("import os, sys\nprint('one'); sys.stdout = None; name = 1; os.chdir('/')")
    assert two.run("print('two')").output == "two\n"
    assert two.run("name").error.startswith("NameError")
    assert two.value("__import__('os').getcwd()").endswith("workspace1")
    assert item.value("'still one'") == "still one"
