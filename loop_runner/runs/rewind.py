"""Takes a run back to an earlier moment; what it leaves is kept under a ref."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import ConfigError
from loop_runner.records import Checkpoint
from loop_runner.runs import cost, fork
from loop_runner.workspace.history import History
from loop_runner.workspace.points import Point
from loop_runner.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Rewound:
    """A run that was taken back from ``left`` to ``to``. ``ref`` keeps what was left."""

    folder: Path
    to: Checkpoint
    left: Checkpoint
    ref: str

    @property
    def name(self) -> str:
        """The moment that was left, as a rewind takes it: ``rewound/1``."""
        return self.ref.removeprefix("refs/loop-runner/")


def rewind(folder: Path, point: Point) -> Rewound:
    """Take the run in ``folder`` back to ``point``. Raises ``ConfigError`` where it is there already."""
    with History(folder) as history:
        fork.frozen_task(history, "HEAD")  # refuses the runs of agents, whose files lie elsewhere
        price = cost.price_in(history)
    with Workspace.open(folder) as workspace:
        left = workspace.head()
        to = workspace.find(point)
        if to.commit == left.commit:
            raise ConfigError(f"{folder} stands at {point} already", why="there is nothing to go back from")
        ref = workspace.rewind(to.commit, price)
        return Rewound(folder, workspace.head(), left, ref)
