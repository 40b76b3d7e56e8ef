"""What a quotation is about: the lines near it, those that enclose it, headings, the top of its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loop_runner.errors import ConfigError
from loop_runner.inputs import content
from loop_runner.records import Inputs, InputText
from loop_runner.verify.located import LocatedCitation

_NEAR = 4  # lines before and after a quotation
_MAX_ENCLOSING = 1500  # lines that are looked at above a quotation
_HEADINGS = 3
_HEADING_CHARS = 120
_TOP = 3  # lines at the top of a text: its title, or the names of its columns
_HEADING = re.compile(
    r"^\s*(?:#{1,6}\s+\S|\d+(?:\.\d+)*\.?\s+[^\W\d_].{0,80}$|[^a-z\n]*[A-Z][^a-z\n]{3,80}$)"
)


@dataclass(slots=True)
class Surroundings:
    """Of all quotations of an answer. ``subject``: the lines that say what they are about."""

    subject: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # the quoted texts in lower case, by name
    is_nested: bool = False  # a line encloses a quotation

    def words(self) -> str:
        """All of the lines, in lower case."""
        return "\n".join((*self.subject, *self.near)).lower()


def of(quoted: Sequence[LocatedCitation], inputs: Inputs) -> Surroundings:
    """The surroundings of the quotations; a text that cannot be read has none."""
    by_name = {text.name: text for text in inputs.texts}
    lines_of: dict[str, list[str]] = {}
    around = Surroundings()
    for citation in quoted:
        around.subject += [citation.name, citation.quote]
        if citation.name not in lines_of and (text := by_name.get(citation.name)) is not None:
            try:
                decoded = read(text)
            except ConfigError:
                continue
            lines_of[citation.name] = decoded.split("\n")
            around.texts[citation.name] = decoded.lower()
        if lines := lines_of.get(citation.name):
            _add(around, lines, citation)
    return around


def read(text: InputText) -> str:
    """The text of an input. Raises ``ConfigError`` if it cannot be read or has changed."""
    return content(text).decode("utf-8", "replace")


def _add(around: Surroundings, lines: Sequence[str], citation: LocatedCitation) -> None:
    first, last = citation.line, max(citation.last_line, citation.line)
    around.near += lines[max(first - 1 - _NEAR, 0) : last + _NEAR]
    around.subject += lines[:_TOP]
    around.subject += lines[first - 1 : last]
    depth = _indent(lines[first - 1]) if first <= len(lines) else 0
    for line, encloses in _above(lines, first, depth):
        around.subject.append(line)
        around.is_nested |= encloses


def _above(lines: Sequence[str], first: int, depth: int) -> Iterator[tuple[str, bool]]:
    """The lines that enclose line ``first`` (with True), and the headings above it (with False)."""
    headings = _HEADINGS
    for line in reversed(lines[max(first - 1 - _MAX_ENCLOSING, 0) : first - 1]):
        if not line.strip():
            continue
        if (indent := _indent(line)) < depth:
            depth = indent
            yield line, True
        elif headings and len(line) < _HEADING_CHARS and _HEADING.match(line):
            headings -= 1
            yield line, False
        if not depth and not headings:
            return


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
