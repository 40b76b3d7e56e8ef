"""Runs as a program: holds the user's functions and calls them, many at once. Standard library only.

Arguments: the descriptor of the line to the runner, and the task's folder. Frames are a length (4 bytes) and
JSON: ``{"id", "describe": [[place, attribute], ...]}`` or ``{"id", "place", "attribute", "arguments"}``;
answers are ``{"id", "value"}`` or ``{"id", "error"}``. Ends when the line does, with everything it started.
"""

import asyncio
import contextlib
import dataclasses
import enum
import importlib
import importlib.util
import inspect
import json
import os
import signal
import socket
import struct
import sys
import threading
import traceback
import types
import typing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct(">I")
_MAX_RESULT_BYTES = 16 * 1024 * 1024
_THREADS = 256
_SIMPLE: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    list: "array",
    tuple: "array",
    set: "array",
    frozenset: "array",
    dict: "object",
}


def main() -> None:
    """Serve the runner until it goes away."""
    line, folder = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    del sys.argv[1:]
    line.set_inheritable(False)
    sys.path.insert(0, folder)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Server(line, folder).serve())


class _Server:
    def __init__(self, line: socket.socket, folder: str) -> None:
        self._line = line
        self._folder = folder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tool")
        self._functions: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        self._line.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=self._line, limit=1 << 26)
        try:
            while True:
                (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                request = json.loads(await reader.readexactly(size))
                task = asyncio.ensure_future(self._answer(request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (asyncio.IncompleteReadError, OSError):
            os.killpg(0, signal.SIGKILL)  # the runner is gone; nothing that was started here outlives it

    async def _answer(self, request: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            if "describe" in request:
                value = await loop.run_in_executor(self._threads, self._describe, request["describe"])
            else:
                value = await self._call(request)
            body = _encoded({"id": request["id"], "value": value})
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            body = _encoded({"id": request["id"], "error": in_words(error, self._folder)})
        self._writer.write(_LENGTH.pack(len(body)) + body)

    async def _call(self, request: dict[str, Any]) -> Any:
        function = self._function(request["place"], request["attribute"])
        arguments = converted(function, request["arguments"])
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            return await function(**arguments)
        loop = asyncio.get_running_loop()
        value = await loop.run_in_executor(self._threads, lambda: function(**arguments))
        return await value if inspect.isawaitable(value) else value

    def _describe(self, functions: list[list[str]]) -> list[dict[str, Any]]:
        result = []
        for place, attribute in functions:
            try:
                result.append(describe(self._function(place, attribute)))
            except BaseException as error:  # noqa: BLE001 - a border: the user's module on import
                result.append({"error": in_words(error, self._folder)})
        return result

    def _function(self, place: str, attribute: str) -> Any:
        with self._lock:
            if (place, attribute) not in self._functions:
                self._functions[place, attribute] = _functions_in(
                    _module(place, self._folder), place, attribute
                )
            return self._functions[place, attribute]


class ToolFault(Exception):  # noqa: N818
    """The function cannot be found, or cannot be a tool; the text says why."""


def _module(place: str, folder: str) -> Any:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(folder, place)
    if not path.is_file():
        raise ToolFault(f"there is no file {place} in the task's folder")
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _functions_in(module: Any, place: str, attribute: str) -> Any:
    result = module
    for part in attribute.split("."):
        result = getattr(result, part, None)
    if not callable(result):
        raise ToolFault(f"{place} has no function `{attribute}`")
    return result


# ── describing ──────────────────────────────────────────────────────────────────────────────────────


def describe(function: Any) -> dict[str, Any]:
    """The parameters of ``function`` as a JSON Schema, its documentation, and what it returns."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - hints that name what is not there
        hints = {}
    properties, required, is_open = {}, [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise ToolFault(f"its parameter `{parameter.name}` cannot be given by name")
        schema = schema_of(hints.get(parameter.name, Any))
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif _is_json(parameter.default):
            schema["default"] = parameter.default
        properties[parameter.name] = schema
    returned = hints.get("return", Any)
    return {
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": is_open,
        },
        "returns": None if returned in (Any, inspect.Parameter.empty) else schema_of(returned),
        "description": inspect.getdoc(function) or "",
    }


def schema_of(hint: Any, depth: int = 0) -> dict[str, Any]:
    """A type hint as JSON Schema; ``{}`` (anything) for what has no form in JSON."""
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if depth > 8:
        return {}
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        notes = [note for note in of[1:] if isinstance(note, str)]
        return {**schema_of(of[0], depth + 1), **({"description": notes[0]} if notes else {})}
    if origin is typing.Literal:
        return {"enum": list(of)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(item, depth + 1) for item in of]}
    if origin in (list, set, frozenset) or _is_abstract(origin, "Sequence", "Iterable", "Collection"):
        return {"type": "array", **({"items": schema_of(of[0], depth + 1)} if of else {})}
    if origin is tuple:
        return {"type": "array", **({"items": schema_of(of[0], depth + 1)} if of[1:] == (...,) else {})}
    if origin is dict or _is_abstract(origin, "Mapping", "MutableMapping"):
        more = schema_of(of[1], depth + 1) if len(of) == 2 else {}
        return {"type": "object", **({"additionalProperties": more} if more else {})}
    return _schema_of_class(hint, depth) if isinstance(hint, type) else {}


def _is_abstract(origin: Any, *names: str) -> bool:
    return getattr(origin, "__module__", "") == "collections.abc" and origin.__name__ in names


def _schema_of_class(hint: type, depth: int) -> dict[str, Any]:
    if issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint if _is_json(member.value)]}
    if hasattr(hint, "model_json_schema"):
        return dict(hint.model_json_schema())
    is_record = typing.is_typeddict(hint) or dataclasses.is_dataclass(hint)
    if not is_record:
        return {}
    hints = typing.get_type_hints(hint, include_extras=True)
    required = [
        name
        for name in hints
        if name in getattr(hint, "__required_keys__", ())
        or (dataclasses.is_dataclass(hint) and _has_no_default(hint, name))
    ]
    properties = {name: schema_of(item, depth + 1) for name, item in hints.items()}
    return {"type": "object", "properties": properties, "required": required}


def _has_no_default(hint: Any, name: str) -> bool:
    missing = dataclasses.MISSING
    return any(
        item.name == name and item.default is missing and item.default_factory is missing
        for item in dataclasses.fields(hint)
    )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


# ── arguments and results ───────────────────────────────────────────────────────────────────────────


def converted(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """JSON as the types that the hints name: records, enumerations and sets are no JSON."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - see ``describe``
        return arguments
    return {name: _as(hints.get(name), value) for name, value in arguments.items()}


def _as(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint) or hint
    if origin in (tuple, set, frozenset) and isinstance(value, list):
        return origin(value)
    if origin is int and isinstance(value, float):
        return int(value)
    if isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return hint(value)
        if hasattr(hint, "model_validate"):
            return hint.model_validate(value)
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            return hint(**value)
    return value


def _plain(value: Any) -> Any:
    """What ``json`` cannot write by itself."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(
        f"the tool returned a {type(value).__name__}, and a result must be text, a number, a list or a dict"
    )


def as_json(value: Any) -> Any:
    """``value`` as plain data that JSON can hold. ``TypeError`` or ``ValueError`` for what it cannot."""
    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain))


def _encoded(message: dict[str, Any]) -> bytes:
    body = json.dumps(message, ensure_ascii=False, allow_nan=False, default=_plain)
    data = body.encode("utf-8", "replace")
    if len(data) > _MAX_RESULT_BYTES:
        raise ValueError(f"its result is {len(data):,} bytes, and at most {_MAX_RESULT_BYTES:,} are taken")
    return data


def in_words(error: BaseException, folder: str) -> str:
    """The kind of an error and its message, with the user's line that raised it; no traceback."""
    if isinstance(error, ToolFault):
        return str(error)[:2000]
    reply_text = "".join(traceback.format_exception_only(error)).strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if frame.filename.startswith(folder)] or frames
    place = f" (at {Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return reply_text[:2000] + place


if __name__ == "__main__":
    main()
