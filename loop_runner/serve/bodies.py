"""Reads the JSON body of a request, and fields of it, with an error that names the field."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from loop_runner.serve.fault import Fault, bad

_MAX_DEPTH = 64
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE)


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; `Fault` 415 or 400 for anything else."""
    kind = request.headers.get("content-type", "")
    if not _JSON.fullmatch(kind.strip()):
        raise Fault(415, "unsupported_media_type", "send a JSON object with content-type: application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Fault(415, "unsupported_encoding", "send the body without a content-encoding")
    return parse(await request.body())


def parse(data: bytes) -> dict[str, Any]:
    """A JSON object out of bytes: strict UTF-8, no NaN, no key twice, at most 64 levels deep."""
    try:
        _refuse_depth(data)
        result = json.loads(data.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
        json.dumps(result, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates
    except (ValueError, RecursionError) as error:
        raise bad(f"the body is not a JSON object: {error}", code="invalid_json") from error
    if not isinstance(result, dict):
        raise bad("the body is JSON, and not an object", code="invalid_json")
    return result


def _refuse_depth(data: bytes) -> None:
    if data.count(b"[") + data.count(b"{") <= _MAX_DEPTH:
        return
    depth, in_text, escaped = 0, False, False
    for byte in re.finditer(rb'[\[\]{}"\\]|[^\[\]{}"\\]+', data):
        mark = byte.group()
        if escaped:
            escaped = False
            continue
        if in_text:
            escaped = mark == b"\\"
            in_text = mark != b'"'
        elif mark == b'"':
            in_text = True
        elif mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is more than {_MAX_DEPTH} levels deep")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("it has a key twice")
    return result


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def digest(kind: str, body: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a body as it counts for `Idempotency-Key`: the order of keys does not matter."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────


def text(body: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A text; ``default`` None: it is required. Null counts as absent."""
    value = body.get(key)
    if value is None:
        if default is None:
            raise bad(f"`{key}` is required", key, "missing_required_parameter")
        return default
    if not isinstance(value, str):
        raise bad(f"`{key}` must be a text", key)
    return value


def flag(body: Mapping[str, Any], key: str, *, default: bool = False) -> bool:
    """True or false. Null counts as absent."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise bad(f"`{key}` must be true or false", key)
    return value


def mapping(body: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object; empty when absent."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad(f"`{key}` must be an object", key)
    return value


def objects(value: object, where: str) -> Sequence[dict[str, Any]]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad(f"`{where}` must be a list of objects", where)
    return value


def metadata(body: Mapping[str, Any]) -> dict[str, str]:
    """At most 16 short texts, which come back with the run."""
    result = mapping(body, "metadata")
    for key, value in result.items():
        if not isinstance(value, str) or len(key) > 64 or len(value) > 512:
            raise bad("`metadata` must have texts of at most 512 characters", "metadata")
    if len(result) > 16:
        raise bad("`metadata` has more than 16 keys", "metadata")
    return result
