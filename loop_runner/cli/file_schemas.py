"""Writes the formats of task and rules files as JSON Schema, for the completion of editors.

The keys and what they take come from the code that reads them (``config``, the ``KEYS`` of verifiers,
``audit.rules``), the sentence about each key from the tables of the documentation. docs/schemas/ holds what
``python -m loop_runner.cli.file_schemas`` writes; a test compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loop_runner.audit import rules
from loop_runner.inputs import finding
from loop_runner.task import config, resources
from loop_runner.verify import external_hook
from loop_runner.verify import format as verifiers

_DIALECT = "http://json-schema.org/draft-07/schema#"
_KEY = re.compile(r"`(\w+)`")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")

Sentences = Mapping[str, Mapping[str, str]]  # by the table's first heading, then by key


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
    }
    schema = config.schema(parts)
    sentences = _sentences("task-file")
    _describe(schema["properties"], sentences["key"])
    for name, section in schema["properties"].items():
        if "properties" in section:
            _describe(section["properties"], sentences[name])
    return {"$schema": _DIALECT, "title": "A task file of loop-runner", **schema}


def audit_rules() -> dict[str, Any]:
    """The format of a rules file."""
    schema = rules.schema()
    _describe(schema["properties"]["rules"]["items"]["properties"], _sentences("audit", column=2)["key"])
    return {"$schema": _DIALECT, "title": "A rules file of loop-runner", **schema}


def _describe(properties: dict[str, Any], sentences: Mapping[str, str]) -> None:
    for key, schema in list(properties.items()):
        if key in sentences:
            properties[key] = {"description": sentences[key], **schema}


def _sentences(page: str, column: int = 1) -> Sentences:
    """What the tables of a page say about each key, in their ``column``."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in (resources.folder("docs") / f"{page}.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")] if line.startswith("| ") else []
        if not cells:
            heading = ""
        elif not heading:
            heading = cells[0].strip("`")
        elif len(cells) > column:
            for key in _KEY.findall(cells[0]):
                found.setdefault(heading, {}).setdefault(key, _plain(cells[column]))
    return found


def _plain(cell: str) -> str:
    """A cell of a table without links, and without the places of the page that it refers to."""
    return _LINK.sub(r"\1", cell).replace(", see below", "").replace(", below", "")


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
