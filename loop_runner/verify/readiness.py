"""Finds what would prevent a verifier from ever judging an answer, before a run pays for one.

Owns the checks of programs, scripts and sources. Starts interpreters only, and only to compile: no user
code runs. A check reports nothing where it cannot be sure.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner import process
from loop_runner.verify import gate
from loop_runner.verify.gate import GateFault
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.programs import Program, Programs
from loop_runner.verify.source_child import FAULT

if TYPE_CHECKING:
    from loop_runner.verify.command import Command
    from loop_runner.verify.python import Python

_CHILD = Path(__file__).with_name("source_child.py")
_TIMEOUT_S = 20.0
_PYTHON = re.compile(r"python(?:3(?:\.\d+)?)?")
_SHELL = re.compile(r"(?:ba|da)?sh")
_SHEBANG = re.compile(rb"#![ \t]*(\S+)(?:[ \t]+(?:-S[ \t]+)?(\S+))?")


def of_command(command: Command, pins: Programs) -> str:
    """Why the program could not start, or would not find the file it runs."""
    if why := command.missing(pins):
        return why
    return _program(command, pins) or _script(command, pins)


# ── programs ────────────────────────────────────────────────────────────────────────────────────────


def _program(command: Command, pins: Programs) -> str:
    """Why the program itself cannot be started."""
    word = command.argv[0]
    if command.is_handed_in(word):
        return ""
    own = command.pinned_file(word, pins)
    if own is not None:
        return _own_program(word, own)
    if "/" in word and not Path(word).is_absolute():
        return f"there is no program {exact_line(word)} in the task's folder {command.task_dir}"
    return _of_machine(word)


def _own_program(word: str, own: Program) -> str:
    if not own.is_executable:
        return f"{exact_line(word)} is not executable: run `chmod +x` on it"
    head = (own.data or b"")[:200].split(b"\n", 1)[0]
    shebang = _SHEBANG.match(head)
    if shebang is None:
        return (
            f"{exact_line(word)} has no #! line, so the machine cannot start it; name its interpreter first"
        )
    interpreter = os.fsdecode(shebang[1])
    if Path(interpreter).name == "env" and shebang[2]:
        interpreter = os.fsdecode(shebang[2])
    return _of_machine(interpreter)


def _of_machine(name: str) -> str:
    try:
        gate.find_program(name)
    except GateFault as fault:
        return exact_line(str(fault), 400)
    return ""


# ── sources ─────────────────────────────────────────────────────────────────────────────────────────


def _script(command: Command, pins: Programs) -> str:
    """What is wrong with a script of the task's folder that a known interpreter runs."""
    words = command.argv[:2]
    at, interpreter = (1, Path(words[0]).name) if len(words) > 1 else (0, "")
    if (own := command.pinned_file(words[0], pins)) is not None:
        at, interpreter = 0, _interpreter_of(own)
    own = command.pinned_file(words[at], pins)
    if own is None or own.data is None:
        return ""
    program = words[0] if at else interpreter
    if _PYTHON.fullmatch(interpreter):
        return _compiled(program, words[at], own.data, "")
    if _SHELL.fullmatch(interpreter):
        return _read_by_shell(program, words[at], own.data)
    return ""


def _interpreter_of(own: Program) -> str:
    match = _SHEBANG.match((own.data or b"")[:200].split(b"\n", 1)[0])
    if match is None:
        return ""
    name = match[2] if match[1].endswith(b"/env") and match[2] else match[1]
    return os.path.basename(os.fsdecode(name))  # noqa: PTH119 - a name, which need not be a path


def of_python(verifier: Python, pins: Programs) -> str:
    """Why the function could not be called."""
    source = verifier.pinned_file(pins)
    if source is None:
        return f"there is no file {exact_line(verifier.file)} in the task's folder {verifier.task_dir}"
    if verifier.interpreter and (why := _of_machine(verifier.interpreter)):
        return why
    if source.data is None:
        return ""
    return _compiled(verifier.interpreter, verifier.file, source.data, verifier.function)


def _compiled(interpreter: str, name: str, source: bytes, function: str) -> str:
    """Python's complaint about ``source``; ``interpreter`` "" is the runner's own."""
    import sys

    python = gate.find_program(interpreter or sys.executable)
    ended = _started([python, "-I", "-B", "-X", "utf8", str(_CHILD), exact_line(name), function], source)
    return exact_line(ended.output, 400) if ended.exit_code == FAULT else ""


def _read_by_shell(interpreter: str, name: str, source: bytes) -> str:
    """The shell's complaint about a script, which it reads without running it."""
    ended = _started([gate.find_program(interpreter), "-n"], source)
    if ended.timed_out or not ended.exit_code or ended.exit_code < 0:
        return ""
    first = exact_line(ended.output.strip().partition("\n")[0], 200)
    return f"{exact_line(name)} is not a script that {interpreter} can read: {first}"


def _started(argv: list[str], stdin: bytes) -> process.Finished:
    return process.run(argv, cwd=Path("/"), env={"LANG": "C.UTF-8"}, timeout_s=_TIMEOUT_S, stdin=stdin)
