"""Puts an audit's candidates that belong together into one question. Runs inside the kernel process.

Owns which lines a question shows and how its candidates are marked. The candidates of a Python function are
judged together, with the whole function; others with their neighbours, where the surrounding lines overlap.
"""

from __future__ import annotations

import ast

from . import candidates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from .candidates import Span

    # Rule and file, both by number; first and last line shown; the candidates, numbered from 1 in a question.
    Group = tuple[int, int, Span, list[Span]]

_MAX_CANDIDATES = 50  # per question: a reply about more may exceed the token limit
_MAX_SHOWN_CHARS = 600  # of a line in a question


def grouped(
    plan: Mapping[str, Any], name: str, text: str, spans: Sequence[Span]
) -> list[tuple[Span, list[Span]]]:
    """The lines shown and the candidates of each question, in the order of the file."""
    total, most, around = len(candidates.lines_of(text)), plan["window_lines"], plan["context_lines"]
    owners = _owners(text, most) if spans and name.endswith(candidates.PYTHON) else {}
    units: dict[Span | None, list[Span]] = {}
    for span in spans:
        owner = owners.get(span[0])
        units.setdefault(owner if owner and span[1] <= owner[1] else None, []).append(span)
    groups = [
        (_shown(unit, group, total, most, around), group)
        for unit, own in units.items()
        for group in _split(own, _limit(unit, most, around))
    ]
    return sorted(groups, key=lambda entry: entry[1])


def _owners(text: str, most: int) -> dict[int, Span]:
    """For each line the function that it is judged with; empty if the text cannot be parsed.

    It is the largest function of up to ``most`` lines, or the innermost if all are longer.
    """
    owners: dict[int, Span] = {}
    try:
        tree = candidates.parsed(text)
    except candidates.UNPARSABLE:
        return owners
    for node in ast.walk(tree):  # a function comes before those inside it
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            unit = (first, node.end_lineno or first)
            outer = owners.get(first)
            if outer is None or unit[1] > outer[1] or _length(outer) > most:
                owners.update(dict.fromkeys(range(first, unit[1] + 1), unit))
    return owners


def _limit(unit: Span | None, most: int, around: int) -> Callable[[Span, Span], bool]:
    """Tests whether the next candidate (its lines) may join a group (its lines)."""

    def joins(group: Span, span: Span) -> bool:
        is_near = unit is not None or span[0] - around <= group[1] + around
        return is_near and max(group[1], span[1]) - group[0] + 1 + 2 * around <= most

    return (lambda _group, _span: True) if unit and _length(unit) <= most else joins


def _split(spans: Sequence[Span], joins: Callable[[Span, Span], bool]) -> Iterator[list[Span]]:
    group: list[Span] = []
    for span in sorted(spans):
        if group and (len(group) == _MAX_CANDIDATES or not joins(_extent(group), span)):
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _shown(unit: Span | None, group: Sequence[Span], total: int, most: int, around: int) -> Span:
    """The lines around the candidates, and as much of their function as ``most`` lines hold."""
    first, last = _extent(group)
    near = (max(1, first - around), min(total, last + around))
    if unit is None:
        return near
    start, end = unit
    if _length(unit) > most:
        start = min(max(start, (first + last - most) // 2 + 1), end - most + 1)
        end = start + most - 1
    return min(start, near[0]), max(end, near[1])


def _extent(group: Sequence[Span]) -> Span:
    return group[0][0], max(last for _, last in group)


def _length(span: Span) -> int:
    return span[1] - span[0] + 1


def passage(lines: Sequence[str], shown: Span, spans: Sequence[Span], *, is_whole: bool) -> str:
    """The lines with their numbers; those to judge begin with `>` and the numbers of their candidates."""
    numbers: dict[int, list[str]] = {}
    for number, (first, last) in enumerate(spans, 1):
        for at in range(first, last + 1):
            numbers.setdefault(at, []).append("" if is_whole else str(number))
    marks = {at: f">{','.join(own)}" for at, own in numbers.items()}
    side, width = max(map(len, marks.values())), len(str(shown[1] + 1))
    return "\n".join(
        f"{marks.get(at, ''):<{side}} {at:>{width}} | {_cut(lines[at - 1])}"
        for at in range(shown[0], shown[1] + 1)
    )


def _cut(line: str) -> str:
    return line if len(line) <= _MAX_SHOWN_CHARS else f"{line[:_MAX_SHOWN_CHARS]} […]"
