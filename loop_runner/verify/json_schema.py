"""Checks JSON against a JSON Schema, of a task or written by a model, in a process that can be ended.

Owns what a model's schema may be (bounded, without references to the outside) and the process that checks
(``json_schema_child.py``). A pattern can run forever and references can multiply without end, so no check
runs in the runner. Relies on jsonschema, in that process only.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from loop_runner.errors import EnvironmentFault
from loop_runner.process import kill_group

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 40
MAX_JSON_BYTES = 4 * 1024 * 1024
MAX_JSON_DEPTH = 200
CHECK_TIMEOUT_S = 5.0
_MAX_DIGITS = 300  # readers that only know floats take a longer number as infinite
_FENCE = re.compile(
    r"^ {0,3}(?P<ticks>`{3,}|~{3,})[^\n`]*\n(?P<inside>.*?)^ {0,3}(?P=ticks)[`~]*[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_FENCE_LINE = re.compile(r"^ {0,3}(?:`{3,}|~{3,})", re.MULTILINE)
_START_TIMEOUT_S = 30.0
_LAST_MOMENT_S = 0.2
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class BadSchemaError(Exception):
    """The schema itself is unusable; the text says why, for the model that wrote it."""


class NoVerdictError(BadSchemaError):
    """The checking process ended unexpectedly."""


class TooSlowError(NoVerdictError):
    """The checking process did not finish within the time limit."""


def encode(schema: Mapping[str, Any]) -> str:
    """``schema`` as JSON. Raises ``BadSchemaError`` if it is too large, too deep or refers to the outside."""
    try:
        text = json.dumps(schema, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadSchemaError(f"it is not JSON: {error}") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise BadSchemaError(f"it is longer than {MAX_SCHEMA_BYTES:,} characters")
    for key, value, depth in _entries(schema):
        if depth > MAX_SCHEMA_DEPTH:
            raise BadSchemaError(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
        if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise BadSchemaError(f"{key} may only point into the schema itself (#/$defs/...)")
        if key == "$id" and isinstance(value, str):
            raise BadSchemaError("$id is not supported: references start with #")
    return text


def _entries(schema: Any) -> Iterator[tuple[str, Any, int]]:
    """Every key with its value and depth, anywhere in the schema."""
    waiting: list[tuple[str, Any, int]] = [("", schema, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        yield key, value, depth
        if isinstance(value, Mapping):
            waiting += [(inner, item, depth + 1) for inner, item in value.items()]
        elif isinstance(value, list):
            waiting += [("", item, depth + 1) for item in value]


def decode(text: str) -> Any:
    """The one JSON value that is all of ``text``, without a byte order mark.

    Raises ``ValueError`` for text that JSON readers interpret in different ways (a duplicate key, NaN, a
    number that most of them read as infinite, an unpaired surrogate), and for text that is nested too deeply.
    """
    try:
        value = _decode(text.removeprefix("\ufeff").strip(" \t\r\n"))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if any(depth > MAX_JSON_DEPTH for _, _, depth in _entries(value)):
        raise ValueError(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character (an unpaired surrogate)") from None
    return value


def read_json(text: str) -> Any:
    """The JSON value in a model's reply: alone, in its only fence, or with text around it.

    Raises ``ValueError`` when there is none, or more than one.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"the reply is longer than {MAX_JSON_BYTES:,} characters")
    try:
        return decode(only_json(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is not JSON ({error})") from None


def only_json(text: str) -> str:
    """The part of ``text`` that is its JSON: all of it, its only fence, or its only object or list.

    Raises ``ValueError`` for text that holds two candidates, because readers could differ on the right one.
    """
    bare = text.removeprefix("\ufeff").strip()
    if _is_json(bare):
        return bare
    fences = list(_FENCE.finditer(bare))
    if len(fences) > 1 or len(_FENCE_LINE.findall(bare)) > 2 * len(fences):
        raise ValueError("it has more than one fenced block: leave one, with the JSON")
    if fences:
        _refuse_braces(bare[: fences[0].start()] + bare[fences[0].end() :])
        return fences[0]["inside"]
    starts = [at for at in (bare.find("{"), bare.find("[")) if at >= 0]
    if not starts:
        return bare
    try:
        end = _LENIENT.raw_decode(bare, min(starts))[1]
    except (ValueError, RecursionError):
        return bare  # the decoder reports what is wrong with it
    _refuse_braces(bare[: min(starts)] + bare[end:])
    return bare[min(starts) : end]


def _is_json(text: str) -> bool:
    try:
        _LENIENT.decode(text)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


def _refuse_braces(around: str) -> None:
    if re.search(r"[{}\[\]]", re.sub(r"\[\d{1,3}\]", "", around)):
        raise ValueError("there is more text that looks like JSON: leave only one value")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:40]} is too large for a number of JSON")
    return value


