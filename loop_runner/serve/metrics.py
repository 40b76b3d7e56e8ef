"""Counts of the service for Prometheus. No names, questions or tokens are among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from loop_runner.serve import streams
from loop_runner.serve.guard import Guard
from loop_runner.serve.supervisor import Supervisor

_STATES = (
    *("queued", "running", "paused", "verified", "unverified", "blocked", "broken", "failed"),
    *("crashed", "cancelled"),
)


def text(supervisor: Supervisor, guard: Guard) -> str:
    """The metrics in Prometheus' text format."""
    return "\n".join([*_lines(supervisor, guard), ""])


def _lines(supervisor: Supervisor, guard: Guard) -> Iterator[str]:
    states = Counter(run.status for run in supervisor.runs.values())
    yield "# HELP loop_runner_runs Runs of this service by state.\n# TYPE loop_runner_runs gauge"
    yield from (f'loop_runner_runs{{state="{state}"}} {states[state]}' for state in _STATES)
    yield "# HELP loop_runner_requests_total Answered requests.\n# TYPE loop_runner_requests_total counter"
    for (route, status), count in sorted(guard.requests.items()):
        yield f'loop_runner_requests_total{{route="{route}",status="{status}"}} {count}'
    for name, kind, value, about in (
        ("streams_open", "gauge", len(streams.open_streams), "Streams that clients read now."),
        ("processes_started_total", "counter", supervisor.processes_started, "Processes of runs started."),
        ("runs_queued", "gauge", supervisor.queued, "Runs that wait for a free place."),
    ):
        yield f"# HELP loop_runner_{name} {about}\n# TYPE loop_runner_{name} {kind}"
        yield f"loop_runner_{name} {value}"
