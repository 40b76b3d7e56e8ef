"""Commits the turns of one pass: a session's, a direct pass's and an agent's.

Owns how a turn becomes a ``TurnRecord``, and what follows its commit: its time and the requests without a
reply are charged, and the trace says that it is committed and which files it left out. Relies on the
workspace for the commit. Never asks a model and never runs code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loop_runner import failpoints
from loop_runner.events import Trace
from loop_runner.records import ChildRecord, Snapshot, Turn, TurnRecord
from loop_runner.session.operator import Operator
from loop_runner.workspace import layout
from loop_runner.workspace.workspace import Workspace


class Commits:
    """Commits turns of pass ``pass_number``, one after another."""

    def __init__(
        self,
        pass_number: int,
        *,
        workspace: Workspace,
        trace: Trace,
        charge: Callable[[float, int], None],
        first_files: Mapping[str, bytes],
        operator: Operator,
    ) -> None:
        """``charge`` adds a turn's seconds and its requests without a reply; see ``Ledger.charge_turn``.

        ``first_files`` are committed with the next turn, and what ``operator`` has taken since the last.
        """
        self._operator = operator
        self.pass_number = pass_number
        self._workspace = workspace
        self._trace = trace
        self._charge = charge
        self._files = dict(first_files)

    def add_file(self, path: str, data: bytes) -> None:
        """Commit a further file of the runner's with the next turn."""
        self._files[path] = data

    def commit(
        self, turn: Turn, seconds: float, snapshot: Snapshot, children: tuple[ChildRecord, ...] = ()
    ) -> None:
        """Commit ``turn``; it survives a power cut when this returns."""
        unanswered = self._workspace.journal.unanswered()  # the commit settles them
        record = TurnRecord(
            pass_number=self.pass_number,
            number=turn.number,
            reply=turn.reply,
            code=turn.code,
            output=turn.output,
            end=turn.end,
            answer=turn.answer,
            calls=self._workspace.journal.calls(),
            snapshot=snapshot,
            seconds=seconds,
            children=children,
        )
        requests = self._operator.files(layout.turn_folder(self.pass_number, turn.number))
        checkpoint = self._workspace.commit_turn(record, {**self._files, **requests})
        self._operator.committed(requests)
        failpoints.passing("turn.committed")
        self._files = {}
        self._charge(seconds, unanswered)
        at = (self.pass_number, turn.number)
        self._trace.tell("turn_committed", checkpoint.commit, at, ready=turn.answer.is_ready)
        for line in self._workspace.left_out():
            self._trace.tell("notice", line, at)
