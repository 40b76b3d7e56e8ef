"""Reads the content of messages: texts and documents, in the parts that the three APIs use.

What cannot be used (pictures, sound, addresses) is an error, never left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from loop_runner.serve.bodies import objects
from loop_runner.serve.fault import bad
from loop_runner.serve.questions import Attached, decoded, refuse_url

Part = Mapping[str, Any]
Content = tuple[str, list[Attached]]


def read(content: object, where: str) -> Content:
    """The text of a message and the documents in it. ``content`` is a text or a list of parts."""
    if content is None:
        return "", []
    if isinstance(content, str):
        return content, []
    texts, files = [], []
    for number, part in enumerate(objects(content, where)):
        text, attached = _part(part, f"{where}[{number}]")
        texts += [text] if text else []
        files += attached
    return "\n".join(texts), files


def _part(part: Part, where: str) -> Content:
    kind = part.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise bad(f"`{where}` has the type {str(kind)[:40]!r}, which this server cannot read", where)
    return reader(part, where)


def _text(part: Part, where: str) -> Content:
    text = part.get("text", part.get("refusal"))
    if not isinstance(text, str):
        raise bad(f"`{where}` has no text", where)
    return text, []


def _nothing(_part: Part, _where: str) -> Content:
    return "", []


def _file(part: Part, where: str) -> Content:
    """OpenAI: ``file`` of chat completions (nested), ``input_file`` of responses."""
    inner = part.get("file", part)
    if not isinstance(inner, dict):
        raise bad(f"`{where}.file` must be an object", where)
    if inner.get("file_url") is not None:
        raise refuse_url(where)
    name, data, file_id = (inner.get(key) for key in ("filename", "file_data", "file_id"))
    if not all(value is None or isinstance(value, str) for value in (name, data, file_id)):
        raise bad(f"`{where}` must have texts", where)
    if data is not None:
        return "", [decoded(str(data), str(name or "document.txt"), f"{where}.file_data")]
    if file_id is None:
        raise bad(f"`{where}` needs `file_id` or `file_data`", where)
    return "", [Attached(str(name or ""), file_id=str(file_id))]


def _document(part: Part, where: str) -> Content:
    """Anthropic: a ``document`` with one of its sources."""
    source = part.get("source")
    if not isinstance(source, dict):
        raise bad(f"`{where}.source` must be an object", where)
    title = part.get("title")
    name = title if isinstance(title, str) and title else ""
    match source.get("type"):
        case "text" if isinstance(source.get("data"), str):
            return "", [Attached(name or "document.txt", source["data"].encode("utf-8", "replace"))]
        case "base64" if isinstance(source.get("data"), str):
            ending = _ENDINGS.get(str(source.get("media_type")), ".txt")
            return "", [decoded(source["data"], name or f"document{ending}", f"{where}.source.data")]
        case "content":
            text, files = read(source.get("content"), f"{where}.source.content")
            return "", [Attached(name or "document.txt", text.encode("utf-8", "replace")), *files]
        case "file" if isinstance(source.get("file_id"), str):
            return "", [Attached(name, file_id=source["file_id"])]
        case "url":
            raise refuse_url(where)
    raise bad(f"`{where}.source` is none that this server can read", where)


def _tool_result(part: Part, where: str) -> Content:
    text, files = read(part.get("content"), f"{where}.content")
    return f"[result of a tool]\n{text}" if text else "", files


def _tool_use(part: Part, _where: str) -> Content:
    call = json.dumps(part.get("input"), ensure_ascii=False)
    return f"[call of the tool {str(part.get('name'))[:100]}] {call}", []


_ENDINGS = {
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/html": ".html",
    "text/csv": ".csv",
    "application/json": ".json",
}
_READERS: Mapping[str, Callable[[Part, str], Content]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "refusal": _text,
    "file": _file,
    "input_file": _file,
    "document": _document,
    "tool_result": _tool_result,
    "tool_use": _tool_use,
    "thinking": _nothing,
    "redacted_thinking": _nothing,
}
