"""The lock files: complete, with hashes, installable by plain pip, and what every installation uses."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.commands import clean_environment

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {name: (ROOT / "requirements" / f"{name}.txt").read_text() for name in ("dev", "runtime")}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RUNTIME = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
EXTRAS = [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]


def entries(name):
    """The requirements of a lock file, each with its hashes as text."""
    joined = LOCKS[name].replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.startswith(("#", "--"))]


def pins(name, python):
    """Name to version for CPython on Linux."""
    where = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    parsed = [Requirement(entry.split("--hash")[0]) for entry in entries(name)]
    return {
        canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("=="))
        for pin in parsed
        if pin.marker is None or pin.marker.evaluate(where)
    }


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("name", "required"), [("dev", RUNTIME + EXTRAS), ("runtime", RUNTIME)])
def test_every_requirement_has_a_locked_version_inside_its_range(name, required, python):
    locked = pins(name, python)
    for requirement in map(Requirement, required):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (requirement, version)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_templates_run_the_versions_that_the_tests_passed_with(python):
    assert pins("runtime", python).items() <= pins("dev", python).items()


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_one_version_with_hashes(name):
    for entry in entries(name):
        assert re.fullmatch(r"[a-z0-9-]+==\S+( ; [^-]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry), entry


@pytest.mark.parametrize("name", LOCKS)
def test_no_index_address_or_path_is_in_a_lock_file(name):
    assert "/" not in LOCKS[name]
    options = [line for line in LOCKS[name].splitlines() if line.startswith("-")]
    assert options == ["--only-binary :all:"]


def test_the_locked_build_backend_is_the_one_that_the_project_names():
    text = (ROOT / "requirements" / "build.in").read_text()
    named = [line for line in text.splitlines() if not line.startswith("#")]
    assert named == PROJECT["build-system"]["requires"]


# ── What installs from them ─────────────────────────────────────────────────────────────────────────

GITLAB = yaml.safe_load((ROOT / "templates" / "audit.gitlab-ci.yml").read_text())["loop-runner-audit"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
(INSTALL,) = (step["run"] for step in ACTION["runs"]["steps"] if step.get("name") == "Install")


@pytest.fixture
def installing(tmp_path):
    """Runs a script with a ``python`` that creates no environment and records how its pip is called."""
    log, commands = tmp_path / "log", tmp_path / "bin"
    log.touch()
    commands.mkdir()
    python = commands / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"\n'
        f'else echo "$*" >> "{log}"; fi\n'
    )
    python.chmod(0o755)

    def run(shell, script, **variables):
        env = {**clean_environment(), "PATH": f"{commands}:{os.environ['PATH']}", **variables}
        ended = subprocess.run(
            [shell, "-e", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return ended, log.read_text().splitlines()

    return run


def assert_locked(calls, source):
    dependencies, project = calls
    lock, folder = dependencies.split(" -r ")[1], project.split()[-1]
    assert "--require-hashes" in dependencies
    assert lock == f"{folder}/requirements/runtime.txt"
    assert {"--no-deps", "--no-build-isolation"} <= set(project.split())
    assert source(Path(folder))


def test_the_action_installs_the_lock_file_of_its_own_revision(installing, tmp_path):
    env = {"RUNNER_TEMP": str(tmp_path), "GITHUB_ACTION_PATH": "/action", "AUDIT_PYTHON": "python"}
    ended, calls = installing("bash", INSTALL, **env)
    assert ended.returncode == 0, ended.stderr
    assert_locked(calls, lambda folder: folder == Path("/action"))


@pytest.fixture
def repository(tmp_path):
    """A repository whose first commit is tagged ``old``; its newest commit has another lock file."""
    folder = tmp_path / "a source"
    lock = folder / "requirements" / "runtime.txt"
    lock.parent.mkdir(parents=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    git = ["git", "-C", folder, *identity]
    subprocess.run([*git, "init", "-q"], check=True)
    for text in ("old", "new"):
        lock.write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", text], check=True)
        subprocess.run([*git, "tag", text], check=True)
    return folder


@pytest.mark.parametrize(("revision", "expected"), [("HEAD", "new"), ("old", "old"), ("new", "new")])
def test_the_gitlab_job_installs_the_lock_file_of_the_revision_that_it_names(
    installing, repository, revision, expected
):
    variables = {"AUDIT_SOURCE": str(repository), "AUDIT_REVISION": revision}
    ended, calls = installing("sh", "\n".join(GITLAB["before_script"]), **variables)
    assert ended.returncode == 0, ended.stderr
    assert_locked(calls, lambda folder: (folder / "requirements/runtime.txt").read_text() == expected)


def test_the_gitlab_job_without_a_source_installs_nothing_and_says_what_to_set(installing):
    ended, calls = installing(
        "sh", "\n".join(GITLAB["before_script"]), AUDIT_SOURCE="", AUDIT_REVISION="HEAD"
    )
    assert ended.returncode == 2
    assert "Set it to the git address of loop-runner" in ended.stderr
    assert calls == []


def test_the_gitlab_job_stops_when_the_revision_does_not_exist(installing, repository):
    variables = {"AUDIT_SOURCE": str(repository), "AUDIT_REVISION": "missing"}
    ended, calls = installing("sh", "\n".join(GITLAB["before_script"]), **variables)
    assert ended.returncode != 0
    assert calls == []


def test_make_setup_installs_the_lock_file_and_then_only_the_project():
    environment = {**clean_environment(), "MAKEFLAGS": ""}
    command = ["make", "-n", "-B", "setup", "PYTHON=python3"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    installs = [line for line in ended.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert "--require-hashes -r requirements/dev.txt" in installs[0]
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1].split())
