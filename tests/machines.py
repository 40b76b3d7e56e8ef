"""Run a sample of the suite on other machines, imitated on this one: `make test-machines`.

Each condition is one run and one line: its name, the tier of the sandbox there, and the counts. The output of
a run that fails is shown. Relies on ``tests.support.machines`` and ``tests.support.desktop``.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import desktop
from tests.support.confined import IS_ROOT, SOURCE
from tests.support.machines import (
    ordinary_user,
    ordinary_user_env,
    path_without,
    python_for_ordinary_user,
)

# Where a condition can do harm: whole runs, the kernel, texts and documents, gates, the audit, the hook, the
# command line, ways out of the sandbox. Each takes seconds, so that all conditions take a few minutes.
SAMPLE = (
    "tests/loop/test_loop.py",
    "tests/kernel/test_cells.py",
    "tests/inputs/test_documents.py",
    "tests/verify/test_command.py",
    "tests/verify/test_python.py",
    "tests/audit/test_findings.py",
    "tests/agents/test_stop.py",
    "tests/cli/test_cli.py",
    "tests/escapes/test_docs.py",
    "tests/adversary/test_tiers.py",
)
# Single tests, where the whole file would take too long.
TESTS = (
    "tests/audit/test_ci.py::test_pre_commit_runs_the_hook_on_what_is_staged",
    "tests/audit/test_ci.py::test_the_gitlab_job_writes_both_reports",
    "tests/verify/test_gates_in_runs.py::test_nothing_that_a_model_leaves_in_its_folder_makes_a_wrong_answer_right",
    "tests/verify/test_gates_in_runs.py::test_a_gate_sees_no_home_no_keys_no_network_and_writes_only_its_scratch",
)
WAYS_OUT = tuple(
    f"tests/escapes/test_cells.py::test_a_way_out_is_closed_and_the_loop_goes_on[{tier}-{case}]"
    for tier in "AB"
    for case in ("01-read-keys-and-passwords", "03-write-outside-the-workspace")
)
_TIER = "from loop_runner.sandbox.probe import probe; print(probe().tier)"
_PYTEST = ("-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-m", "not real_model")
_COUNTS = re.compile(r"^(?:\d+ \w+, )*\d+ \w+(?:, \d+ \w+)* in .*$", re.MULTILINE)
_SKIPPED = re.compile(r"^skipped: (\d+): (.*)$", re.MULTILINE)


class Untestable(Exception):  # noqa: N818 - no fault of the code
    """This machine cannot imitate the condition; the text says why."""


@dataclass(frozen=True)
class Machine:
    """How Python is started under one condition."""

    python: str = sys.executable
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    source: Path = SOURCE
    popen: Mapping[str, Any] = field(default_factory=dict)
    wrapped: Callable[[list[str]], list[str]] = lambda argv: argv

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments to its end."""
        return subprocess.run(
            self.wrapped([self.python, *arguments]),
            cwd=self.source,
            env={**self.env, "PYTHONPATH": os.pathsep.join(self._search_path())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            **self.popen,
        )

    def _search_path(self) -> list[str]:
        inherited = self.env.get("PYTHONPATH", "").split(os.pathsep)
        return [str(self.source), *(path for path in inherited if path and path != str(SOURCE))]


def without_bubblewrap_and_strace(folder: Path) -> Machine:
    """Hidden from PATH, whatever is installed."""
    return Machine(env={**os.environ, "PATH": path_without({"bwrap", "strace"}, folder / "programs")})


def as_an_ordinary_user(folder: Path) -> Machine:
    """Another user than root, with a home of their own."""
    home = folder / "home"
    home.mkdir()
    if not IS_ROOT:
        return Machine(env={**os.environ, "HOME": str(home)})
    if (python := python_for_ordinary_user(home)) is None:
        raise Untestable("no interpreter, or the source, is open to users other than root")
    return Machine(python, {**ordinary_user_env(home), "TMPDIR": str(home)}, popen=ordinary_user())


def with_the_etc_of_a_full_desktop(folder: Path) -> Machine:
    """Files in /etc that libraries look for, some of them readable and some not."""
    if not desktop.can_be_made():
        raise Untestable("this user may not make mounts")
    places = iter(range(1000))

    def wrapped(argv: list[str]) -> list[str]:
        place = folder / f"desktop-{next(places)}"
        place.mkdir()
        return desktop.command(argv, place)

    return Machine(wrapped=wrapped)


def under_lc_all_c(_: Path) -> Machine:
    """The locale of a bare container."""
    return Machine(env={**os.environ, "LC_ALL": "C"})


def with_a_read_only_home(folder: Path) -> Machine:
    """A home that its user cannot write; root can write any, so another user is asked."""
    machine = as_an_ordinary_user(folder)
    temporary = folder / "temporary"
    temporary.mkdir()
    temporary.chmod(0o777)
    (folder / "home").chmod(0o555)
    return Machine(machine.python, {**machine.env, "TMPDIR": str(temporary)}, popen=machine.popen)


def in_a_path_that_contains_spaces(folder: Path) -> Machine:
    """A copy of the checkout, used instead of it."""
    copy = folder / "a folder with spaces" / "loop runner"
    everywhere = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis")

    def ignored(folder: str, names: list[str]) -> set[str]:
        """What is not part of the sources: the folder of runs is only at the top."""
        return everywhere(folder, names) | ({"runs"} if Path(folder) == SOURCE else set())

    shutil.copytree(SOURCE, copy, symlinks=True, ignore=ignored)
    return Machine(source=copy)


CONDITIONS: Mapping[str, Callable[[Path], Machine]] = {
    "without bubblewrap and strace": without_bubblewrap_and_strace,
    "as an ordinary user": as_an_ordinary_user,
    "with the /etc of a full desktop": with_the_etc_of_a_full_desktop,
    "under LC_ALL=C": under_lc_all_c,
    "with a read-only HOME": with_a_read_only_home,
    "in a path that contains spaces": in_a_path_that_contains_spaces,
}


def main(arguments: Sequence[str]) -> int:
    """Run every condition, or those whose names contain an argument; 1 if one of them fails."""
    wanted = {
        name: make for name, make in CONDITIONS.items() if not arguments or any(a in name for a in arguments)
    }
    skipped: Counter[str] = Counter()
    codes = [_try(name, make, skipped) for name, make in wanted.items()]
    for reason, count in skipped.most_common():
        print(f"skipped: {count}: {reason}")
    return max(codes, default=2)


def _try(name: str, make: Callable[[Path], Machine], skipped: Counter[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="machines-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)
        try:
            machine = make(folder)
        except Untestable as reason:
            print(f"{name}: UNTESTED: {reason}", flush=True)
            skipped[f"{name}: {reason}"] += 1
            return 0
        try:
            return _run(name, machine, folder, skipped)
        finally:
            with contextlib.suppress(OSError):
                (folder / "home").chmod(0o777)


def _run(name: str, machine: Machine, folder: Path, skipped: Counter[str]) -> int:
    tier = machine.run("-c", _TIER).stdout.strip().rsplit("\n", 1)[-1]
    base = Path(machine.env.get("TMPDIR", str(folder))) / "pytest"
    # These start programs that need the installed packages, which another interpreter does not have.
    single = TESTS if machine.python == sys.executable else ()
    ended = machine.run(*_PYTEST, f"--basetemp={base}", *SAMPLE, *single, *WAYS_OUT)
    counts = _COUNTS.findall(ended.stdout)
    print(f"{name}: tier {tier}: {counts[-1] if counts else 'the tests did not run'}", flush=True)
    for count, reason in _SKIPPED.findall(ended.stdout):
        skipped[reason] += int(count)
    if ended.returncode:
        print(ended.stdout, flush=True)
    return int(ended.returncode != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
