"""Hints that name something to install are commands that work: the project is on no package index."""

import importlib.metadata
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from loop_runner import plugins
from loop_runner.api.typed_events import typed
from loop_runner.cli import display
from loop_runner.errors import ConfigError, ModelError
from loop_runner.events import Event
from loop_runner.inputs.finding import unusable
from loop_runner.model.providers import local

PACKAGE = Path(plugins.__file__).parent


@pytest.fixture
def recorded(monkeypatch):
    """Replaces what the installer recorded about the origin of this copy."""

    class Recorded:
        def __init__(self, origin):
            self.origin = origin

        def read_text(self, name):
            assert name == "direct_url.json"
            return self.origin

    def record(origin):
        text = origin if isinstance(origin, str | None) else json.dumps(origin)
        monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Recorded(text))

    return record


@pytest.mark.parametrize("extra", ["docs", "local"])
def test_pip_takes_the_command_for_an_extra(extra):
    words = shlex.split(plugins.command_for(extra))
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    # Everything is installed here already, so that pip finds the packages without an index.
    ended = subprocess.run(
        [*words, "--dry-run", "--no-index", "--quiet"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("extra", ["docs", "local"])
def test_a_command_for_an_extra_does_not_look_for_the_project_on_an_index(extra):
    requirements = shlex.split(plugins.command_for(extra))[4:]
    assert requirements
    assert not [word for word in requirements if word.startswith(("loop-runner", "loop_runner"))]


def test_an_environment_without_pip_is_served_by_uv(monkeypatch):
    monkeypatch.setattr(plugins, "find_spec", lambda _: None)
    assert shlex.split(plugins.command_for("docs"))[:5] == [
        "uv",
        "pip",
        "install",
        "--python",
        sys.executable,
    ]


def test_a_checkout_that_is_not_installed_installs_its_own_extra(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert shlex.split(plugins.command_for("docs"))[-1] == f"{PACKAGE.parent}[docs]"


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (
            {"url": "https://git.example/x.git", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}},
            "--upgrade 'loop-runner @ git+https://git.example/x.git'",
        ),
        ({"url": "file:///src/my%20tree", "dir_info": {"editable": True}}, "git -C '/src/my tree' pull"),
        ({"url": "file:///src/tree", "dir_info": {}}, "git -C /src/tree pull"),
        ({"url": "file:///x/loop_runner-0.1-py3-none-any.whl", "archive_info": {}}, "install --upgrade PATH"),
        (None, "install --upgrade PATH"),
        ("not JSON", "install --upgrade PATH"),
        ("[]", "install --upgrade PATH"),
    ],
)
def test_a_newer_version_comes_from_where_this_one_came_from(recorded, origin, expected):
    recorded(origin)
    assert expected in plugins.newer()


def test_no_message_installs_the_project_from_an_index():
    for path in PACKAGE.rglob("*.py"):
        if "_resources" not in path.parts and path.name != "plugins.py":
            source = path.read_text(encoding="utf-8")
            assert "loop-runner[" not in source, path
            assert "--upgrade loop-runner" not in source, path


def test_an_input_and_a_model_that_lack_an_extra_name_that_command(monkeypatch, tmp_path):
    fault = unusable("a.docx", "needs the extra [docs]")
    assert isinstance(fault, ConfigError)
    assert plugins.command_for("docs") in fault.hint
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else real(name))
    with pytest.raises(ModelError) as caught:
        local.client("m.gguf", base_dir=tmp_path, models_dir=tmp_path)
    assert caught.value.hint == plugins.command_for("local")


def test_the_start_of_a_run_says_how_to_read_documents_that_were_left_out():
    data = {
        "run": "runs/x",
        "model": "script:a",
        "sub_model": "script:a",
        "texts": 1,
        "bytes": 3,
        "faults": [["a.docx", "needs the extra [docs]"]],
    }
    event = typed(Event("run_started", data=data))
    assert plugins.command_for("docs") in (display.Progress().line(event) or "")
