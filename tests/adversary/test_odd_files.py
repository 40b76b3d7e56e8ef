"""A run folder with odd files is called damaged: no command crashes on it, and none waits forever."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from tests.support.tasks import cell, ready, run_task, write_task

ODD = {
    "nothing": b"",
    "nested lists": b"[" * 100_000,
    "nested mappings": b'{"a":' * 50_000,
    "nested yaml": b"- " * 5_000 + b"x",
    "a huge number": b'{"format": ' + b"9" * 10_000 + b"}",
    "infinity": b'{"pass": Infinity, "size_bytes": 1e999, "decision": NaN}',
    "a list": b"[[], {}, null]",
    "a number": b"7",
    "null": b"null",
    "bytes": b"\xff\xfe\x00\x01",
    "a wrong type in every field": b'{"format": [], "texts": {"a": 1}, "gates": 3, "pass": {}}',
    "aliases that grow": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 8)) for n in range(98, 110)),
    "a yaml that holds itself": b"name: &a [*a]\nprompt: x\n",
    "a date that is none": b"name: 9999-99-99\nprompt: 2020-13-45\n",
    "a surrogate": b'{"content": "\\ud800", "name": "\\ud800"}',
}
FILES = [
    *("task.yaml", "inputs.json", "answer.json", "proof.json", "loop-runner.json", "variables/manifest.json"),
    *("passes/0001/verdict.json", "passes/0001/pass.json", "passes/0001/turns/0001/turn.json"),
    *(
        "passes/0001/turns/0001/calls.jsonl",
        "session.json",
        "gates/pins.json",
        "workspace.json",
        "forks.json",
    ),
]
COMMANDS = [("status",), ("log",), ("show",), ("cost",), ("fsck",), ("verify",), ("replay", "--trust")]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    task = write_task(
        folder / "task", root=[cell("x = 1"), ready("41"), ready("42")], verifiers=[{"python": "check.py"}]
    )
    (folder / "task/check.py").write_text("def check(s):\n    assert s.answer == '42'\n")
    assert run_task(task, folder / "run").status == "verified"
    return folder / "run"


@pytest.fixture
def received(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def commit(folder):
    settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    for args in (("add", "-A", "-f"), ("commit", "-qm", "odd", "--allow-empty")):
        subprocess.run(["git", *settings, "-C", folder, *args], check=True, capture_output=True)


def code_of(*args):
    result = CliRunner().invoke(main_group, [str(arg) for arg in args], standalone_mode=False)
    if result.exception is None:
        return result.return_value or 0
    return getattr(result.exception, "exit_code", result.exception)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", FILES)
def test_an_odd_file_of_the_runner_crashes_no_command(received, path):
    for name, data in ODD.items():
        (received / path).parent.mkdir(parents=True, exist_ok=True)
        (received / path).write_bytes(data)
        commit(received)
        for command in COMMANDS:
            code = code_of(command[0], received, *command[1:])
            assert code in (0, 2, 3, 4), (name, command, code)


@pytest.mark.parametrize("place", ["events.jsonl", "journal", "sent", "lock", "session.json", "client.json"])
@pytest.mark.parametrize("name", ["nested lists", "bytes", "a list", "nothing"])
def test_an_odd_file_in_the_private_folder_crashes_no_command(received, place, name):
    (received / ".git/loop-runner" / place).write_bytes(ODD[name])
    for command in [*COMMANDS, ("resume", "--trust")]:
        assert code_of(command[0], received, *command[1:]) in (0, 2, 3, 4), command


TEMPLATES = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "endless text": "{% for a in range(99999) %}{% for b in range(99999) %}xxxx{% endfor %}{% endfor %}",
    "a huge text": "{{ 'x' * 10000000000 }}",
    "a huge number": "{{ 9 ** 9 ** 9 }}",
    "a wide text": "{{ 'x'.ljust(10000000000) }}",
    "a wide format": "{{ '%10000000000d' % 1 }}",
    "a wide indent": "{{ 'x'|indent(10000000000, true) }}",
    "doubling": "{% set ns = namespace(x='x' * 1) %}{% for a in range(99) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_without_an_end_ends(tmp_path, name):
    code = (
        "import sys, resource\nresource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from loop_runner.task.prompts import Templates\nfrom loop_runner.errors import LoopRunnerError\n"
        "try:\n    Templates('custom', (('reentry.md.j2', sys.argv[1]),)).render('reentry')\n"
        "except LoopRunnerError as error:\n    sys.exit(error.exit_code)\n"
    )
    source = Path(__file__).parents[2]
    paths = [str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run(
        [sys.executable, "-c", code, TEMPLATES[name]],
        env=env,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode in (2, 4), ended.stderr[-500:]
