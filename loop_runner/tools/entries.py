"""The entries of ``tools:`` in a task file: each names what it makes callable, and the limits of its calls.

Owns every key of an entry. ``prepare`` turns entries into the specs of a run; nothing is started here.
"""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from loop_runner import keys
from loop_runner.errors import ConfigError
from loop_runner.keys import BadValueError
from loop_runner.tools.placeholders import placeholders
from loop_runner.tools.spec import Settings

KINDS = ("python", "command", "mcp", "fetch", "search", "callable")
_DOCS = "docs/tools.md describes every key"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "timeout_s": keys.duration,
    "max_output_chars": keys.count,
    "approve": keys.one_of("never", "first", "always"),
    "calls": keys.count,
    "width": keys.up_to(256),
}
_IDEMPOTENT = ("fetch", "search")  # what only reads
_OWN_KEYS: dict[str, frozenset[str]] = {
    "python": frozenset({"env"}),
    "callable": frozenset({"name", "sha256", "values"}),  # written by the library
    "command": frozenset({"name", "run", "description", "parameters", "env", "json", "stdin"}),
    "mcp": frozenset({"name", "command", "url", "header", "env", "only"}),
    "fetch": frozenset({"allow", "max_mb", "private_addresses"}),
    "search": frozenset({"provider", "url", "key", "run", "env", "max_results"}),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, checked: its kind, what it names, and the settings of its calls."""

    kind: str
    target: Mapping[str, Any]
    settings: Settings

    @property
    def label(self) -> str:
        """What messages call it."""
        named = self.target.get("name") or self.target.get("function") or self.target.get("provider") or ""
        return f"{self.kind} {named}".strip()

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the environment variables that it may see."""
        named = [*self.target.get("env", ()), *self.target.get("header", {}).values()]
        return tuple(dict.fromkeys([*named, *filter(None, [self.target.get("key")])]))


def read_entries(given: Sequence[Any]) -> tuple[Entry, ...]:
    """Check the entries of a task. Raises one ``ConfigError`` that names the first fault of them."""
    entries = tuple(_entry(number, item) for number, item in enumerate(given, 1))
    for kind in ("fetch", "search"):
        if sum(entry.kind == kind for entry in entries) > 1:
            raise _error(f"tools: `{kind}` is there more than once", "one entry can hold all that it allows")
    return entries


def _entry(number: int, given: Any) -> Entry:
    where = f"tools, entry {number}"
    if not isinstance(given, Mapping):
        raise _error(f"{where} is no mapping", "write for example: - python: tools.py:lookup")
    kinds = [key for key in given if key in KINDS]
    if len(kinds) != 1:
        raise _error(
            f"{where} must name one of {', '.join(KINDS[:-1])};"
            f" it has the keys {', '.join(map(str, given)) or 'none'}",
            "write for example: - python: tools.py:lookup",
        )
    kind = kinds[0]
    body, beside = given[kind], {key: value for key, value in given.items() if key != kind}
    target = _body(kind, body, where)
    settings = {**{key: target.pop(key) for key in list(target) if key in _names_of_settings()}}
    for key, value in beside.items():
        if key in _names_of_settings():
            settings[key] = value
        elif kind == "python" and key in _OWN_KEYS[kind]:
            target[key] = value
        else:
            raise _unknown(key, kind, where)
    return Entry(kind, _checked(kind, target, where), _settings(kind, settings, where))


def _body(kind: str, body: Any, where: str) -> dict[str, Any]:
    if kind == "python":
        if not isinstance(body, str) or not body.strip():
            raise _error(
                f"{where}: `{kind}` takes FILE.py:FUNCTION or MODULE:FUNCTION", "for example tools.py:lookup"
            )
        return {"function": body}
    if not isinstance(body, Mapping):
        raise _error(f"{where}: `{kind}` takes a mapping", f"{_DOCS}")
    for key in body:
        if key not in _OWN_KEYS[kind] and key not in _names_of_settings():
            raise _unknown(key, kind, where)
    return dict(body)


def _names_of_settings() -> list[str]:
    return [item.name for item in fields(Settings)]


def _unknown(key: Any, kind: str, where: str) -> ConfigError:
    known = sorted([*_OWN_KEYS[kind], *_names_of_settings()])
    near = difflib.get_close_matches(str(key), known, n=1)
    return _error(
        f"{where}: `{kind}` has no key `{key}`" + (f" (did you mean `{near[0]}`?)" if near else ""),
        f"its keys are {', '.join(known)}",
    )


def _settings(kind: str, given: Mapping[str, Any], where: str) -> Settings:
    values: dict[str, Any] = {"idempotent": kind in _IDEMPOTENT}
    for key, value in given.items():
        try:
            values[key] = _flag(value) if key == "idempotent" else _CHECKS[key](value)
        except BadValueError as error:
            raise _error(f"{where}: `{key}` must be {error}", _DOCS) from None
    return Settings(**values)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValueError("true or false")
    return value


# ── what each kind names ────────────────────────────────────────────────────────────────────────────


def _checked(kind: str, target: dict[str, Any], where: str) -> dict[str, Any]:
    checks = {
        "python": _python,
        "callable": _callable,
        "command": _command,
        "mcp": _mcp,
        "fetch": _fetch,
        "search": _search,
    }
    target["env"] = _variables(target.get("env", []), where)
    return checks[kind](target, where)


def _python(target: dict[str, Any], where: str) -> dict[str, Any]:
    place, colon, function = target["function"].rpartition(":")
    if not colon or not place or not all(part.isidentifier() for part in function.split(".")):
        raise _error(
            f"{where}: `{target['function']}` does not name a function",
            "write FILE.py:FUNCTION, relative to the task file, or MODULE:FUNCTION",
        )
    name = function.split(".")[-1]
    return {**target, "place": place, "attribute": function, "name": _name(name, where)}


def _callable(target: dict[str, Any], where: str) -> dict[str, Any]:
    name = _name(target.get("name"), where)
    return {**target, "function": name, "sha256": str(target.get("sha256", ""))}


def _command(target: dict[str, Any], where: str) -> dict[str, Any]:
    run = target.get("run")
    if not isinstance(run, list) or not _is_words(run):
        raise _error(
            f"{where}: `command` needs `run`, a list: a program and its arguments", 'run: ["date", "-u"]'
        )
    parameters = target.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise _error(f"{where}: `parameters` takes a mapping of names to schemas", "{query: {type: string}}")
    for name, schema in parameters.items():
        if not isinstance(schema, Mapping) or not isinstance(name, str):
            raise _error(f"{where}: the parameter `{name}` takes a JSON Schema", "{query: {type: string}}")
        _name(name, where)
    used = {name for word in run for name in placeholders(word)}
    used |= {str(target["stdin"])} if "stdin" in target else set()
    if missing := sorted(used - set(parameters)):
        raise _error(
            f"{where}: `run` uses {{{missing[0]}}}, which is no parameter",
            f"add it: parameters: {{{missing[0]}: {{type: string}}}}",
        )
    _text(target, "description", where)
    return {**target, "name": _name(target.get("name"), where), "parameters": dict(parameters)}


def _mcp(target: dict[str, Any], where: str) -> dict[str, Any]:
    has_command, has_url = _is_words(target.get("command")), isinstance(target.get("url"), str)
    if has_command == has_url:
        raise _error(f"{where}: `mcp` needs either `command` (a list) or `url`", _DOCS)
    if has_url and not re.match(r"https?://", target["url"]):
        raise _error(
            f"{where}: {target['url']!r} is no address of a server", "it begins with https:// or http://"
        )
    header = target.get("header", {})
    if not isinstance(header, Mapping) or not all(
        isinstance(value, str) and _VARIABLE.fullmatch(value) for value in header.values()
    ):
        raise _error(
            f"{where}: `header` takes a mapping of header names to names of environment variables",
            "{Authorization: DOCS_TOKEN}; the value itself does not belong in a task file",
        )
    only = target.get("only")
    if only is not None and not _is_words(only):
        raise _error(f"{where}: `only` takes a list of names of tools", "only: [search_issues]")
    return {**target, "name": _name(target.get("name"), where)}


def _fetch(target: dict[str, Any], where: str) -> dict[str, Any]:
    allow = target.get("allow")
    if not _is_words(allow):
        raise _error(
            f"{where}: `fetch` needs `allow`, a list of host names", 'allow: ["*.python.org"]; "*" allows all'
        )
    size = target.get("max_mb", 20)
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size <= 64:
        raise _error(f"{where}: `max_mb` must be a number over 0, at most 64", "max_mb: 20")
    if not isinstance(target.get("private_addresses", False), bool):
        raise _error(f"{where}: `private_addresses` must be true or false", _DOCS)
    return {**target, "name": "fetch_url", "max_mb": size}


def _search(target: dict[str, Any], where: str) -> dict[str, Any]:
    provider = target.get("provider")
    providers = ("searxng", "brave", "tavily", "command")
    if provider not in providers:
        raise _error(f"{where}: `search` needs `provider`, one of {', '.join(providers)}", _DOCS)
    if provider == "searxng" and not isinstance(target.get("url"), str):
        raise _error(
            f"{where}: searxng needs `url`, the address of your server", "url: http://localhost:8080"
        )
    if provider == "command" and not _is_words(target.get("run")):
        raise _error(f"{where}: `provider: command` needs `run`, a list", 'run: ["./search.sh", "{query}"]')
    usual = {"brave": "BRAVE_API_KEY", "tavily": "TAVILY_API_KEY"}
    key = target.get("key", usual.get(str(provider), ""))
    if not isinstance(key, str) or (key and not _VARIABLE.fullmatch(key)):
        raise _error(f"{where}: `key` names an environment variable", "key: BRAVE_API_KEY")
    return {**target, "name": "web_search", "key": key, "max_results": target.get("max_results", 10)}


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or keyword.iskeyword(value):
        raise _error(
            f"{where}: {value!r} cannot be the name of a function",
            "letters, digits and underscores, and no word of Python",
        )
    return value


def _variables(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(
        isinstance(name, str) and _VARIABLE.fullmatch(name) for name in value
    ):
        raise _error(
            f"{where}: `env` takes a list of names of environment variables",
            "env: [GITHUB_TOKEN]; the value itself does not belong in a task file",
        )
    return list(value)


def _text(target: Mapping[str, Any], key: str, where: str) -> None:
    if not isinstance(target.get(key, ""), str):
        raise _error(f"{where}: `{key}` takes a text", _DOCS)


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) and word for word in value)


def _error(message: str, hint: str) -> ConfigError:
    return ConfigError(message, why="the model's code could not call it", hint=hint)
