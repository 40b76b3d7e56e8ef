"""Reads ``rules.yaml``: what an audit looks for, in plain words. Owns that file's format (docs/audit.md).

Every mistake is a ``ConfigError`` that names the file, the line and the nearest known word; all mistakes of
a file are reported at once.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError, together
from loop_runner.inputs.inside import patterns
from loop_runner.kernel.inside import candidates
from loop_runner.task import named_file
from loop_runner.verify.findings import SEVERITIES

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_REFERENCE = "docs/audit.md describes every key"
_WHY = "the rules decide what is reported, so a rule must be exact"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``regex`` and ``ast`` say where it may apply; with neither, whole files are judged."""

    id: str
    title: str
    description: str
    severity: str = "warning"  # note, warning or error
    files: tuple[str, ...] = ()  # patterns of names; none: every file
    regex: str = ""
    ast: Mapping[str, Any] = field(default_factory=dict)  # as ``kernel/inside/candidates.py`` takes it
    wrong: tuple[str, ...] = ()  # examples, shown to the model
    right: tuple[str, ...] = ()

    def is_about(self, name: str) -> bool:
        """Whether the rule is about the file ``name``."""
        return not self.files or any(_matches(name, pattern) for pattern in self.files)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules in ``path``, in their order, with ids of their own. Raises ``ConfigError``."""
    return _checked(path, *_load(path))


def from_data(rules: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The same for rules that a program gives as values; errors name them by their line as YAML."""
    import yaml

    try:
        source = yaml.safe_dump({"rules": [dict(rule) for rule in rules]}, sort_keys=False)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ConfigError(
            f"these rules are no plain values: {error!s:.200}",
            why=_WHY,
            hint="a rule is a mapping of texts and lists, as in a rules file; docs/audit.md describes it",
        ) from error
    return _checked(Path("rules"), yaml.compose(source, Loader=yaml.SafeLoader), yaml.safe_load(source))


def _checked(path: Path, node: Any, data: Any) -> tuple[Rule, ...]:
    items = data.get("rules") if isinstance(data, dict) and set(data) == {"rules"} else None
    if not isinstance(items, list) or not items:
        raise ConfigError(
            f"{path}: a rules file is a mapping with `rules`, a list of at least one",
            why=_WHY,
            hint="rules: [{id: no-print, title: No print, description: ..., regex: 'print'}]",
        )
    faults: list[ConfigError] = []
    read = [
        (_rule(item, where, faults), where)
        for item, where in zip(items, _places(path, node, len(items)), strict=True)
    ]
    rules = _distinct([(rule, where) for rule, where in read if rule is not None], faults)
    if faults:
        raise together(f"{path}", faults, _REFERENCE)
    return rules


def _load(path: Path) -> tuple[Any, Any]:
    """The file's YAML, as nodes that know their lines and as values."""
    import yaml

    try:
        source = named_file.read_text(path)
        return yaml.compose(source, Loader=yaml.SafeLoader), yaml.safe_load(source)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no rules file {path}", why=_WHY, hint="see docs/audit.md for what it holds"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}", why=_WHY, hint="it is YAML in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise _not_yaml(where, getattr(error, "problem", None) or error) from error
    except (ValueError, ArithmeticError, RecursionError, TypeError) as error:  # an impossible date
        raise _not_yaml(str(path), str(error)[:200] or type(error).__name__) from error


def _not_yaml(where: str, problem: object) -> ConfigError:
    return ConfigError(f"{where}: not valid YAML: {problem}", why=_WHY, hint="put texts in quotes")


def _places(path: Path, node: Any, count: int) -> list[str]:
    """``rules.yaml, line 7`` for each of the ``count`` rules; only the file if ``<<`` is used."""
    lists = [value for key, value in node.value if key.value == "rules"]
    items = lists[-1].value if lists else []
    return [f"{path}, line {item.start_mark.line + 1}" for item in items] or [str(path)] * count


def _distinct(rules: Sequence[tuple[Rule, str]], faults: list[ConfigError]) -> tuple[Rule, ...]:
    first: dict[str, str] = {}
    for rule, where in rules:
        if rule.id in first:
            message = f"{where}: the id `{rule.id}` is taken by the rule in {first[rule.id]}"
            faults.append(ConfigError(message, why=_WHY, hint="choose another id for one of the two"))
        first.setdefault(rule.id, where)
    return tuple(rule for rule, _ in rules)


def _rule(item: object, where: str, faults: list[ConfigError]) -> Rule | None:
    """The rule that ``item`` describes; None when something in it is wrong, which is added to ``faults``."""
    before = len(faults)
    if not isinstance(item, dict):
        faults.append(
            ConfigError(
                f"{where}: a rule is a mapping of {', '.join(_KEYS)}, not {item!r:.80}",
                why=_WHY,
                hint=_REFERENCE,
            )
        )
        return None
    faults += [_unknown(where, "key of a rule", str(key), _KEYS) for key in item if key not in _KEYS]
    if "regex" in item and "ast" in item:
        faults.append(_bad(where, "ast", item["ast"], "nothing beside `regex`: a rule has one pre-filter"))
    values = _values(_with_defaults(item), where, faults)
    return Rule(**values) if len(faults) == before else None


