"""How a run ended, with what a person reads about it: citations as found, the story, the next commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import inputs
from loop_runner.errors import LoopRunnerError
from loop_runner.records import Inputs, Outcome
from loop_runner.runs import next_steps
from loop_runner.verify import LocatedCitation, locate
from loop_runner.workspace.history import History


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run. ``story`` has the subject of each pass, ``steps`` are commands to type next.

    ``verdict`` is that of the last finished pass, as ``verdict.json`` holds it; empty when none was finished.
    """

    outcome: Outcome
    folder: Path
    citations: tuple[LocatedCitation, ...]
    story: tuple[str, ...]
    verdict: Mapping[str, Any]
    steps: tuple[str, ...]


def of_run(
    outcome: Outcome, folder: Path, env: Mapping[str, str], given: next_steps.Given = next_steps.NOTHING
) -> Ending:
    """What there is to read about a run that ended in ``outcome``; ``given``: what ``resume`` was given."""
    with History(folder) as history:
        texts = _texts(history, env, given.inputs)
        story = tuple(entry.subject for entry in history.commits(first_parent=True))
        verdict = _last_verdict(history, outcome)
    citations = tuple(locate(outcome.answer.content, texts))
    return Ending(outcome, folder, citations, story, verdict, tuple(next_steps.after(outcome, folder, given)))


def _texts(history: History, env: Mapping[str, str], inputs_folder: Path | None) -> Inputs:
    """The inputs, where they lie now; what cannot be read again is shown as such."""
    texts = inputs.from_json((history.read("inputs.json") or b"").decode())
    texts = texts if inputs_folder is None else inputs.found_in(texts, inputs_folder)
    with suppress(LoopRunnerError):
        cache = inputs.cache_dir(env)
        texts = inputs.restore(texts, inputs.Converter(cache), cache, history.read)
    return texts


def _last_verdict(history: History, outcome: Outcome) -> Mapping[str, Any]:
    """``verdict.json`` of the last finished pass; empty when there is none."""
    path = f"passes/{outcome.checkpoint.pass_number:04d}/verdict.json"
    data = history.read(path)
    with suppress(ValueError, RecursionError):
        verdict = json.loads(data or b"{}")
        return verdict if isinstance(verdict, dict) else {}
    return {}
