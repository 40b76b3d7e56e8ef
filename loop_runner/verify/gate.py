"""One run of one program for a verifier: its folders, its input, and how it is started.

Owns the layout (the checkout read-only, the pinned programs, a scratch folder that is deleted) and the
environment, which takes only the search path from the runner's. Relies on a ``Fence`` for the sandbox.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from loop_runner import process, scratch
from loop_runner.records import Inputs
from loop_runner.verify.verifier import Fence, Job, Submission

_OUTPUT_BYTES = 64 * 1024


class GateFault(Exception):  # noqa: N818 - becomes a ``Broken``
    """The program could not be run; the text says why."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The folders of one run. ``checkout`` is where the program starts."""

    folder: Path
    checkout: Path
    env: dict[str, str]
    inputs: Inputs
    fence: Fence

    @property
    def programs(self) -> Path:
        """Where the pinned programs are laid out, by ``Program.place``."""
        return self.folder / "programs"

    @property
    def scratch(self) -> Path:
        """The one folder that the program may write."""
        return self.folder / "scratch"

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes,
        network: bool,
        shown: Sequence[Path] = (),
        fds: Sequence[int] = (),
        start: Path | None = None,
    ) -> process.Finished:
        """Run ``argv`` to its end in ``start`` (None: the checkout); the output names no path of this run."""
        program = find_program(argv[0])
        there = [text.path for text in self.inputs.texts if os.path.exists(text.path)]  # noqa: PTH110
        ended = self.fence.run(
            Job(
                argv=(program, *argv[1:]),
                cwd=start or self.checkout,
                env=self.env,
                scratch=self.scratch,
                shown=(
                    *(
                        () if self.scratch in self.checkout.parents else (self.checkout,)
                    ),  # a copy is in scratch
                    self.programs,
                    self.folder / "inputs.json",
                    Path(program),
                    *([start] if start else []),
                    *shown,
                    *there,
                ),
                # Some programs that receive paths in both folders list the folder above: pytest does.
                listed=self.folder.parent,
                timeout_s=timeout_s,
                stdin=stdin,
                network=network,
                max_output_bytes=_OUTPUT_BYTES,
                fds=tuple(fds),
            )
        )
        return replace(ended, output=self.without_paths(ended.output))

    def beside_the_answer(self) -> Path:
        """A folder with the answer's files and, beside them, the pinned files of the task's folder.

        Read-only, unless the checkout is a copy to write in.
        """
        start = self.checkout
        if self.scratch not in start.parents:
            start = self.folder / "start"
            start.mkdir()
            for path in self.checkout.iterdir():
                (start / path.name).symlink_to(path)
        for path in (self.programs / "task").iterdir():
            if not os.path.lexists(start / path.name):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, start / path.name)
        start.chmod(0o755)
        return start

    def without_paths(self, text: str) -> str:
        """``text`` with stable names for these folders, whose paths differ in each run."""
        for folder in (self.checkout, self.folder / "start", self.programs / "task", self.programs):
            text = text.replace(f"{folder}/", "")
        return text.replace(str(self.checkout), ".").replace(str(self.folder), "/gate")


@contextmanager
def prepared(
    submission: Submission, fence: Fence, lay_out: Callable[[Path], str], *, writable: bool = False
) -> Iterator[Gate]:
    """The folders for one run, deleted afterwards. ``lay_out(folder)`` fills them, or says why it cannot.

    They are next to the checkout, so that the folder above everything the program sees holds nothing else.
    ``writable``: the program starts in a copy of the checkout that it may change, instead of the checkout.
    Raises ``GateFault`` when the folders cannot be made.
    """
    try:
        made = scratch.make("gate", parent=submission.checkout.parent)
    except OSError as error:
        raise _cannot_be_made(error) from error
    with made as folder:
        try:
            gate = _lay_out(folder, submission, fence, lay_out, writable=writable)
        except (OSError, shutil.Error) as error:
            raise _cannot_be_made(error) from error
        yield gate


def _cannot_be_made(error: Exception) -> GateFault:
    return GateFault(f"the folders for it could not be made: {error}")


def _lay_out(
    folder: Path, submission: Submission, fence: Fence, lay_out: Callable[[Path], str], *, writable: bool
) -> Gate:
    scratch = folder / "scratch"
    for name in ("home", "tmp", "private"):
        (scratch / name).mkdir(parents=True)
    if missing := lay_out(folder / "programs"):
        raise GateFault(missing)
    checkout = submission.checkout
    if writable:
        checkout = _writable_copy(submission.checkout, scratch / "checkout")
    listing = [
        {"name": text.name, "path": str(text.path), "sha256": text.sha256} for text in submission.inputs.texts
    ]
    (folder / "inputs.json").write_text(json.dumps(listing, indent=1), encoding="utf-8")
    (folder / "inputs.json").chmod(0o644)
    env = {
        # Only the user's search path is taken from their environment. A relative part of it would be
        # looked up in the checkout, which holds the model's files.
        "PATH": os.pathsep.join(part for part in os.get_exec_path() if os.path.isabs(part)),  # noqa: PTH117
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONHASHSEED": "0",
        # The machine's settings are not part of a check, and may be unreadable to it.
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "NPM_CONFIG_GLOBALCONFIG": os.devnull,
        "XDG_CONFIG_DIRS": str(scratch / "home"),
        "LOOP_ANSWER": str(checkout / "answer.md"),
        "LOOP_WORKSPACE": str(checkout / "workspace"),
        "LOOP_INPUTS": str(folder / "inputs.json"),
        "LOOP_TASK_DIR": str(folder / "programs" / "task"),
    }
    texts = tuple(text for text in submission.inputs.texts if text.name not in submission.withheld)
    return Gate(folder, checkout, env, replace(submission.inputs, texts=texts), fence)


def checkout_of(checkout: Path, answer: str) -> Path:
    """Write a checkout that holds ``answer`` and no files."""
    (checkout / "workspace").mkdir(parents=True)
    (checkout / "answer.md").write_text(answer, encoding="utf-8")
    (checkout / "answer.json").write_text("{}", encoding="utf-8")
    for path in (checkout.parent, checkout, checkout / "workspace"):
        path.chmod(0o755)
    return checkout


def find_program(name: str) -> str:
    """The absolute path of a program; raises ``GateFault`` when it is missing or not executable."""
    path = os.pathsep.join(part for part in os.get_exec_path() if os.path.isabs(part))  # noqa: PTH117
    program = shutil.which(name, path=path) if "/" not in name else name
    if program is None or not os.path.exists(program):  # noqa: PTH110
        raise GateFault(f"{name} could not be started: there is no such program")
    if not os.access(program, os.X_OK) or os.path.isdir(program):  # noqa: PTH112
        raise GateFault(f"{name} could not be started: it is not executable")
    return os.path.abspath(program)  # noqa: PTH100 - its links must stay: a virtual environment is known by them


def hash_of(program: str) -> str:
    """SHA-256 of one of this machine's programs; "" when it cannot be read."""
    try:
        seen = os.stat(program)  # noqa: PTH116
        return _hash(program, seen.st_mtime_ns, seen.st_size)
    except OSError:
        return ""


@functools.lru_cache(maxsize=64)
def _hash(program: str, _mtime_ns: int, _size: int) -> str:
    with open(program, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()


def _writable_copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - another user than root runs the check
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o644)
    return target