def _whole(number: str) -> int:
    if len(number) > _MAX_DIGITS:
        raise ValueError(f"{number[:40]}… is too large for a number of JSON")
    return int(number)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {json.dumps(twice[:80])} in one object")
    return value


_LENIENT = json.JSONDecoder()
_decode = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_distinct
).decode


def _ended_by_itself(process: subprocess.Popen[bytes]) -> str | None:
    """How a process ended; None when it runs. Its pipe closes a moment before it is gone."""
    try:
        code = process.wait(_LAST_MOMENT_S)
    except subprocess.TimeoutExpired:
        return None
    return f"exit code {code}" if code >= 0 else f"signal {-code}: {signal.strsignal(-code)}"


class SchemaChecker:
    """Checks whether values fit a schema. Thread-safe, one check at a time; call ``close`` at the end."""

    def __init__(self, timeout_s: float = CHECK_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def check(self, schema: str, value: str) -> str:
        """Why the JSON text ``value`` does not fit the JSON text ``schema``; "" when it does.

        Raises as ``faults`` does.
        """
        return str(self._reply(schema, value)["best"])

    def faults(self, schema: str, value: str) -> tuple[list[str], int]:
        """All faults of ``value`` by their place, and the number of further ones.

        Raises ``BadSchemaError`` for an invalid schema, ``NoVerdictError`` when the check takes too long.
        """
        reply = self._reply(schema, value)
        return list(reply["faults"]), int(reply["more"])

    def _reply(self, schema: str, value: str) -> dict[str, Any]:
        with self._lock:
            reply = self._exchange(f"{schema}\n{value}\n".encode("utf-8", "replace"))
        if reply.get("bad_schema"):
            raise BadSchemaError(str(reply["bad_schema"]))
        return reply

    def close(self) -> None:
        """End the process; more than once is fine."""
        with self._lock:
            self._end()

    def _exchange(self, data: bytes) -> dict[str, Any]:
        process = self._process or self._start()
        deadline = time.monotonic() + self._timeout_s
        try:
            self._write(process, data, deadline)
            line = self._read_line(process, deadline)
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self._give_up(process)
        return dict(json.loads(line))

    def _give_up(self, process: subprocess.Popen[bytes]) -> NoReturn:
        code = _ended_by_itself(process)
        self._end()
        if code is not None:
            raise NoVerdictError(f"the process that checks replies against it ended ({code})")
        raise TooSlowError(
            f"checking a reply against it took too long (over {self._timeout_s:g} s) or too much"
        )

    def _write(self, process: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
        assert process.stdin is not None
        fd, left = process.stdin.fileno(), memoryview(data)
        while left and (seconds := deadline - time.monotonic()) > 0:
            if select.select([], [fd], [], seconds)[1]:
                left = left[os.write(fd, left[: select.PIPE_BUF]) :]

    def _read_line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None
        fd, line = process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                break
            piece = os.read(fd, 1 << 16)
            if not piece:
                break
            line += piece
        return line

    def _start(self) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("json_schema_child.py")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-B", str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentFault(
                f"the program that checks schemas could not be started: {error}",
                why="JSON is checked in a process of its own, which can be ended",
            ) from error
        if self._read_line(self._process, time.monotonic() + _START_TIMEOUT_S) != b"ready\n":
            self._give_up(self._process)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            kill_group(process.pid)
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                try:
                    stream.close()
                except OSError:
                    continue  # a request that was never written needs no reply
            process.wait()
