"""Run every attack as root and as an ordinary user, in tiers A and B; print "held" or "failed" for each.

The first condition gets all rows of an attack. The others get a sample, each another one; ``--all`` for all.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.confined import IS_ROOT, SOURCE
from tests.support.machines import (
    ordinary_user,
    ordinary_user_env,
    path_without,
    python_for_ordinary_user,
)

_OPTIONS = ["-q", "-n", "2", "--attacks", "-p", "no:cacheprovider"]
_TESTS = ["-m", "pytest", str(SOURCE / "tests" / "adversary"), *_OPTIONS]

_STEP = 4  # a condition after the first gets one row in so many


@dataclass(frozen=True)
class Condition:
    """One way to run the attacks."""

    user: str  # "root" or "ordinary user"
    tier: str  # "A" or "B"


def conditions() -> list[Condition]:
    """Every condition that this user can create."""
    users = ["root", "ordinary user"] if IS_ROOT else ["ordinary user"]
    return [Condition(user, tier) for user in users for tier in "AB"]


def main(arguments: list[str]) -> int:
    """The worst exit code of all conditions."""
    rest = [argument for argument in arguments if argument != "--all"]
    samples = [[], *([f"--sample={number}/{_STEP}"] for number in range(_STEP))]
    if len(rest) < len(arguments):
        samples = [[] for _ in samples]
    pairs = zip(conditions(), samples, strict=False)
    return max(_run(condition, [*sample, *rest]) for condition, sample in pairs)


def _run(condition: Condition, arguments: list[str]) -> int:
    print(f"── as {condition.user}, tier {condition.tier} ──", flush=True)
    with tempfile.TemporaryDirectory(prefix="loop-runner-adversary-") as folder:
        home, programs = Path(folder) / "home", Path(folder) / "programs"
        home.mkdir()
        programs.mkdir()
        Path(folder).chmod(0o755)
        command, env, user = _as(condition.user, home)
        if command is None:
            print("ORDINARY USER UNTESTED: no interpreter, or the source, is open to users other than root")
            return 0
        if condition.tier == "B":
            env["PATH"] = path_without({"bwrap"}, programs)
        argv = [*command, *_TESTS, f"--expect-tier={condition.tier}", f"--basetemp={home}/pytest", *arguments]
        return subprocess.run(argv, cwd=SOURCE, env=env, check=False, **user).returncode


def _as(user: str, home: Path) -> tuple[list[str] | None, dict[str, str], dict[str, Any]]:
    if user == "root" or not IS_ROOT:
        return [sys.executable], dict(os.environ), {}
    python = python_for_ordinary_user(home)
    if python is None:
        return None, {}, {}
    return [python], ordinary_user_env(home), ordinary_user()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
