"""What docs/api.md says of the library, and what is true: signatures, and examples that are run."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass, fields
from pathlib import Path

import loop_runner as lr
from loop_runner.api import typed_events

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
_SECTION = re.compile(
    r"^### (?P<name>\w+)\n\n```python\n(?P<signature>.*?)\n```\n\n(?P<text>.*?)\n\n"
    r"```python\n(?P<example>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_FILE = re.compile(r"^<!-- file: (?P<name>.*?) -->\n\n```\w*\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """One name of the page."""

    name: str
    signature: str
    text: str
    example: str


def sections() -> list[Section]:
    """What the page says of each name, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return [Section(**match.groupdict()) for match in _SECTION.finditer(text)]


def files() -> dict[str, str]:
    """The files that the examples work on."""
    return {match["name"]: match["body"] for match in _FILE.finditer(PAGE.read_text(encoding="utf-8"))}


def signature(name: str) -> str:
    """How a name is called, as the page has it: one parameter on a line where there are many."""
    value = getattr(lr, name)
    if name in lr._MODULES:
        names = textwrap.wrap(", ".join(getattr(value, "__all__", None) or dir(value)), 97)
        return f"lr.{name}\n" + "\n".join(f"# {line}" for line in names)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        value = lr._load(name)
    result = str(inspect.signature(value))
    result = re.sub(r"(: |-> )'([^']*)'", r"\1\2", result)
    result = re.sub(r"<factory>|<class '([\w.]+)'>", r"...", result)
    place = f"lr.types.{name}" if name in lr._FURTHER else f"lr.{name}"
    line = f"{place}{result}"
    if len(line) <= 100:
        return line
    inner, _, end = result[1:].rpartition(")")
    return f"{place}(\n" + "".join(f"    {part},\n" for part in _parts(inner)) + f"){end}"


def _parts(inner: str) -> list[str]:
    """The parameters: split at commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(inner):
        depth += char in "[({"
        depth -= char in "])}"
        if char == "," and depth == 0:
            parts.append(inner[start:at].strip())
            start = at + 1
    return [*parts, inner[start:].strip()]


EVENTS = PAGE.with_name("events.md")
_HEAD = """# Events

What `on_event` and `lr.stream` give ([api.md](api.md)): one frozen dataclass for each kind, in the module
`loop_runner.api.typed_events`. `event.to_dict()` has the fields below; in `events.jsonl` and in what
`log --follow --json` prints ([json.md](json.md)) the further fields are in `data`. This page is generated:
`python -m tests.support.library`.

Every event has `kind`, `seq` (counts from 1 without gaps, also over resumes), `pass_number` and `turn` (0
where they do not apply), `text`, `at` (seconds since 1970) and `budget`: by the key of each limit what is
used and the limit, `{"usd": [0.12, 5.0], "passes": [2, 10]}`, with `null` for no limit. `unpriced` is in it
when the price of a request is not known. `budget` is empty for events that do not carry it.

| kind | class | what happened | further fields |
| --- | --- | --- | --- |
"""


def events_page() -> str:
    """docs/events.md, from the code."""
    common = {item.name for item in fields(typed_events.Event)}
    rows = []
    for kind, made in typed_events.KINDS.items():
        own = [f"`{item.name}: {item.type}`" for item in fields(made) if item.name not in common]
        about = " ".join((inspect.getdoc(made) or "").split()).replace("``", "`").rstrip(".")
        rows.append(f"| `{kind}` | `{made.__name__}` | {about} | {', '.join(own)} |\n")
    return _HEAD + "".join(rows)


def renewed_page() -> str:
    """docs/api.md with the signature and the description of each name as the code has them."""

    def renewed(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in lr._HOME:
            return match[0]
        return (
            f"### {name}\n\n```python\n{signature(name)}\n```\n\n{description(name)}\n\n"
            f"```python\n{match['example']}```"
        )

    return _SECTION.sub(renewed, PAGE.read_text(encoding="utf-8"))


def description(name: str) -> str:
    """What the code says of a name, as the page has it."""
    value = getattr(lr, name)
    if not isinstance(value, type | type(description)) and name not in lr._MODULES:
        value = lr._load(name)
    return (inspect.getdoc(value) or "").replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(renewed_page(), encoding="utf-8")
    EVENTS.write_text(events_page(), encoding="utf-8")
