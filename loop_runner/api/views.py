"""``RunView``: what there is to see of a run while it runs, built from its events.

Every front end shows this one: the live lines of the command, ``watch`` and the service's dashboard.
"""

from __future__ import annotations

from collections.abc import Iterable

from loop_runner import events
from loop_runner.api.typed_events import Event, untyped
from loop_runner.runs import view
from loop_runner.runs.status import Status
from loop_runner.runs.view import Activity, Anomaly, Limit, PassView

__all__ = ["Activity", "Anomaly", "Limit", "PassView", "RunView", "Status"]


class RunView(view.RunView):
    """What there is to see of a run: give ``apply`` its events in their order, as ``run.events()`` does.

    ``activity``, ``limits`` and ``anomalies`` take the time, in seconds since 1970.
    """

    def __init__(self, events: Iterable[Event | events.Event] = ()) -> None:
        super().__init__()
        for event in events:
            self.apply(event)

    def apply(self, event: Event | events.Event) -> None:
        """Take in one event."""
        super().apply(untyped(event) if isinstance(event, Event) else event)
