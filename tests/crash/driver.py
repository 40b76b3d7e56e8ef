"""What a run does to its folder in a pass, without a model or a kernel: for the sweep of system calls.

Opens a folder with a person's edits and one journalled reply in it, pays for three more, commits the turn and
the pass, closes. Each line that it prints is acknowledged: it must be found whatever happens after.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from loop_runner.errors import LoopRunnerError
from loop_runner.records import Answer
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call, snapshot, turn

CALLS = 4
EDIT = b"a person's words\n"


def make(folder: Path) -> None:
    """The folder that every case begins with: pass 1 is rejected, pass 2 has paid for its first reply."""
    with Workspace.create(folder, name="swept", files={"prompt.md": b"Count.\n"}) as workspace:
        (workspace.model_folder / "notes/log.md").write_text("pass 1\n")
        (workspace.model_folder / "old.txt").write_text("to be removed\n")
        workspace.commit_turn(turn(1, 1, snapshot=snapshot(words=b"old" * 9000, same=b"same")), {})
        workspace.commit_pass(1, "rejected", files={"passes/0001/verdict.json": b"{}\n"})
        workspace.journal.sent(call("2 0").fingerprint, 0)
        workspace.journal.append(call("2 0"))
    (folder / "workspace/notes/log.md").write_bytes(EDIT)


def main(args: Sequence[str]) -> None:
    try:
        _go_on(Path(args[0]))
    except LoopRunnerError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _go_on(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        head = workspace.head()
        if head.pass_number == 1:
            _turn(workspace)
            head = workspace.head()
        if head.turn:
            workspace.commit_pass(2, "accepted", files={"passes/0002/verdict.json": b"{}\n"})
            _say("pass 2")


def _turn(workspace: Workspace) -> None:
    for index in range(CALLS):
        item = call(f"2 {index}", kind="sub" if index else "root")
        if workspace.journal.find(item.fingerprint, item.occurrence) is None:
            workspace.journal.sent(item.fingerprint, item.occurrence)
            workspace.journal.append(item)
            _say(f"paid {item.fingerprint}")
    with (workspace.model_folder / "notes/log.md").open("a") as log:
        log.write("pass 2\n")
    (workspace.model_folder / "new.bin").write_bytes(b"\0" * 50_000)
    (workspace.model_folder / "old.txt").unlink(missing_ok=True)
    done = turn(
        2,
        1,
        answer=Answer("2", is_ready=True),
        calls=workspace.journal.calls(),
        snapshot=snapshot(words=b"new" * 9000, same=b"same"),
    )
    workspace.commit_turn(done, {"passes/0002/injected.md": b"Count.\n"})
    _say("turn 2.1")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
