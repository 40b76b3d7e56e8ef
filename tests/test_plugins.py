"""An installed package adds providers and verifiers; none of it is imported before it is named."""

import os
import textwrap

import pytest

from tests.support.commands import loop_runner
from tests.support.tasks import write_task

MODULE = """
import sys
from loop_runner.records import Accepted, Rejected, Reply

print("plugin imported", file=sys.stderr)


class Parrot:
    def __init__(self, name, setting):
        self.name, self.setting = name, setting

    async def complete(self, request):
        self.setting.tell(f"parrot {self.name} was asked")
        return Reply(f"```repl\\nFINAL({self.name!r})\\n```")

    async def close(self):
        pass


class Palindrome:
    requirement = "the answer reads the same backwards"

    def __init__(self, name, settings, base_dir):
        self.name = name or f"palindrome {settings}"

    def verify(self, submission):
        is_one = submission.answer == submission.answer[::-1]
        return Accepted() if is_one else Rejected("it does not read the same backwards")
"""
ENTRY_POINTS = """
[loop_runner.providers]
parrot = lr_parrot:Parrot
broken = lr_parrot:NoSuchThing

[loop_runner.verifiers]
palindrome = lr_parrot:Palindrome
contains = lr_parrot:NoSuchThing
"""


@pytest.fixture
def installed(tmp_path):
    """A package as pip leaves it behind: a module and its metadata. Gives the environment that has it."""
    site = tmp_path / "site"
    about = site / "lr_parrot-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "lr_parrot.py").write_text(textwrap.dedent(MODULE))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lr-parrot\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}


def run(tmp_path, env, model, verifier):
    task = write_task(tmp_path / "task", root=[], model=model, verifiers=[verifier], budget={"passes": 1})
    return loop_runner("run", task, cwd=tmp_path, env=env)


def test_a_package_adds_a_provider_and_a_verifier(tmp_path, installed):
    ended = run(tmp_path, installed, "parrot:42 24", {"palindrome": 1})
    assert ended.returncode == 0, ended.stderr
    assert "parrot 42 24 was asked" in ended.stderr


def test_its_verifier_may_reject(tmp_path, installed):
    ended = run(tmp_path, installed, "parrot:42", {"palindrome": 1})
    assert ended.returncode == 3, ended.stderr
    assert "palindrome 1: it does not read the same backwards" in ended.stderr


def test_what_loop_runner_brings_itself_cannot_be_replaced_and_unused_packages_are_not_imported(
    tmp_path, installed
):
    ended = run(tmp_path, installed, "script:nothing.yaml", {"contains": "42"})
    assert ended.returncode == 2
    assert "plugin imported" not in ended.stderr


def test_a_package_that_does_not_import_is_named(tmp_path, installed):
    ended = run(tmp_path, installed, "broken:x", {"contains": "42"})
    assert ended.returncode == 2
    assert "'broken', which lr-parrot adds, cannot be loaded: AttributeError" in ended.stderr


def test_without_the_package_the_name_is_unknown(tmp_path):
    ended = run(tmp_path, {}, "parrot:42", {"contains": "42"})
    assert ended.returncode == 2
    assert "there is no provider 'parrot'" in ended.stderr
