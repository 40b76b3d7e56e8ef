"""The models that the service offers: ``ask``, and one for each task file of a folder.

Task files are read again at each request, so a new one is offered at once. A client chooses a sub-model
(``NAME:SUB``) only from those that the task, or the service's settings, list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import loop_runner as lr
from loop_runner.serve.fault import Fault
from loop_runner.serve.service_settings import Settings

ASK = "ask"
_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Model:
    """What a model name stands for. ``keys`` are those of its task file, with absolute paths."""

    name: str
    keys: Mapping[str, Any]
    sub_model: str | None = None


def names(settings: Settings) -> Iterator[str]:
    """Every model that a client may name. A task file that cannot be used is left out."""
    for base in (ASK, *_files(settings)):
        try:
            keys = _keys(settings, base)
        except lr.LoopRunnerError:
            continue
        yield base
        yield from (f"{base}:{sub}" for sub in _subs(settings, keys))


def find(settings: Settings, name: str) -> Model:
    """The model called ``name``; ``Fault`` 404 when there is none, 500 when its task file is wrong."""
    base, has_sub, sub = name.partition(":")
    if base != ASK and base not in _files(settings):
        raise _unknown(name)
    try:
        keys = _keys(settings, base)
    except lr.LoopRunnerError as error:
        message = f"the task file of the model `{base}` cannot be used: {error.message}"
        raise Fault(500, "task_file_invalid", message) from error
    if has_sub and sub not in _subs(settings, keys):
        raise _unknown(name)
    return Model(base, keys, sub or None)


def _unknown(name: str) -> Fault:
    return Fault(
        404, "model_not_found", f"there is no model {name[:100]!r}: GET /v1/models lists them", "model"
    )


def _files(settings: Settings) -> dict[str, Path]:
    """Model name to task file: ``NAME.yaml``, or ``NAME/task.yaml``."""
    if settings.tasks is None:
        return {}
    result: dict[str, Path] = {}
    for path in sorted(settings.tasks.iterdir()):
        file = path / "task.yaml" if path.is_dir() else path
        name = path.name if path.is_dir() else path.stem
        if file.suffix in _ENDINGS and file.is_file() and name != ASK and ":" not in name:
            result.setdefault(name, file)
    return result


def _keys(settings: Settings, base: str) -> dict[str, Any]:
    if base == ASK:
        return {
            "type": "ask",
            "prompts": "none",
            "inputs": [_input(text) for text in settings.inputs],
            "verifiers": [{"citations": {"answer_in_quote": True, "derived": True, "about_question": True}}],
            "budget": {"passes": 5},
            **({"model": settings.model} if settings.model else {}),
            **({"sub_models": list(settings.sub_models)} if settings.sub_models else {}),
        }
    keys = yaml.safe_load(lr.Task.from_file(_files(settings)[base]).to_yaml())
    assert isinstance(keys, dict)
    keys.pop("run_dir", None)
    return keys


def _input(text: str) -> dict[str, str]:
    is_url = text.startswith(("http://", "https://"))
    return {"url": text} if is_url else {"path": str(Path(text).absolute())}


def _subs(settings: Settings, keys: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(keys.get("sub_models") or ()), *settings.sub_models]))
