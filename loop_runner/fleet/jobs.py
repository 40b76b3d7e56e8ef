"""The jobs of a fleet: one for each file, row, list item or combination, each with a name that never changes.

Owns the names. A job's name depends only on what the job is about, never on its place in the list, so that
a list may grow between two runs of a fleet.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import ConfigError

_MOST_JOBS = 1_000_000
_NAME_CHARS = 60
_HASH_CHARS = 8
_WHY = "a fleet runs its task once for each job"
_SHAPES = (
    "jobs: {glob: contracts/*.pdf}, a list, a .jsonl or .csv file, or {matrix: {model: [...], input: [...]}}"
)


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the fleet's task. ``values`` is what the template calls ``job``; it is plain JSON."""

    name: str
    values: Mapping[str, Any]

    def digest(self) -> str:
        """SHA-256 of the values: whether the job is still the one that a store knows."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()


def read_jobs(source: Any, folder: Path) -> tuple[Job, ...]:
    """The jobs that the key ``jobs`` of a fleet file in ``folder`` describes, in its order.

    Raises ``ConfigError`` for a shape that is none of those, for no jobs, and for two with the same name.
    """
    values = list(itertools.islice(_values(source, folder), _MOST_JOBS + 1))
    if not values:
        raise ConfigError("the fleet has no jobs", why=_WHY, hint=_SHAPES)
    if len(values) > _MOST_JOBS:
        raise ConfigError(f"the fleet has more than {_MOST_JOBS:,} jobs", why=_WHY, hint="split it")
    jobs = tuple(Job(_name(item), item) for item in values)
    _refuse_twins(jobs)
    return jobs


def shard_of(name: str, count: int) -> int:
    """The shard, from 0 to ``count`` - 1, that a job belongs to: the same everywhere and always."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count


def _values(source: Any, folder: Path) -> Iterator[Mapping[str, Any]]:
    match source:
        case str():
            yield from _from_file(folder / source)
        case [*items]:
            yield from map(_from_item, items)
        case {"glob": str() | [*_] as patterns, **rest} if not rest:
            yield from _from_globs([patterns] if isinstance(patterns, str) else patterns, folder)
        case {"matrix": {**axes}, **rest} if not rest and axes:
            yield from _from_matrix(axes)
        case _:
            raise ConfigError(
                f"`jobs` is none of the known shapes: {str(source)[:80]!r}", why=_WHY, hint=_SHAPES
            )


def _from_globs(patterns: Sequence[Any], folder: Path) -> Iterator[Mapping[str, Any]]:
    result = {path for pattern in patterns for path in folder.glob(str(pattern)) if path.is_file()}
    for path in sorted(result):
        relative = path.relative_to(folder).as_posix()
        yield {"path": relative, "name": relative, "stem": path.stem}


def _from_matrix(axes: Mapping[Any, Any]) -> Iterator[Mapping[str, Any]]:
    for axis, choices in axes.items():
        if not isinstance(choices, list) or not choices:
            raise ConfigError(f"jobs.matrix.{axis} is not a list", why=_WHY, hint=_SHAPES)
    for combination in itertools.product(*axes.values()):
        yield _plain(dict(zip(axes, combination, strict=True)), "a job of the matrix")


def _from_file(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the jobs file {path} cannot be read: {error}", why=_WHY, hint=_SHAPES) from error
    if path.suffix == ".csv":
        yield from _from_csv(text, path)
    elif path.suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield _from_json_line(line, f"{path}:{number}")
    else:
        raise ConfigError(f"{path}: jobs are read from .jsonl and .csv files", why=_WHY, hint=_SHAPES)


def _from_csv(text: str, path: Path) -> Iterator[Mapping[str, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    for row in rows:
        if "" in row or None in row.values():
            raise ConfigError(
                f"{path}:{rows.line_num}: the row does not have the columns of the first line",
                why="a value would be missing or stand in the wrong column",
                hint="give every row as many fields as the header has",
            )
        yield row


def _from_json_line(line: str, place: str) -> Mapping[str, Any]:
    try:
        return _from_item(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{place} is not JSON: {error}", why=_WHY, hint="one JSON object per line"
        ) from error


def _from_item(item: Any) -> Mapping[str, Any]:
    return _plain(item if isinstance(item, dict) else {"value": item}, "a job")


def _plain(values: Mapping[Any, Any], what: str) -> Mapping[str, Any]:
    """``values`` as JSON has them: dates of YAML become texts, and keys must be names."""
    if bad := [key for key in values if not isinstance(key, str) or not key.isidentifier()]:
        raise ConfigError(
            f"{what} has the key {bad[0]!r}, which is not a name",
            why="the template reads it as {{ job.KEY }}",
            hint="use letters, digits and _",
        )
    return dict(json.loads(json.dumps(values, default=str)))


def _name(values: Mapping[str, Any]) -> str:
    """``values["name"]`` if it can name a folder, else its readable part and a hash."""
    given = values.get("name")
    if isinstance(given, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", given):
        return given
    whole = given if isinstance(given, str) and given else json.dumps(values, sort_keys=True)
    readable = given or next((str(value) for value in values.values() if isinstance(value, str | int)), "")
    slug = re.sub(r"[^a-z0-9]+", "-", str(readable).lower()).strip("-")[:_NAME_CHARS].strip("-")
    return f"{slug or 'job'}-{hashlib.sha256(str(whole).encode()).hexdigest()[:_HASH_CHARS]}"


def _refuse_twins(jobs: Sequence[Job]) -> None:
    # Compared without case, as some file systems do.
    counts = Counter(job.name.casefold() for job in jobs)
    if twins := [job.name for job in jobs if counts[job.name.casefold()] > 1]:
        raise ConfigError(
            f"{counts[twins[0].casefold()]} jobs have the name {twins[0]!r}",
            why="the name of a job is the name of its run folder, so both would use one run",
            hint="give each job its own `name`, or remove the duplicate",
        )
