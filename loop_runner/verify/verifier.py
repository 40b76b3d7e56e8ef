"""What a verifier is given and what it is: the seams that every kind meets. Plain data, no behaviour."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loop_runner import process
from loop_runner.records import ChildRecord, Inputs, Reply, Request, Verdict
from loop_runner.verify.programs import Programs

_WORKSPACE = re.compile(r"(?<![\w./-])(?:\./)?workspace/(?=[\w.])")


@dataclass(frozen=True, slots=True)
class Submission:
    """A committed answer. ``checkout`` holds ``answer.md``, ``answer.json`` and ``workspace/``, read-only."""

    answer: str
    checkout: Path
    inputs: Inputs
    prompt: str = ""  # the task's own
    earlier: Sequence[str] = ()  # what the passes before this one handed in, the oldest first
    withheld: frozenset[str] = (
        frozenset()
    )  # names of inputs that no program is shown: they are other files now


@dataclass(frozen=True, slots=True)
class Job:
    """A program to run. Only ``scratch`` may be written; of the rest only ``shown`` is there.

    ``listed``: the folder above all of these. Its names may be listed, nothing else in it may be read.
    """

    argv: tuple[str, ...]  # the program by its absolute path
    cwd: Path
    env: Mapping[str, str]
    scratch: Path
    shown: tuple[Path, ...]  # beside the system's programs and libraries
    listed: Path
    timeout_s: float
    stdin: bytes = b""
    network: bool = False
    max_output_bytes: int = 64 * 1024
    fds: tuple[int, ...] = ()  # descriptors that it inherits


class Fence(Protocol):
    """Runs a job apart from the runner and from the model's kernel."""

    def run(self, job: Job) -> process.Finished:
        """Run to the end; raises ``EnvironmentFault`` when the machine cannot confine it as required."""
        ...

    def describe(self, *, network: bool) -> Mapping[str, Any]:
        """What confined it, and what was not enforced; JSON-able, for ``verdict.json``."""
        ...


class Unfenced:
    """No sandbox: for callers that have one around themselves."""

    def run(self, job: Job) -> process.Finished:
        """See ``Fence``."""
        return process.run(
            job.argv,
            cwd=job.cwd,
            env=job.env,
            timeout_s=job.timeout_s,
            stdin=job.stdin,
            max_output_bytes=job.max_output_bytes,
            fds=job.fds,
        )

    def describe(self, *, network: bool) -> Mapping[str, Any]:
        """See ``Fence``."""
        return {"tier": "none", "network": True, "not_enforced": ["everything"]}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question for a session of its own, which knows the inputs and nothing of the run."""

    question: str
    model: str
    inputs: Inputs
    number: int = 0  # of equal ones, which are different sessions
    turns: int | None = None  # None: as many as a pass of the run has

    @property
    def scope(self) -> str:
        """Names the session: the same in every run that asks the same, wherever the inputs lie."""
        asked = json.dumps(["inquiry", self.model, self.question])
        return f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.{self.number}"


class Panel(Protocol):
    """Asks models for verifiers; every reply is paid for once and kept."""

    @property
    def model(self) -> str:
        """Who is asked when the task names nobody."""
        ...

    def known(self, request: Request) -> int:
        """How many replies to this request are kept already."""
        ...

    def ask(self, request: Request, number: int) -> Reply:
        """The ``number``-th reply (from 0) to this request; asked again, the same one.

        Raises ``PanelSpent`` when a budget is used up, ``ModelError`` when the provider refuses.
        """
        ...

    def ask_all(self, asked: Sequence[tuple[Request, int]]) -> list[Reply]:
        """As ``ask`` for each (request, number), all at the same time."""
        ...

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """The session that was held about ``inquiry`` before, however it ended."""
        ...

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """A session for each, all at the same time; one that was held before is not held again.

        Raises as ``ask`` does. A session that came to no answer says so in its ``end``.
        """
        ...


class PanelSpent(Exception):  # noqa: N818 - a fact about the budget
    """A reply would have to be paid for and the budget that the text names is used up."""


@dataclass(frozen=True, slots=True)
class Means:
    """What verifiers are given to work with."""

    fence: Fence = field(default_factory=Unfenced)
    panel: Panel | None = None  # None: nobody can be asked
    programs: Programs = field(default_factory=Programs)
    is_agent: bool = False  # an agent did the work: it sees the files of ``workspace/`` without that name

    def as_seen(self, text: str) -> str:
        """``text`` with the paths that the judged side knows."""
        return _WORKSPACE.sub("", text) if self.is_agent else text


class Verifier(Protocol):
    """Gives ``Rejected`` for a bad answer and ``Broken`` when it could not tell; raises for neither."""

    @property
    def name(self) -> str:
        """What the task calls it; unique among the task's verifiers."""
        ...

    @property
    def requirement(self) -> str:
        """What it asks of an answer, in words that the model is told before it begins."""
        ...

    def verify(self, submission: Submission) -> Verdict:
        """Check the committed bytes; the inputs may be read, nothing may be changed."""
        ...
