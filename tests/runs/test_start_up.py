"""What a short run starts and loads. Counted, never timed: a count does not depend on the machine."""

import collections
import re
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from loop_runner import plugins
from loop_runner.sandbox import bytecode, probe
from tests.support.tasks import ready, write_task

# What a run with a text gate and a script model has no use for.
UNUSED = {
    *("anthropic", "genai_prices", "git", "httpx2", "jsonschema", "pypdf", "watchdog", "xllamacpp"),
    *("importlib.metadata", "http.server", "zipfile", "email.message", "multiprocessing", "cloudpickle"),
    *("loop_runner.verify.agreement", "loop_runner.verify.command", "loop_runner.verify.judge"),
    *("loop_runner.verify.python", "loop_runner.verify.schema", "loop_runner.verify.findings"),
    *("loop_runner.agents.agent", "loop_runner.agents.endpoint", "loop_runner.workspace.foreign"),
    *("loop_runner.workspace.repair.fsck", "loop_runner.workspace.repair.repair", "loop_runner.audit"),
    *("loop_runner.sandbox.inside.effects", "loop_runner.runs.replay", "loop_runner.model.providers.fetch"),
}
RUN = """
import sys
from importlib.machinery import PathFinder
from loop_runner.cli import main
try:
    main(["run", sys.argv[1], "--run-dir", sys.argv[2]])
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted(sys.modules))
"""


