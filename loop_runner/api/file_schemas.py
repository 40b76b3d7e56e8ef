"""Writes the formats of task and rules files as JSON Schema, for the completion of editors.

The keys and what they take come from the code that reads them (``task``, the ``KEYS`` of verifiers,
``audit.rules``), the sentence about each key of a rule from the table in docs/audit.md. docs/schemas/ has
what ``python -m loop_runner.api.file_schemas`` writes; a test compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from loop_runner.audit import rules
from loop_runner.inputs import finding
from loop_runner.task import resources, task_schema
from loop_runner.tools import entry_schema
from loop_runner.verify import external_hook
from loop_runner.verify import format as verifiers

_DIALECT = "http://json-schema.org/draft-07/schema#"
_KEY = re.compile(r"`(\w+)`")


def schemas(plugins: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Each schema by the name of its file; ``plugins`` are kinds of verifiers of other packages."""
    return {"task.schema.json": task(plugins), "rules.schema.json": audit_rules()}


def task(plugins: Iterable[str] = ()) -> dict[str, Any]:
    """The format of a task file."""
    parts = {
        "input": finding.schema(),
        "verifier": verifiers.verifier(tuple(plugins)),
        "group": verifiers.group(),
        "stop_hook": external_hook.schema(),
        "tool": entry_schema.schema(),
    }
    return {"$schema": _DIALECT, "title": "A task file of loop-runner", **task_schema.schema(parts)}


def audit_rules() -> dict[str, Any]:
    """The format of a rules file."""
    schema = rules.schema()
    rule, sentences = schema["properties"]["rules"]["items"]["properties"], _sentences("audit")
    for key, sentence in sentences.items():
        if key in rule:
            rule[key] = {"description": sentence, **rule[key]}
    return {"$schema": _DIALECT, "title": "A rules file of loop-runner", **schema}


def _sentences(page: str) -> dict[str, str]:
    """The third column, by key, of the table of keys on a page."""
    lines = (resources.folder("docs") / f"{page}.md").read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("| key |"))
    sentences: dict[str, str] = {}
    for line in takewhile(lambda line: line.startswith("| "), lines[start:]):
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        for key in _KEY.findall(cells[0]):
            sentences.setdefault(key, task_schema.without_links(cells[2]))
    return sentences


def text(schema: Mapping[str, Any]) -> str:
    """A schema as it is in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write every schema into ``folder``."""
    folder.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_text(text(schema), encoding="utf-8")


if __name__ == "__main__":
    write(resources.folder("docs") / "schemas")
