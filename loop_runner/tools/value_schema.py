"""Checks JSON values against the part of JSON Schema that tools use, and writes it in the words of Python.

Small and bounded on purpose: a schema may come from a server that nobody trusts, and a check runs on the
host's own loop. Keywords that are not known here are not checked: a tool may refuse what passes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MAX_DEPTH = 32
_MAX_STEPS = 200_000  # of one check: values and schemas can both be made to explode
_MAX_SHOWN = 80
_WORDS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "array": "list",
    "object": "dict",
}


def names(schema: Mapping[str, Any]) -> list[str]:
    """The parameters of a tool in order."""
    properties = schema.get("properties")
    return list(properties) if isinstance(properties, Mapping) else []


def parameters(schema: Mapping[str, Any]) -> list[str]:
    """Each parameter as a signature shows it: required ones first, as Python requires."""
    required = set(schema.get("required", ()))
    result = []
    for name in sorted(names(schema), key=lambda name: name not in required):
        about = schema["properties"][name]
        about = about if isinstance(about, Mapping) else {}
        shown = f"{name}: {in_words(about)}"
        if name not in required:
            shown += f" = {about.get('default')!r:.{_MAX_SHOWN}}"
        result.append(shown)
    return result


def in_words(schema: Any, depth: int = 0) -> str:
    """A schema as a type hint."""
    if not isinstance(schema, Mapping) or depth > 4:
        return "Any"
    if isinstance(options := schema.get("enum"), list):
        return f"Literal[{', '.join(f'{option!r:.40}' for option in options[:8])}]"
    for word in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(word), list):
            return " | ".join(dict.fromkeys(in_words(option, depth + 1) for option in options[:6])) or "Any"
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(dict.fromkeys(_WORDS.get(item, "Any") for item in kind if isinstance(item, str)))
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return f"list[{in_words(schema['items'], depth + 1)}]"
    if kind == "object" and isinstance(more := schema.get("additionalProperties"), Mapping):
        return f"dict[str, {in_words(more, depth + 1)}]"
    return _WORDS.get(kind, "Any") if isinstance(kind, str) else "Any"


def fault(schema: Mapping[str, Any], value: Any, name: str = "") -> str:
    """Why ``value`` does not fit ``schema``, with the place in it; "" when it fits."""
    check = _Check(schema)
    try:
        return next(check.faults(schema, value, name, 0), "")
    except _TooMuchError:
        return "it is too deep or too large to be checked"


class _TooMuchError(Exception):
    """The check takes more than a check may take."""


class _Check:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def faults(self, schema: Any, value: Any, name: str, depth: int) -> Iterator[str]:
        self._steps += 1
        if depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            raise _TooMuchError
        schema = self._resolved(schema)
        if schema is False:
            yield f"{_place(name)} is not allowed"
        if not isinstance(schema, Mapping):
            return
        if not _is_of(schema.get("type"), value):
            yield f"{_place(name)} must be {in_words({'type': schema['type']})}, not {_word_of(value)}"
            return
        options = schema.get("enum")
        if isinstance(options, list) and not any(_equal(option, value) for option in options):
            yield f"{_place(name)} must be one of {', '.join(f'{entry!r:.40}' for entry in options[:12])}"
        if "const" in schema and not _equal(schema["const"], value):
            yield f"{_place(name)} must be {schema['const']!r:.40}"
        yield from self._combined(schema, value, name, depth)
        yield from _bounds(schema, value, name)
        if isinstance(value, Mapping):
            yield from self._object(schema, value, name, depth)
        elif isinstance(value, list) and isinstance(schema.get("items"), Mapping | bool):
            for number, item in enumerate(value):
                yield from self.faults(schema["items"], item, f"{name}[{number}]", depth + 1)

    def _resolved(self, schema: Any) -> Any:
        """What a reference within the schema leads to."""
        for _ in range(8):
            reference = schema.get("$ref") if isinstance(schema, Mapping) else None
            if not isinstance(reference, str):
                return schema
            if not reference.startswith("#/"):
                return True
            result: Any = self._root
            for part in reference[2:].split("/"):
                result = result.get(part) if isinstance(result, Mapping) else None
            schema = True if result is None else result
        return True

    def _combined(self, schema: Mapping[str, Any], value: Any, name: str, depth: int) -> Iterator[str]:
        for word in ("anyOf", "oneOf"):
            options = schema.get(word)
            if isinstance(options, list) and options:
                result = [next(self.faults(option, value, name, depth + 1), "") for option in options]
                if all(result):
                    yield result[0] if len(result) == 1 else f"{_place(name)} must be {in_words(schema)}"
        for option in schema.get("allOf", ()) if isinstance(schema.get("allOf"), list) else ():
            yield from self.faults(option, value, name, depth + 1)

    def _object(
        self, schema: Mapping[str, Any], value: Mapping[str, Any], name: str, depth: int
    ) -> Iterator[str]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        for key in required if isinstance(required, list) else ():
            if key not in value:
                yield f"{_place(_joined(name, key))} is missing"
        more = schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in properties:
                yield from self.faults(properties[key], item, _joined(name, key), depth + 1)
            elif more is False:
                known = ", ".join(list(properties)[:12]) or "none"
                yield f"there is no parameter `{key:.60}` (there are: {known})"
            elif isinstance(more, Mapping):
                yield from self.faults(more, item, _joined(name, key), depth + 1)


def _bounds(schema: Mapping[str, Any], value: Any, name: str) -> Iterator[str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    size = len(value) if isinstance(value, str | list) else None
    words = ("Length", size) if isinstance(value, str) else ("Items", size)
    for at_least, at_most, result in (
        ("minimum", "maximum", value if is_number else None),
        (f"min{words[0]}", f"max{words[0]}", words[1]),
    ):
        low, high = schema.get(at_least), schema.get(at_most)
        if result is not None and isinstance(low, int | float) and result < low:
            yield f"{_place(name)}: {result!r:.40} is less than {at_least} {low}"
        if result is not None and isinstance(high, int | float) and result > high:
            yield f"{_place(name)}: {result!r:.40} is more than {at_most} {high}"


def _is_of(kind: Any, value: Any) -> bool:
    if isinstance(kind, list):
        return any(_is_of(item, value) for item in kind)
    if kind == "integer":
        return not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        )
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    types: dict[str, Any] = {
        "string": str,
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": Mapping,
    }
    return not isinstance(kind, str) or kind not in types or isinstance(value, types[kind])


def _equal(item: Any, other: Any) -> bool:
    return type(item) is type(other) and bool(item == other)


def _word_of(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _place(name: str) -> str:
    return f"`{name:.120}`" if name else "the value"
