"""The interface of a verifier and everything that it receives. Plain data, no behaviour."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loop_runner import process
from loop_runner.errors import ModelError
from loop_runner.records import ChildRecord, Inputs, Message, Reply, Request, Verdict
from loop_runner.verify.programs import Programs
from loop_runner.workspace.control_files import Question

NETWORK = "network"  # the word that grants it
_WORKSPACE = re.compile(r"(?<![\w./-])(?:\./)?workspace/(?=[\w.])")


@dataclass(frozen=True, slots=True)
class Submission:
    """A committed answer. ``checkout`` holds ``answer.md``, ``answer.json`` and ``workspace/``, read-only."""

    answer: str
    checkout: Path
    inputs: Inputs
    prompt: str = ""  # the task's own
    earlier: Sequence[str] = ()  # the answers of earlier passes, the oldest first
    withheld: frozenset[str] = (
        frozenset()
    )  # names of inputs that are hidden from programs: their files have changed


@dataclass(frozen=True, slots=True)
class Job:
    """A program to run. Only ``scratch`` is writable; of the rest only ``shown`` is visible.

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
        """What confined it, and what was not enforced; JSON-compatible, for ``verdict.json``."""
        ...


class Unfenced:
    """No sandbox: for callers that are inside one already."""

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
    """A question for a separate session, which knows the inputs and nothing else of the run."""

    question: str
    model: str
    inputs: Inputs
    number: int = 0  # tells equal inquiries apart, which are different sessions
    turns: int | None = None  # None: as many as a pass of the run has

    @property
    def scope(self) -> str:
        """Names the session: the same in every run with the same question, wherever the inputs are."""
        content = json.dumps(["inquiry", self.model, self.question])
        return f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.{self.number}"


class Panel(Protocol):
    """Asks models for verifiers; every reply is paid for once and kept."""

    @property
    def model(self) -> str:
        """The model to ask when the task names none."""
        ...

    def known(self, request: Request) -> int:
        """How many replies to this request are kept already."""
        ...

    def ask(self, request: Request, number: int) -> Reply:
        """The ``number``-th reply (from 0) to this request; the same one if it is requested again.

        Raises ``PanelSpent`` when a budget is used up, ``ModelError`` when the provider refuses.
        """
        ...

    def ask_all(self, requests: Sequence[tuple[Request, int]]) -> list[Reply]:
        """As ``ask`` for each (request, number), all at the same time."""
        ...

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        """The session that was held for ``inquiry`` before, however it ended."""
        ...

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """A session for each, all at the same time; a session that exists is not held again.

        Raises as ``ask`` does. A session without an answer says so in its ``end``.
        """
        ...


class PanelSpent(Exception):  # noqa: N818 - a fact about the budget
    """A reply would have to be paid for, and the budget that the text names is used up."""


@dataclass(frozen=True, slots=True)
class PersonsDecision:
    """What a person decided; ``by`` and ``at`` (who, when) as far as they were given. ``text``: why."""

    is_approved: bool
    text: str = ""
    by: str = ""
    at: str = ""


