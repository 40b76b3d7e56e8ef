import subprocess

import pytest

from loop_runner.workspace.workspace import Workspace


@pytest.fixture
def run_folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def workspace(run_folder):
    with Workspace.create(run_folder, name="count words", files={"prompt.md": b"Count.\n"}) as made:
        yield made


@pytest.fixture
def git(run_folder):
    """Runs git in the run folder as a person would, and returns what it prints."""

    def run(*args, cwd=run_folder):
        person = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")
        done = subprocess.run(["git", *person, *args], cwd=cwd, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
