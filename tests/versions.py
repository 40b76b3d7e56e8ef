"""Renew the lock files; test other versions of the dependencies and name the ones that break the tests.

    python -m tests.versions lock                       write requirements/*.txt with the newest versions
    python -m tests.versions lowest [pytest arguments]  test the lowest versions that pyproject.toml allows
    python -m tests.versions newest [pytest arguments]  test the newest versions that pyproject.toml allows

A test that fails with the tried set is run again, alone, and then with the locked set. If it passes there,
halves of the difference are installed on top of the locked set until single dependencies remain. The
environments are built in .cache/versions; .venv does not change. docs/adr/0013-lock-files.md says why there
are three sets.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "requirements"
FOLDER = ROOT / ".cache" / "versions"
UV = [sys.executable, "-m", "uv"]
# Wheels only: building a source distribution would download build tools that no hash covers.
COMPILE = [*UV, "pip", "compile", "--quiet", "--no-annotate", "--no-emit-index-url", "--only-binary", ":all:"]
LOCK = [
    *("--universal", "--python-version", "3.11", "--generate-hashes", "--emit-build-options", "--upgrade"),
    *("--custom-compile-command", "make lock"),
]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
NAMED_TESTS = 3  # how many failing tests a line names

Tests = frozenset[str]
Versions = dict[str, str]
Failing = Callable[[Sequence["Change"], Iterable[str]], Tests]


@dataclass(frozen=True, slots=True)
class Change:
    """A dependency whose version differs between the locked set and the tried set."""

    name: str
    locked: str
    tried: str

    def __str__(self) -> str:
        return f"{self.name} {self.locked} -> {self.tried}"


# ── What differs, and what breaks ───────────────────────────────────────────────────────────────────


def changes_between(locked: Versions, tried: Versions) -> list[Change]:
    """List the dependencies of both sets that have different versions, by name."""
    return [
        Change(name, locked[name], tried[name])
        for name in sorted(locked.keys() & tried.keys())
        if locked[name] != tried[name]
    ]


def culprits(changes: Sequence[Change], tests: Tests, failing: Failing) -> dict[Change, Tests]:
    """Map each dependency that alone makes some of ``tests`` fail to those tests, by halving the changes."""
    broken = failing(changes, tests) if changes and tests else frozenset()
    if not broken:
        return {}
    if len(changes) == 1:
        return {changes[0]: broken}
    middle = len(changes) // 2
    return culprits(changes[:middle], broken, failing) | culprits(changes[middle:], broken, failing)


def report(result: dict[Change, Tests], tests: Tests) -> list[str]:
    """One line per dependency that breaks a test, and one for the tests that no single one breaks."""
    lines = [f"{change}: {summary(broken)}" for change, broken in result.items()]
    together = tests.difference(*result.values())
    return [*lines, f"several of these versions together: {summary(together)}"] if together else lines


def summary(tests: Tests) -> str:
    named = ", ".join(sorted(tests)[:NAMED_TESTS])
    more = f" and {len(tests) - NAMED_TESTS} more" if len(tests) > NAMED_TESTS else ""
    return f"{len(tests)} {'test fails' if len(tests) == 1 else 'tests fail'} ({named}{more})"


# ── Environments ────────────────────────────────────────────────────────────────────────────────────


class Environment:
    """A virtual environment in ``folder`` with a chosen set of versions and loop-runner itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self.requirements = folder / "requirements.txt"

    def resolve(self, *options: str, start: Path | None = None) -> Versions:
        """Choose versions for this Python, keeping those of the lock file ``start`` where possible."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.requirements.unlink(missing_ok=True)
        if start is not None:
            shutil.copyfile(start, self.requirements)
        target = ["--no-header", "--python", sys.executable, "--output-file", self.requirements]
        execute(*COMPILE, ROOT / "pyproject.toml", "--all-extras", *options, *target)
        return read_versions(self.requirements.read_text())

    def install(self) -> None:
        """Install the resolved versions and nothing else."""
        if not self.python.exists():
            execute(*UV, "venv", "--quiet", "--python", sys.executable, self.folder / "venv")
        install = [*UV, "pip", "install", "--quiet", "--python", self.python]
        execute(*UV, "pip", "sync", "--quiet", "--python", self.python, self.requirements)
        execute(*install, "--no-deps", "--no-build-isolation", "--editable", ROOT)

    def failing(self, arguments: Iterable[str]) -> Tests:
        """Run pytest and return the ids of the tests that fail, or the arguments if pytest itself breaks."""
        return failing_tests(self.python, [*arguments], self.folder / "pytest")


def failing_tests(python: Path, arguments: list[str], cache: Path) -> Tests:
    """Run pytest in the current folder; its own cache names what failed, without cutting or quoting."""
    shutil.rmtree(cache, ignore_errors=True)
    command = [python, "-m", "pytest", "-q", "-m", "not real_model", "-o", f"cache_dir={cache}", *arguments]
    ended = subprocess.run([str(part) for part in command], check=False)
    record = cache / "v" / "cache" / "lastfailed"
    failed = json.loads(record.read_text()) if record.exists() else {}
    return frozenset(failed or (arguments if ended.returncode else ()))


def read_versions(text: str) -> Versions:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def execute(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


# ── Commands ────────────────────────────────────────────────────────────────────────────────────────


def lock() -> int:
    """Write dev.txt (all extras) and runtime.txt (the dependencies and the build backend)."""
    execute(*COMPILE, *LOCK, "pyproject.toml", "--all-extras", "--output-file", LOCKS / "dev.txt")
    runtime = ["pyproject.toml", LOCKS / "build.in", "--constraints", LOCKS / "dev.txt"]
    execute(*COMPILE, *LOCK, *runtime, "--output-file", LOCKS / "runtime.txt")
    return 0


def try_set(name: str, arguments: list[str]) -> int:
    """Test the set of versions and print one line per dependency that breaks; return 1 if any test fails."""
    tried, locked = Environment(FOLDER / name), Environment(FOLDER / "locked")
    versions = tried.resolve("--resolution", RESOLUTIONS[name])
    changes = changes_between(locked.resolve(start=LOCKS / "dev.txt"), versions)
    tried.install()
    tests = tried.failing(arguments)
    tests = tried.failing(sorted(tests)) if tests else tests

    def failing(moved: Sequence[Change], chosen: Iterable[str]) -> Tests:
        pins = [f"--upgrade-package={change.name}=={change.tried}" for change in moved]
        locked.resolve(*pins, start=LOCKS / "dev.txt")
        locked.install()
        return locked.failing(sorted(chosen))

    always = failing([], tests) if tests else tests
    lines = report(culprits(changes, tests - always, failing), tests - always)
    print(f"{name}: {len(changes)} of {len(versions)} versions differ from the locked ones", *lines, sep="\n")
    if always:
        print(f"locked versions too: {summary(always)}")
    return 1 if tests else 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["lock"]:
            return lock()
        case ["lowest" | "newest" as name, *rest]:
            return try_set(name, rest)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