class Person(Protocol):
    """Asks a person about an answer; the run's operator does."""

    def ask(self, question: Question) -> PersonsDecision | None:
        """The decision, waited for; None when there is none and nothing may wait for it."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """What verifiers have to work with."""

    fence: Fence = field(default_factory=Unfenced)
    panel: Panel | None = None  # None: no model can be asked
    programs: Programs = field(default_factory=Programs)
    is_agent: bool = False  # an agent did the work: it sees the files of ``workspace/`` without that name
    person: Person | None = None  # None: no person can be asked

    def ask(
        self,
        prompt: str,
        *,
        system: str = "",
        model: str = "",
        number: int = 0,
        max_output_tokens: int = 2048,
    ) -> str:
        """Ask a model and return the text of its reply; ``model``: "" is the run's root model.

        The same question gets the same reply; another ``number`` gets another one. Raises ``PanelSpent`` when
        a budget is used up, ``ModelError`` when no model can be asked or the provider refuses.
        """
        if self.panel is None:
            raise ModelError("no model can be asked here", why="`models()` of the verifier names none")
        messages = (Message("user", prompt),)
        request = Request(
            model or self.panel.model,
            messages,
            system,
            max_output_tokens=max_output_tokens,
            kind="judge",
        )
        return self.panel.ask(request, number).text

    def as_seen(self, text: str) -> str:
        """``text`` with the paths that the judged side knows."""
        return _WORKSPACE.sub("", text) if self.is_agent else text


NO_MEANS = Means()
"""For a verifier that neither runs a program nor asks a model."""


@dataclass(frozen=True, slots=True)
class Need:
    """One demand on the machine: the word that grants it (``network``), and the verifier that makes it."""

    word: str
    verifier: str


class Verifier(Protocol):
    """The interface of every kind. ``BaseVerifier`` holds the defaults; a kind overrides what it needs.

    Made from the task's settings alone, once per start. The pinned files come with ``Programs``.
    """

    @property
    def name(self) -> str:
        """Its name in the task, unique among the task's verifiers."""
        ...

    @property
    def label(self) -> str:
        """Its name in messages about its settings."""
        ...

    @property
    def requirement(self) -> str:
        """Its requirement for an answer, in words."""
        ...

    @property
    def network(self) -> bool:
        """Whether its program may use the network."""
        ...

    @property
    def runs_code(self) -> bool:
        """Whether it starts a program, or a session with code, which needs a sandbox."""
        ...

    @property
    def is_free(self) -> bool:
        """Whether it only needs to read the answer, so that a session may run it at any time."""
        ...

    @property
    def reads_files(self) -> bool:
        """Whether it reads files of ``workspace/``."""
        ...

    @property
    def asks_person(self) -> bool:
        """Whether a person decides: such a verifier is asked last, and only about what the others accept."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be tried on other answers, to find out whether this answer broke it."""
        ...

    @property
    def breaks_by_inputs(self) -> bool:
        """Whether only a changed input can break it."""
        ...

    def described(self, pins: Programs, *, briefly: bool = False) -> str:
        """``requirement`` as a prompt shows it, with pinned texts; ``briefly`` for small models."""
        ...

    def sources(self) -> list[Path]:
        """The files and folders it is made of, which are pinned. Raises ``VerifierError``."""
        ...

    def models(self) -> tuple[str, ...]:
        """The models that it asks; "" stands for the run's root model."""
        ...

    def needs(self, pins: Programs) -> Iterator[Need]:
        """What it requires of the machine beyond the sandbox that every verifier has."""
        ...

    def refuse(self, inputs: Inputs) -> None:
        """Raise ``VerifierError`` if it could never work on these inputs."""
        ...

    def fault(self, pins: Programs) -> str:
        """Why it could never judge an answer on this machine; "" when no reason is found."""
        ...

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """Check the committed bytes: ``Rejected`` for a bad answer, ``Broken`` when it cannot decide.

        Reads the inputs, changes nothing, and raises for neither.
        """
        ...


class BaseVerifier:
    """The defaults of ``Verifier``: reads the answer alone, has no files, and asks no model."""

    __slots__ = ()
    network = False
    runs_code = False
    is_free = False
    reads_files = False
    asks_person = False
    is_repeatable = True
    breaks_by_inputs = False

    @property
    def label(self: Verifier) -> str:
        """See ``Verifier``."""
        return f"verifier {self.name!r}"

    @classmethod
    def settings_from(cls, value: object) -> object:
        """See ``KindOfVerifier``."""
        return value

    def described(self: Verifier, pins: Programs, *, briefly: bool = False) -> str:
        """See ``Verifier``."""
        return self.requirement

    def sources(self) -> list[Path]:
        """See ``Verifier``."""
        return []

    def models(self) -> tuple[str, ...]:
        """See ``Verifier``."""
        return ()

    def needs(self: Verifier, pins: Programs) -> Iterator[Need]:
        """See ``Verifier``."""
        if self.network:
            yield Need(NETWORK, self.name)

    def refuse(self, inputs: Inputs) -> None:
        """See ``Verifier``."""

    def fault(self, pins: Programs) -> str:
        """See ``Verifier``."""
        return ""
