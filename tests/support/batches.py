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
        self.outcome: str | None = None  # of every request, instead of an answer: "expired", "canceled"
        self.missing = 0  # how often a batch that was made is not found
        self.cut_results: list[int] = []  # bytes of the results that are sent, one number for each time
        self.create_status = 0  # with which the creation ends although the batch is made
        self.hidden = 0  # how often the list lacks the batches
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
        if self.create_status:
            return self.create_status, {"type": "error", "error": {"type": "api_error", "message": "oops"}}
        return 200, self._about(len(self.created) - 1, url)

    def release(self) -> None:
        """Let a hanging creation end."""
        self.create_hangs = False
        self._released.set()

    def get(self, path: str, url: str) -> tuple[int, Any]:
        """The list of batches, a batch, or its results."""
        parts = urlsplit(path).path.removeprefix(_ROOT).strip("/").split("/")
        if parts == [""]:
            self.hidden -= 1
            if self.hidden >= 0:
                return 200, {"data": [], "has_more": False, "first_id": None, "last_id": None}
            data = [self._about(at, url) for at in reversed(range(len(self.created)))]
            return 200, {"data": data, "has_more": False, "first_id": None, "last_id": None}
        at = int(parts[0].removeprefix("msgbatch_"))
        self.missing -= 1
        if at >= len(self.created) or self.missing >= 0:
            return 404, {"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}
        if parts[-1] == "results":
            lines = b"".join(json.dumps(line).encode() + b"\n" for line in self._results(at))
            return 200, lines[: self.cut_results.pop(0)] if self.cut_results else lines
        self._seen[parts[0]] = self._seen.get(parts[0], 0) + 1
        return 200, self._about(at, url)

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
            what, output = (self.outcome, None) if self.outcome else self._answer(request["params"])
            name = {"succeeded": "message", "errored": "error"}.get(what or "")
            result = {"type": what, **({name: output} if name else {})}
            lines.append({"custom_id": request["custom_id"], "result": result})
        return lines
