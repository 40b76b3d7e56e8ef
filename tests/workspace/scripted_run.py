"""A run without a model: 2 passes of 3 turns, from wherever the run folder stands. The kill tests start it.

Prints one line for each thing that is reported as safe; whatever is printed must survive SIGKILL.
"""

import sys
from pathlib import Path

from loop_runner.records import Answer, PassOutcome
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call, snapshot, turn

PASSES, TURNS = 2, 3


def main(folder: Path) -> None:
    with _enter(folder) as workspace:
        say("open")
        while (head := workspace.head()).outcome != "accepted":
            if head.turn < TURNS:
                number = head.pass_number if head.turn else head.pass_number + 1
                take_turn(workspace, number, head.turn + 1)
            else:
                outcome: PassOutcome = "accepted" if head.pass_number == PASSES else "rejected"
                folder_of_pass = f"passes/{head.pass_number:04d}"
                workspace.commit_pass(
                    head.pass_number, outcome, files={f"{folder_of_pass}/verdict.json": b"{}\n"}
                )
                say(f"pass {head.pass_number}")
    say("end")


def take_turn(workspace: Workspace, pass_number: int, number: int) -> None:
    requests = [
        call(f"{pass_number} {number} {index}", kind="sub" if index else "root") for index in range(4)
    ]
    for request in requests:
        if workspace.journal.find(request.fingerprint, request.occurrence) is None:
            workspace.journal.append(request)
            say(f"paid {request.fingerprint}")
    notes = workspace.model_folder / "notes"
    with (notes / "log.md").open("a") as log:
        log.write(f"pass {pass_number} turn {number}\n")
    (notes / f"{pass_number}-{number}.bin").write_bytes(bytes([number]) * 50_000)
    (notes / f"{pass_number}-{number - 1}.bin").unlink(missing_ok=True)
    workspace.commit_turn(
        turn(
            pass_number,
            number,
            answer=Answer(f"{pass_number}.{number}", is_ready=number == TURNS),
            calls=workspace.journal.calls(),
            snapshot=snapshot(words=b"%d" % number * 40_000, same=b"same"),
        ),
        {f"passes/{pass_number:04d}/injected.md": b"Count.\n"} if number == 1 else {},
    )
    say(f"turn {pass_number}.{number}")


def say(line: str) -> None:
    print(line, flush=True)


def _enter(folder: Path) -> Workspace:
    if (folder / ".git").is_dir():
        return Workspace.open(folder)
    return Workspace.create(folder, name="scripted", files={"prompt.md": b"Count.\n"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
