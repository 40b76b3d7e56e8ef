"""A program that gives its own functions to a run as tools: begins the run in a folder, or continues it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import loop_runner as lr
from loop_runner import failpoints


def main(args: Sequence[str]) -> None:
    """``args``: the place with the task's files; the run is its folder ``run``."""
    place = Path(args[0])

    def act(name: str) -> str:
        """Do something that must not be done twice."""
        with (place / "acted.log").open("a") as file:
            file.write(f"{name}\n")
        return f"did {name}"

    failpoints.arm(os.environ.get(failpoints.VARIABLE))
    if (place / "run/.git/loop-runner").is_dir():
        result = lr.resume(place / "run", tools=[act])
    else:
        model, verify = f"script:{place}/script.yaml", [lr.contains("42")]
        result = lr.ask(
            "What?", [place / "notes.txt"], model=model, verify=verify, tools=[act], run_dir=place / "run"
        )
    assert result.status == "verified", result
