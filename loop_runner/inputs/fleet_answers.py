"""The verified answers of a fleet as inputs, and the way from each to the inputs of its job.

What an earlier run wrote is no evidence. So the origin of such a text names ``inputs.json`` of its job, by
hash, and a citation is followed to the texts that are listed there (``job_inputs``, ``verify/followed``).
Reads the folder of a fleet's store, as ``docs/fleet.md`` describes it, and believes nothing in it: a job
counts if its run folder has committed this answer as accepted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.inputs.finding import FoundFile, Root
from loop_runner.inputs.on_disk import hash_of_original, is_same
from loop_runner.records import InputText, Origin
from loop_runner.workspace.history import History

KIND = "answer"  # of the origin of such a text
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_JOBS = 100_000


def find(root: Root, skipped: list[tuple[str, str]]) -> list[FoundFile]:
    """The answer of each job in the store ``root.folder`` that ended verified, by the names of the jobs."""
    if not (root.folder / "fleet.json").is_file():
        raise ConfigError(
            f"{root.given!r} is not the store of a fleet",
            why="the input `fleet` takes the verified answers of its jobs, and fleet.json is missing",
            hint="name the folder of `store:` in the fleet file, or one that `fleet results --runs` wrote",
        )
    result = []
    for name in _jobs(root.folder):
        if why := _why_not(root.folder, name):
            skipped.append((f"{root.given.rstrip('/')}/{name}", why))
        else:
            result.append(FoundFile(root, f"{name}.md", str(root.folder / "runs" / name / "answer.md")))
    return result


def origin_of(item: FoundFile) -> Origin:
    """Where the text rests: the list of the inputs of its job."""
    path = Path(item.path).with_name("inputs.json")
    return Origin(path, hash_of_original(path), KIND, item.rel.removesuffix(".md"))


def moved(text: InputText, folder: Path) -> InputText:
    """An answer as found in ``folder``, a store with the same runs; unchanged where there is none."""
    assert text.origin is not None
    run = folder / "runs" / text.origin.member
    path, listed = run / "answer.md", run / "inputs.json"
    candidate = replace(text, path=path, origin=replace(text.origin, path=listed))
    return candidate if is_same(candidate) and hash_of_original(listed) == text.origin.sha256 else text


def _jobs(folder: Path) -> Iterator[str]:
    try:
        names = sorted(path.stem for path in (folder / "jobs").glob("*.json"))
    except OSError as error:
        raise ConfigError(
            f"{folder / 'jobs'} cannot be read: {error.strerror}",
            why="it lists the jobs of the fleet",
            hint="check the permissions of the store",
        ) from error
    yield from names[:_MAX_JOBS]


def _why_not(store: Path, name: str) -> str:
    """Why the answer of a job is left out; "" when it is verified."""
    run = store / "runs" / name
    try:
        state = json.loads((store / "jobs" / f"{name}.json").read_bytes())
        status = state.get("status")
        if not _NAME.fullmatch(name) or status != "verified":
            return f"no verified answer: {status!s:.40}"
        with History(run) as history:
            is_accepted = history.head().outcome == "accepted"
            files = [(history.read(file), run / file) for file in ("answer.md", "inputs.json")]
        if is_accepted and all(_is_file(path) and path.read_bytes() == data for data, path in files):
            return ""
    except (OSError, ValueError, AttributeError, RecursionError, LoopRunnerError):
        return "no verified answer: its run folder cannot be read"
    return "no verified answer: its run folder does not hold one"


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
