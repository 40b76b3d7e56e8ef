"""A converter with a cache of its own, and a git that depends on no user's settings."""

import os
import subprocess

import pytest

from loop_runner import inputs


@pytest.fixture
def converter(tmp_path):
    return inputs.Converter(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """Makes a folder of files: name → bytes or text."""

    def make(**files):
        for name, data in files.pop("files", {}).items() | files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return tmp_path / "in"

    return make


@pytest.fixture
def git(tmp_path):
    """Runs git in a folder."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{
            f"GIT_{who}_{what}": "a@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def run(folder, *args):
        done = subprocess.run(["git", *args], cwd=folder, env=env, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return run
