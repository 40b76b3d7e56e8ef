"""``make test-terminal``: a run from its start to a fork, as a person steers it from two terminals (tmux).

    python -m tests.terminal_proof [FOLDER]

The model is a mailbox (``manual:``), so each request can be read before it is answered. Prints a line for
each step, and keeps the screens as text at 80 and 140 columns in FOLDER/screens, if a folder is named.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

import loop_runner as lr
from tests.support.commands import argv
from tests.support.tasks import cell, ready

_WAIT_S = float(os.environ.get("TERMINAL_WAIT_S", "120"))
_SOCKET = f"loop-runner-{os.getpid()}"
TASK = {
    "name": "terminal",
    "prompt": "Which number?",
    "inputs": ["notes.txt"],
    "model": "manual:desk",
    "verifiers": [{"contains": "42"}, {"human": {"question": "Is 42 the number?"}}],
    "budget": {"passes": 1, "usd": None, "wall": "1h"},
}


class Terminal:
    """A window of a tmux server of its own; what is typed there and what is shown."""

    def __init__(self, name: str, columns: int, folder: Path) -> None:
        self.name = name
        _tmux("new-session", "-d", "-s", name, "-x", str(columns), "-y", "30", "-c", str(folder), "sh")

    def enter(self, line: str) -> None:
        """Type a command line."""
        _tmux("send-keys", "-t", self.name, "-l", line)
        self.press("Enter")

    def press(self, key: str) -> None:
        """Press one key."""
        _tmux("send-keys", "-t", self.name, key)

    def screen(self) -> str:
        """What the terminal shows."""
        return _tmux("capture-pane", "-p", "-t", self.name).rstrip()

    def wait_for(self, words: str) -> str:
        """The screen, once it shows ``words`` (a regular expression)."""
        wait(
            lambda: bool(re.search(words, self.screen())), f"{words!r} on the screen {self.name}", self.screen
        )
        return self.screen()


def wait(condition: Callable[[], bool], what: str, shown: Callable[[], str] = str) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}\n{shown()}")
        time.sleep(0.1)


def _tmux(*args: str) -> str:
    done = subprocess.run(["tmux", "-L", _SOCKET, *args], capture_output=True, text=True, check=True)
    return done.stdout


class Desk:
    """The mailbox of the model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answered: set[str] = set()

    def request(self) -> tuple[str, Path]:
        """The next request that has no reply, and where its reply goes."""
        wait(lambda: bool(self._open()), "a request")
        path = self._open()[0]
        return path.read_text(), path.with_name(path.name.replace(".request.", ".reply."))

    def answer(self, reply: str) -> str:
        """Answer the next request; what it asked."""
        request, place = self.request()
        self._answered.add(place.name)
        place.write_text(f"{reply}\n=== end ===\n")
        return request

    def _open(self) -> list[Path]:
        requests = sorted(self._folder.glob("*.request.md"))
        return [path for path in requests if path.name.replace(".request.", ".reply.") not in self._answered]


