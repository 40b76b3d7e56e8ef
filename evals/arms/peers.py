"""Other packages' recursive language models: ``rlms`` and ``dspy.RLM``, in an environment of their own.

``make eval`` installs them from PyPI into ``.cache/evals/peers``; EVALS_PEERS names another Python that has
them. Each question is answered by a process of its own, which runs ``peer_program`` there.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from evals.arms.arm import Attempt, Setup
from evals.questions import INSTRUCTION, Question

_PYTHON = Path(__file__).parents[2] / ".cache" / "evals" / "peers" / "bin" / "python"
_PROGRAM = Path(__file__).with_name("peer_program.py")


@dataclass(frozen=True, slots=True)
class Rlms:
    """``rlms``: the model's code runs in the package's local environment, without a sandbox."""

    setup: Setup
    package: ClassVar[str] = "rlms"

    def missing(self) -> str:
        if self.setup.endpoint is None:
            return "no endpoint for the model"
        return "" if version_of(self.package) else f"{self.package} is not installed in {_PYTHON.parents[1]}"

    def version(self) -> str:
        return f"{self.package} {version_of(self.package)}"

    def answer(self, question: Question, folder: Path) -> Attempt:
        assert self.setup.endpoint
        request = {
            "package": self.package,
            "question": f"{question.text}\n\n{INSTRUCTION}",
            "texts": dict(question.texts),
            "url": self.setup.endpoint.url,
            "key": self.setup.endpoint.key,
            "model": self.setup.endpoint.model,
            "limit_s": self.setup.limit_s,
        }
        return run_program(request, folder, self.setup.limit_s)


@dataclass(frozen=True, slots=True)
class Dspy(Rlms):
    """``dspy.RLM`` with its local interpreter, which needs no Deno."""

    package: ClassVar[str] = "dspy"


def python() -> Path:
    """The Python that has the packages."""
    return Path(os.environ.get("EVALS_PEERS", _PYTHON))


@cache
def version_of(package: str) -> str:
    """The version of the package there; "" when it is not installed."""
    if not python().exists():
        return ""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    ended = subprocess.run([python(), "-c", code], capture_output=True, text=True, check=False)
    return ended.stdout.strip()


def run_program(request: dict[str, object], folder: Path, limit_s: float) -> Attempt:
    """One answer by a process; a time-out or a crash is an attempt without an answer."""
    env = {**os.environ, "OPENAI_API_KEY": str(request["key"]), "DSPY_CACHEDIR": str(folder / "cache")}
    try:
        ended = subprocess.run(
            [python(), _PROGRAM],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            cwd=folder,
            env=env,
        )
    except subprocess.TimeoutExpired:
        return Attempt("", error=f"no answer within {limit_s:.0f} s")
    line = ended.stdout.strip().rpartition("\n")[2]
    try:
        return Attempt(**json.loads(line))
    except (ValueError, TypeError):
        last = ended.stderr.strip().rpartition("\n")[2]
        return Attempt("", error=f"the process ended with {ended.returncode}: {last[:200]}")
