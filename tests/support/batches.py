"""Message batches, as a server keeps them: created, looked at until they have ended, read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

_ROOT = "/v1/messages/batches"


class Batches:
    """``polls`` is how often a batch is still in progress; ``is_held`` keeps all of them so."""

    def __init__(self, answer: Callable[[Mapping[str, Any]], tuple[str, Any]]) -> None:
        self.created: list[list[dict[str, Any]]] = []  # the requests of each batch
        self.polls = 1
        self.is_held = False
        self.create_hangs = False  # the batch is made, and the answer that would say so never comes
        self.not_found = 0  # how many looks at a batch, or at its results, are answered with 404
        self.cut = 0  # how often the results break off in the middle of a line
        self.short = 0  # how often the last line is missing
        self.outcome: str | None = None  # of every request, instead of an answer: "expired", "canceled"
        self._released = threading.Event()
        self._answer = answer
        self._seen: dict[str, int] = {}
        self._made_at: list[datetime] = []

    def create(self, body: Mapping[str, Any], url: str) -> tuple[int, dict[str, Any]]:
        """A new batch."""
        self.created.append(list(body["requests"]))
        self._made_at.append(datetime.now(UTC))
        if self.create_hangs:
            self._released.wait(20)
        return 200, self._about(len(self.created) - 1, url)

    def release(self) -> None:
        """Let a hanging creation end."""
        self.create_hangs = False
        self._released.set()

    def get(self, path: str, url: str) -> tuple[int, Any]:
        """The list of batches, a batch, or its results."""
        parts = urlsplit(path).path.removeprefix(_ROOT).strip("/").split("/")
        if parts == [""]:
            data = [self._about(at, url) for at in reversed(range(len(self.created)))]
            return 200, {"data": data, "has_more": False, "first_id": None, "last_id": None}
        at = int(parts[0].removeprefix("msgbatch_"))
        if at >= len(self.created) or self._counts_down("not_found"):
            return 404, {"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}
        if parts[-1] == "results":
            lines = [json.dumps(line).encode() + b"\n" for line in self._results(at)]
            if self._counts_down("cut"):
                return 200, b"".join(lines)[:-20]
            return 200, b"".join(lines[:-1] if self._counts_down("short") else lines)
        self._seen[parts[0]] = self._seen.get(parts[0], 0) + 1
        return 200, self._about(at, url)

    def _counts_down(self, name: str) -> bool:
        left = getattr(self, name)
        setattr(self, name, max(left - 1, 0))
        return bool(left)

    def _is_over(self, at: int) -> bool:
        return not self.is_held and self._seen.get(f"msgbatch_{at}", 0) > self.polls

    def _about(self, at: int, url: str) -> dict[str, Any]:
        made, count, is_over = self._made_at[at], len(self.created[at]), self._is_over(at)
        return {
            "id": f"msgbatch_{at}",
            "type": "message_batch",
            "processing_status": "ended" if is_over else "in_progress",
            "request_counts": {
                "processing": 0 if is_over else count,
                "succeeded": count if is_over else 0,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "created_at": made.isoformat(),
            "expires_at": (made + timedelta(days=1)).isoformat(),
            "ended_at": made.isoformat() if is_over else None,
            "results_url": f"{url}{_ROOT}/msgbatch_{at}/results" if is_over else None,
            "archived_at": None,
            "cancel_initiated_at": None,
        }

    def _results(self, at: int) -> list[dict[str, Any]]:
        lines = []
        for request in reversed(self.created[at]):  # in no order that anybody may rely on
            what, said = (self.outcome, None) if self.outcome else self._answer(request["params"])
            name = {"succeeded": "message", "errored": "error"}.get(what or "")
            result = {"type": what, **({name: said} if name else {})}
            lines.append({"custom_id": request["custom_id"], "result": result})
        return lines
