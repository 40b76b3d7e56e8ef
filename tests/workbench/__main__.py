"""``python -m tests.workbench [TASK...]``: play the nine tasks and write their figures to bench/WORKBENCH.md.

``--before PYTHON`` plays them with the loop-runner of another interpreter as well, and keeps those figures in
bench/workbench.json for later tables. Ends with 1 if a task is not verified or its requests are at fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.workbench.figures import Figures, faults, figures, table
from tests.workbench.playing import Recording, play
from tests.workbench.tasks import TASKS

_BENCH = Path(__file__).parents[2] / "bench"
_TABLE, _BEFORE = _BENCH / "WORKBENCH.md", _BENCH / "workbench.json"
_ABOUT = (
    "What nine tasks cost the root model, as `make workbench` printed it: tokens (four characters each)"
    " and counts. Where there is an arrow, the figure before it is of {version}, played by the same"
    " scripts. *First message* is that of pass 1, *re-entry* the longest first message of a later pass,"
    " and *sent in all* the sum over all requests, system prompt included. A provider's cache reads most"
    " of that, because each request begins with the bytes of the one before it. The replies are scripted,"
    " so the number of turns is the script's: it falls where a helper replaces code or a rejected pass."
    " `python -m tests.workbench --requests DIR` writes every request."
)


def main() -> int:
    """Play, print and write; see the module."""
    options = _options()
    names = options.tasks or list(TASKS)
    failed = False
    if options.before:
        earlier, _ = _play_all(names, options, options.before)
        known = {
            "version": options.version,
            "figures": {name: asdict(result) for name, result in earlier.items()},
        }
        _BEFORE.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    now, failed = _play_all(names, options, sys.executable)
    known = json.loads(_BEFORE.read_text(encoding="utf-8")) if _BEFORE.exists() else {}
    before = {name: result for name, result in known.get("figures", {}).items() if name in now}
    shown = table(now, before)
    print(shown)
    if not options.tasks and options.size == "full" and not failed:
        about = textwrap.fill(_ABOUT.format(version=known.get("version", "an earlier version")), 118)
        _TABLE.write_text(f"# The workbench\n\n{about}\n\n{shown}\n", encoding="utf-8")
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.workbench")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all without any")
    parser.add_argument("--size", choices=("sample", "full"), default="full", help="of the inputs")
    parser.add_argument(
        "--requests", type=Path, metavar="DIR", help="write every request with its reply there"
    )
    parser.add_argument("--before", metavar="PYTHON", help="an interpreter with the version to compare with")
    parser.add_argument(
        "--version", default="an earlier version", help="what that version is called in the table"
    )
    options = parser.parse_args()
    if unknown := set(options.tasks) - set(TASKS):
        parser.error(f"there is no task {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")
    return options


def _play_all(
    names: Sequence[str], options: argparse.Namespace, python: str
) -> tuple[Mapping[str, Figures], bool]:
    result: dict[str, Figures] = {}
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory(prefix="loop-runner-workbench-") as folder:
            recording = play(TASKS[name], Path(folder), options.size, python)
        if options.requests:
            place = "before" if python == options.before else "now"
            recording.save(options.requests / place / name)
        problems = _problems(recording)
        failed |= bool(problems)
        state = "; ".join(problems) or "verified"
        print(f"{name}: {state} ({recording.seconds:.1f} s, {recording.kills} kills)", flush=True)
        result[name] = figures(recording)
    return result, failed


def _problems(recording: Recording) -> list[Any]:
    status = recording.outcome.get("status")
    ended = [] if status == "verified" else [f"{status}: {recording.outcome.get('reason', recording.stderr)}"]
    return [*ended, *faults(recording)]


if __name__ == "__main__":
    sys.exit(main())
