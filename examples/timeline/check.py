"""The gate of this example: every event with its date, in order; contradictions with both quotes."""

import json
import re
from pathlib import Path


def check(submission):
    """None accepts; a text is the reason why not, which the next pass is told."""
    key = json.loads((Path(__file__).parent / "key.json").read_text())
    parts = re.split(r"^(?=\d{4}-|CONTRADICTION: )", submission.answer, flags=re.MULTILINE)
    entries = [part for part in parts if part.strip()]
    events = [entry for entry in entries if entry[:4].isdigit()]
    days = [entry[:10] for entry in events]
    faults = [] if days == sorted(days) else ["the events are not in order"]
    missing = sum(not _is_there(what, dates, entries) for what, dates in key.items())
    if missing:
        faults.append(
            f"{missing} of {len(key)} events are missing, have another date, or hide a contradiction"
        )
    if len(entries) > len(key):
        faults.append(f"{len(entries)} entries for {len(key)} events")
    return "; ".join(faults) or None


def _is_there(what, dates, entries):
    about = [entry for entry in entries if what in entry.splitlines()[0].lower()]
    if len(about) != 1:
        return False
    quotes = [line for line in about[0].splitlines()[1:] if line.startswith("> ") and what in line.lower()]
    starts = "CONTRADICTION: " if len(dates) > 1 else f"{dates[0]}: "
    return about[0].startswith(starts) and all(day in about[0] for day in dates) and len(quotes) == len(dates)
