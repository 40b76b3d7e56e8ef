"""A wheel built from this tree works from an empty directory, prompts and hooks included."""

import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import clean_environment
from tests.support.tasks import cell, ready, write_task

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(*command, cwd, **env):
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**clean_environment(), **env},
        capture_output=True,
        text=True,
        input="{}",
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built by the backend that is installed: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("dist")
    options = ["--wheel", "--no-isolation", "--outdir", folder]
    run(sys.executable, "-m", "build", *options, ROOT, cwd=folder, PIP_NO_INDEX="1")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the installed wheel and nothing else; its dependencies are this Python's."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-index", "--compile", "--quiet", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "install", *options, "--target", folder, wheel, cwd=folder)
    return folder


@pytest.fixture
def python(installed, tmp_path):
    """Runs this Python in an empty directory, with the installed copy before everything else."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return lambda *args: run(sys.executable, *args, cwd=empty, PYTHONPATH=str(installed))


def test_it_holds_everything_that_the_code_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("prompts", "hooks", "examples/starters", "docs"):
        own = {
            path.relative_to(ROOT / folder).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert own
        assert {f"loop_runner/_resources/{folder}/{name}" for name in own} <= names
    assert {"loop_runner/model/models.yaml", "loop_runner/py.typed"} <= names
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "loop_runner").rglob("*.py")}
    assert code <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "examples/"))]


def test_the_copy_that_runs_is_the_installed_one_with_its_own_prompts_and_hooks(python, installed):
    code = (
        "import loop_runner, loop_runner.kernel.kernel, loop_runner.task.resources as r\n"
        "print(loop_runner.__file__, r.folder('prompts'), r.folder('hooks'), sep='\\n')"
    )
    paths = [Path(line) for line in python("-c", code).splitlines()]
    assert len(paths) == 3
    assert all(path.is_relative_to(installed) and path.exists() for path in paths)


def test_a_whole_run_works_with_nothing_but_the_installed_copy(python, installed, tmp_path):
    # The first cell says where the kernel's own code came from.
    where = "import sys\nprint([getattr(each, '__file__', '') for each in sys.modules.values()])"
    task = write_task(tmp_path / "task", root=[cell(where), ready("41"), ready("42")])
    data = json.loads(python("-m", "loop_runner", "run", task, "--json"))
    assert (data["status"], data["answer"], data["passes"], data["turns"]) == ("verified", "42", 2, 3)
    folder = tmp_path / "empty" / data["run"]
    printed = (folder / "passes/0001/turns/0001/output.txt").read_text()
    assert str(installed / "loop_runner/kernel") in printed
    assert str(ROOT) + os.sep not in printed
    assert "verified" in python("-m", "loop_runner", "status")
    assert "pass 1: rejected" in python("-m", "loop_runner", "log", data["run"])


def test_every_type_begins_and_rehearses_with_nothing_but_the_installed_copy(python):
    for load in json.loads(python("-m", "loop_runner", "init", "--list", "--json"))["types"]:
        name = load["name"]
        python("-m", "loop_runner", "init", name, name)
        run_it = [
            "-m",
            "loop_runner",
            "run",
            f"{name}/task.yaml",
            "--model",
            "script:rehearsal.yaml",
            "--json",
        ]
        assert json.loads(python(*run_it))["status"] == "verified"


# Each with the exit code that it has in an empty folder, without a model or a run.
IN_AN_EMPTY_FOLDER: dict[tuple[str, ...], int] = {
    ("--version",): 0,
    ("init", "--list"): 0,
    ("init", "custom", "a"): 0,
    ("init", "audit", "b"): 0,
    ("models", "list"): 0,
    ("status",): 0,
    ("docs",): 0,
    ("docs", "docs/task-file.md"): 0,
    ("docs", "rules.schema.json"): 0,
    ("docs", "none"): 2,
    ("hook", "stop"): 0,
    ("hook", "install", "claude", "--dry-run"): 0,
    ("run", "none.yaml"): 2,
    ("ask", "What?", "none.txt"): 2,
    ("audit", ".", "--rules", "none.yaml"): 2,
    **{
        (name, "runs/none"): 2
        for name in ("resume", "verify", "show", "log", "cost", "replay", "fsck", "export")
    },
    ("diff", "runs/none", "1", "2"): 2,
    ("fork", "runs/none@1", "runs/new"): 2,
    ("rewind", "runs/none", "1"): 2,
    ("bisect", "runs/none", "--", "true"): 2,
    ("hook", "cancel", "runs/none"): 2,
}


@pytest.mark.parametrize(("words", "code"), IN_AN_EMPTY_FOLDER.items(), ids=map(" ".join, IN_AN_EMPTY_FOLDER))
def test_every_command_works_in_an_empty_folder_from_the_installed_copy(installed, tmp_path, words, code):
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "loop_runner", *words],
        cwd=empty,
        env=clean_environment({"PYTHONPATH": str(installed)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr


def test_every_page_and_schema_of_the_docs_can_be_printed(python):
    listed = [line.split()[0] for line in python("-m", "loop_runner", "docs").splitlines()]
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    schemas = {path.name for path in (ROOT / "docs" / "schemas").glob("*.json")}
    assert set(listed) == pages | schemas
    for name in ("task-file", "verifiers.md", "docs/hooks.md"):
        page = (ROOT / "docs" / name.removeprefix("docs/")).with_suffix(".md")
        assert python("-m", "loop_runner", "docs", name).rstrip() == page.read_text("utf-8").rstrip()
    for name in schemas:
        printed = json.loads(python("-m", "loop_runner", "docs", name))
        assert printed == json.loads((ROOT / "docs" / "schemas" / name).read_text())


def test_the_hint_about_an_extra_names_packages_that_are_on_an_index(python):
    code = "from loop_runner.plugins import command_for, newer; print(command_for('docs')); print(newer())"
    extra, newer = python("-c", code).splitlines()
    assert shlex.split(extra)[-1].startswith("markitdown[")
    assert newer.endswith("-m pip install --upgrade PATH")


def test_the_command_is_installed_with_it(installed, tmp_path):
    output = run(installed / "bin" / "loop-runner", "--version", cwd=tmp_path, PYTHONPATH=str(installed))
    assert output.startswith("loop-runner, version ")


def test_the_hook_that_is_installed_into_a_clients_settings_is_that_copys_own(installed, tmp_path):
    settings_folder = tmp_path / "claude"
    settings_folder.mkdir()
    install = ["-m", "loop_runner", "hook", "install", "claude"]
    run(
        sys.executable,
        *install,
        cwd=tmp_path,
        PYTHONPATH=str(installed),
        CLAUDE_CONFIG_DIR=str(settings_folder),
    )
    settings = json.loads((settings_folder / "settings.json").read_text())
    command = shlex.split(settings["hooks"]["Stop"][0]["hooks"][0]["command"])
    assert Path(command[3]).is_relative_to(installed)
    # A session that a run owns makes it import the rest of itself.
    owned = {"LOOP_RUNNER_RUN": str(tmp_path), "LOOP_RUNNER_TOKEN": "x"}
    assert run(*command, cwd=tmp_path, **owned) == "{}\n"
