"""Puts an agent's work into the user's repository, as a new branch with one commit for each pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import ConfigError
from loop_runner.workspace import foreign
from loop_runner.workspace.foreign import Exported
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing


@dataclass(frozen=True, slots=True)
class Export:
    """A branch that was made in ``repository``."""

    repository: Path
    made: Exported


def export(folder: Path, branch: str | None = None, to: Path | None = None) -> Export:
    """Make ``branch`` (None: loop-runner/RUN) in the repository ``to`` (None: the one the run began with)."""
    with History(folder) as history:
        with parsing(folder, "base.json"):
            about = json.loads(history.read("base.json") or b"{}")
        if not about:
            raise ConfigError(
                f"{folder} did not begin with a repository",
                why="there is nothing that its commits could stand on",
                hint=f"its files are in {folder}/workspace",
            )
        place = (to or Path(about["repository"])).resolve()
        into = foreign.Foreign.around(place)
        if into is None:
            raise ConfigError(
                f"{place} is no git repository",
                why="a branch needs one",
                hint="name another one with --to (to= in a program)",
            )
        return Export(
            into.top, foreign.export(history, into, about["commit"], branch or f"loop-runner/{folder.name}")
        )
