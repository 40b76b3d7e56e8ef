"""The nine tasks, in the order of the table."""

from __future__ import annotations

from collections.abc import Mapping

from tests.workbench import counting, legal, reading
from tests.workbench.playing import Scenario

TASKS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        legal.LEGAL,
        reading.RESEARCH,
        counting.LOGS,
        reading.THREE_HOPS,
        reading.SUPPORT,
        legal.EXTRACT,
        counting.AUDIT,
        counting.REENTRY,
        reading.KILLS,
    )
}
