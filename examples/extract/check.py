"""The gate of this example: the records are those of the key, for the files that the run was given."""

import json
from pathlib import Path


def check(submission):
    """None accepts; a text is the reason why not, which the next pass is told."""
    try:
        records = {load["file"]: load for load in json.loads(submission.answer)}
    except (ValueError, TypeError, KeyError):
        return "the answer is not a JSON list of objects with `file`"
    key = {load["file"]: load for load in json.loads((Path(__file__).parent / "key.json").read_text())}
    wanted = {text.name: key[text.name] for text in submission.inputs}
    wrong = sorted(name for name in wanted if records.get(name) != wanted[name])
    if wrong or len(records) != len(wanted):
        # Which files, and not what is right: that is for the next pass to read.
        return {
            "accepted": False,
            "reason": f"{len(wrong)} of {len(wanted)} records are missing or wrong: {', '.join(wrong[:5])}",
            "score": 1 - len(wrong) / len(wanted),
        }
    return None
