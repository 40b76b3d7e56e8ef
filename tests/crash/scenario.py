"""A short run in three stages, with all that a run can meet, and what must hold however a stage is broken.

A fresh run whose one pass is rejected; the same pass gone on with after a death in its middle, with paid
replies in the journal and half-made files beside them; and, after a person's edits, a further pass that is
accepted. Every reply is a function of its request, and the server counts what it is asked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner.records import Message, Request
from loop_runner.runs import trust
from loop_runner.workspace import control_files
from loop_runner.workspace.control_files import ControlRequest
from loop_runner.workspace.history import History
from loop_runner.workspace.journal import calls
from tests.crash.forker import Ended, Forker
from tests.support.commands import clean_environment, wait_for
from tests.support.model_server import ModelServer, Received
from tests.support.tasks import cell, write_task

MODEL = "openai:test"

# By how many messages the conversation has, in pass 1 and in pass 2.
_FIRST = {
    1: cell(
        "import collections, pathlib\n"
        "pathlib.Path('notes/plan.md').write_text('count, then add\\n')\n"
        "pathlib.Path('old.txt').write_text('to be removed\\n')\n"
        "words = same = collections.Counter(context.split())\n"
        "parts = llm_batch(['part 1', 'part 2', 'part 1', 'part 3', 'part 4'])\n"
        "print(parts)"
    ),
    3: cell(
        "import os\nos.remove('old.txt')\nsame['extra'] += 1\ntotal = sum(map(int, parts))\n"
        "for name in ('a', 'b'):\n    try: act(name)\n    except ToolUnknown: pass\n"
        "peek('c')"
    ),
    5: cell("answer['content'] = llm_query('draft')\nanswer['ready'] = True"),
}
_SECOND = {
    1: cell(
        "assert words['extra'] == 1\nopen('notes/plan.md', 'a').write('added\\n')\nmore = llm_query('part 5')"
    ),
    3: cell("FINAL(total + int(more))"),
}


# ``act`` must not be done twice; ``peek`` may.
TOOLS = """
def act(name: str) -> str:
    with open("acted.log", "a") as file: file.write(f"{name}\\n")
    return name

def peek(name: str) -> str:
    return name
"""
TOOL_ENTRIES = [{"python": "tools.py:act"}, {"python": "tools.py:peek", "idempotent": True}]


def reply_to(request: Received) -> str:
    """What the model says; a sub-call is a request without a system prompt."""
    if request.system:
        turns = _SECOND if "The answer is wrong" in request.first_user_text else _FIRST
        return turns[len(request.messages)]
    return {"draft": "41"}.get(request.last_user_text, "7")


def fingerprint(request: Received) -> str:
    """The key under which the journal has the reply to ``request``."""
    return Request(
        model=MODEL,
        messages=tuple(Message(role, text) for role, text in request.messages),  # type: ignore[arg-type]
        system=request.system,
        max_output_tokens=request.body["max_tokens"],
        kind="root" if request.system else "sub",
    ).fingerprint()


@dataclass(frozen=True)
class Stage:
    """One command of the run. ``template`` is the run folder that it begins with; None: none yet."""

    name: str
    args: tuple[str, ...]
    template: Path | None
    exit_code: int = -1
    tree: str = ""
    sent: Counter[str] = None  # type: ignore[assignment] # what the unbroken stage asks, by fingerprint
    requests: int = 0  # of the whole run so far
    passed: tuple[str, ...] = ()  # the names that it comes by, in order
    edits: tuple[str, ...] = ()
    acted: tuple[str, ...] = ()  # what its tools did


class Scene:
    """A place to break stages in: a folder, a server, a forker. One for each thread."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.run = place / "run"
        self.task = write_task(
            place / "task",
            root=[],
            model=MODEL,
            verifiers=[
                {"command": ["sh", "-c", "grep -q 42 answer.md || { echo The answer is wrong; exit 1; }"]}
            ],
            texts={"notes.txt": "one two three two\n" * 20},
            kernel={"memory": "1GB"},
            budget={"passes": 1},
            tools=TOOL_ENTRIES,
        )
        (place / "task/tools.py").write_text(TOOLS)
        self.server = ModelServer()
        self.server.answer_with(reply_to)
        self.forker = Forker(place / "scratch")

    def close(self) -> None:
        self.forker.close()
        self.server.close()

    def command(self, *args: object, failpoint: str = "") -> Ended:
        env = {"OPENAI_BASE_URL": self.server.openai_url, "OPENAI_API_KEY": "k"}
        env["LOOP_RUNNER_FAILPOINT"] = failpoint
        ended = self.forker.run(*args, env=env)
        wait_for(lambda: not self.server.is_busy)
        return ended

    def begin(self, stage: Stage) -> None:
        """Put the run folder to where ``stage`` begins."""
        shutil.rmtree(self.run, ignore_errors=True)
        if stage.template is not None:
            copy(stage.template, self.run)
        self.server.requests.clear()
        (self.task.parent / "acted.log").unlink(missing_ok=True)

    def acted(self) -> list[str]:
        """What tools did that must not be done twice."""
        log = self.task.parent / "acted.log"
        return log.read_text().split() if log.exists() else []

    def acted_once(self) -> list[str]:
        """The same; a scene whose tools may partly be called twice leaves those out."""
        return self.acted()

    def take(self, stage: Stage, *more: str, failpoint: str = "") -> Ended:
        """Run the stage's command, or the command that continues it once the run folder exists."""
        if (self.run / ".git" / "loop-runner").is_dir():
            args = ("resume", self.run, *stage.args)
        else:
            args = ("run", self.task, "--run-dir", self.run, *stage.args)
        return self.command(*args, *more, "-q", "--json", failpoint=failpoint)

    def requests(self) -> Counter[str]:
        """What the server was asked, by fingerprint."""
        return Counter(map(fingerprint, self.server.requests))

    def tree(self) -> str:
        return git(self.run, "rev-parse", "HEAD^{tree}")