def _with_defaults(item: Mapping[Any, Any]) -> dict[str, Any]:
    """The known keys of a rule, with the required ones."""
    given = {key: item[key] for key in _KEYS if key in item}
    given.setdefault("id", None)
    if "description" not in given and "title" not in given:
        given["description"] = None
    return given


def _values(given: Mapping[str, Any], where: str, faults: list[ConfigError]) -> dict[str, Any]:
    """The valid values; every other one is a fault."""
    values: dict[str, Any] = {}
    for key, value in given.items():
        try:
            values[key] = _KEYS[key].read(where, key, value)
        except ConfigError as fault:
            faults.append(fault)
    title = values.setdefault("title", values.get("id", ""))
    values.setdefault("description", title)
    return values


def _id(where: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise _bad(where, key, value, "letters, digits, dots, dashes and underscores")
    return value


def _title(where: str, key: str, value: object) -> str:
    return " ".join(_text(where, key, value).split())


def _description(where: str, key: str, value: object) -> str:
    return _text(where, key, value).strip()


def _severity(where: str, key: str, value: object) -> str:
    if value not in SEVERITIES:
        raise _bad(where, key, value, " or ".join(SEVERITIES))
    return str(value)


def _text(where: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _bad(where, key, value, "a text that is not empty")
    return value


def _examples(where: str, key: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(_text(where, key, item).strip() for item in items)


def _files(where: str, key: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item for item in items):
        raise _bad(where, key, value, "a list of patterns such as '*.py' or 'src/**/*.ts'")
    return tuple(items)


def _regex(where: str, key: str, value: object) -> str:
    pattern = _text(where, key, value)
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise _bad(where, key, pattern, f"a regular expression of Python's ({error})") from error
    return pattern


def _ast(where: str, key: str, value: object) -> dict[str, Any]:
    """``mutable-default``, or ``{node: Call, where: {func: eval}}``."""
    if isinstance(value, str):
        if value not in candidates.NAMED:
            raise _unknown(where, "query", value, candidates.NAMED)
        return {"name": value}
    if not isinstance(value, dict) or not {"node"} <= set(value) <= {"node", "where"}:
        raise _bad(where, key, value, "the name of a query, or {node: TYPE, where: {FIELD: PATTERN}}")
    nodes = {
        name: item for name, item in vars(ast).items() if isinstance(item, type) and issubclass(item, ast.AST)
    }
    kind, fields = value["node"], value.get("where") or {}
    if not isinstance(kind, str) or kind not in nodes:
        raise _unknown(where, "type of node", str(kind), nodes)
    if not isinstance(fields, dict) or not all(
        item is None or isinstance(item, str) for item in fields.values()
    ):
        raise _bad(where, "where", fields, "a mapping of fields to patterns (text in quotes) or null")
    for name in fields:
        if name not in nodes[kind]._fields:
            raise _unknown(where, f"field of {kind}", str(name), nodes[kind]._fields)
    return {"node": kind, "where": fields}


@dataclass(frozen=True, slots=True)
class _Key:
    """The value of a key: how it is read, and its JSON Schema, as far as that can express it."""

    read: Callable[[str, str, object], Any]
    schema: Mapping[str, Any]


_TEXT_SCHEMA = {"type": "string", "pattern": r"\S"}


def _several(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"anyOf": [schema, {"type": "array", "items": schema}]}


_KEYS: Mapping[str, _Key] = {
    "id": _Key(_id, {"type": "string", "pattern": f"^{_ID.pattern}$"}),
    "title": _Key(_title, _TEXT_SCHEMA),
    "description": _Key(_description, _TEXT_SCHEMA),
    "wrong": _Key(_examples, _several(_TEXT_SCHEMA)),
    "right": _Key(_examples, _several(_TEXT_SCHEMA)),
    "severity": _Key(_severity, {"enum": list(SEVERITIES)}),
    "files": _Key(_files, _several({"type": "string", "minLength": 1})),
    "regex": _Key(_regex, _TEXT_SCHEMA),
    "ast": _Key(
        _ast,
        {
            "anyOf": [
                {"enum": list(candidates.NAMED)},
                {
                    "type": "object",
                    "properties": {
                        "node": {"type": "string", "pattern": "^[A-Za-z_]+$"},  # they differ between Pythons
                        "where": {
                            "type": ["object", "null"],
                            "additionalProperties": {"type": ["string", "null"]},
                        },
                    },
                    "required": ["node"],
                    "additionalProperties": False,
                },
            ]
        },
    ),
}


def schema() -> dict[str, Any]:
    """The format of a rules file, as JSON Schema."""
    rule = {
        "type": "object",
        "properties": {key: dict(entry.schema) for key, entry in _KEYS.items()},
        "required": ["id"],
        "anyOf": [{"required": ["title"]}, {"required": ["description"]}],
        "not": {"required": ["regex", "ast"]},
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rules": {"type": "array", "items": rule, "minItems": 1}},
        "required": ["rules"],
        "additionalProperties": False,
    }


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
        hint=_REFERENCE,
    )


def _unknown(where: str, what: str, given: str, known: Iterable[str]) -> ConfigError:
    names = tuple(known)
    near = difflib.get_close_matches(given, names, 1)
    return ConfigError(
        f"{where}: there is no {what} {given!r}",
        why=_WHY,
        hint=f"did you mean {near[0]!r}?" if near else f"it can be: {', '.join(names[:40])}",
    )