class Scene:
    """Two terminals, a run and its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "notes.txt").write_text("The answer is 42.\n")
        (folder / "task.yaml").write_text(yaml.safe_dump(TASK))
        self.run = folder / "runs" / "terminal"
        self.desk = Desk(folder / "desk")
        self.first = Terminal("first", 80, folder)
        self.second = Terminal("second", 140, folder)
        (folder / "screens").mkdir()

    def command(self, *args: object) -> subprocess.CompletedProcess[str]:
        """A command of a third terminal."""
        return subprocess.run(argv(*args), cwd=self.folder, capture_output=True, text=True, check=False)

    def state(self) -> str:
        """The state of the run, as another process finds it."""
        return lr.open(self.run).status().state

    def keep(self, terminal: Terminal, name: str) -> None:
        """Keep a screen as text."""
        (self.folder / "screens" / f"{name}.txt").write_text(terminal.screen())

    def step(self, done: str) -> None:
        """Say what was done."""
        print(f"ok  {done}", flush=True)


def play(scene: Scene) -> None:
    """All steps, in order."""
    program = " ".join(argv())
    scene.first.enter(f"{program} run task.yaml")
    first_request = scene.desk.request()[0]
    assert "Which number?" in first_request
    scene.first.wait_for("asking the model|waiting")
    scene.keep(scene.first, "run-80")
    scene.step("started at a terminal of 80 columns; the live block is shown")

    scene.second.enter(f"{program} watch runs/terminal")
    scene.second.wait_for("terminal.*running")
    scene.keep(scene.second, "watch-140")
    scene.step("watched from a second terminal of 140 columns")

    scene.second.press("n")
    scene.second.wait_for("a note for the model")
    _tmux("send-keys", "-t", "second", "-l", "look at the annexes")
    scene.second.wait_for("look at the annexes")
    scene.second.press("Enter")
    scene.second.wait_for("note: the run takes it")
    scene.desk.answer(cell("x = 1"))
    assert "look at the annexes" in scene.desk.request()[0]
    scene.step("a note typed into `watch` is in the next request")

    scene.second.press("p")
    scene.second.wait_for("pause: the run takes it")
    scene.desk.answer(cell("y = 2"))
    wait(lambda: scene.state() == "paused", "the state paused")
    scene.second.wait_for("paused")
    scene.keep(scene.second, "paused-140")
    scene.step("paused by a key; nothing is asked of the model meanwhile")

    raised = scene.command("budget", scene.run, "--passes", "+2")
    assert raised.returncode == 0, raised.stderr
    resumed = scene.command("resume", scene.run)
    assert resumed.returncode == 0, resumed.stderr
    assert "look at the annexes" in scene.desk.answer(ready("41"))  # the conversation keeps it
    rejected = scene.desk.answer(ready("42"))
    assert "What failed" in rejected
    scene.step("the budget raised and the run resumed: a second pass begins, beyond the first limit")

    wait(lambda: scene.state() == "waiting", "the state waiting")
    scene.second.wait_for("waiting")
    scene.second.press("q")
    scene.second.wait_for(r"[$#] *$")
    scene.second.enter(f"{program} approve runs/terminal --by 'A. Lee'")
    scene.first.wait_for("VERIFIED: every verifier accepted")
    scene.keep(scene.first, "verified-80")
    scene.step("approved from the second terminal; the first one shows the verified answer")

    scene.second.enter(f"clear; {program} report runs/terminal -o run.html")
    wait((scene.folder / "run.html").exists, "the report")
    page = (scene.folder / "run.html").read_text()
    assert "look at the annexes" in page
    assert "A. Lee" in page
    scene.step("the report has the note and who approved")

    scene.second.enter(f"clear; {program} cost runs/terminal")
    scene.second.wait_for("root")
    scene.keep(scene.second, "cost-140")
    scene.step("cost")

    (scene.folder / "other.md").write_text("Which other number?\n")
    scene.second.enter(f"clear; {program} fork runs/terminal runs/other --prompt other.md")
    wait((scene.folder / "runs" / "other" / "prompt.md").exists, "the fork")
    forked = scene.command("status", "runs/other", "--json")
    assert forked.returncode == 0, forked.stderr
    scene.step("forked with another prompt")


def main() -> int:
    """Play it, and keep the screens."""
    if shutil.which("tmux") is None:
        print("no tmux here: `apt-get install tmux`, then again", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        own = {"LOOP_RUNNER_CACHE": "cache", "XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state"}
        os.environ.update({key: str(folder / value) for key, value in own.items()})
        os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
        os.environ.pop("CI", None)
        os.environ.pop("NO_COLOR", None)
        try:
            play(Scene(folder))
        finally:
            subprocess.run(["tmux", "-L", _SOCKET, "kill-server"], capture_output=True, check=False)
            if len(sys.argv) > 1 and (folder / "screens").exists():
                shutil.copytree(folder / "screens", sys.argv[1], dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
