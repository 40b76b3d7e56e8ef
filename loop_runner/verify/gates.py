"""The verifiers of a task, built once per start, and everything that the start needs to know about them.

Owns no rule of its own: each result is collected from the verifiers. Code that starts, checks or repeats a
run builds one ``Gates`` and passes it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_runner.errors import LoopRunnerError, VerifierError
from loop_runner.records import Inputs
from loop_runner.verify.build import Builder, Spec
from loop_runner.verify.built_in import BUILT_IN
from loop_runner.verify.combinations import leaves
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.programs import Pinning, Programs
from loop_runner.verify.verifier import Fence, Means, Need, Panel, Person, Verifier


@dataclass(frozen=True, slots=True)
class Gates:
    """Everything that an answer must pass. ``programs``: the verifiers' pinned files.

    ``faults`` are the entries of the task from which no verifier could be made.
    """

    verifiers: tuple[Verifier, ...] = ()
    programs: Programs = field(default_factory=Programs)
    faults: tuple[LoopRunnerError, ...] = ()

    @classmethod
    def of(
        cls,
        specs: Sequence[Spec],
        base_dir: Path,
        *,
        known: Programs | None = None,
        fence: Fence | None = None,
        more: Iterable[Callable[[], Verifier]] = (),
        functions: Mapping[str, Callable[..., Any]] | None = None,
        sources: Iterable[Path] = (),
    ) -> Gates:
        """Build the verifiers that ``specs`` describe, and those that ``more`` makes, and pin their files.

        ``base_dir`` is the task file's folder. Files in ``known`` keep their pins. A package's code runs in
        ``fence``; with None it does not run and cannot describe itself. ``functions`` are functions of the
        calling program that verifiers name. ``sources``: further files that are pinned.
        """
        base_dir = base_dir.resolve()
        pinning = Pinning(base_dir, known)
        builder = Builder(base_dir, pinning, fence, functions)
        verifiers = (*builder.list(specs), *builder.added(more))
        if not pinning.is_frozen:
            pinning.add(sources)
        return cls(verifiers, pinning.finished(), tuple(builder.faults))

    def checked(self) -> Gates:
        """These gates; raises the first of ``faults`` if there are any."""
        for fault in self.faults:
            raise fault
        return self

    def means(
        self, fence: Fence, panel: Panel | None, *, is_agent: bool = False, person: Person | None = None
    ) -> Means:
        """What the verifiers work with. An agent may write where the programs were pinned."""
        programs = self.programs.for_agent() if is_agent else self.programs
        return Means(fence, panel, programs, is_agent, person)

    def requirements(self, *, briefly: bool = False) -> list[str]:
        """The verifiers' requirements, one line each, as a prompt shows them."""
        described = [verifier.described(self.programs, briefly=briefly) for verifier in self.verifiers]
        return [exact_line(text, len(text)) for text in described]

    @property
    def models(self) -> tuple[str, ...]:
        """The models that verifiers name."""
        return tuple(
            dict.fromkeys(model for verifier in self.verifiers for model in verifier.models() if model)
        )

    @property
    def without_model(self) -> tuple[str, ...]:
        """The names of those that ask the run's root model."""
        return tuple(leaf.name for leaf in leaves(self.verifiers) if "" in leaf.models())

    @property
    def network(self) -> bool:
        """Whether one of them may use the network."""
        return any(verifier.network for verifier in self.verifiers)

    @property
    def runs_code(self) -> bool:
        """Whether one of them starts a program or a session with code, so that it needs a sandbox."""
        return any(leaf.runs_code for leaf in leaves(self.verifiers))

    @property
    def sources(self) -> list[Path]:
        """The files and folders that the verifiers say they are made of."""
        return [path for verifier in self.verifiers for path in verifier.sources()]

    def needs(self) -> Iterable[Need]:
        """What they require of the machine beyond the sandbox that every verifier has."""
        return (need for verifier in self.verifiers for need in verifier.needs(self.programs))

    def refuse(self, inputs: Inputs) -> None:
        """Raise ``VerifierError`` for verifiers that could never work on these inputs."""
        for verifier in self.verifiers:
            verifier.refuse(inputs)

    def unready(self) -> list[LoopRunnerError]:
        """``faults``, plus the reasons why verifiers could never judge an answer on this machine."""
        faults_of = [(leaf, leaf.fault(self.programs)) for leaf in leaves(self.verifiers)]
        return [*self.faults, *(_unready(leaf, why) for leaf, why in faults_of if why)]


def _unready(leaf: Verifier, why: str) -> VerifierError:
    kind = type(leaf).__name__.lower()
    more = f"; docs/verifiers.md describes `{kind}`" if kind in BUILT_IN else ""
    return VerifierError(
        f"{leaf.label}: {why}",
        why="the answer would be paid for and could not be judged",
        hint=f"paths are relative to the task file's folder{more}",
    )


def build(specs: Sequence[Spec], base_dir: Path, fence: Fence | None = None) -> tuple[Verifier, ...]:
    """The verifiers alone. Raises ``VerifierError`` for the first entry that makes none."""
    return Gates.of(specs, base_dir, fence=fence).checked().verifiers
