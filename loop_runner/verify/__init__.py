"""Checks a committed answer: nothing is done until a verifier says so.

Owns the kinds of verifier that a task file may name (``command``, ``contains``, ``regex``,
``citations``), each in a module of its own, and ``build``, which makes them from the task file. Relies on
committed bytes only: a ``Submission`` holds the answer's text, a read-only checkout and the inputs, never
a live object of the kernel. A verifier never raises for what an answer holds, and never changes what it
checks.
"""

from loop_runner.verify.build import build, describe
from loop_runner.verify.citations import LocatedCitation, locate
from loop_runner.verify.short_answer import short_answer
from loop_runner.verify.verifier import Submission, Verifier

__all__ = ["LocatedCitation", "Submission", "Verifier", "build", "describe", "locate", "short_answer"]
