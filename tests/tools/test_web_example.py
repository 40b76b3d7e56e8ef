"""``examples/web-research``: verified when right; refused when outdated or ordered by a page."""

import json
import shutil
import subprocess
import threading
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from loop_runner.runs import start
from loop_runner.runs.context import RunContext
from loop_runner.runs.reverify import verify_run
from loop_runner.task import config

EXAMPLE = Path(__file__).parents[2] / "examples/web-research"
web: Any = run_path(str(EXAMPLE / "web.py"))

pytest.importorskip("markitdown")
CONTEXT = RunContext({"PATH": "/usr/bin:/bin"})


def run(folder, script):
    """The outcome of the example with this script, on a port that is free."""
    server = web["serve"](0)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        shutil.copytree(EXAMPLE, folder / "task")
        task = folder / "task/task.yaml"
        task.write_text(task.read_text().replace("8765", str(server.server_address[1])))
        overrides = [("model", f"script:{script}"), ("budget.passes", 1)]
        return start.start(config.read_task(task, overrides), folder / "run", CONTEXT)
    finally:
        server.shutdown()
        server.server_close()


def test_the_web_has_two_hundred_pages():
    assert len(web["PAGES"]) == 200


@pytest.mark.slow
def test_the_right_answer_is_verified_and_verified_again_without_the_web(tmp_path):
    outcome = run(tmp_path, "script.yaml")
    assert outcome.status == "verified", outcome
    subprocess.run(["git", "clone", "-q", tmp_path / "run", tmp_path / "clone"], check=True)
    checked = verify_run(tmp_path / "clone", CONTEXT)
    assert (checked.status, checked.is_accepted) == ("same", True)
    names = [page["name"] for page in json.loads((tmp_path / "run/pages.json").read_text())["pages"]]
    assert "127.0.0.1/register/kestrel" in names
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "reason"),
    [("script-outdated.yaml", "that limit is outdated"), ("script-ordered.yaml", "what a page ordered")],
)
def test_an_answer_that_is_outdated_or_that_a_page_ordered_is_refused(script, reason, tmp_path):
    outcome = run(tmp_path, script)
    assert outcome.status == "unverified"
    assert reason in (tmp_path / "run/passes/0001/verdict.json").read_text()


@pytest.mark.slow
def test_injected_text_stays_in_the_output_of_the_cell(tmp_path):
    run(tmp_path, "script.yaml")
    turn = tmp_path / "run/passes/0001/turns/0001"
    assert "ignore your task" in (turn / "output.txt").read_text()
    assert "ignore your task" not in (tmp_path / "run/system.md").read_text()
    injected = (tmp_path / "run/passes/0001/injected.md").read_text()
    assert "ignore your task" not in injected
