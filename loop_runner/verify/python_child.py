"""Runs as a program: calls one user function with one answer and sends its verdict to the runner.

Arguments: the package's ``linux.py``, the file, the function's name, the descriptor of the verdict channel
(``verdict_channel.py``). The answer, the checkout and the inputs come in environment variables that
``gate.py`` sets. Imports the standard library only: it is started without the package.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

_MAX_CHARS = 8000  # of each text in a verdict; even as escapes, all fit into one message


@dataclass(frozen=True)
class Input:
    """One input of the task."""

    name: str
    path: Path
    sha256: str

    def read(self) -> str:
        """Its text without a byte order mark; bytes that are not UTF-8 read as U+FFFD."""
        return self.path.read_text(encoding="utf-8", errors="replace").removeprefix("\ufeff")


@dataclass(frozen=True)
class Submission:
    """The argument of the function."""

    answer: str
    workspace: Path  # the model's files, read-only
    inputs: tuple[Input, ...]


def main() -> None:
    """Call the function and send the outcome."""
    linux, file, function, fd = sys.argv[1:5]
    del sys.argv[1:]
    send = channel(int(fd), Path(linux))
    outcome = _call(Path(file), function)
    send(json.dumps({key: _cut(value) for key, value in outcome.items()}).encode())


def channel(fd: int, linux: Path) -> Callable[[bytes], object]:
    """Sends a message to the runner; no process started from now on can do so."""
    os.set_inheritable(fd, False)  # closed by every exec
    os.register_at_fork(after_in_child=lambda: _close(fd))
    _loaded(linux, {}).keep_others_out()
    os.write(fd, b"ready")
    # Hidden from the names of this module; the function's process is still trusted with everything it holds.
    owner = os.getpid()
    return lambda message: os.write(fd, message) if os.getpid() == owner else os._exit(1)


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


def _cut(value: object) -> object:
    """A long text without its middle: the system limits the size of a message."""
    if value is None or isinstance(value, bool | int | float):
        return value
    value = str(value)
    if len(value) <= _MAX_CHARS:
        return value
    return f"{value[: _MAX_CHARS // 2]}\n[…]\n{value[-_MAX_CHARS // 2 :]}"


def _loaded(file: Path, modules: MutableMapping[str, ModuleType]) -> Any:
    """The module in ``file``, entered into ``modules`` under the name of the file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _call(file: Path, function: str) -> dict[str, Any]:
    # Only the pinned file's folder: the start folder holds the model's files.
    sys.path.insert(0, str(file.parent))
    try:
        module = _loaded(file, sys.modules)
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
        if _is_of_the_answer(error):
            return {"accepted": False, "reason": _last_line(error), "evidence": _printed(error)}
        return {"broken": f"`{function}` failed with {_last_line(error)}{_place(error.__traceback__)}"}


def _submission() -> Submission:
    with open(os.environ["LOOP_INPUTS"], encoding="utf-8") as file:  # noqa: PTH123
        inputs = json.load(file)
    return Submission(
        Path(os.environ["LOOP_ANSWER"]).read_text(encoding="utf-8", errors="replace"),
        Path(os.environ["LOOP_WORKSPACE"]),
        tuple(Input(entry["name"], Path(entry["path"]), entry["sha256"]) for entry in inputs),
    )


def _read(returned: object, function: str) -> dict[str, Any]:
    if returned is None or returned is True:
        return {"accepted": True}
    if returned is False:
        return {"accepted": False, "reason": f"`{function}` returned False"}
    if isinstance(returned, str) and returned.strip():
        return {"accepted": False, "reason": returned}
    if isinstance(returned, dict) and isinstance(returned.get("accepted"), bool):
        return {key: returned[key] for key in ("accepted", "reason", "evidence", "score") if key in returned}
    return {
        "broken": f"`{function}` returned {returned!r:.100}; it must be None, True, False, a reason or a dict"
    }


def _failed(error: AssertionError) -> dict[str, Any]:
    """A failed assertion is the check's finding: where, and its message."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{Path(where.filename).name}:{where.lineno}: {where.line or ''}".rstrip()
    return {
        "accepted": False,
        "reason": str(error) or f"an assertion without a message failed (line {where.lineno} of the check)",
        "source": line,
    }


def _is_of_the_answer(error: BaseException) -> bool:
    """Whether only the submission can have raised ``error``: its files, or one of its programs."""
    handed_in = (os.environ["LOOP_WORKSPACE"], os.environ["LOOP_ANSWER"])
    if isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        return True  # the check started a program and expected more from it
    if isinstance(error, OSError) and error.filename is not None:
        return _is_below(
            os.fsdecode(error.filename) if not isinstance(error.filename, int) else "", handed_in
        )
    frames = traceback.extract_tb(error.__traceback__)
    return any(_is_below(frame.filename, handed_in) for frame in frames)


def _is_below(path: str, handed_in: Iterable[str]) -> bool:
    path = os.path.normpath(os.path.join(os.getcwd(), path))  # noqa: PTH109, PTH118 - it may be any text
    return any(path == place or path.startswith(f"{place}/") for place in handed_in)


def _printed(error: BaseException) -> str:
    """The output of a program that a check started, as far as the check kept it."""
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or ""
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else str(output)


def _last_line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip().rsplit("\n", 1)[-1]


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f", at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


if __name__ == "__main__":
    main()
