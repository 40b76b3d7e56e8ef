"""Runs as a program: calls one function of the user's about one answer and writes down what it says.

Arguments: the file, the function's name. The answer, the checkout and the inputs come by the environment
that ``gate.py`` sets; what is said goes into the file that ``LOOP_RESULT`` names. Imports the standard
library only: it is started without the package.
"""

import importlib.util
import json
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Input:
    """One input of the task."""

    name: str
    path: Path
    sha256: str

    def read(self) -> str:
        """Its text; bytes that are not UTF-8 read as U+FFFD."""
        return self.path.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Submission:
    """What the function is given."""

    answer: str
    workspace: Path  # the model's files, read-only
    inputs: tuple[Input, ...]


def main() -> None:
    """Call the function and write the outcome."""
    file, function = sys.argv[1:3]
    said = _call(Path(file), function)
    with open(os.environ["LOOP_RESULT"], "w", encoding="utf-8") as result:  # noqa: PTH123
        json.dump(said, result)


def _call(file: Path, function: str) -> dict[str, Any]:
    # Only the folder of the pinned file: where the program was started lie the model's files.
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # noqa: BLE001 - a border: whatever the user's file does on import
        return {"broken": f"{file.name} could not be loaded: {_last_line(error)}"}
    check = getattr(module, function, None)
    if not callable(check):
        return {"broken": f"{file.name} has no function `{function}`"}
    try:
        return _read(check(_submission()), function)
    except AssertionError as error:
        return _failed(error)
    except BaseException as error:  # noqa: BLE001 - a border, sys.exit among them
        return {"broken": f"`{function}` failed with {_last_line(error)}{_place(error.__traceback__)}"}


def _submission() -> Submission:
    with open(os.environ["LOOP_INPUTS"], encoding="utf-8") as file:  # noqa: PTH123
        inputs = json.load(file)
    return Submission(
        Path(os.environ["LOOP_ANSWER"]).read_text(encoding="utf-8", errors="replace"),
        Path(os.environ["LOOP_WORKSPACE"]),
        tuple(Input(one["name"], Path(one["path"]), one["sha256"]) for one in inputs),
    )


def _read(said: object, function: str) -> dict[str, Any]:
    if said is None or said is True:
        return {"accepted": True}
    if said is False:
        return {"accepted": False, "reason": f"`{function}` returned False"}
    if isinstance(said, str) and said.strip():
        return {"accepted": False, "reason": said}
    if isinstance(said, dict) and isinstance(said.get("accepted"), bool):
        return {key: said[key] for key in ("accepted", "reason", "evidence", "score") if key in said}
    return {
        "broken": f"`{function}` returned {said!r:.100}; it must be None, True, False, a reason or a dict"
    }


def _failed(error: AssertionError) -> dict[str, Any]:
    """An assertion that does not hold is what the check found: where, and what it says."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{Path(where.filename).name}:{where.lineno}: {where.line or ''}".rstrip()
    return {"accepted": False, "reason": str(error) or f"an assertion failed at {line}", "evidence": line}


def _last_line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip().rsplit("\n", 1)[-1]


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f", at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


if __name__ == "__main__":
    main()
