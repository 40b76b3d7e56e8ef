"""Spans of a run for a collector that the user names: run > pass > turn > call.

A listener of the run's events. Spans hold names, numbers and verdicts, never a prompt, a reply or code. They
are sent by threads of the SDK, and the end of a run waits for them three seconds at most. The extra ``otel``
brings the SDK; without it, or without an address in the environment, nothing here is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loop_runner import plugins
from loop_runner.events import Event
from loop_runner.runs import span_names as names

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_ADDRESSES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_WAIT_S = 3.0
_NANOSECONDS = 1_000_000_000


def is_wanted(env: Mapping[str, str]) -> bool:
    """Whether the environment names a collector for traces."""
    is_off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none"
    return not is_off and any(env.get(name) for name in _ADDRESSES)


def missing() -> str:
    """Why no span can be sent; "" when one can."""
    from importlib.util import find_spec

    try:
        is_installed = all(
            find_spec(name) for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        )
    except ImportError:
        is_installed = False
    return "" if is_installed else f"the extra is not installed: {plugins.command_for('otel')}"


class Spans:
    """Turns the events of one run into spans. Never raises, and never waits but in ``close``."""

    def __init__(self, env: Mapping[str, str]) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": env.get("OTEL_SERVICE_NAME", "loop-runner")})
        # A provider of its own: a program that uses the library keeps its own.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        address = env.get(_ADDRESSES[0]) or f"{env[_ADDRESSES[1]].rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=address, timeout=_WAIT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer("loop_runner")
        self._open: dict[str, Span] = {}  # by level, the outermost first
        self._models = {"root": "", "sub": ""}

    def __call__(self, event: Event) -> None:
        """Begin, end or describe a span."""
        handler = getattr(self, f"_{event.kind}", None)
        if handler is not None:
            handler(event, dict(event.data))

    def close(self) -> None:
        """End what is open and send what is left, for three seconds at most."""
        self._end(names.RUN, 0.0)
        sender = threading.Thread(target=self._provider.shutdown, name="loop-runner-spans", daemon=True)
        sender.start()
        sender.join(_WAIT_S)

    # ── events ──────────────────────────────────────────────────────────────────────────────────────

    def _run_started(self, event: Event, data: dict[str, Any]) -> None:
        self._end(names.RUN, event.at)
        self._models = {"root": str(data.get("model", "")), "sub": str(data.get("sub_model", ""))}
        run = str(data.get("run", ""))
        about = {names.WORKFLOW: run, names.CONVERSATION: run, names.REQUEST_MODEL: self._models["root"]}
        self._begin(names.RUN, run.rpartition("/")[2], event.at, about)

    def _pass_started(self, event: Event, data: dict[str, Any]) -> None:
        about = {names.AGENT: "loop-runner", names.PASS_NUMBER: event.pass_number}
        self._begin(names.PASS, f"pass {event.pass_number}", event.at, about)

    def _turn_started(self, event: Event, data: dict[str, Any]) -> None:
        about = {names.TOOL: "python", names.PASS_NUMBER: event.pass_number, names.TURN_NUMBER: event.turn}
        self._begin(names.TURN, f"turn {event.turn}", event.at, about)
        self._begin(names.CALL, self._models["root"], event.at, _call(self._models["root"], "root"))

    def _reply_received(self, event: Event, data: dict[str, Any]) -> None:
        usage = data.get("usage") or {}
        self._describe(
            names.CALL,
            {
                names.INPUT_TOKENS: usage.get("input_tokens", 0),
                names.OUTPUT_TOKENS: usage.get("output_tokens", 0),
                names.CACHE_READ_TOKENS: usage.get("cache_read_tokens", 0),
                names.CACHE_WRITE_TOKENS: usage.get("cache_write_tokens", 0),
            },
        )
        self._end(names.CALL, event.at)

    def _subcall_finished(self, event: Event, data: dict[str, Any]) -> None:
        model = self._models["sub"]
        self._end(names.CALL, event.at)
        self._begin(names.CALL, model, event.at, _call(model, "sub"))
        self._end(names.CALL, event.at)

    def _cell_finished(self, event: Event, data: dict[str, Any]) -> None:
        self._describe(names.TURN, {names.END: str(data.get("end", ""))})

    def _turn_committed(self, event: Event, data: dict[str, Any]) -> None:
        self._describe(names.TURN, {names.COMMIT: event.text})
        self._end(names.TURN, event.at)

    def _pass_ended(self, event: Event, data: dict[str, Any]) -> None:
        verdict = data.get("verdict") or {}
        about = {names.OUTCOME: str(data.get("outcome", "")), names.COMMIT: str(data.get("commit", ""))}
        score = verdict.get("score") if isinstance(verdict, dict) else None
        self._describe(names.PASS, about | ({names.SCORE: float(score)} if score is not None else {}))
        self._end(names.PASS, event.at)

    def _run_ended(self, event: Event, data: dict[str, Any]) -> None:
        self._describe(names.RUN, {names.STATUS: str(data.get("status", ""))})
        self._end(names.RUN, event.at)

    # ── spans ───────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, level: str, what: str, at: float, about: Mapping[str, Any]) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._end(level, at)
        parent = next(reversed(self._open.values()), None)
        self._open[level] = self._tracer.start_span(
            f"{level} {what}".strip(),
            context=None if parent is None else set_span_in_context(parent),
            kind=SpanKind.CLIENT if level == names.CALL else SpanKind.INTERNAL,
            attributes={names.OPERATION: level, **about},
            start_time=_time(at),
        )

    def _describe(self, level: str, about: Mapping[str, Any]) -> None:
        if level in self._open:
            self._open[level].set_attributes(dict(about))

    def _end(self, level: str, at: float) -> None:
        """End the span of ``level``, and first those inside it."""
        if level not in self._open:
            return
        levels = list(self._open)
        for inner in reversed(levels[levels.index(level) :]):
            self._open.pop(inner).end(end_time=_time(at))


def _call(model: str, kind: str) -> dict[str, Any]:
    return {names.PROVIDER: model.partition(":")[0], names.REQUEST_MODEL: model, names.CALL_KIND: kind}


def _time(at: float) -> int | None:
    """Nanoseconds since 1970; None: now."""
    return int(at * _NANOSECONDS) if at else None
