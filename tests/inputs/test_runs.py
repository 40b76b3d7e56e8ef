"""Documents in whole runs: what a person is shown, what a run folder keeps, what a resume finds."""

import json
import shutil

import pytest

from tests.support import papers
from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task

ANSWER = "nine months\n\n> contract.pdf:page 2: The term is nine months"


@pytest.fixture
def task(tmp_path):
    path = write_task(
        tmp_path / "task",
        root=[ready("I do not know"), ready(ANSWER)],
        verifiers=[{"citations": {"answer_in_quote": True}}],
        inputs={"paths": ["in"], "strict": False},
        name="terms",
    )
    (tmp_path / "task/in").mkdir()
    (tmp_path / "task/in/contract.pdf").write_bytes(papers.pdf(["Ann and Bob", "The term is nine months"]))
    (tmp_path / "task/in/prices.csv").write_text("item,usd\nbolt,3\n")
    (tmp_path / "task/in/broken.pdf").write_bytes(b"%PDF-1.4\nnothing")
    return path


def command(tmp_path, *args):
    return loop_runner(*args, cwd=tmp_path, env={"LOOP_RUNNER_CACHE": str(tmp_path / "cache")})


def test_a_run_shows_the_place_of_a_quote_and_resumes_when_the_cache_is_gone(tmp_path, task):
    first = command(tmp_path, "run", task, "--passes", "1", "--run-dir", "run")
    assert first.returncode == 3, first.stderr
    assert "1 skipped (1 broken)" in first.stderr
    assert "not read: in/broken.pdf: broken:" in first.stderr
    system = (tmp_path / "run/system.md").read_text()
    assert "Converted to text: 1 from pdf." in system
    assert "`> contract.pdf:page 2: text of a line`" in system
    assert "`prices.csv` is CSV: 1 row below the header; columns item (text), usd (integer)." in system
    shutil.rmtree(tmp_path / "cache")
    second = command(tmp_path, "resume", "run", "--passes", "3")
    assert second.returncode == 0, second.stderr
    assert f"{tmp_path}/task/in/contract.pdf:2 (page 2)  found" in second.stdout
    proof = json.loads((tmp_path / "run/proof.json").read_text())
    (cited,) = proof["gates"][0]["record"]["citations"]
    assert (cited["name"], cited["line"], cited["place"]) == ("contract.pdf", 2, "page 2")
    shutil.rmtree(tmp_path / "cache")
    assert command(tmp_path, "verify", "run").returncode == 0
    assert command(tmp_path, "replay", "run").returncode == 0


def test_an_original_that_changed_ends_a_resume(tmp_path, task):
    command(tmp_path, "run", task, "--passes", "1", "--run-dir", "run")
    (tmp_path / "task/in/contract.pdf").write_bytes(papers.pdf(["The term is ten months"]))
    ended = command(tmp_path, "resume", "run", "--passes", "3")
    assert ended.returncode == 2
    assert "1 of 2 inputs has changed since the run began: contract.pdf" in ended.stderr


def test_strict_refuses_a_broken_file_and_creates_nothing(tmp_path, task):
    ended = command(tmp_path, "run", task, "--set", "inputs.strict=true", "--run-dir", "run")
    assert ended.returncode == 2
    assert "1 of the inputs cannot be read" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_question_may_be_asked_of_a_revision(tmp_path, task, git):
    folder = tmp_path / "task/in"
    git(folder, "init", "-q")
    git(folder, "add", "contract.pdf")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "v1")
    (folder / "contract.pdf").unlink()
    script = f"script:{tmp_path}/task/script.yaml"
    ended = command(tmp_path, "ask", "How long?", f"{folder}@v1", "--model", script, "--run-dir", "run")
    assert ended.returncode == 0, ended.stderr
    assert f"{folder}/{git(folder, 'rev-parse', 'v1')}:contract.pdf:2 (page 2)  found" in ended.stdout
