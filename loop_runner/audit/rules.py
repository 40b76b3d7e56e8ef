"""Reads ``rules.yaml``: what an audit looks for, in plain words. Owns that file's format (docs/audit.md).

Every mistake is a ``ConfigError`` that names the file, the line and the nearest word that is known.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.inputs.inside import patterns
from loop_runner.kernel import candidates
from loop_runner.verify.findings import SEVERITIES

_KEYS = ("id", "title", "description", "wrong", "right", "severity", "files", "regex", "ast")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WHY = "what a rule means decides what is reported; a guess would be worse than none"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``regex`` and ``ast`` say where it may apply; with neither, whole files are judged."""

    id: str
    title: str
    description: str
    severity: str = "warning"  # note, warning or error
    files: tuple[str, ...] = ()  # patterns of names; none: every file
    regex: str = ""
    ast: Mapping[str, Any] = field(default_factory=dict)  # as ``kernel/candidates.py`` takes it
    wrong: tuple[str, ...] = ()  # examples, shown to the model
    right: tuple[str, ...] = ()

    def is_about(self, name: str) -> bool:
        """Whether the file called ``name`` is one that the rule is about."""
        return not self.files or any(_matches(name, pattern) for pattern in self.files)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules in ``path``, in their order, with ids of their own. Raises ``ConfigError``."""
    import yaml

    try:
        source = path.read_text(encoding="utf-8")
        node = yaml.compose(source, Loader=yaml.SafeLoader)
        data = yaml.safe_load(source)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no rules file {path}", why=_WHY, hint="see docs/audit.md; --rules names the file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", why=_WHY, hint="it is YAML in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{where}: not valid YAML: {problem}", why=_WHY) from error
    items = data.get("rules") if isinstance(data, dict) and set(data) == {"rules"} else None
    if not isinstance(items, list) or not items:
        raise ConfigError(
            f"{path}: a rules file is a mapping with `rules`, a list of at least one",
            why=_WHY,
            hint="rules: [{id: no-print, title: No print, description: ..., regex: 'print'}]",
        )
    return _distinct([_rule(item, where) for item, where in zip(items, _places(path, node), strict=True)])


def _places(path: Path, node: Any) -> list[str]:
    """``rules.yaml, line 7`` for each rule."""
    (rules,) = (value for key, value in node.value if key.value == "rules")
    return [f"{path}, line {item.start_mark.line + 1}" for item in rules.value]


def _distinct(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    seen = set()
    for rule in rules:
        if rule.id in seen:
            raise ConfigError(f"two rules have the id `{rule.id}`", why=_WHY, hint="give one another id")
        seen.add(rule.id)
    return tuple(rules)


def _rule(item: object, where: str) -> Rule:
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: a rule is a mapping of {', '.join(_KEYS)}", why=_WHY)
    for key in item:
        if key not in _KEYS:
            raise _unknown(where, "key of a rule", str(key), _KEYS)
    name = item.get("id")
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise _bad(where, "id", name, "letters, digits, dots, dashes and underscores")
    if "regex" in item and "ast" in item:
        raise _bad(where, "ast", item["ast"], "nothing beside `regex`: a rule has one pre-filter")
    severity = item.get("severity", "warning")
    if severity not in SEVERITIES:
        raise _bad(where, "severity", severity, " or ".join(SEVERITIES))
    return Rule(
        name,
        " ".join(_text(where, "title", item.get("title", name)).split()),
        _text(where, "description", item.get("description", item.get("title"))).strip(),
        severity,
        _files(where, item.get("files", [])),
        _regex(where, item["regex"]) if "regex" in item else "",
        _ast(where, item["ast"]) if "ast" in item else {},
        *(_examples(where, key, item.get(key, [])) for key in ("wrong", "right")),
    )


def _text(where: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _bad(where, key, value, "a text that is not empty")
    return value


def _examples(where: str, key: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(_text(where, key, each).strip() for each in items)


def _files(where: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and each for each in items):
        raise _bad(where, "files", value, "a list of patterns such as '*.py' or 'src/**/*.ts'")
    return tuple(items)


def _regex(where: str, value: object) -> str:
    pattern = _text(where, "regex", value)
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise _bad(where, "regex", pattern, f"a regular expression of Python's ({error})") from error
    return pattern


def _ast(where: str, value: object) -> dict[str, Any]:
    """``mutable-default``, or ``{node: Call, where: {func: eval}}``."""
    if isinstance(value, str):
        if value not in candidates.NAMED:
            raise _unknown(where, "query", value, candidates.NAMED)
        return {"name": value}
    if not isinstance(value, dict) or not {"node"} <= set(value) <= {"node", "where"}:
        raise _bad(where, "ast", value, "the name of a query, or {node: TYPE, where: {FIELD: PATTERN}}")
    nodes = {
        name: each for name, each in vars(ast).items() if isinstance(each, type) and issubclass(each, ast.AST)
    }
    kind, fields = value["node"], value.get("where") or {}
    if kind not in nodes:
        raise _unknown(where, "type of node", str(kind), nodes)
    if not isinstance(fields, dict) or not all(
        each is None or isinstance(each, str) for each in fields.values()
    ):
        raise _bad(where, "where", fields, "a mapping of fields to patterns (text in quotes) or null")
    for name in fields:
        if name not in nodes[kind]._fields:
            raise _unknown(where, f"field of {kind}", str(name), nodes[kind]._fields)
    return {"node": kind, "where": fields}


def _matches(name: str, pattern: str) -> bool:
    """Without "/" any part of the name; with "/" the whole name, where ``**`` is any number of parts."""
    names, wanted = patterns.parts(name), patterns.parts(pattern.removeprefix("./"))
    if len(wanted) == 1:
        return any(patterns.fits(part, wanted[0]) for part in names)
    return patterns.matches(names, wanted)


def _bad(where: str, key: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(
        f"{where}: `{key}` takes {wanted}, not {value!r:.80}",
        why=_WHY,
        hint="docs/audit.md describes every key",
    )


def _unknown(where: str, what: str, given: str, known: Iterable[str]) -> ConfigError:
    names = tuple(known)
    near = difflib.get_close_matches(given, names, 1)
    return ConfigError(
        f"{where}: there is no {what} {given!r}",
        why=_WHY,
        hint=f"did you mean {near[0]!r}?" if near else f"it can be: {', '.join(names[:40])}",
    )
