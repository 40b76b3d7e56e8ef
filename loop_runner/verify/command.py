"""The verifier that runs a user's program.

Owns how the program is found, what it receives and what its exit code means. It runs from the pinned files
with a checkout that is read-only unless the task asks for a writable copy. It never uses a shell and never
passes on the runner's environment.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from loop_runner import process
from loop_runner.errors import LoopRunnerError, VerifierError
from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.text import cut_middle
from loop_runner.verify import command_line, conventions, gate, machine, needs, programs, readiness
from loop_runner.verify.command_line import NeedsShell
from loop_runner.verify.gate import Gate, GateFault
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import FLAG, SECONDS, TEXT, TEXTS, Keys, Options
from loop_runner.verify.programs import Program, Programs
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Need, Submission

_EVIDENCE_CHARS = 6000
_INTERPRETER = re.compile(r"(?:python[\d.]*|pypy[\d.]*|bash|sh|dash|zsh|node|ruby|perl)")
_CHECKOUT = ("answer.md", "answer.json", "workspace")
_HERE = (".", "..", "/")
_PYTEST_SAW_NOTHING = (4, 5)  # wrong usage (such as a missing test folder); no test was collected
_IS_MISSING = re.compile(r"No such file or directory|No module named ")
_READ_ONLY = re.compile(r"Read-only file system|\[Errno (?:13|30)\]|Permission denied")
_NO_PROGRAM = re.compile(
    r"command not found|: not found$|No rule to make target|^g?make: (?!\*\*\*).*: No such file or directory|"
    r"No module named (?:pytest|tox|nox|unittest\S*)$"
)
_WORDS = re.compile(r"[\w][\w./-]*")


@dataclass(frozen=True, slots=True)
class Command(BaseVerifier):
    """Accepts when ``argv`` ends with exit code 0; ``docs/verifiers.md`` lists everything it can report."""

    runs_code = True
    KEYS: ClassVar[Keys] = {
        "run": {"anyOf": [TEXT, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
        "timeout_s": SECONDS,
        "network": FLAG,
        "writable": FLAG,
        "pin": TEXTS,
        "show": TEXTS,
    }

    name: str
    argv: tuple[str, ...]
    task_dir: Path  # the task file's folder, which holds the program's own files
    timeout_s: float = 60.0
    network: bool = False
    writable: bool = False
    pin: tuple[str, ...] = ()
    show: tuple[str, ...] = ()  # more paths of this machine that it may read
    kind: str = "verifier `command`"  # its name in messages

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Command:
        """``run`` is a list of texts, or one text that is split as a shell would split it."""
        argv = _argv(options.raw("run"))
        return cls(
            name or exact_line(f"command {shlex.join(argv)}", 80),
            argv,
            task_dir,
            options.seconds("timeout_s", 60.0),
            options.flag("network"),
            options.flag("writable"),
            options.texts("pin"),
            options.texts("show"),
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"the program `{exact_line(shlex.join(self.argv))}` must accept the answer"

    def sources(self) -> list[Path]:
        """The paths to pin for it. ``VerifierError`` for a ``pin:`` that matches nothing."""
        named = [self.task_dir / word for word in self.argv if self._may_be_a_file(word)]
        named_files = [path for path in named if self._is_folder(path) or programs.is_program(path)]
        return named_files + self._by_convention() + pinned(self.pin, self.task_dir, self.kind)

    def needs(self, pins: Programs) -> Iterator[Need]:
        """See ``Verifier``."""
        yield from needs.of(self.name, self.network, self.show)
        if pins.place(self.task_dir / self.argv[0]) is None:
            yield from needs.program(self.name, self.argv[0])

    def fault(self, pins: Programs) -> str:
        """Why the program could not start, or would not find the file it runs."""
        return readiness.of_command(self, pins)

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when the program is missing or changed, cannot start, is killed or takes too long."""
        ended = self.run(submission, means, lambda _: submission.answer.encode("utf-8", "replace"))
        verdict = ended if isinstance(ended, Broken | Rejected) else self._verdict(*ended, means)
        return machine.excused(verdict, means.fence, self._own_words(means.programs))

    def _own_words(self, pins: Programs) -> list[str]:
        """Everything that the check's author wrote: the command's words and its pinned files."""
        named = (self.task_dir / word for word in (*self.argv, *self.pin) if self._may_be_a_file(word))
        mine = pins.relied_on(path for path in named if pins.place(path))
        return [*self.argv, *((program.data or b"").decode("utf-8", "replace") for program in mine)]

    def run(
        self, submission: Submission, means: Means, stdin: Callable[[Path], bytes]
    ) -> tuple[process.Finished, Mapping[str, Any]] | Broken | Rejected:
        """Run the program on ``stdin(checkout)``; returns how it ended, and its record for the proof."""
        pins = means.programs
        named = [self.task_dir / word for word in (*self.argv, *self.pin) if self._may_be_a_file(word)]
        own = self._by_convention(pins)
        if not own and (why := self._misses_its_file(named, pins)):
            return Broken(why)
        mine = pins.relied_on(path for path in (*named, *own) if pins.place(path))
        if changed := pins.changed(mine):
            return Broken(changed)
        try:
            with gate.prepared(
                submission, means.fence, lambda into: pins.lay_out(mine, into), writable=self.writable
            ) as here:
                argv = list(self.argv) if own else self._resolved(here, pins)
                if (script := _missing_script(argv, here.checkout)) is not None:
                    if _is_handed_in(script):
                        return Rejected(f"there is no file {script}, and the check runs it")
                    return Broken(
                        f"{script} is neither in the task's folder {self.task_dir} nor in the checkout"
                    )
                ended = here.run(
                    argv,
                    timeout_s=self.timeout_s,
                    stdin=stdin(here.checkout),
                    network=self.network,
                    shown=[Path(path).expanduser() for path in self.show],
                    start=here.beside_the_answer() if own else None,
                )
                record = about(ended, mine, gate.find_program(argv[0]), here)
        except GateFault as fault:
            reason = exact_line(str(fault), 400)
            return Rejected(reason) if _is_handed_in(self.argv[0]) else Broken(reason)
        except LoopRunnerError as error:
            return Broken(exact_line(error.message, 400))
        return ended, record

    def missing(self, pins: Programs) -> str:
        """Why it cannot find a file it needs, given the pinned files; "" when it can."""
        named = [self.task_dir / word for word in (*self.argv, *self.pin) if self._may_be_a_file(word)]
        if self._by_convention(pins):
            return ""
        if why := self._misses_its_file(named, pins):
            return why
        script = _missing_script(self.argv, self.task_dir)
        if script is None or _is_handed_in(script) or pins.place(self.task_dir / script):
            return ""
        return f"there is no file {exact_line(script)} in the task's folder {self.task_dir}"

    def pinned_file(self, word: str, pins: Programs) -> Program | None:
        """The pinned file that ``word`` names."""
        if not self._may_be_a_file(word):
            return None
        return pins.files.get(os.path.normpath(self.task_dir / word))

    @staticmethod
    def is_handed_in(word: str) -> bool:
        """Whether ``word`` names a file of the answer."""
        return _is_handed_in(word)

    def _by_convention(self, pins: Programs | None = None) -> list[Path]:
        """The files of the task's folder that the program reads unnamed; with ``pins``, the pinned ones."""
        if any(_is_handed_in(word) for word in self.argv):
            return []
        if pins is not None:
            return conventions.pinned_files(self._program(), self.task_dir, pins)
        return conventions.files(self._program(), self.task_dir)

    def _misses_its_file(self, named: Sequence[Path], pins: Programs) -> str:
        """Why the program cannot find a file it needs; "" if it can, or if the model must write that file."""
        program = self._program()
        names_a_place = any(map(_is_handed_in, self.argv)) or any(map(pins.place, named))
        if names_a_place or not conventions.applies(program):
            return ""
        return conventions.missing(program, self.argv)

    def _resolved(self, here: Gate, pins: Programs) -> list[str]:
        """``argv`` with each file of the task's folder replaced by its current laid-out path."""
        return [self._located(word, here, pins) for word in self.argv]

    def _located(self, word: str, here: Gate, pins: Programs) -> str:
        place = pins.place(self.task_dir / word) if self._may_be_a_file(word) else None
        if place is not None:
            return str(here.programs / place)
        return str(here.checkout / word) if "/" in word and word == self.argv[0] else word

    def _may_be_a_file(self, word: str) -> bool:
        # A name that the checkout holds stays: `wc -c answer.md` means the answer, not a file of the task.
        parts = Path(word).parts
        return bool(parts) and word not in _HERE and not word.startswith("-") and parts[0] not in _CHECKOUT

    def _never_looked(self, ended: process.Finished, pins: Programs) -> str:
        """Why a program that seemed to reject has not looked at the answer; "" when it has.

        A missing test runner or data file says nothing about the answer, and the exit code does not show it.
        """
        last = ended.output.strip().rsplit("\n", 1)[-1]
        if ended.output.count("\n") <= 1 and re.search(r"python[\d.]*: No module named \S+$", last):
            return f"{self.argv[0]} did not run: {exact_line(last)}"
        tests_are_handed_in = any(_is_handed_in(word) for word in self.argv)
        if ended.exit_code in _PYTEST_SAW_NOTHING and not tests_are_handed_in and self._program() == "pytest":
            return f"pytest ran no test (exit code {ended.exit_code}); its last line: {exact_line(last)}"
        if conventions.applies(self._program()):
            return self._tool_did_not_work(ended.output, pins)
        if not _IS_MISSING.search(last):
            return ""
        return self._missed(last, pins)

    def _tool_did_not_work(self, output: str, pins: Programs) -> str:
        """As ``_never_looked``, for a program that starts others and only reports that one failed."""
        for line in output.splitlines()[-200:]:
            is_about_the_answer = any(_is_handed_in(word) for word in _WORDS.findall(line[:2000]))
            if is_about_the_answer:
                continue
            if _READ_ONLY.search(line) and not self.writable:
                return f"{self.argv[0]} could not write: set `writable: true`. It printed: {exact_line(line)}"
            if _IS_MISSING.search(line) and (missed := self._missed(line, pins)):
                return missed
            if _NO_PROGRAM.search(line):
                return f"{self.argv[0]} lacks something that it needs. It printed: {exact_line(line)}"
        return ""

    def _missed(self, last: str, pins: Programs) -> str:
        """The unpinned file of the task's folder that ``last`` complains about."""
        for word in _WORDS.findall(last[:2000]):
            if _is_handed_in(word):
                continue
            for path in (self.task_dir / word, self.task_dir / f"{word}.py"):
                if path != self.task_dir and pins.place(path) is None and pins.was_there(path, self.task_dir):
                    return (
                        f"{self.argv[0]} missed {path.name}, which is in the task's folder and is not pinned;"
                        f" name it under `pin:`. It printed: {exact_line(last)}"
                    )
        return ""

    def _runs_the_answer(self) -> bool:
        """Whether the program, or the script that an interpreter runs, is part of the submission."""
        return _is_handed_in(self.argv[0]) or (
            bool(_INTERPRETER.fullmatch(Path(self.argv[0]).name))
            and any(_is_handed_in(word) for word in self.argv[1:2])
        )

    def _program(self) -> str:
        """The name of the program, or of the module that ``python -m`` runs."""
        names = [Path(word).name for word in self.argv]
        if len(names) > 2 and _INTERPRETER.fullmatch(names[0]) and "-m" in names[1:-1]:
            return names[names.index("-m") + 1]
        return names[0]

    def _is_folder(self, path: Path) -> bool:
        """A folder inside the task's folder, not the whole of it."""
        path = Path(os.path.normpath(path))
        return self.task_dir in path.parents and programs.is_folder(path)

    def _verdict(self, ended: process.Finished, record: Mapping[str, Any], means: Means) -> Verdict:
        if (broken := why_broken(ended, self.argv[0], self.timeout_s)) is not None:
            return Rejected(broken.reason, record=record) if self._runs_the_answer() else broken
        output, reply = _split_report(ended.output)
        evidence = means.as_seen(cut_middle(output.strip(), _EVIDENCE_CHARS))
        score = _score(reply, default=float(ended.exit_code == 0))
        if ended.exit_code == 0:
            return Accepted(evidence, score, record)
        if missed := self._never_looked(ended, means.programs):
            return Broken(missed)
        reason = reply.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            reason = f"{self.argv[0]} ended with exit code {ended.exit_code}"
        return Rejected(means.as_seen(cut_middle(reason.strip(), 2000)), evidence, score, record)


