"""Reads ``answer`` after a cell, whatever the model's code did to it. Runs inside the kernel process.

Only base-class methods touch the model's object, so a subclass of ``dict`` or ``str`` cannot cheat. The
result is plain: a text, whether it is ready, other JSON-compatible keys, and notices for the model.
"""

from __future__ import annotations

import json

from .names import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONTENT_CHARS = 1_000_000
MAX_EXTRA_CHARS = 200_000
MAX_BLOCKED_CHARS = 2000
_MAX_EXTRA_DEPTH = 40
_NOT_TEXT = object()


class AnswerBox:
    """Keeps ``answer`` a dict with ``content`` and ``ready`` in the namespace, and reads it."""

    def __init__(
        self, namespace: dict[str, Any], content: str = "", extra: dict[str, Any] | None = None
    ) -> None:
        self._namespace = namespace
        self._last = content
        self.dict: dict[Any, Any] = {"content": content, "ready": False, **(extra or {})}
        namespace["answer"] = self.dict

    def live(self) -> dict[Any, Any]:
        """The current ``answer`` dict, restored if the model replaced it with something else."""
        current = self._namespace.get("answer")
        if issubclass(type(current), dict):
            return current  # type: ignore[return-value]
        self._namespace["answer"] = self.dict
        return self.dict

    def finish(self, content: object) -> None:
        """Set content and ready, as ``FINAL`` does."""
        answer = self.live()
        dict.__setitem__(answer, "content", content)
        dict.__setitem__(answer, "ready", True)

    def draft(self) -> str:
        """The text that would be handed in now, as the host would read it. Raises ``TypeError``."""
        current = self._namespace.get("answer")
        is_dict = issubclass(type(current), dict)
        content = _as_text(dict.get(current, "content", "") if is_dict else current)  # type: ignore[arg-type]
        if type(content) is not str:
            raise TypeError("answer['content'] is not a text (str), so it could not be handed in")
        # As JSON carries it: surrogate halves are joined, and a single half becomes U+FFFD.
        return content[:MAX_CONTENT_CHARS].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def begin_cell(self) -> None:
        """Reset a ``ready`` and a ``blocked`` that no cell set."""
        dict.__setitem__(self.live(), "ready", False)
        dict.pop(self.live(), "blocked", None)

    def end_cell(self, *, raised: bool) -> tuple[dict[str, Any], list[str]]:
        """``{"content", "ready", "extra"}`` and the notices for the model; ``ready`` is then False again."""
        notices: list[str] = []
        answer = self._plain(self._namespace.get("answer"), notices)
        content = _as_text(dict.get(answer, "content", ""))
        ready = self._is_ready(answer, content, notices, raised=raised)
        self._check_blocked(answer, notices, raised=raised)
        dict.__setitem__(answer, "ready", False)
        self._last = content if type(content) is str else ""
        if len(self._last) > MAX_CONTENT_CHARS:  # more would not fit into one message to the host
            self._last = self._last[:MAX_CONTENT_CHARS]
            notices.append(f"only the first {MAX_CONTENT_CHARS:,} characters of answer['content'] are kept")
        extra = {
            key: value
            for key, value in answer.items()
            if type(key) is str and key not in ("content", "ready")
        }
        dict.pop(answer, "blocked", None)
        return {"content": self._last, "ready": ready, "extra": _jsonable(extra)}, notices

    def _check_blocked(self, answer: dict[Any, Any], notices: list[str], *, raised: bool) -> None:
        """Leave ``blocked`` only where it says what is missing, and the cell came to its end."""
        blocked = dict.get(answer, "blocked")
        if blocked is None or blocked is False:
            dict.pop(answer, "blocked", None)
        elif type(blocked) is not str or not blocked.strip():
            dict.pop(answer, "blocked")
            notices.append("answer['blocked'] was not taken: it must be a text that says what is missing")
        elif raised:
            dict.pop(answer, "blocked")
            notices.append("answer['blocked'] was not taken, because this cell raised an error")
        else:
            answer["blocked"] = blocked[:MAX_BLOCKED_CHARS]

    def _plain(self, current: object, notices: list[str]) -> dict[Any, Any]:
        if type(current) is dict:
            if "content" not in current:
                current["content"] = ""
            self.dict = current
            return current
        if issubclass(type(current), dict):
            current = dict(zip(dict.keys(current), dict.values(current), strict=True))  # type: ignore[arg-type]
            notices.append("`answer` was restored as a plain dict")
        elif issubclass(type(current), str):
            text = str.__str__(current)
            current = {"content": text, "ready": False}
            notices.append(
                "`answer` was set to a text: it was taken as answer['content']; set answer['ready'] too"
            )
        else:
            current = {"content": self._last, "ready": False}
            notices.append("`answer` must stay a dict with 'content' and 'ready': it was restored")
        self.dict = self._namespace["answer"] = current
        return self.dict

    def _is_ready(self, answer: dict[Any, Any], content: object, notices: list[str], *, raised: bool) -> bool:
        ready = dict.get(answer, "ready", False)
        if content is _NOT_TEXT:
            kind = type(dict.get(answer, "content")).__name__
            notices.append(f"answer['content'] is of type {label(str(kind), 60)}: make it a text (str)")
        if type(ready) not in (bool, int, type(None)):
            notices.append("answer['ready'] must be True or False: it was taken as False")
            return False
        if not ready:
            return False
        if raised:
            notices.append("the answer was not taken as ready, because this cell raised an error")
        elif content is _NOT_TEXT:
            notices.append("the answer was not taken as ready, because its content is not a text")
        elif not str(content).strip():
            notices.append("the answer was not taken as ready, because answer['content'] is empty")
        elif len(str(content)) > MAX_CONTENT_CHARS:
            notices.append(
                f"the answer was not taken as ready: it is longer than {MAX_CONTENT_CHARS:,} characters"
            )
        else:
            return True
        return False


def _as_text(content: object) -> object:
    """``content`` as an exact ``str``, or ``_NOT_TEXT``."""
    kind = type(content)
    if issubclass(kind, str):
        return str.__str__(content)
    if content is None:
        return ""
    if kind in (int, float, bool):
        return str(content)
    if kind in (dict, list, tuple):
        try:
            return json.dumps(content, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            return _NOT_TEXT
    return _NOT_TEXT


def _jsonable(extra: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    room = MAX_EXTRA_CHARS
    for key, value in extra.items():
        try:
            text = json.dumps(value, allow_nan=False)
            plain = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            continue
        if _is_deeper(plain, _MAX_EXTRA_DEPTH):
            continue
        room -= len(text) + len(key)
        if room < 0:
            break
        kept[key] = plain
    return kept


def _is_deeper(value: object, depth: int) -> bool:
    """Whether lists and dicts are nested more than ``depth`` levels deep."""
    level = [value]
    for _ in range(depth):
        boxes = [element for element in level if type(element) in (dict, list)]
        level = [item for box in boxes for item in (box.values() if type(box) is dict else box)]  # type: ignore[attr-defined]
    return any(type(element) in (dict, list) for element in level)
