"""Checks a committed answer. An answer counts as verified only when every verifier accepts it.

Owns the kinds of verifier that a task file may name: each kind has a module and a row in ``built_in``.
``Gates`` holds the verifiers of one task, built once per start, with the pins of their files. Relies on
committed bytes only: a ``Submission`` holds the answer's text, a read-only checkout and the inputs, never a
live object of the kernel. ``Means`` supplies whatever is needed to run a program or ask a model. A verifier
never raises because of an answer's content, and never changes what it checks. ``stop_hook`` decides on a
pass from all verdicts, ``proof`` records what an accepted answer rests on, and ``fence`` runs programs in
the sandbox.
"""

from typing import TYPE_CHECKING

from loop_runner.verify.combinations import Group, Weighted, rejection, score
from loop_runner.verify.evidence import limited
from loop_runner.verify.free import free
from loop_runner.verify.gates import Gates, build
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.programs import Programs
from loop_runner.verify.short_answer import short_answer
from loop_runner.verify.verifier import (
    NO_MEANS,
    BaseVerifier,
    Fence,
    Inquiry,
    Job,
    Means,
    Need,
    Panel,
    PanelSpent,
    Person,
    PersonsDecision,
    Submission,
    Unfenced,
    Verifier,
)
from loop_runner.workspace.control_files import Question

if TYPE_CHECKING:
    from loop_runner.verify import control as control
    from loop_runner.verify.citations import LocatedCitation, locate
    from loop_runner.verify.quotes import in_part_words

# Loaded on first use: importing the citation reader takes as long as the rest of a short run.
_LATER = {
    "LocatedCitation": "citations",
    "locate": "citations",
    "in_part_words": "quotes",
}
_MODULES = ("control",)


def __getattr__(name: str) -> object:
    if name not in _LATER and name not in _MODULES:
        raise AttributeError(name)
    from importlib import import_module

    module = import_module(f"{__name__}.{_LATER.get(name, name)}")
    return module if name in _MODULES else getattr(module, name)


__all__ = [
    "NO_MEANS",
    "BaseVerifier",
    "Fence",
    "Gates",
    "Group",
    "Inquiry",
    "Job",
    "LocatedCitation",
    "Means",
    "Need",
    "Panel",
    "PanelSpent",
    "Person",
    "PersonsDecision",
    "Programs",
    "Question",
    "Submission",
    "Unfenced",
    "Verifier",
    "Weighted",
    "build",
    "control",
    "exact_line",
    "free",
    "in_part_words",
    "limited",
    "locate",
    "rejection",
    "score",
    "short_answer",
]
