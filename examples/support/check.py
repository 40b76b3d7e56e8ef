"""The gate of this example: four right answers, each with the message that settles it."""

import json
import re
from pathlib import Path


def check(submission):
    """None accepts; a text is the reason why not, which the next pass is told."""
    key = json.loads((Path(__file__).parent / "key.json").read_text())
    sections = re.split(r"^(?=\d\. )", submission.answer.strip(), flags=re.MULTILINE)[1:]
    if len(sections) != len(key):
        return f"{len(sections)} answers for {len(key)} questions"
    wrong = [
        str(number) for number, item in enumerate(zip(sections, key, strict=True), 1) if not _is_right(*item)
    ]
    return f"wrong, or without the message that settles it: {', '.join(wrong)}" if wrong else None


def _is_right(section, wanted):
    first, *cited = section.strip().splitlines()
    return first[3:].strip() == wanted["answer"] and any(wanted["settled"] in line for line in cited)
