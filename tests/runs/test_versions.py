"""A run folder of another version of Python or loop-runner opens; what is lost is named."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from loop_runner import __version__
from loop_runner.workspace import layout
from tests.support.commands import loop_runner
from tests.support.git import git
from tests.support.tasks import cell, ready, run_task, write_task

pytestmark = pytest.mark.slow

SOURCELESS = "space = {}\nexec('def hidden(): return 1', space)\nhidden = space['hidden']\ndel space"
DEFINES = (
    "from dataclasses import dataclass\n"
    "@dataclass\nclass Finding:\n    n: int = 6\n"
    "def times(k):\n    return Finding().n * k\n"
    "rows = [Finding(1)]\nseen = {'a', 'b'}"
)
USES = "print(times(7), rows, sorted(seen), 'hidden' in globals())"


def python(minor):
    """An interpreter of Python 3.``minor``; skips the test if this machine has none that works."""
    name = f"python3.{minor}"
    places = sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"))
    for result in filter(None, (shutil.which(name), *map(str, places))):
        if subprocess.run([result, "-c", "pass"], check=False, capture_output=True).returncode == 0:
            return result
    pytest.skip(f"no {name} on this machine")


def manifest(run):
    return json.loads(git(run, "show", "HEAD:variables/manifest.json"))


def replayed(place, code=0):
    result = loop_runner("replay", "scripted", "--json", cwd=place)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def recorded(place, root, **task):
    outcome = run_task(write_task(place / "task", root=list(root), **task), place / "runs/scripted")
    return outcome, place / "runs/scripted"


@pytest.fixture
def of_another_version(tmp_path, monkeypatch):
    """Records a run as version 0.0.9 of loop-runner would have."""

    def record(*root, **task):
        monkeypatch.setattr(layout, "__version__", "0.0.9")
        return recorded(tmp_path, root, **task)[1]

    return record


@pytest.fixture
def without_versions(tmp_path, monkeypatch):
    """Records a run as versions did that named none in the manifest."""
    to_json = layout.to_json

    def older(data, **keys):
        return to_json({key: value for key, value in data.items() if key != "written_by"}, **keys)

    def record(*root):
        monkeypatch.setattr(layout, "to_json", older)
        return recorded(tmp_path, root)[1]

    return record


@pytest.mark.parametrize(("first", "second"), [(11, 12), (12, 11), (12, 13), (13, 12), (13, 11)])
def test_a_run_of_one_python_is_resumed_shown_verified_and_replayed_under_another(tmp_path, first, second):
    cells = [cell(DEFINES + "\n" + SOURCELESS), ready("41"), cell(USES), ready("42")]
    kernel = {"python": python(first), "memory": "1GB"}
    other = python(second)
    outcome, run = recorded(tmp_path, cells, kernel=kernel, budget={"passes": 1})
    assert outcome.status == "unverified"
    assert manifest(run)["written_by"]["python"].startswith(f"3.{first}.")
    result = loop_runner(
        *("resume", "scripted", "--set", "budget.passes=3", "--set", f"kernel.python={other}"), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    printed = result.stdout + result.stderr
    assert "damaged" not in printed
    assert f"the variables were written by Python 3.{first}." in printed
    assert f"(now 3.{second}." in printed
    assert (
        "variable hidden could not be restored: it needs code that another version of Python compiled"
        in printed
    )
    output = (run / "passes/0002/turns/0001/output.txt").read_text()
    assert "42 [Finding(n=1)] ['a', 'b'] False" in output
    assert "variable hidden is gone (it needs code that another version of Python compiled" in output
    assert manifest(run)["written_by"]["python"].startswith(f"3.{second}.")
    for command in (
        ("show", "scripted"),
        ("status", "scripted"),
        ("verify", "scripted"),
        ("fsck", "scripted"),
    ):
        shown = loop_runner(*command, cwd=tmp_path)
        assert (shown.returncode, "damaged" in shown.stdout) == (0, False), shown.stdout + shown.stderr
    assert replayed(tmp_path)["status"] == "same"


def test_a_replay_names_the_other_version_and_what_it_did_not_compare(tmp_path, of_another_version):
    of_another_version(cell(DEFINES), ready("41"), ready("42"))
    data = replayed(tmp_path)
    assert data["status"] == "same"
    assert data["other_versions"] == [{"name": "loop_runner", "recorded": "0.0.9", "now": __version__}]
    assert data["not_compared"] == ["variables/manifest.json"]
    shown = loop_runner("replay", "scripted", cwd=tmp_path).stdout
    assert "SAME: every file of every commit that can be compared under these versions" in shown
    assert f"other versions: loop-runner 0.0.9 wrote the record, {__version__} replayed it" in shown
    assert "not compared: the bytes of 1 file of variables" in shown


def test_a_replay_of_a_record_that_names_no_versions_reports_that(tmp_path, without_versions):
    without_versions(cell(DEFINES), ready("42"))
    data = replayed(tmp_path)
    assert data["status"] == "same"
    assert {item["name"]: item["recorded"] for item in data["other_versions"]} == {
        "loop_runner": "",
        "python": "",
    }
    shown = loop_runner("replay", "scripted", cwd=tmp_path).stdout
    assert "loop-runner a version that is not recorded wrote the record" in shown


@pytest.mark.parametrize(
    "code",
    [
        "import time\nmoment = time.time()",
        "import os\nchance = os.urandom(4)",
        "import time\nfound = {time.time_ns(): 1}",
    ],
)
def test_another_value_differs_under_another_version_too(tmp_path, of_another_version, code):
    of_another_version(cell(code), ready("42"))
    data = replayed(tmp_path, code=3)
    assert data["status"] == "differs"
    assert [item["path"] for item in data["differences"]] == ["variables/manifest.json"]
    assert data["differences"][0]["recorded"] != data["differences"][0]["replayed"]


def test_another_file_or_output_differs_under_another_version_too(tmp_path, of_another_version):
    of_another_version(cell("import time\nprint(time.time())"), ready("42"))
    assert replayed(tmp_path, code=3)["other_versions"][0]["recorded"] == "0.0.9"


def test_the_same_versions_compare_every_byte_and_report_no_versions(tmp_path):
    recorded(tmp_path, [cell("words = ['one']"), ready("42")])
    data = replayed(tmp_path)
    assert (data["other_versions"], data["not_compared"]) == ([], [])


def test_a_resume_under_another_version_says_which_wrote_the_variables(tmp_path, of_another_version):
    run = of_another_version(cell(DEFINES), ready("41"), ready("42"), budget={"passes": 1})
    result = loop_runner("resume", "scripted", "--set", "budget.passes=3", cwd=tmp_path)
    assert result.returncode == 0
    assert (
        f"the variables were written by loop-runner 0.0.9 (now {__version__})"
        in result.stdout + result.stderr
    )
    assert manifest(run)["written_by"]["loop_runner"] == __version__


def test_a_resume_of_a_run_that_names_no_versions_restores_everything(tmp_path, without_versions):
    run = without_versions(cell(DEFINES), ready("40"), cell(USES), ready("42"))
    assert "written_by" not in manifest(run)
    assert loop_runner("rewind", "scripted", "1", cwd=tmp_path).returncode == 0
    result = loop_runner("resume", "scripted", cwd=tmp_path)
    assert (result.returncode, "could not be restored" in result.stdout + result.stderr) == (0, False)
