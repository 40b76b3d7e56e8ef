"""The task of one job: the fleet's task file with ``{{ job.KEY }}`` filled in.

The file is read as YAML first and its texts are filled in afterwards, so no value of a job can add a key,
and a value is never rendered itself. Owns what a template may use: ``job`` and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loop_runner import ConfigError
from loop_runner.fleet.jobs import Job

_WHY = "every job runs this task with its own values"
_FILLED = (
    "name",
    "prompt",
    "prompt_file",
    "inputs",
    "verifiers",
    "model",
    "sub_model",
    "budget",
    "workspace",
)


class Template:
    """A task file with places for a job's values."""

    def __init__(self, path: Path) -> None:
        """Raises ``ConfigError`` when ``path`` is no task file."""
        self.path = path
        try:
            self.source = path.read_bytes()
            self._task = yaml.safe_load(self.source)
        except (OSError, yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the task file {path} cannot be read: {error}",
                why=_WHY,
                hint="check `task:` in the fleet file",
            ) from error
        if not isinstance(self._task, dict):
            raise ConfigError(f"{path} is not a mapping of keys", why=_WHY, hint="see docs/task-file.md")
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        # Compiled once, not for each of many jobs.
        self._text = functools.cache(environment.from_string)
        self._expression = functools.cache(
            functools.partial(environment.compile_expression, undefined_to_none=False)
        )

    def task_of(self, job: Job) -> dict[str, Any]:
        """The keys of the job's task. Raises ``ConfigError`` that names the key and the job."""
        task = {
            key: self._filled(value, job, key) if key in _FILLED else value
            for key, value in self._task.items()
        }
        return task | {"name": job.name, "task_dir": str(self.path.parent.resolve())}

    def _filled(self, value: Any, job: Job, key: str) -> Any:
        match value:
            case str() if "{{" in value or "{%" in value:
                return self._render(value, job, key)
            case list():
                return [self._filled(item, job, f"{key}[{number}]") for number, item in enumerate(value)]
            case dict():
                return {name: self._filled(item, job, f"{key}.{name}") for name, item in value.items()}
        return value

    def _render(self, text: str, job: Job, key: str) -> Any:
        whole = text.strip()
        try:
            if whole.startswith("{{") and whole.endswith("}}") and whole.count("{{") == 1:
                # A text that is one value keeps its type: a number stays a number, a list a list.
                return self._expression(whole[2:-2])(job=_view(job))
            return self._text(text).render(job=_view(job))
        except (TemplateError, TypeError, ValueError) as error:
            known = ", ".join(sorted(_view(job)))
            raise ConfigError(
                f"{self.path}: `{key}` cannot be filled in for the job {job.name!r}: {error}",
                why=_WHY,
                hint=f"the values of this job are: {known}",
            ) from error


def _view(job: Job) -> Mapping[str, Any]:
    return {"name": job.name, **job.values}


def as_yaml(task: Mapping[str, Any]) -> str:
    """The task as a file that ``loop-runner run`` takes."""
    return yaml.safe_dump(dict(task), sort_keys=False, allow_unicode=True, width=110)
