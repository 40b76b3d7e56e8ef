"""docs/api.md says of every name what is true, and its examples work."""

import subprocess
import sys
from pathlib import Path

import pytest

import loop_runner as lr
from tests.support import library

ROOT = Path(__file__).parents[2]


def test_the_page_has_every_name_once():
    assert sorted(section.name for section in library.sections()) == sorted([*lr.__all__, *lr._FURTHER])


@pytest.mark.parametrize("section", library.sections(), ids=lambda section: section.name)
def test_the_signature_and_the_description_on_the_page_are_those_of_the_code(section):
    assert section.signature == library.signature(section.name)
    assert section.text == library.description(section.name)


@pytest.mark.parametrize("section", library.sections(), ids=lambda section: section.name)
def test_the_example_on_the_page_works(section, tmp_path):
    for name, body in library.files().items():
        (tmp_path / name).write_text(body)
    exec(section.example, {"lr": lr, "MODEL": "script:script.yaml", "__name__": "example"})


def test_the_names_of_the_package_are_the_same_for_type_checkers_and_at_run_time():
    import ast

    tree = ast.parse((ROOT / "loop_runner/__init__.py").read_text())
    block, *_ = [node for node in tree.body if isinstance(node, ast.If)]
    named = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("loop_runner")
        for alias in node.names
    }
    assert set(named) == {*lr.__all__, *lr._FURTHER} == set(lr._HOME)
    for name, (module, own) in named.items():
        home = f"loop_runner.{lr._HOME[name]}"
        result = f"{module}.{own}" if name in lr._MODULES else module
        assert (result, own) == (home, lr._CALLED.get(name, name))


def test_a_listing_shows_what_a_program_makes_and_the_other_names_are_in_types():
    assert dir(lr) == sorted([*lr.__all__, "__version__"])
    assert len(lr.__all__) <= 40
    for name in lr._FURTHER:
        assert getattr(lr.types, name) is getattr(lr, name)
        assert name in dir(lr.types)


PROJECT = """
import asyncio
from dataclasses import dataclass
import loop_runner as lr

@dataclass
class Port:
    number: int

def check(answer: str, submission: lr.Submission) -> str | None:
    return None if answer else "empty"

result = lr.ask("Which port?", ["src/"], model="local:coder", verify=[lr.citations(min=2), check])
task = lr.Task(
    prompt="Which port?", inputs=["src/", lr.data("x", "a.txt")], verifiers=[check], output_type=Port
)
answer: str = lr.run(task, run_dir="runs/x", on_event=print).answer
cost: float | None = result.cost
usage: lr.Usage = result.usage
same_usage: lr.types.Usage = usage
rlm = lr.RLM(model="anthropic:x", verify=[lr.citations()], max_budget=1.0)
response: str = rlm.completion("text", root_prompt="Which?").response
with lr.stream("task.yaml") as events:
    kinds: list[str] = [event.kind for event in events]
audit = lr.audit(
    ["src/"], rules="rules.yaml", fail_on="error", reports={"sarif": "audit.sarif"}, budget__usd=1.0
)
lines: list[tuple[str, int]] = [(found.file, found.line) for found in audit.new_findings]
passed: bool = audit.passed
same: bool = lr.verify(result.run).is_accepted
state: str = lr.open("runs/x").state

async def main() -> lr.Result:
    return await lr.arun("task.yaml")

asyncio.run(main())
"""
WRONG = """
import loop_runner as lr
lr.run(3)
lr.citations(min="two")
lr.ask("x", ["a"], verify=3)
number: int = lr.run("task.yaml").answer
lr.audit(["src/"], rules="rules.yaml", fail_on="grave")
lr.audit(["src/"])
lr.nothing
"""


def checked(folder, code):
    (folder / "user.py").write_text(code)
    argv = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "user.py"]
    done = subprocess.run(
        argv,
        cwd=folder,
        env={"MYPYPATH": str(ROOT), "PATH": "", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_a_project_of_a_user_is_checked_by_mypy(tmp_path):
    assert (ROOT / "loop_runner/py.typed").exists()
    assert checked(tmp_path, PROJECT) == ""
    errors = [line.split(":")[1] for line in checked(tmp_path, WRONG).splitlines() if "error:" in line]
    assert errors == ["3", "4", "5", "6", "7", "8", "9"]
