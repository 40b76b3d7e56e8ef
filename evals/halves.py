"""The two halves of the seeds: even seeds are for tuning, odd ones stay unseen until a final measurement.

The unseen half is guarded in three ways. The runner and ``show`` refuse it without ``--final``. A final
measurement needs a checkout without changes, so that the commit names the code that was measured. Each use
adds a line to ``evals/unseen-uses.jsonl``, which is committed with the results.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

Half = Literal["tuning", "unseen"]
QUESTIONS_PER_FAMILY = 48  # in both halves together
USES = Path(__file__).with_name("unseen-uses.jsonl")
ROOT = Path(__file__).parent.parent


class GuardError(Exception):
    """The unseen half may not be used in this way; the message says why and what to do."""


def seeds(half: Half, count: int | None = None) -> list[int]:
    """The first ``count`` seeds of a half; None: all of them."""
    whole = range(int(half == "unseen"), QUESTIONS_PER_FAMILY, 2)
    return list(whole[:count])


def allow(
    half: Half, *, is_final: bool, what: Sequence[str], root: Path = ROOT, uses: Path | None = None
) -> None:
    """Let a measurement of ``half`` begin, and record a use of the unseen one. Raises ``GuardError``."""
    if half == "tuning":
        return
    if not is_final:
        raise GuardError(
            "the unseen half is for final measurements only: what was seen once can be tuned to."
            " Use --half tuning, or add --final if nothing will be changed because of the results"
        )
    if changed := changes(root):
        raise GuardError(
            f"the checkout has uncommitted changes ({', '.join(changed[:3])}), so no commit names the code"
            " that would be measured. Commit or stash them first"
        )
    line = {"at": int(time.time()), "commit": git(root, "rev-parse", "HEAD"), "what": list(what)}
    with (uses or USES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def changes(root: Path = ROOT) -> list[str]:
    """Changed files of the checkout, without the results of evaluations."""
    lines = git(root, "status", "--porcelain").splitlines()
    names = [line.strip().partition(" ")[2] for line in lines]
    return [name for name in names if not name.startswith(("evals/results", "evals/RESULTS", "evals/unseen"))]


def code_version(root: Path = ROOT) -> str:
    """The hash of the code that answers: the package and its prompts; ``+`` marks uncommitted changes."""
    trees = [git(root, "rev-parse", f"HEAD:{folder}")[:10] for folder in ("loop_runner", "prompts")]
    is_changed = any(name.startswith(("loop_runner/", "prompts/")) for name in changes(root))
    return "-".join(trees) + "+" * is_changed


def git(root: Path, *arguments: str) -> str:
    """The output of a git command, without the blanks around it."""
    ended = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    return ended.stdout.rstrip()
