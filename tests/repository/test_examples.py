"""The examples: made the same every time, honest scripts, and gates that notice what is left out.

That each runs as its README shows is what ``test_docs.py`` is for.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from tests.support import documents
from tests.support.commands import loop_runner
from tests.support.tasks import ready

EXAMPLES = documents.ROOT / "examples"
MADE = sorted(path.parent.name for path in EXAMPLES.glob("*/make.py"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy of the examples with their inputs made."""
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("runs", "inputs", "key.json"))
    for name in MADE:
        make(folder / name)
    return folder


@pytest.fixture(scope="module")
def answers(made):
    """The accepted answer of each example, by name, run when it is first asked for."""
    known = {}

    def answer(name):
        if name not in known:
            data = run(made / name, "script:script.yaml", "--run-dir", made.parent / "runs" / name)
            assert data["status"] == "verified", data
            known[name] = data["answer"]
        return known[name]

    return answer


def make(folder):
    subprocess.run([sys.executable, folder / "make.py"], check=True, capture_output=True)


def run(folder, model, *options):
    ended = loop_runner(
        "run", folder / "task.yaml", "--model", model, *options, "--json", cwd=folder, timeout_s=100
    )
    return json.loads(ended.stdout)


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts_in(value):
    if isinstance(value, str):
        return {value}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {text for item in items for text in texts_in(item)}


def gate(folder, answer):
    """What ``check.py`` of an example says of an answer: None, or why not."""
    if "def check(" not in (folder / "check.py").read_text():
        program = [sys.executable, folder / "check.py"]
        ended = subprocess.run(program, input=answer, text=True, capture_output=True, check=False)
        return ended.stdout if ended.returncode else None
    spec = importlib.util.spec_from_file_location("check", folder / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    inputs = [SimpleNamespace(name=path.name) for path in sorted((folder / "inputs").iterdir())]
    return module.check(SimpleNamespace(answer=answer, inputs=inputs))


@pytest.mark.parametrize("name", MADE)
def test_the_inputs_are_the_same_every_time(made, name):
    before = tree(made / name)
    make(made / name)
    assert tree(made / name) == before


@pytest.mark.parametrize("name", MADE)
def test_the_script_and_the_task_do_not_hold_the_answer(made, name):
    key = texts_in(json.loads((made / name / "key.json").read_text()))
    shown = (made / name / "script.yaml").read_text() + (made / name / "task.yaml").read_text()
    assert [text for text in key if len(text) >= 12 and text in shown] == []


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_is_not_committed(name):
    listed = subprocess.run(
        ["git", "ls-files", EXAMPLES / name], capture_output=True, text=True, check=True, cwd=EXAMPLES
    )
    assert not [
        line for line in listed.stdout.splitlines() if "/inputs/" in line or line.endswith("key.json")
    ]


def parts(answer):
    """The answer with one of its parts left out, for each: a section, an entry or a record."""
    if answer.startswith("["):
        records = json.loads(answer)
        return [json.dumps(records[:at] + records[at + 1 :]) for at in range(0, len(records), 7)]
    lines = answer.split("\n")
    quotes = [at for at, line in enumerate(lines) if line.startswith("> ")]
    return ["\n".join(lines[:at] + lines[at + 1 :]) for at in quotes]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MADE if name != "support"])
def test_an_answer_without_one_of_its_parts_is_rejected_whichever_it_is(made, answers, name):
    answer = answers(name)
    assert gate(made / name, answer) is None
    shorter = parts(answer)
    assert len(shorter) > 5
    assert all(gate(made / name, item) for item in shorter)


@pytest.mark.slow
def test_a_wrong_answer_to_one_of_the_questions_is_named(made, answers):
    answer = answers("support")
    assert gate(made / "support", answer) is None
    assert gate(made / "support", answer.replace("3. 13 May", "3. 12 May")).endswith(": 3")
    assert gate(made / "support", answer[: answer.index("4. ")]) == "3 answers for 4 questions"


@pytest.mark.slow
def test_each_of_the_contracts_conflicts_is_missed_when_it_is_left_out(made, answers):
    sections = answers("legal").split("\n\n")
    assert len(sections) == 11
    assert all("> contract.pdf:page " in section for section in sections)
    for at in range(len(sections)):
        output = gate(made / "legal", "\n\n".join(sections[:at] + sections[at + 1 :]))
        assert output.startswith("10 of 11 conflicts are there with page and quotes; 1 missing")


@pytest.mark.slow
def test_a_clause_that_is_no_conflict_and_a_wrong_page_are_refused(made, answers):
    answer = answers("legal")
    same = "> contract.pdf:page 9: x\n> agreement-07.txt:1: FLEET LEASE AGREEMENT No. 7"
    assert "no conflict" in gate(made / "legal", f"{answer}\n\n## title, agreement 7\n{same}")
    assert "10 of 11" in gate(made / "legal", answer.replace("pdf:page 14:", "pdf:page 15:"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "left_out"), [("timeline", 3), ("legal", 0)])
def test_a_run_does_not_end_with_a_part_left_out(made, answers, tmp_path, name, left_out):
    shutil.copytree(made / name, tmp_path / name)
    without = parts(answers(name))[left_out]
    (tmp_path / name / "short.yaml").write_text(yaml.safe_dump({"root": [ready(without)]}))
    data = run(tmp_path / name, "script:short.yaml", "--passes", "1")
    assert data["status"] == "unverified"