def pinned(patterns: Sequence[str], task_dir: Path, kind: str) -> list[Path]:
    """The paths that ``pin:`` names. ``VerifierError`` for a pattern that matches nothing."""
    files: list[Path] = []
    for pattern in patterns:
        paths = programs.matches(task_dir, pattern)
        if not paths:
            raise VerifierError(
                f"{kind}: `pin` names {pattern!r}, and nothing in {task_dir} has that name",
                why="the check would run without a file that it needs",
                hint="paths and patterns are relative to the task file's folder",
            )
        files += paths
    return files


def about(ended: process.Finished, mine: Sequence[Program], program: str, here: Gate) -> dict[str, Any]:
    """The record of a run for the proof: exit code, hash of the output, programs with their hashes."""
    record: dict[str, Any] = {
        "exit_code": ended.exit_code,
        "output_sha256": hashlib.sha256(ended.output.encode("utf-8", "surrogatepass")).hexdigest(),
        "programs": {pin.place.removeprefix("task/"): pin.sha256 for pin in mine},
    }
    if not program.startswith(str(here.folder)):
        record["interpreter"] = {"path": program, "sha256": gate.hash_of(program)}
    return record


def why_broken(ended: process.Finished, program: str, timeout_s: float) -> Broken | None:
    """Why a program's end does not count as a verdict; None when it does."""
    code = ended.exit_code
    if ended.timed_out:
        return Broken(f"{program} did not end in {timeout_s:g} s{_last_words(ended.output)}")
    if code is None:
        return Broken(f"{program} could not be started: {exact_line(ended.output)}")
    if code < 0:
        return Broken(f"{program} was killed by {_signal(-code)}{_last_words(ended.output)}")
    if code > 125:
        return Broken(f"{program} ended with exit code {code}: it did not run{_last_words(ended.output)}")
    return None


