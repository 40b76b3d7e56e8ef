"""What this installation has: models, pages of the documentation, formats for editors, types of tasks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop_runner.model.providers.fetch import ModelEntry, Progress
    from loop_runner.task.scaffold import Written

__all__ = [
    "Provider",
    "fetch_model",
    "local_models",
    "new_task",
    "pages",
    "providers",
    "schemas",
    "task_types",
]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of models. ``root`` and ``sub`` are its default models; ``keys`` environment variables."""

    name: str
    what: str
    root: str
    sub: str
    keys: tuple[str, ...]
    has_key: bool  # one of ``keys`` is set


def providers() -> tuple[Provider, ...]:
    """The providers that a model can be asked from."""
    from loop_runner.model import catalog

    return tuple(
        Provider(
            entry.name, entry.what, entry.root, entry.sub, entry.keys, any(map(os.environ.get, entry.keys))
        )
        for entry in catalog.load().providers.values()
    )


def local_models() -> tuple[ModelEntry, ...]:
    """The local models, fetched or not: ``local:NAME``."""
    from loop_runner.model.providers import fetch

    return fetch.list_models(fetch.models_dir(os.environ))


def fetch_model(name: str, on_progress: Callable[[Progress], object] = lambda _: None) -> Path:
    """Fetch a local model once; an interrupted fetch continues where it was. Where its file is."""
    from loop_runner.model.providers import fetch

    return fetch.fetch(name, fetch.models_dir(os.environ), on_progress)


def pages() -> Mapping[str, Path]:
    """The pages of the documentation, by name: Markdown files."""
    from loop_runner.task import resources

    return {path.stem: path for path in sorted(resources.folder("docs").glob("*.md"))}


def schemas() -> Mapping[str, dict[str, Any]]:
    """The formats of task and rules files as JSON Schemas, with the verifiers of installed packages."""
    from loop_runner import plugins
    from loop_runner.api import file_schemas

    return file_schemas.schemas(plugins.find(plugins.VERIFIERS))


def task_types() -> Mapping[str, str]:
    """The types of tasks that ``new_task`` makes, each with a line about it."""
    from loop_runner.task import scaffold

    return {entry.name: entry.about for entry in scaffold.offered()}


def new_task(type_name: str, folder: str | PathLike[str]) -> Written:
    """Write a folder for a task: task file, sample input, verifiers, a rehearsal without a model."""
    from loop_runner.task import scaffold

    return scaffold.create(type_name, Path(folder))