def copy(run: Path, to: Path) -> None:
    """Copy a run folder; the copy counts as created here, as the original does."""
    subprocess.run(["cp", "-a", run, to], check=True)
    assert not trust.mark(to, clean_environment())


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", folder, *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def durable(folder: Path) -> Counter[str]:
    """The replies that are safe now, committed or journalled, by fingerprint."""
    if not (folder / ".git").is_dir():
        return Counter()
    with History(folder) as history:
        made = [*history.calls(), *calls(folder / ".git/loop-runner/journal", history.since_checkpoint())]
    return Counter(call.fingerprint for call in made if call.kind != "tool")


def acknowledged(folder: Path) -> set[str]:
    """The commits that the run said it had made."""
    path = folder / ".git/loop-runner/events.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    output = set()
    for line in lines:
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            continue  # torn
        if event["kind"] == "turn_committed":
            output.add(event["text"])
        elif event["kind"] == "pass_ended":
            output.add(event["data"]["commit"])
    return output


EDITS = {"workspace/notes/plan.md": b"a person's words\n", "workspace/mine.txt": b"a person's file\n"}


def stages(scene: Scene) -> list[Stage]:
    """The three stages, each run once without a fault, with what they begin and end with."""
    templates = scene.place / "templates"
    templates.mkdir(exist_ok=True)
    fresh = unbroken(scene, Stage("fresh", (), None))
    rejected = kept(scene, templates / "rejected")
    scene.begin(fresh)
    assert scene.take(fresh, failpoint="turn.saved:1:kill").was_killed
    died = kept(scene, templates / "died")
    resumed = unbroken(scene, Stage("resumed", (), died))
    assert resumed.tree == fresh.tree
    for path, data in EDITS.items():
        (rejected / path).write_bytes(data)
    control_files.place(rejected / ".git/loop-runner", ControlRequest("note", text="mind the extra word"))
    change = {"passes": {"set": 2}}
    control_files.place(rejected / ".git/loop-runner", ControlRequest("budget", limits=change))
    further = unbroken(scene, Stage("further", ("--passes", "2"), rejected, edits=tuple(EDITS)))
    return [fresh, resumed, further]


def kept(scene: Scene, where: Path) -> Path:
    """Keep the run folder as it is now, to begin a stage with."""
    scene.run.rename(where)
    return where


def unbroken(scene: Scene, stage: Stage) -> Stage:
    """``stage`` with what it does when nothing breaks it."""
    from dataclasses import replace

    listed = scene.place / "listed"
    listed.unlink(missing_ok=True)
    scene.begin(stage)
    before = durable(scene.run)
    ended = scene.take(stage, failpoint=f"list:{listed}")
    assert ended.exit_code in (0, 3), ended
    assert durable(scene.run) - before == scene.requests()
    return replace(
        stage,
        exit_code=ended.exit_code,
        tree=scene.tree(),
        sent=scene.requests(),
        requests=ended.json()["usage"]["requests"],
        passed=tuple(listed.read_text().split()),
        acted=tuple(scene.acted()),
    )
