"""Spans for a collector: how they nest, what they hold, and that a collector costs the run nothing."""

import http.server
import socket
import threading
import time

import pytest

from loop_runner.events import Event
from loop_runner.runs import span_names as names
from loop_runner.runs import tracing, watchers
from loop_runner.runs.context import RunContext

pytest.importorskip("opentelemetry.sdk", reason="the OpenTelemetry SDK is not installed (extra `otel`)")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="the OTLP exporter is not installed (extra `otel`)"
)
SECRET_TEXT = "what the model wrote"
EVENTS = [
    Event(
        "run_started", "", 0, 0, {"run": "runs/x", "model": "openai:big", "sub_model": "openai:small"}, at=1.0
    ),
    Event("pass_started", SECRET_TEXT, 1, at=2.0),
    Event("turn_started", "", 1, 1, at=3.0),
    Event("reply_received", SECRET_TEXT, 1, 1, {"usage": {"input_tokens": 7, "output_tokens": 2}}, at=4.0),
    Event("subcall_finished", "", 1, 1, {"reply": SECRET_TEXT}, at=5.0),
    Event("cell_finished", SECRET_TEXT, 1, 1, {"end": "ok", "code": SECRET_TEXT}, at=6.0),
    Event("turn_committed", "abc", 1, 1, at=7.0),
    Event(
        "pass_ended",
        SECRET_TEXT,
        1,
        0,
        {"outcome": "rejected", "commit": "d", "verdict": {"score": 0.5}},
        at=8.0,
    ),
    Event("run_ended", SECRET_TEXT, 1, 0, {"status": "unverified"}, at=9.0),
]


@pytest.fixture
def collector():
    """A receiver of OTLP on loopback: the requests that it was sent."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def received(bodies):
    """The spans in the requests, by name, with their attributes."""
    import gzip

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = []
    for _, body in bodies:
        data = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        request = ExportTraceServiceRequest.FromString(data)
        spans += [
            span for item in request.resource_spans for scope in item.scope_spans for span in scope.spans
        ]
    return spans


def sent(collector, events=EVENTS):
    url, bodies = collector
    spans = tracing.Spans({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    for event in events:
        spans(event)
    spans.close()
    return received(bodies)


def value(span, name):
    (result,) = [item.value for item in span.attributes if item.key == name]
    return getattr(result, result.WhichOneof("value"))


def test_spans_nest_as_run_pass_turn_and_call(collector):
    spans = {(value(span, names.OPERATION), span.name): span for span in sent(collector)}
    parents = {span.span_id: key[0] for key, span in spans.items()}
    nested = sorted((key[0], parents.get(span.parent_span_id, "")) for key, span in spans.items())
    assert nested == sorted(
        [(names.RUN, ""), (names.PASS, names.RUN), (names.TURN, names.PASS)] + [(names.CALL, names.TURN)] * 2
    )
    assert len({span.trace_id for span in spans.values()}) == 1
    assert collector[1][0][0] == "/v1/traces"


def test_a_span_lasts_from_its_first_event_to_its_last(collector):
    spans = {value(span, names.OPERATION): span for span in sent(collector)}
    lasted = {
        name: (span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9) for name, span in spans.items()
    }
    assert lasted[names.RUN] == (1.0, 9.0)
    assert lasted[names.PASS] == (2.0, 8.0)
    assert lasted[names.TURN] == (3.0, 7.0)


def test_spans_hold_numbers_and_verdicts_and_no_text(collector):
    spans = sent(collector)
    assert SECRET_TEXT not in str(spans)
    by_kind = {
        value(span, names.OPERATION): span for span in spans if value(span, names.OPERATION) != names.CALL
    }
    assert value(by_kind[names.RUN], names.STATUS) == "unverified"
    assert value(by_kind[names.PASS], names.SCORE) == 0.5
    (root,) = [span for span in spans if span.name == "chat openai:big"]
    assert (value(root, names.INPUT_TOKENS), value(root, names.OUTPUT_TOKENS)) == (7, 2)


@pytest.mark.parametrize("count", range(1, len(EVENTS)))
def test_a_run_that_ends_anywhere_ends_its_spans(collector, count):
    spans = sent(collector, EVENTS[:count])
    assert spans
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for span in spans)


@pytest.mark.slow
def test_a_collector_that_never_answers_delays_the_end_by_seconds_at_most():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        spans = tracing.Spans({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
        for event in EVENTS:
            spans(event)
        began = time.perf_counter()
        spans.close()
        assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("env", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_spans_are_sent_only_where_a_collector_is_named(env, is_wanted):
    assert tracing.is_wanted(env) is is_wanted


def test_a_missing_extra_is_a_notice_and_no_error(monkeypatch):
    monkeypatch.setattr(tracing, "missing", lambda: "the extra is not installed")
    heard: list[Event] = []
    context = RunContext({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, (heard.append,))
    assert watchers._spans(context) is None
    assert "the extra is not installed" in heard[0].text
