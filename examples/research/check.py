"""The gate of this example: under each heading exactly the sentences that belong there."""

import json
import re
from pathlib import Path

CITATION = re.compile(r"^> (?P<name>[\w.-]+):\d+: (?P<quote>.+)$", re.MULTILINE)


def check(submission):
    """None accepts; a text is the reason why not, which the next pass is told."""
    key = json.loads((Path(__file__).parent / "key.json").read_text())
    parts = re.split(r"^## (.+)$", submission.answer, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    faults = []
    for group, wanted in key.items():
        output = {(match["name"], match["quote"]) for match in CITATION.finditer(sections.get(group, ""))}
        missing, false = set(wanted.items()) - output, output - set(wanted.items())
        if missing or false:
            faults.append(f"`{group}`: {len(missing)} missing, {len(false)} that do not belong there")
    return "; ".join(faults) or None
