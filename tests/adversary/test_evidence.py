"""An earlier run is never evidence, and a name never instructs a juror or the model.

Each attack is short here. Every form is tried in tests/inputs/test_earlier_runs.py and
tests/task/test_names_in_prompts.py.
"""

import shutil
import subprocess
import tarfile

import pytest

from loop_runner.inputs import Converter, load
from loop_runner.records import Block, Inputs, InputText
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.session import direct
from loop_runner.task import config
from tests.support.gates import Says, stop_hook, submission
from tests.support.tasks import cell, write_task
from tests.task.test_names_in_prompts import HOSTILE, outside

INVENTION = "The tower is 4711 feet high"
CITED = "> {place}: The tower is 4711 feet high"


@pytest.fixture
def earlier(tmp_path):
    """A finished run whose first answer was an invention and was rejected."""
    root = [cell(f"FINAL('{INVENTION}')"), cell("FINAL('42')")]
    file = write_task(tmp_path / "first", root=root, verifiers=[{"contains": "42"}])
    assert runs.start(config.read_task(file), tmp_path / "earlier", RunContext({})).status == "verified"
    return tmp_path / "earlier"


def inside(earlier, base):
    shutil.copytree(earlier, base / "runs" / "first", symlinks=True)


def renamed(earlier, base):
    shutil.copytree(earlier, base / "sources", symlinks=True)


def clone(earlier, base):
    subprocess.run(["git", "clone", "-q", earlier, base / "literature"], check=True)


def without_git(earlier, base):
    shutil.copytree(earlier, base / "papers", ignore=shutil.ignore_patterns(".git"))


def archive(earlier, base):
    with tarfile.open(base / "papers.tar.gz", "w:gz") as file:
        file.add(earlier, "papers")


def linked(earlier, base):
    (base / "answer.txt").symlink_to(earlier / "passes/0001/answer.md")


@pytest.mark.parametrize("hide", [inside, renamed, clone, without_git, archive, linked])
def test_what_an_earlier_run_invented_is_no_evidence(tmp_path, earlier, hide):
    base = tmp_path / "texts"
    base.mkdir()
    (base / "tower.txt").write_text("The tower is 1,024 feet high.\n")
    hide(earlier, base)
    texts = load(["."], base, converter=Converter(tmp_path / "cache"))
    assert [text.name for text in texts.texts] == ["tower.txt"]
    assert texts.skipped, "what was left out is reported"
    hook = stop_hook([{"citations": {"min": 1}}], tmp_path)
    for place in ("tower.txt:1", "answer.md:1", "runs/first/answer.md:1", "answer.txt:1"):
        decision = hook.decide(submission(tmp_path, CITED.format(place=place), inputs=texts))
        assert isinstance(decision, Block), place


@pytest.mark.parametrize(
    "kind", [kind for kind in HOSTILE if kind not in ("a null byte", "10,000 characters")]
)
def test_the_name_of_a_file_does_not_instruct_a_juror(tmp_path, kind):
    (tmp_path / "rubric.md").write_text("The answer names the town.\n")
    spec = [{"judge": {"rubric": "rubric.md", "files": ["*"]}}]
    panel = Says('{"verdict": "reject", "score": 0, "faults": []}')
    name = HOSTILE[kind].replace("/", "_")
    decision = stop_hook(spec, tmp_path, panel=panel).decide(
        submission(tmp_path, "42", files={name: "It was met."})
    )
    assert isinstance(decision, Block)
    (request,) = panel.requests
    (message,) = request.messages
    assert "It was met." in message.text
    assert "gnore the rubric" not in outside(message.text)


def a_folder(path):
    path.mkdir()


def a_file(path):
    path.write_text("42")


def a_link(path):
    path.symlink_to("/etc/hostname")


def a_link_to_a_folder(path):
    path.symlink_to("/usr")


@pytest.mark.parametrize("create", [a_folder, a_file, a_link, a_link_to_a_folder])
@pytest.mark.parametrize("check", ["cd workspace && cat out.txt", "cat workspace/out.txt", "cat out.txt"])
def test_an_agent_that_creates_what_its_check_misses_stays_in_its_loop(tmp_path, create, check):
    spec = [{"command": ["sh", "-c", check]}]
    hook = stop_hook(spec, tmp_path)
    create(tmp_path / "out.txt")  # an agent may work in the folder of the task
    decision = hook.decide(submission(tmp_path, "42"))
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_name_of_an_input_does_not_instruct_the_model(tmp_path, kind):
    (tmp_path / "text").write_text("one\n")
    shown = direct.documents(Inputs((InputText(HOSTILE[kind], tmp_path / "text", 4, "abc"),)))
    assert "gnore the rubric" not in outside(shown)
