"""The kernel as a session uses it, inside the sandbox that this machine gives."""

import sys
import venv
from pathlib import Path

import pytest

from loop_runner.errors import EnvironmentFault
from loop_runner.kernel.quota import Quota
from loop_runner.sandbox import wrap
from loop_runner.sandbox.mounts import _MANY_MOUNTS, is_below
from loop_runner.sandbox.probe import probe
from loop_runner.sandbox.wrap import Layers
from tests.support.confined import BUBBLEWRAP, IS_ROOT, ordinary_python


def test_the_kernel_runs_in_the_tier_that_was_found(kernel):
    assert kernel.kernel.sandbox() == probe()
    assert kernel.run("open('/etc/passwd')").error.split(":")[0] in ("FileNotFoundError", "PermissionError")
    assert kernel.run("import socket; socket.create_connection(('127.0.0.1', 9))").end == "raised"


def test_the_code_of_the_model_never_runs_as_root(kernel):
    assert kernel.value("0 in {*__import__('os').getresuid(), *__import__('os').getresgid()}") == "False"


def test_what_the_model_writes_can_be_read_and_removed_and_put_back(start, tmp_path):
    kernel = start(workspace=tmp_path / "shared")
    kernel.run("open('note.md', 'w').write('first')")
    note = tmp_path / "shared" / "note.md"
    assert note.read_text() == "first"
    note.unlink()
    kernel.kernel.close()
    note.write_text("from a checkpoint")
    again = start(workspace=tmp_path / "shared")
    assert again.run("open('note.md', 'a').write('!')").end == "ok"
    assert note.read_text() == "from a checkpoint!"


def test_a_workspace_that_is_open_to_its_owner_alone_is_as_good_as_another(start, tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    kernel = start(workspace=folder)
    assert kernel.value("__import__('os').getcwd()") == str(folder.resolve())
    assert kernel.run("open('note.md', 'w').write('x')").end == "ok"


def test_inputs_are_readable_and_not_writable(start, inputs_of):
    inputs = inputs_of({"a.txt": "alpha", "deep/b.txt": "beta"})
    kernel = start(inputs)
    assert kernel.value("context['deep/b.txt']") == "beta"
    assert kernel.run(f"open({str(inputs.texts[0].path)!r}, 'a')").end == "raised"
    assert inputs.texts[0].path.read_text() == "alpha"


def test_a_tier_that_is_not_to_be_had_stops_before_any_kernel_is_started(start):
    if probe().tier == "A":
        pytest.skip("REFUSAL UNTESTED here: this machine has tier A (test_sandbox tries the others)")
    with pytest.raises(EnvironmentFault, match="tier A is required"):
        start(require_tier="A")


def test_a_cell_that_fills_the_workspace_is_interrupted_and_may_then_tidy_up(start):
    kernel = start()
    kernel.kernel._quota = Quota(kernel.kernel._workspace, max_files=50)
    result = kernel.run("import os, time\nfor n in range(10**6): open(f'{n}.txt', 'w'); time.sleep(0.005)")
    assert result.end == "timed_out"
    assert "more than 50 files: it was interrupted" in result.notices[0]
    result = kernel.run("import os, time; time.sleep(1.2); [os.unlink(n) for n in os.listdir()]")
    assert result.end == "ok"
    assert not result.notices


def test_a_quick_cell_that_fills_the_workspace_is_told(start):
    kernel = start()
    kernel.kernel._quota = Quota(kernel.kernel._workspace, max_files=5)
    result = kernel.run("for n in range(9): open(f'{n}.txt', 'w').close()")
    assert result.end == "ok"
    assert any("more than 5 files: remove what you do not need" in notice for notice in result.notices)


@pytest.mark.skipif(
    BUBBLEWRAP is None or not IS_ROOT, reason="OTHER INTERPRETER UNTESTED: needs root and tier A"
)
def test_another_interpreter_can_be_chosen(start):
    python = ordinary_python()
    if python is None:
        pytest.skip("OTHER INTERPRETER UNTESTED: there is none")
    kernel = start(python=python)
    assert kernel.value("__import__('sys').executable") == python
    assert kernel.run("import sqlite3, decimal, json").end == "ok"


def test_an_interpreter_behind_a_script_is_found(start, tmp_path):
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    shim.chmod(0o755)
    kernel = start(python=str(shim))
    assert kernel.value("__import__('sys').executable") == sys.executable


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o700])
def test_many_inputs_and_the_interpreter_in_one_folder_can_be_read(start, inputs_of, tmp_path, mode):
    venv.create(tmp_path / "inputs/env", with_pip=False, symlinks=True)
    (tmp_path / "inputs").chmod(mode)
    inputs = inputs_of({f"{number}.txt": str(number) for number in range(_MANY_MOUNTS + 1)})
    kernel = start(inputs, python=str(tmp_path / "inputs/env/bin/python"))
    assert kernel.value("__import__('sys').prefix") == str(tmp_path / "inputs/env")
    assert kernel.value(f"context['{_MANY_MOUNTS}.txt']") == str(_MANY_MOUNTS)


def test_the_folder_of_many_inputs_is_not_mounted_over_the_interpreter(tmp_path, monkeypatch):
    home = Path(sys.base_prefix).parent
    inputs = [home / f"{number}.txt" for number in range(_MANY_MOUNTS + 1)]
    monkeypatch.setattr(wrap, "_check_open_to_others", lambda _paths: None)
    seen = []

    def note(view, _limits):
        seen.append(view)
        return {}

    monkeypatch.setattr(wrap, "_own_root", note)
    layers = Layers(landlock=True, own_root=True)
    argv = [sys.executable, "-S", "-c", "pass"]
    wrap.wrap(layers, argv, {}, workspace=tmp_path, private_dir=tmp_path, read_only=inputs).ended()
    assert str(home) not in seen[0].read
    assert any(is_below(path, [sys.base_prefix]) for path in seen[0].read)


@pytest.mark.parametrize("folder", ["", "deep/", "deep/deeper/"])
def test_many_inputs_in_a_folder_that_only_its_owner_may_enter_can_be_read(
    start, inputs_of, tmp_path, folder
):
    inputs = inputs_of({f"{folder}{number}.txt": str(number) for number in range(_MANY_MOUNTS + 1)})
    (tmp_path / "inputs" / folder).chmod(0o700)
    assert start(inputs).value("sum(int(text) for text in context.values())") == str(
        sum(range(_MANY_MOUNTS + 1))
    )


def test_a_workspace_that_only_its_owner_may_enter_is_no_obstacle(start, tmp_path):
    tmp_path.chmod(0o700)
    assert start().run("print(6 * 7)").output == "42\n"
