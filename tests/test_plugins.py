"""An installed package adds providers, verifiers, loaders and reporters; imported only when it is named."""

import json
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
READER = """
import codecs, os, socket

SECRET = {secret!r}


def load(file, name):
    yield "page 1", codecs.decode(file.read().decode(), "rot13")
    yield "page 2", f"sees {os.path.exists(SECRET)} of {os.path.basename(name)}"
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    except OSError as error:
        yield "page 3", f"network: {type(error).__name__}"
"""
DIARY = """
import json


class Diary:
    def __init__(self, path):
        self.file = open(path, "w")

    def __call__(self, event):
        self.file.write(json.dumps([event.kind, event.pass_number]) + "\\n")

    def close(self):
        self.file.write('"closed"')
        self.file.close()


class Mute:
    def __init__(self, text):
        if text:
            raise ValueError(f"what is {text}?")

    def __call__(self, event):
        raise RuntimeError("no paper left")
"""
ENTRY_POINTS = """
[loop_runner.providers]
parrot = lr_parrot:Parrot
broken = lr_parrot:NoSuchThing

[loop_runner.loaders]
rot = lr_reader:load
html = lr_reader:load
pdf = lr_reader:load

[loop_runner.reporters]
diary = lr_diary:Diary
mute = lr_diary:Mute

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
    (tmp_path / "secret").write_text("secret")
    (site / "lr_reader.py").write_text(READER.replace("{secret!r}", repr(str(tmp_path / "secret"))))
    (site / "lr_diary.py").write_text(DIARY)
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


def test_its_loader_reads_files_of_its_ending_in_the_sandbox_and_no_others(tmp_path, installed):
    (tmp_path / "task/in").mkdir(parents=True)
    (tmp_path / "task/in/letter.rot").write_text("Gur nafjre vf 42\n")
    (tmp_path / "task/in/page.html").write_text("<p>ours</p>")
    task = write_task(
        tmp_path / "task",
        root=["```repl\nprint(dict(context.items()))\nFINAL('> letter.rot:page 1: The answer is 42')\n```"],
        verifiers=["citations"],
        inputs=["in"],
        budget={"passes": 1},
    )
    env = {**installed, "LOOP_RUNNER_CACHE": str(tmp_path / "cache")}
    ended = loop_runner("run", task, "--run-dir", "run", cwd=tmp_path, env=env)
    assert ended.returncode == 0, ended.stderr
    assert "letter.rot:1 (page 1)  found" in ended.stdout
    shown = (tmp_path / "run/passes/0001/turns/0001/output.txt").read_text()
    assert "sees False of letter.rot" in shown
    assert "network: OSError" in shown or "network: Connection" in shown or "network: Permission" in shown
    origins = {
        text["name"]: text["origin"]
        for text in json.loads((tmp_path / "run/inputs.json").read_text())["texts"]
    }
    assert origins["letter.rot"]["made_by"] == "lr-parrot 1.0"
    assert origins["page.html"]["made_by"].startswith("markitdown ")


def with_reporters(tmp_path, env, *reporters):
    task = write_task(tmp_path / "task", root=["```repl\nFINAL('42')\n```"], budget={"passes": 1})
    options = [part for reporter in reporters for part in ("--report", reporter)]
    return loop_runner("run", task, *options, cwd=tmp_path, env=env)


def test_its_reporter_is_told_what_happens_and_that_it_is_over(tmp_path, installed):
    ended = with_reporters(tmp_path, installed, f"diary={tmp_path}/diary")
    assert ended.returncode == 0, ended.stderr
    shown = [json.loads(line) for line in (tmp_path / "diary").read_text().splitlines()]
    assert shown[0][0] == "run_started"
    assert ["pass_ended", 1] in shown
    assert shown[-2:] == [["run_ended", 1], "closed"]


def test_a_reporter_that_fails_is_said_once_and_the_run_goes_on(tmp_path, installed):
    ended = with_reporters(tmp_path, installed, "mute")
    assert ended.returncode == 0, ended.stderr
    assert (
        ended.stderr.count("the reporter 'mute' failed and gets no more events: RuntimeError: no paper left")
        == 1
    )


@pytest.mark.parametrize(
    ("requests", "output"),
    [
        ("nobody", "there is no reporter 'nobody'"),
        ("mute=that", "the reporter 'mute' cannot be made: ValueError: what is that?"),
    ],
)
def test_a_reporter_that_cannot_be_had_stops_the_run_before_it_begins(tmp_path, installed, requests, output):
    ended = with_reporters(tmp_path, installed, requests)
    assert ended.returncode == 2
    assert output in ended.stderr
    assert not (tmp_path / "runs").exists()
