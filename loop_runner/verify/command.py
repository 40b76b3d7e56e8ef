"""The verifier that asks a program of the user's.

Owns how the program is found, what it is given and what its end means. The program runs in a fresh copy
of the checkout, so that it may write there and nothing of it reaches the run; its own files stay in the
task's folder, which the model cannot write. Never uses a shell, never hands on the runner's environment.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from loop_runner import process
from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Broken, Inputs, Rejected, Verdict
from loop_runner.text import cut_middle
from loop_runner.verify.options import Options
from loop_runner.verify.shown import exact_line
from loop_runner.verify.verifier import Submission

_OUTPUT_BYTES = 64 * 1024
_EVIDENCE_CHARS = 6000
_INTERPRETER = re.compile(r"(?:python[\d.]*|pypy[\d.]*|bash|sh|dash|zsh|node|ruby|perl)")
_CHECKOUT = ("answer.md", "answer.json", "workspace")


@dataclass(frozen=True, slots=True)
class Command:
    """Accepts when ``argv`` ends with exit code 0; see ``docs/verifiers.md`` for all that it can say."""

    KEYS: ClassVar = ("run", "timeout_s")

    name: str
    argv: tuple[str, ...]
    task_dir: Path  # the task file's folder: where the program's own files lie
    timeout_s: float = 60.0

    @classmethod
    def from_options(cls, name: str, options: Options, run: object, task_dir: Path) -> Command:
        """``run`` is a list of texts, or one text that is split as a shell would, without being one."""
        argv = _argv(run)
        return cls(
            name or exact_line(f"command {shlex.join(argv)}", 80),
            argv,
            task_dir,
            options.seconds("timeout_s", 60.0),
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"the program `{exact_line(shlex.join(self.argv))}` must accept the answer"

    def verify(self, submission: Submission) -> Verdict:
        """``Broken`` when the program is missing, cannot start, is killed or outlasts ``timeout_s``."""
        with _temporary_folder() as folder:
            try:
                copy = _writable_copy(submission.checkout, folder / "checkout")
                environment = self._environment(folder, copy, submission.inputs)
            except (OSError, shutil.Error) as error:
                return Broken(
                    f"the checkout could not be copied for {self.name}: {exact_line(str(error), 400)}"
                )
            argv = self._resolved()
            if (script := _missing_script(argv, copy)) is not None:
                return Broken(f"{script} is neither in the task's folder {self.task_dir} nor in the checkout")
            ended = process.run(
                argv,
                cwd=copy,
                env=environment,
                timeout_s=self.timeout_s,
                stdin=submission.answer.encode("utf-8", "replace"),
                max_output_bytes=_OUTPUT_BYTES,
            )
        return self._verdict(ended)

    def _resolved(self) -> list[str]:
        """``argv`` with what names a file of the task's folder made absolute: the program runs elsewhere."""
        return [self._found(one) for one in self.argv]

    def _found(self, word: str) -> str:
        # What the checkout holds keeps its name: `wc -c answer.md` means the answer, not a file of the task.
        is_path = not word.startswith("-") and Path(word).parts[:1] not in [(name,) for name in _CHECKOUT]
        return str(self.task_dir / word) if is_path and _is_file(self.task_dir / word) else word

    def _environment(self, folder: Path, copy: Path, inputs: Inputs) -> dict[str, str]:
        listing = [{"name": one.name, "path": str(one.path), "sha256": one.sha256} for one in inputs.texts]
        (folder / "inputs.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        return {
            # The user's own search path, and nothing else of their environment.
            "PATH": os.pathsep.join(os.get_exec_path()),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8",
            "LOOP_ANSWER": str(copy / "answer.md"),
            "LOOP_WORKSPACE": str(copy / "workspace"),
            "LOOP_INPUTS": str(folder / "inputs.json"),
            "LOOP_TASK_DIR": str(self.task_dir),
        }

    def _verdict(self, ended: process.Finished) -> Verdict:
        code = ended.exit_code
        if ended.timed_out:
            return Broken(f"{self.argv[0]} did not end in {self.timeout_s:g} s{_last_words(ended.output)}")
        if code is None:
            return Broken(f"{self.argv[0]} could not be started: {exact_line(ended.output)}")
        if code < 0:
            return Broken(f"{self.argv[0]} was killed by {_signal(-code)}{_last_words(ended.output)}")
        if code > 125:
            return Broken(
                f"{self.argv[0]} ended with exit code {code}: it did not run{_last_words(ended.output)}"
            )
        output, said = _split_report(ended.output)
        evidence, score = (
            cut_middle(output.strip(), _EVIDENCE_CHARS),
            _score(said, default=float(code == 0)),
        )
        if code == 0:
            return Accepted(evidence, score)
        reason = said.get("reason")
        if not isinstance(reason, str) or not reason.strip():
            reason = f"{self.argv[0]} ended with exit code {code}"
        return Rejected(cut_middle(reason.strip(), 2000), evidence, score)


def _argv(run: object) -> tuple[str, ...]:
    try:
        words = shlex.split(run) if isinstance(run, str) else run
    except ValueError as error:
        raise _bad_run(run, f"it cannot be split into words ({error})") from error
    if not isinstance(words, list | tuple) or not words:
        raise _bad_run(run, "it names no program")
    if not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise _bad_run(run, "its words are not all texts; put numbers and yes/no in quotes")
    return tuple(words)


def _bad_run(run: object, reason: str) -> VerifierError:
    return VerifierError(
        f"verifier `command`: {run!r} cannot be run: {reason}",
        why="the answer could not be checked",
        hint='write it as a list, for example: command: ["python3", "check.py"]',
    )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, whatever a program did to the permissions in it."""
    folder = tempfile.mkdtemp(prefix="loop-runner-verify-")
    try:
        yield Path(folder)
    finally:
        # Before the walk goes down: a folder without permissions cannot be looked into. (The standard
        # library's TemporaryDirectory can raise here, even when it is told to ignore errors.)
        for parent, names, _ in os.walk(folder):
            for path in (Path(parent, name) for name in names):
                with suppress(OSError):
                    if not path.is_symlink():
                        path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _writable_copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o700)  # noqa: PTH101 - `folder` is a str from os.walk
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o600)
    return target


def _missing_script(argv: list[str], cwd: Path) -> str | None:
    """The script of ``python3 check.py`` when there is none: the exit code would say "wrong"."""
    if len(argv) < 2 or not _INTERPRETER.fullmatch(Path(argv[0]).name) or argv[1].startswith("-"):
        return None
    return None if _is_file(cwd / argv[1]) else argv[1]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # a word of thousands of letters is not a path


def _split_report(output: str) -> tuple[str, Mapping[str, Any]]:
    """The output, and the JSON object that its last line may be."""
    lines = output.rstrip().split("\n")
    if not lines[-1].startswith("{"):
        return output, {}
    try:
        said = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return output, {}
    if not isinstance(said, dict) or not {"score", "reason"} & said.keys():
        return output, {}
    return "\n".join(lines[:-1]), said


def _score(said: Mapping[str, Any], *, default: float) -> float:
    score = said.get("score")
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