def _argv(run: object) -> tuple[str, ...]:
    try:
        words = command_line.split(run) if isinstance(run, str) else run
    except NeedsShell as error:
        raise _needs_shell(str(run), error) from error
    except ValueError as error:
        raise _bad_run(run, f"it cannot be split into words ({error})") from error
    if not isinstance(words, list | tuple) or not words:
        raise _bad_run(run, "it names no program")
    if not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise _bad_run(run, "its words are not all texts; put numbers and yes/no in quotes")
    return tuple(words)


def _needs_shell(run: str, error: NeedsShell) -> VerifierError:
    return VerifierError(
        f"the command {exact_line(run)!r} uses {error.what}, and no shell runs it",
        why="it would be passed on as plain text, and the check would not do what you meant",
        hint=f"put quotes around it if it is plain text; if a shell is to run it, write the list "
        f"{command_line.as_list(run)} and name the files of the task's folder that it uses under `pin:` "
        "(in the command, they are in $LOOP_TASK_DIR)",
    )


def _bad_run(run: object, reason: str) -> VerifierError:
    return VerifierError(
        f"verifier `command`: {run!r} cannot be run: {reason}",
        why="the answer could not be checked",
        hint='write it as a list, for example: command: ["python3", "check.py"]',
    )


def _missing_script(argv: Sequence[str], cwd: Path) -> str | None:
    """The script of ``python3 check.py`` if it is missing: the exit code alone would read as a rejection."""
    if len(argv) < 2 or not _INTERPRETER.fullmatch(Path(argv[0]).name) or argv[1].startswith("-"):
        return None
    return None if _is_file(cwd / argv[1]) else argv[1]


def _is_handed_in(word: str) -> bool:
    """Whether ``word`` names a file of the answer: the model is responsible for its content and absence."""
    parts = Path(os.path.normpath(word)).parts
    return bool(parts) and parts[0] in _CHECKOUT


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a word of thousands of letters is not a path


def _split_report(output: str) -> tuple[str, Mapping[str, Any]]:
    """The output, and the JSON object on its last line if there is one."""
    lines = output.rstrip().split("\n")
    if not lines[-1].startswith("{"):
        return output, {}
    try:
        reply = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return output, {}
    if not isinstance(reply, dict) or not {"score", "reason"} & reply.keys():
        return output, {}
    return "\n".join(lines[:-1]), reply


def _score(reply: Mapping[str, Any], *, default: float) -> float:
    score = reply.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        return default
    return min(max(float(score), 0.0), 1.0)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(output: str) -> str:
    last = output.strip().rsplit("\n", 1)[-1]
    return f"; its last line: {exact_line(last)}" if last else ""
