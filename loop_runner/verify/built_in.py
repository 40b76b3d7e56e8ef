"""The table of built-in kinds: a new kind is a file of this folder and a row here.

The module of a kind is imported when a task names the kind: importing all of them would slow a short run.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from loop_runner.verify.options import Keys, Options
from loop_runner.verify.verifier import Verifier


class KindOfVerifier(Protocol):
    """What a built-in kind's class offers besides the methods of ``Verifier``."""

    KEYS: Keys

    def settings_from(self, value: object) -> object:
        """The settings that ``value`` stands for, if the kind has another short form than its row says."""
        ...

    def from_options(self, name: str, options: Options, task_dir: Path) -> Verifier:
        """One verifier; ``name`` may be empty. Raises ``VerifierError``."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A row: the class's location, and the setting that a plain value stands for."""

    module: str
    name: str
    short: str  # required, unless the kind may be bare
    may_be_bare: bool = False

    def load(self) -> KindOfVerifier:
        """The class."""
        return cast("KindOfVerifier", getattr(import_module(f"{__package__}.{self.module}"), self.name))


BUILT_IN = {
    "command": Kind("command", "Command", "run"),
    "python": Kind("python", "Python", "file"),
    "schema": Kind("schema", "Schema", "schema"),
    "contains": Kind("answer_text", "Contains", "text"),
    "regex": Kind("answer_text", "Regex", "pattern"),
    "citations": Kind("citations", "Citations", "min", may_be_bare=True),
    "judge": Kind("judge", "Judge", "rubric"),
    "agreement": Kind("agreement", "Agreement", "replies", may_be_bare=True),
    "support": Kind("support", "Support", "lines", may_be_bare=True),
    "stable": Kind("stable", "Stable", "passes", may_be_bare=True),
    "promise": Kind("stable", "Promise", "phrase"),
    "findings": Kind("findings", "Findings", "rules"),
    "human": Kind("human", "Human", "question"),
}
KINDS = (*BUILT_IN, "all", "any")
OF_PROGRAMS = "callable"  # a function of the program that began the run; a task file cannot hold one
BESIDE = ("name", "weight", "evidence", "says")  # keys next to a kind
