"""What a replay puts in the place of the models and of the kernel, so that nothing new is asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NoReturn

from loop_runner.errors import ModelError
from loop_runner.kernel.kernel import Kernel
from loop_runner.records import (
    Call,
    CellResult,
    Reply,
    Request,
    Snapshot,
    Variable,
)
from loop_runner.runs.recorded import (
    Missing,
)
from loop_runner.workspace import layout
from loop_runner.workspace.workspace import Workspace

Place = tuple[int, int]
"""The number of a pass and of a turn."""

IN_ORDER = ("root", "summary")  # the kinds of requests that a session makes one after the other
_TOO_MANY = 10**12  # tokens, of any window


class EndOfRecord(Exception):  # noqa: N818 - no error: there is nothing more to replay
    """The record ends here."""


def kernel_at(
    workspace: Workspace, recorded: str, recorded_rows: Callable[[int, int], Mapping[str, Variable]]
) -> type[Kernel]:
    """A kernel that says it ran where the run ran: tracebacks and ``os.getcwd()`` name the folder.

    Texts only; a variable that holds the path differs from the recorded one, and is said to. What cannot be
    saved is reported as the record does: earlier versions told more of it (``_as_recorded``).
    """
    here = workspace.folder
    there = str(json.loads(recorded)) if recorded else str(here)

    class Elsewhere(Kernel):
        def run_cell(self, code: str, number: int) -> CellResult:
            result = super().run_cell(code, number)
            answer = replace(result.answer, content=result.answer.content.replace(str(here), there))
            self._turn = number
            return replace(result, output=result.output.replace(str(here), there), answer=answer)

        def snapshot(self, *, full: bool = False) -> Snapshot:
            taken, head = super().snapshot(full=full), workspace.head()
            rows = recorded_rows(head.pass_number if head.turn else head.pass_number + 1, self._turn)
            return replace(taken, variables=tuple(_as_recorded(row, rows) for row in taken.variables))

    return Elsewhere


def _as_recorded(row: Variable, recorded: Mapping[str, Variable]) -> Variable:
    """``row`` of a variable that is lost, as an earlier version wrote it.

    Earlier versions tried to make such variables again by running their cells, and said so in the reason.
    """
    then = recorded.get(row.name)
    if row.status != "lost" or then is None or then.type != row.type:
        return row
    is_of_earlier = then.status == "replay" or then.reason.startswith(
        f"{row.reason}; it cannot be made again"
    )
    return then if is_of_earlier else row


class InOrder:
    """Finds the recorded replies of a session by their order, where its requests have other words now.

    A later version may word an observation differently. The model's recorded reply is then still the reply of
    that turn, and the replay continues with it. Requests that run at the same time have no order.
    """

    def __init__(
        self,
        place: Callable[[], Place],
        recorded: Callable[[str], list[Call]],
        reworded: list[Missing],
    ) -> None:
        """``place``: where the replay is; ``recorded``: the replies in a folder of the record."""
        self._place = place
        self._recorded = recorded
        self._reworded = reworded
        self._sent: Counter[tuple[Place, str]] = Counter()

    def __call__(self, request: Request, call: Call | None) -> Call | None:
        """``call``, or the recorded call that came at this point."""
        if request.kind not in IN_ORDER:
            return call
        place = self._place()
        position = self._sent[place, request.kind]
        self._sent[place, request.kind] += 1
        if call is not None:
            return call
        calls = in_order(self._recorded(layout.turn_folder(*place)), request.kind)
        if position >= len(calls):
            return None
        self._reworded.append(missing(place, request))
        return calls[position]


def in_order(calls: Iterable[Call], kind: str) -> list[Call]:
    """The calls of a kind that a session makes one after the other, and that were answered."""
    return [call for call in calls if call.kind == kind and not call.is_lost]


def missing(place: Place, request: Request) -> Missing:
    """``request`` at ``place``, as a replay reports it."""
    prompt = request.messages[-1].text if request.messages else ""
    return Missing(*place, request.kind, request.model, prompt)


def place_of(workspace: Workspace) -> Place:
    """The pass and turn that are under way."""
    head = workspace.head()
    return (head.pass_number, head.turn + 1) if head.turn else (head.pass_number + 1, 1)


class Nobody:
    """Stands where a model would be asked, and refuses."""

    def __init__(
        self,
        model: str,
        workspace: Workspace,
        missing: list[Missing],
        recorded: Callable[[str], list[Call]],
    ) -> None:
        """``recorded``: the replies that the record holds in a folder."""
        self._model = model
        self._workspace = workspace
        self._missing = missing
        self._recorded = recorded

    async def complete(self, request: Request) -> Reply:
        """Note the request; raises ``ModelError``."""
        place = place_of(self._workspace)
        self._missing.append(missing(place, request))
        self._refuse(*place, request.kind)

    async def count_tokens(self, request: Request) -> int:
        """Nothing for a request that was sent, as it fitted into the window then; else more than fits."""
        place, fingerprint = place_of(self._workspace), request.fingerprint()
        folders = (layout.turn_folder(*place), layout.pass_folder(place[0]))
        was_sent = any(
            call.fingerprint == fingerprint or (call.kind == request.kind and call.kind in IN_ORDER)
            for folder in folders
            for call in self._recorded(folder)
        )
        return 0 if was_sent else _TOO_MANY

    def _refuse(self, pass_number: int, turn: int, kind: str) -> NoReturn:
        raise ModelError(
            f"no reply is recorded for a {kind} request to {self._model} in pass {pass_number} turn {turn}",
            why="a replay asks no model",
            hint="an earlier step differs from the record, or the request was refused then too",
        )

    async def close(self) -> None:
        """Nothing to let go of."""
