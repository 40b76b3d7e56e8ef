"""Makes task files whose model is a script, and runs them in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from loop_runner.events import Event
from loop_runner.records import Outcome
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config


def cell(code: str) -> str:
    """A root reply that holds ``code`` in the fence that the prompt asks for."""
    return f"```repl\n{code.strip()}\n```"


def ready(content: str) -> str:
    """A root reply that sets ``content`` ready."""
    return cell(f"answer['content'] = {content!r}\nanswer['ready'] = True")


def write_task(
    folder: Path,
    *,
    root: Sequence[str],
    sub: Sequence[Mapping[str, Any]] = (),
    verifiers: Sequence[Any] = ({"contains": "42"},),
    texts: Mapping[str, str] | None = None,
    **keys: Any,
) -> Path:
    """Write ``task.yaml``, its script and its input files into ``folder``; return the task file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (texts or {"notes.txt": "The answer is 42.\nNothing else.\n"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "script.yaml").write_text(yaml.safe_dump({"root": list(root), "sub": list(sub)}))
    task = {
        "name": "scripted",
        "prompt": "What is the answer?",
        "inputs": sorted(texts or ["notes.txt"]),
        "model": "script:script.yaml",
        "verifiers": list(verifiers),
        **keys,
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    return folder / "task.yaml"


def run_task(task_file: Path, folder: Path, events: list[Event] | None = None) -> Outcome:
    """Run ``task_file`` to its end in run folder ``folder``."""
    listeners = () if events is None else (events.append,)
    return runs.start(config.read_task(task_file), folder, RunContext({}, listeners))