def loaded_by(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED ")[2].split())


def test_a_short_run_loads_nothing_that_it_does_not_use(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")])
    assert loaded_by(RUN, task, tmp_path / "run") & UNUSED == set()


@pytest.mark.parametrize(
    ("verifier", "module"),
    [
        ({"regex": "42"}, "answer_text"),
        ({"stable": 1}, "stable"),
        ({"promise": "42"}, "stable"),
        ({"schema": {"type": "integer"}}, "schema"),
        ({"command": "true"}, "command"),
    ],
)
def test_a_gate_of_another_kind_loads_its_own_module_and_no_other(tmp_path, verifier, module):
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom loop_runner import verify\n"
        "verify.build([json.loads(sys.argv[1])], Path('.'))\n"
        "print('LOADED', *sys.modules)"
    )
    import json

    kinds = {
        "answer_text",
        "stable",
        "schema",
        "command",
        "python",
        "judge",
        "agreement",
        "findings",
        "citations",
    }
    loaded = {name.rpartition(".")[2] for name in loaded_by(code, json.dumps(verifier)) if ".verify." in name}
    assert loaded & kinds == {module}


def test_the_names_of_the_gates_room_that_are_loaded_later_are_the_same_objects():
    from importlib import import_module

    from loop_runner.verify import citations, control, quotes

    verify = import_module("loop_runner.verify")

    assert verify.control is control
    assert verify.locate is citations.locate
    assert verify.LocatedCitation is citations.LocatedCitation
    assert verify.in_part_words is quotes.in_part_words
    with pytest.raises(AttributeError):
        verify.nothing  # noqa: B018


def started_by(tmp_path, trace, task, run):
    return collections.Counter(started_in_order(trace, task, run))


def started_in_order(trace, task, run):
    code = "import sys\nfrom pathlib import Path\nfrom tests.support.tasks import run_task\n"
    code += "run_task(Path(sys.argv[1]), Path(sys.argv[2]))"
    argv = ["strace", "-f", "-qq", "-s", "100", "-e", "trace=execve", "-e", "status=successful", "-o", trace]
    subprocess.run([*argv, sys.executable, "-c", code, task, run], check=True, cwd=Path(__file__).parents[2])
    lines = Path(trace).read_text().splitlines()[1:]  # the first one is ours
    return [Path(match[1]).name for line in lines if (match := re.search(r'execve\("([^"]+)"', line))]


@pytest.fixture
def traced(tmp_path):
    done = subprocess.run(["strace", "-qq", "-o", tmp_path / "x", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("PROCESSES UNTESTED: no strace here, or it may not trace")


@pytest.mark.usefixtures("traced")
def test_a_short_run_starts_ten_gits_and_two_processes_for_the_model(tmp_path):
    probe.probe()  # remembered from here on
    task = write_task(tmp_path / "task", root=[ready("42")])
    started = started_by(tmp_path, tmp_path / "trace", task, tmp_path / "run")
    assert started.pop("git") <= 10
    started.pop("bwrap", None)
    assert sum(started.values()) <= 2, started  # the kernel, and the one that tries what it saves


@pytest.mark.usefixtures("traced")
def test_the_kernel_starts_while_the_run_folder_is_made(tmp_path):
    probe.probe()
    task = write_task(tmp_path / "task", root=[ready("42")])
    started = started_in_order(tmp_path / "trace", task, tmp_path / "run")
    assert started[0] != "git"
    assert "git" in started


@pytest.mark.usefixtures("traced")
def test_each_further_turn_costs_two_gits(tmp_path):
    from tests.support.tasks import cell

    probe.probe()
    counts = []
    for turns in (1, 4):
        replies = [*(cell(f"x = {number}") for number in range(turns - 1)), ready("42")]
        task = write_task(tmp_path / f"task{turns}", root=replies)
        counts.append(started_by(tmp_path, tmp_path / "trace", task, tmp_path / f"run{turns}")["git"])
    assert counts[1] - counts[0] <= 2 * 3


# ── bytecode ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def writing(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    bytecode.write_bytecode.cache_clear()
    yield
    bytecode.write_bytecode.cache_clear()


def compiled(folder):
    return sorted(path.name.partition(".")[0] for path in (folder / "__pycache__").glob("*.pyc"))


def test_the_bytecode_of_what_a_confined_process_imports_is_written_for_it(tmp_path, writing):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = = 1\n")
    bytecode.write_bytecode(tmp_path)
    assert compiled(tmp_path) == ["one", "two"]


def test_changed_modules_are_compiled_again_and_others_left_alone(tmp_path, writing):
    import os

    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    bytecode.write_bytecode(tmp_path)
    made = {path.name: path.stat().st_ino for path in (tmp_path / "__pycache__").iterdir()}
    os.utime(tmp_path / "one.py", (2**31, 2**31))
    bytecode.write_bytecode.cache_clear()
    bytecode.write_bytecode(tmp_path)
    changed = {
        path.name for path in (tmp_path / "__pycache__").iterdir() if made[path.name] != path.stat().st_ino
    }
    assert {name.partition(".")[0] for name in changed} == {"one"}


@pytest.mark.parametrize("setting", ["dont_write_bytecode", "pycache_prefix"])
def test_who_wants_no_bytecode_gets_none(tmp_path, writing, monkeypatch, setting):
    (tmp_path / "one.py").write_text("x = 1\n")
    monkeypatch.setattr(sys, setting, str(tmp_path / "elsewhere"))
    bytecode.write_bytecode(tmp_path)
    assert not (tmp_path / "__pycache__").exists()


# ── packages ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["dist-info", "egg-info"])
def test_a_package_that_adds_something_is_found(tmp_path, monkeypatch, where):
    folder = tmp_path / f"thing-1.0.{where}"
    folder.mkdir()
    (folder / ("METADATA" if where == "dist-info" else "PKG-INFO")).write_text(
        "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
    )
    (folder / "entry_points.txt").write_text("[loop_runner.loaders]\nabc = thing:load\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.find.cache_clear()
    assert "abc" in plugins.find(plugins.LOADERS)
    assert plugins.find(plugins.REPORTERS) == {}
    plugins.find.cache_clear()


def test_packages_that_are_found_in_other_ways_are_asked_for_in_the_long_way(monkeypatch):
    class Finder:
        def find_spec(self, *_):
            return None

        def find_distributions(self, *_):
            return iter(())

    plain = [finder for finder in sys.meta_path if not hasattr(finder, "find_distributions")]
    plain.append(PathFinder)  # libraries of other tests may have added finders of their own
    monkeypatch.setattr(sys, "meta_path", plain)
    assert not plugins._may_be_any("loop_runner.none")
    monkeypatch.setattr(sys, "meta_path", [*plain, Finder()])
    assert plugins._may_be_any("loop_runner.none")


def test_a_place_on_the_path_that_is_no_folder_is_asked_for_in_the_long_way(tmp_path, monkeypatch):
    (tmp_path / "packages.zip").write_bytes(b"PK")
    monkeypatch.syspath_prepend(str(tmp_path / "packages.zip"))
    assert plugins._may_be_any("loop_runner.none")


def test_the_version_of_the_prices_is_the_installed_one():
    from importlib.metadata import version

    from loop_runner.model import prices

    assert prices.source() == f"genai-prices {version('genai-prices')}"


OPENED = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.verify.build import Builder
opened, built = [], []
sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
make = Builder.list
Builder.list = lambda self, specs: built.append(len(specs)) or make(self, specs)
runs.start(config.read_task(Path(sys.argv[1])), Path(sys.argv[2]), RunContext({}))
print("COUNTED", opened.count(str(Path(sys.argv[1]).with_name("check.py"))), len(built))
"""


def test_verifiers_are_built_once_and_their_files_are_read_once_and_compared_once(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/check.py").write_text("def check(submission):\n    return submission.answer == '42'\n")
    task = write_task(tmp_path / "task", root=[ready("42")], verifiers=[{"python": "check.py"}])
    argv = [sys.executable, "-c", OPENED, task, tmp_path / "run"]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True)
    opened, built = map(int, done.stdout.rpartition("COUNTED ")[2].split())
    assert built == 1
    assert opened == 3, "to pin it, to keep it from the inputs, and to see that it has not changed"
