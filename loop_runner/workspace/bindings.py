"""The turn in which a variable was made, derived from the committed manifests and cells.

Names only: a manifest lists all variables after a turn. Among the turns since a name first appeared, it is
the newest whose cell seems to bind the name; otherwise the turn with which the name appeared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from loop_runner.workspace import layout
from loop_runner.workspace.history import History

_MAX_TURNS = 500  # that are searched
Turn = tuple[int, int]
"""(pass, turn)"""


def made_in(history: History, names: Collection[str], at: str) -> dict[str, Turn]:
    """The turn that made each of ``names``, for those that the commit ``at`` lists."""
    turns_of: dict[str, Turn] = {}
    settled: set[str] = set()
    left = set(names)
    for turn, commit in _turns(history, at):
        listed = {row.name for row in history.variables(commit)}
        left &= listed
        if not left:
            break
        cell = layout.to_text(history.read(f"{layout.turn_folder(*turn)}/cell.py", commit) or b"")
        for name in left - settled:
            turns_of[name] = turn
            if _binds(cell, name):
                settled.add(name)
    return dict(sorted(turns_of.items()))  # so that a replay prints the same


def _turns(history: History, at: str) -> Iterator[tuple[Turn, str]]:
    """The turns up to ``at``, the newest first, with their commits."""
    turns = [entry.checkpoint for entry in history.commits(at=at) if entry.runner and entry.checkpoint.turn]
    for checkpoint in turns[:_MAX_TURNS]:
        yield (checkpoint.pass_number, checkpoint.turn), checkpoint.commit


def _binds(cell: str, name: str) -> bool:
    """Whether a line of ``cell`` seems to bind ``name``: judged by its text, so it can be wrong."""
    word = re.escape(name)
    by_statement = rf"\b(?:def|class|as|import|for)\s+{word}\b"
    by_assignment = rf"(?:^|[;,*(:])\s*{word}\s*(?:,[^=\n]*|:[^=\n]+)?(?<![=!<>])=(?!=)"
    return re.search(f"{by_statement}|{by_assignment}", cell, re.MULTILINE) is not None
