"""A run as the items and events of OpenAI's responses API.

The events follow from the run's trace alone, so their numbers are the same after a restart of the service:
a client that reconnects with ``starting_after`` receives exactly the rest. A sign of life between two events
repeats ``response.in_progress`` under the last number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from loop_runner.serve import outcomes
from loop_runner.serve.progress import Trace, line_of
from loop_runner.serve.streams import PING, frame
from loop_runner.serve.supervisor import Tracked

Event = dict[str, Any]
_MAX_OUTPUT_CHARS = 8000


def response_of(run: Tracked, output: list[Event]) -> dict[str, Any]:
    """The response object as it is now."""
    record, end = run.record, run.end
    fault = outcomes.fault_of(run) if end is not None else None
    status = status_of(run)
    incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
    is_error = fault is not None and status == "failed"
    return {
        "id": record.id,
        "object": "response",
        "created_at": int(record.created_at),
        "status": status,
        "background": record.background,
        "error": {"code": "server_error", "message": fault.message} if is_error and fault else None,
        "incomplete_details": incomplete,
        "instructions": record.instructions or None,
        "metadata": dict(record.metadata),
        "model": record.model,
        "output": output,
        "parallel_tool_calls": False,
        "previous_response_id": record.previous or None,
        "store": True,
        "temperature": None,
        "tool_choice": "none",
        "tools": [],
        "top_p": None,
        "usage": None if end is None else _usage(end),
        "loop_runner": outcomes.about(run),
    }


def status_of(run: Tracked) -> str:
    """The status in the words of the API."""
    words = {"queued": "queued", "running": "in_progress", "paused": "in_progress", "verified": "completed"}
    words |= {"unverified": "incomplete", "blocked": "incomplete", "cancelled": "cancelled"}
    return words.get(run.status, "failed")


def output_of(run: Tracked) -> list[Event]:
    """The items of a run, as far as it is."""
    items = Items(run)
    trace = Trace(run.trace)
    list(items.begin())
    while events := trace.read():
        for event in events:
            list(items.of(event))
    if run.state == "ended":
        list(items.finish())
    return items.output


def _usage(end: Mapping[str, Any]) -> dict[str, Any]:
    total, cached, out = outcomes.usage(end)
    return {
        "input_tokens": total,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": total + out,
    }


class Items:
    """Builds items and the events about them: progress as reasoning, code as calls, then the answer."""

    def __init__(self, run: Tracked) -> None:
        self._run, self._id = run, run.record.id
        self.output: list[Event] = []
        self._summary = ""  # of the reasoning item that is open
        self._is_open = False

    def begin(self) -> Iterator[Event]:
        """The first two events."""
        started = response_of(self._run, []) | {"status": "in_progress", "usage": None, "error": None}
        started |= {"incomplete_details": None, "loop_runner": {"run": self._id, "status": "running"}}
        for kind in ("response.created", "response.in_progress"):
            yield {"type": kind, "response": started}

    def of(self, event: Mapping[str, Any]) -> Iterator[Event]:
        """What an event of the run becomes."""
        if line := line_of(event):
            yield from self._reason(f"{line}\n")
        data = event.get("data")
        if event.get("kind") == "cell_finished" and isinstance(data, dict) and data.get("code"):
            yield from self._close()
            yield from self._code(str(data["code"]), str(event.get("text", ""))[:_MAX_OUTPUT_CHARS])

    def finish(self) -> Iterator[Event]:
        """The answer if there is one, and the last event."""
        yield from self._close()
        if self._run.status in outcomes.ANSWERED:
            yield from self._answer(str((self._run.end or {}).get("answer", "")))
        status = status_of(self._run)
        kind = "response.failed" if status == "cancelled" else f"response.{status}"
        yield {"type": kind, "response": response_of(self._run, self.output)}

    # ── reasoning ───────────────────────────────────────────────────────────────────────────────────

    def _reason(self, line: str) -> Iterator[Event]:
        at = {"item_id": self._item_id("rs"), "output_index": len(self.output), "summary_index": 0}
        if not self._is_open:
            self._is_open, self._summary = True, ""
            item = {"id": at["item_id"], "type": "reasoning", "summary": [], "status": "in_progress"}
            yield {"type": "response.output_item.added", "output_index": at["output_index"], "item": item}
            part = {"type": "summary_text", "text": ""}
            yield {"type": "response.reasoning_summary_part.added", **at, "part": part}
        self._summary += line
        yield {"type": "response.reasoning_summary_text.delta", **at, "delta": line}

    def _close(self) -> Iterator[Event]:
        if not self._is_open:
            return
        self._is_open = False
        at = {"item_id": self._item_id("rs"), "output_index": len(self.output), "summary_index": 0}
        part = {"type": "summary_text", "text": self._summary}
        yield {"type": "response.reasoning_summary_text.done", **at, "text": self._summary}
        yield {"type": "response.reasoning_summary_part.done", **at, "part": part}
        item = {"id": at["item_id"], "type": "reasoning", "summary": [part], "status": "completed"}
        yield self._done(item)

    # ── code ────────────────────────────────────────────────────────────────────────────────────────

    def _code(self, code: str, output: str) -> Iterator[Event]:
        at = {"item_id": self._item_id("ci"), "output_index": len(self.output)}
        item = {
            "id": at["item_id"],
            "type": "code_interpreter_call",
            "code": code,
            "container_id": self._id,
            "outputs": [{"type": "logs", "logs": output}],
            "status": "completed",
        }
        added = {**item, "status": "in_progress", "code": "", "outputs": None}
        yield {"type": "response.output_item.added", "output_index": at["output_index"], "item": added}
        call = "response.code_interpreter_call"
        yield {"type": f"{call}.in_progress", **at}
        yield {"type": f"{call}_code.delta", **at, "delta": code}
        yield {"type": f"{call}_code.done", **at, "code": code}
        yield {"type": f"{call}.interpreting", **at}
        yield {"type": f"{call}.completed", **at}
        yield self._done(item)

    # ── the answer ──────────────────────────────────────────────────────────────────────────────────

    def _answer(self, text: str) -> Iterator[Event]:
        at = {"item_id": self._item_id("msg"), "output_index": len(self.output), "content_index": 0}
        status = "completed" if self._run.status == "verified" else "incomplete"
        item: Event = {"id": at["item_id"], "type": "message", "role": "assistant", "status": "in_progress"}
        added = {**item, "content": []}
        yield {"type": "response.output_item.added", "output_index": at["output_index"], "item": added}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield {"type": "response.content_part.added", **at, "part": part}
        for delta in outcomes.pieces(text):
            yield {"type": "response.output_text.delta", **at, "delta": delta, "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": {**part, "text": text}}
        yield self._done({**item, "status": status, "content": [{**part, "text": text}]})

    def _done(self, item: Event) -> Event:
        self.output.append(item)
        return {"type": "response.output_item.done", "output_index": len(self.output) - 1, "item": item}

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{self._id}_{len(self.output)}"


class Frames:
    """The stream of a response, from behind the event with the number ``after``."""

    ping = PING

    def __init__(self, run: Tracked, *, after: int = -1) -> None:
        self._run, self._after = run, after
        self._items, self._number = Items(run), -1

    def start(self) -> Iterable[bytes]:
        """The response as it begins."""
        return [b": open\n\n", *self._numbered(self._items.begin())]

    def event(self, event: Mapping[str, Any]) -> Iterable[bytes]:
        """What an event of the run becomes."""
        return self._numbered(self._items.of(event))

    def still(self, status: str) -> Iterable[bytes]:
        """That the run is alive: no news, so no number of its own."""
        alive = response_of(self._run, []) | {"status": "in_progress"}
        data = {"type": "response.in_progress", "response": alive, "sequence_number": max(self._number, 0)}
        return [frame(data, event="response.in_progress")]

    def end(self, run: Tracked) -> Iterable[bytes]:
        """The answer, and the last event."""
        return self._numbered(self._items.finish())

    def _numbered(self, events: Iterable[Event]) -> Iterator[bytes]:
        for event in events:
            self._number += 1
            if self._number > self._after:
                data = {**event, "sequence_number": self._number}
                yield frame(data, event=event["type"], number=self._number)
