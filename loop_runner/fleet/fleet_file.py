"""The fleet file: which task, which jobs, how much money, where they meet. Checked before anything starts."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loop_runner import ConfigError
from loop_runner.fleet.jobs import Job, read_jobs
from loop_runner.fleet.stores import Identity
from loop_runner.fleet.template import Template

_WHY = "it says which task runs for which jobs"
_HINT = "docs/fleet.md describes every key"
_KEYS = ("name", "task", "jobs", "budget", "concurrency", "order", "store", "results")
_ORDERS = ("budget", "failed-first")
_RESULTS = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet file, read and checked. Amounts are US dollars; None is no limit."""

    path: Path
    name: str
    template: Template
    jobs: tuple[Job, ...]
    store: str
    results: Path
    usd: float | None = None
    per_job_usd: float | None = None
    concurrency: int = 4
    order: tuple[str, ...] = ("failed-first",)

    @property
    def folder(self) -> Path:
        """What relative paths start at."""
        return self.path.parent

    @property
    def identity(self) -> Identity:
        """What the store belongs to."""
        return Identity(self.name, hashlib.sha256(self.template.source).hexdigest())

    def task_of(self, job: Job) -> dict[str, Any]:
        """The keys of the task of ``job``, within the money that one job may cost."""
        task = self.template.task_of(job)
        if self.per_job_usd is None:
            return task
        budget = dict(task.get("budget") or {})
        own = budget.get("usd")
        budget["usd"] = self.per_job_usd if own is None else min(float(own), self.per_job_usd)
        return task | {"budget": budget}


def read_fleet(path: Path) -> Fleet:
    """Read and check a fleet file. Raises ``ConfigError`` with every key that is wrong."""
    try:
        data = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigError(f"the fleet file {path} cannot be read: {error}", why=_WHY, hint=_HINT) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is not a mapping of keys", why=_WHY, hint=_HINT)
    _refuse_unknown(data, _KEYS, path)
    budget = _mapping(data.get("budget", {}), "budget", path)
    _refuse_unknown(budget, ("usd", "per_job"), path, "budget.")
    per_job = _mapping(budget.get("per_job", {}), "budget.per_job", path)
    _refuse_unknown(per_job, ("usd",), path, "budget.per_job.")
    total, item = (
        _usd(budget.get("usd"), "budget.usd", path),
        _usd(per_job.get("usd"), "budget.per_job.usd", path),
    )
    if total is not None and item is None:
        raise _wrong(path, "`budget.usd` needs `budget.per_job.usd`, the most that one job may cost")
    folder = path.resolve().parent
    return Fleet(
        path=path.resolve(),
        name=_name(data.get("name"), path),
        template=Template(folder / _text(data, "task", path)),
        jobs=read_jobs(data.get("jobs"), folder),
        store=_text(data, "store", path),
        results=_results(folder / str(data.get("results", "results.jsonl")), path),
        usd=total,
        per_job_usd=item,
        concurrency=_count(data.get("concurrency", 4), path),
        order=_order(data.get("order", ["failed-first"]), path),
    )


def _refuse_unknown(data: Mapping[Any, Any], known: tuple[str, ...], path: Path, prefix: str = "") -> None:
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            guess = f"; did you mean `{prefix}{near[0]}`?" if near else f"; known: {', '.join(known)}"
            raise _wrong(path, f"the key `{prefix}{key}` is unknown{guess}")


def _wrong(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}", why=_WHY, hint=_HINT)


def _mapping(value: Any, key: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, f"`{key}` is not a mapping")
    return value


def _text(data: Mapping[str, Any], key: str, path: Path) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(path, f"`{key}` is missing, or not a text")
    return value


def _name(value: Any, path: Path) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise _wrong(path, "`name` must be letters, digits, '.', '_' and '-'")
    return value


def _usd(value: Any, key: str, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _wrong(path, f"`{key}` must be a number of US dollars above 0")
    return float(value)


def _count(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(path, "`concurrency` must be an integer >= 1")
    return value


def _order(value: Any, path: Path) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if unknown := [item for item in values if item not in _ORDERS]:
        raise _wrong(path, f"`order` has {unknown[0]!r}; known: {', '.join(_ORDERS)}")
    return tuple(values)


def _results(target: Path, path: Path) -> Path:
    if target.suffix not in _RESULTS:
        raise _wrong(path, f"`results` must end in {', '.join(_RESULTS)}")
    return target
