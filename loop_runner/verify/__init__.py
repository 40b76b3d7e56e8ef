"""Checks a committed answer: nothing is done until a verifier says so.

Owns the kinds of verifier that a task file may name, each in a module of its own, ``build``, which makes
them from the task file, and the pins of the files that they are made of. Relies on committed bytes only: a
``Submission`` holds the answer's text, a read-only checkout and the inputs, never a live object of the
kernel; and on the ``Means`` that it is given for whatever runs a program or asks a model. A verifier never
raises for what an answer holds, and never changes what it checks.
"""

from loop_runner.verify import control, readiness
from loop_runner.verify.build import (
    build,
    describe,
    models,
    pinned_programs,
    refuse,
    sources,
    wants_network,
    without_model,
)
from loop_runner.verify.citations import LocatedCitation, locate
from loop_runner.verify.evidence import limited
from loop_runner.verify.groups import Group, Weighted, rejection, score
from loop_runner.verify.programs import Programs
from loop_runner.verify.quotes import in_part_words
from loop_runner.verify.short_answer import short_answer
from loop_runner.verify.shown import exact_line
from loop_runner.verify.verifier import (
    Fence,
    Inquiry,
    Job,
    Means,
    Panel,
    PanelSpent,
    Submission,
    Unfenced,
    Verifier,
)

__all__ = [
    "Fence",
    "Group",
    "Inquiry",
    "Job",
    "LocatedCitation",
    "Means",
    "Panel",
    "PanelSpent",
    "Programs",
    "Submission",
    "Unfenced",
    "Verifier",
    "Weighted",
    "build",
    "control",
    "describe",
    "exact_line",
    "in_part_words",
    "limited",
    "locate",
    "models",
    "pinned_programs",
    "readiness",
    "refuse",
    "rejection",
    "score",
    "short_answer",
    "sources",
    "wants_network",
    "without_model",
]
