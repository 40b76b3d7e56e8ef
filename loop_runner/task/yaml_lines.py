"""Reads YAML with the line of every key, and refuses what would be read in more than one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from loop_runner.errors import ConfigError

_MAX_DEPTH, _MAX_NODES = 60, 200_000  # of a file


@dataclass(frozen=True, slots=True)
class Where:
    """Finds the line of a key for a message."""

    label: str
    lines: Mapping[tuple[str, ...], int]

    def __call__(self, path: tuple[str, ...]) -> str:
        """Where the key at ``path`` comes from."""
        line = self.lines.get(path)
        return f"{self.label}, line {line}" if line else f"{self.label}, the setting {'.'.join(path)}"


def load(source: str, label: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """What the file holds, and the line (from 1) of every key in it."""
    import yaml

    try:
        root = yaml.compose(source, Loader=yaml.SafeLoader)
        _refuse_too_large(root)
        lines: dict[tuple[str, ...], int] = {}
        # First: making the values changes the nodes. From the nodes, so that the text is read once.
        _collect_lines(root, (), lines, label)
        data = yaml.constructor.SafeConstructor().construct_document(root) if root else None
    except (ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise ConfigError(
            f"{label}: not valid YAML: {str(error)[:200] or type(error).__name__}",
            why="a file that cannot be read for certain is not run",
            hint="write numbers, dates and nesting as a task file needs them",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{label}{line}: not valid YAML: {problem}",
            why="a file that cannot be read for certain is not run",
            hint="check the brackets, quotes and indentation there and on the line before",
        ) from error
    return data, lines


def _refuse_too_large(root: Any) -> None:
    """``ValueError`` for a document that its aliases blow up, that holds itself, or nested too deep."""
    import yaml

    sizes: dict[int, int] = {}

    def size(node: Any, depth: int) -> int:
        if depth > _MAX_DEPTH:
            msg = f"it is nested more than {_MAX_DEPTH} deep, or contains itself"
            raise ValueError(msg)
        if id(node) not in sizes:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            parts = [part for pair in pairs for part in pair] or (
                node.value if isinstance(node, yaml.SequenceNode) else []
            )
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        if sizes[id(node)] > _MAX_NODES:
            msg = f"it has more than {_MAX_NODES:,} values"
            raise ValueError(msg)
        return sizes[id(node)]

    size(root, 0)


def _collect_lines(node: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int], label: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here, line = (*path, str(key.value)), key.start_mark.line + 1
            if here in lines:  # YAML would take the last one without a word
                raise ConfigError(
                    f"{label}, line {line}: duplicate key `{'.'.join(here)}`,"
                    f" first defined on line {lines[here]}",
                    why="only one of them could count",
                    hint="keep one of the two",
                )
            lines[here] = line
            _collect_lines(value, here, lines, label)


def as_written(value: Any) -> str:
    """``value`` as a task file would have it."""
    import yaml

    if isinstance(value, str):
        return repr(value)
    try:
        text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    except yaml.YAMLError:
        return repr(value)
    return text.removesuffix("\n").removesuffix("\n...")


def surprise(value: Any) -> str:
    """What YAML made of an unquoted word, where that may surprise."""
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return f" (YAML reads {words} so; put a text in quotes)"
    if isinstance(value, date):
        return " (YAML reads this as a date; put it in quotes)"
    return ""
