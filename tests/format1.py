"""Makes the run folders of format 1 in ``tests/data/format1``, which every later version must be able to use.

    python -m tests.format1 make [NAME ...]    # needs the version whose folders are to be kept

The folders were made once, by the version that defined the format, and are never rebuilt: the tests only
read them. A new kind of run may be added. Each run is a git bundle. What the history does not hold (the
journal of a run that was killed, marks of what was sent) lies beside it in ``NAME.private.tar.gz``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data" / "format1"
TASKS = DATA / "tasks"
# Where the folders were made. It is found on no machine, so inputs and programs must be named anew.
ROOT = Path("/tmp/loop-runner-format1")
_KEPT_PRIVATE = ("journal", "sent")


@dataclass(frozen=True)
class Step:
    """One command, its exit code, and where it is killed."""

    args: tuple[str, ...]
    exit_code: int = 0
    failpoint: str = ""


@dataclass(frozen=True)
class Recipe:
    """How a run is made: ``task`` is a folder below ``tasks/``, ``folder`` the pattern of the run folder."""

    task: str
    steps: tuple[Step, ...]
    folder: str


def run(*args: str, code: int = 0, failpoint: str = "") -> Step:
    """``loop-runner run`` of the task."""
    return Step(("run", "task/task.yaml", "-q", *args), code, failpoint)


KILLED = -9
FIRST_PASS = run("--passes", "1", code=3)
AUDIT = (
    "audit",
    "src",
    "--rules",
    "rules.yaml",
    "--model",
    "script:script.yaml",
    "--quiet",
    "--runs",
    "../runs",
)
RECIPES = {
    "plain": Recipe("plain", (run(),), "plain"),
    "plain-killed": Recipe("plain", (run(code=KILLED, failpoint="turn.ran:1:kill"),), "plain"),
    "session": Recipe("session", (run(),), "session"),
    "session-limit": Recipe("session", (FIRST_PASS,), "session"),
    "session-killed": Recipe("session", (run(code=KILLED, failpoint="turn.ran:3:kill"),), "session"),
    "session-killed-at-the-gate": Recipe(
        "session", (run(code=KILLED, failpoint="verify.decided:2:kill"),), "session"
    ),
    "session-rewound": Recipe("session", (run(), Step(("rewind", "session", "2.1"))), "session"),
    "gates": Recipe("gates", (run(),), "gates"),
    "gates-limit": Recipe("gates", (FIRST_PASS,), "gates"),
    "direct": Recipe("direct", (run(),), "direct"),
    "direct-limit": Recipe("direct", (FIRST_PASS,), "direct"),
    "direct-killed": Recipe("direct", (run(code=KILLED, failpoint="commit.write:4:kill"),), "direct"),
    "children": Recipe("children", (run(),), "children"),
    "children-limit": Recipe("children", (FIRST_PASS,), "children"),
    "children-killed": Recipe("children", (run(code=KILLED, failpoint="turn.ran:2:kill"),), "children"),
    "agent": Recipe("agent", (run(),), "agent"),
    "agent-limit": Recipe("agent", (FIRST_PASS,), "agent"),
    "agent-killed": Recipe("agent", (run(code=KILLED, failpoint="pass.commit:1:kill"),), "agent"),
    "audit": Recipe("audit", (Step(AUDIT, 1),), "audit-*"),
    "audit-limit": Recipe("audit", (Step((*AUDIT, "--set", "budget.subcalls=1"), 3),), "audit-*"),
    "forked": Recipe(
        "plain", (run(), Step(("fork", "plain@0", "forked")), Step(("resume", "forked", "-q"))), "forked"
    ),
    "forked-limit": Recipe("session", (FIRST_PASS, Step(("fork", "session@1.6", "forked"))), "forked"),
}


def main() -> int:
    """Make the runs that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["make"])
    parser.add_argument("names", nargs="*", help="the runs to make; without any, all")
    given = parser.parse_args()
    for name in given.names or RECIPES:
        _make(name, RECIPES[name])
        print(f"{name}: {(DATA / f'{name}.bundle').stat().st_size:,} bytes", flush=True)
    return 0


def _make(name: str, recipe: Recipe) -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    try:
        shutil.copytree(TASKS / recipe.task, ROOT / "task")
        (ROOT / "python").symlink_to(sys.prefix)  # verdicts name the interpreter of their programs
        for step in recipe.steps:
            _do(step)
        (folder,) = (path for path in (ROOT / "runs").glob(recipe.folder) if path.is_dir())
        _bundle(folder, DATA / f"{name}.bundle")
        _keep_private(folder / ".git" / "loop-runner", DATA / f"{name}.private.tar.gz")
    finally:
        shutil.rmtree(ROOT, ignore_errors=True)


def _do(step: Step) -> None:
    programs = ROOT / "python" / "bin"
    environment = {
        "PATH": f"{programs}:{os.defpath}",
        "HOME": str(ROOT / "home"),
        "LOOP_RUNNER_STATE": str(ROOT / "state"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "LOOP_RUNNER_FAILPOINT": step.failpoint,
    }
    where = ROOT / "task" if step.args[0] == "audit" else ROOT
    ended = subprocess.run(
        [programs / "python", "-m", "loop_runner", *step.args], cwd=where, env=environment, check=False
    )
    if ended.returncode != step.exit_code:
        raise SystemExit(f"{step.args} ended with {ended.returncode}, not with {step.exit_code}")


def _bundle(folder: Path, to: Path) -> None:
    """All refs: a rewind keeps what it left under ``refs/loop-runner``."""
    subprocess.run(["git", "-C", folder, "gc", "-q", "--prune=now"], check=True)
    subprocess.run(["git", "-C", folder, "bundle", "create", "-q", to, "HEAD", "--all"], check=True)


def _keep_private(folder: Path, to: Path) -> None:
    """The journal and the marks of what was sent, if they hold anything that is not committed."""
    to.unlink(missing_ok=True)
    names = [name for name in _KEPT_PRIVATE if (folder / name).is_file()]
    if not any((folder / name).stat().st_size > _EMPTY[name] for name in names):
        return
    with tarfile.open(to, "w:gz") as tar:
        for name in names:
            tar.add(folder / name, name, filter=_without_owner)


_EMPTY = {"journal": 22, "sent": 0}  # bytes of a file with no records


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


if __name__ == "__main__":
    sys.exit(main())
