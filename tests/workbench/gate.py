"""The gate of every task of the workbench: the answer has exactly the lines, or is the JSON, of key.json."""

import json
from pathlib import Path


def check(submission):
    """Return None to accept, else how much is wrong; what is right is for the next pass to find out."""
    key = json.loads((Path(__file__).parent / "key.json").read_text(encoding="utf-8"))
    if "json" in key:
        return _compare_records(submission.answer, key["json"])
    lines = [line.strip() for line in submission.answer.splitlines()]
    lines = [line for line in lines if line and not line.startswith(">")]
    missing = len(set(key["lines"]) - set(lines))
    extra = [line for line in lines if line not in key["lines"]]
    if missing or extra or len(lines) != len(key["lines"]):
        hints = [text for text in key.get("hints", ()) if missing]
        reason = (
            f"{missing} of {len(key['lines'])} lines are missing or wrong; {len(extra)} do not belong there"
        )
        return {
            "accepted": False,
            "reason": ". ".join([reason, *hints]),
            "score": 1 - missing / len(key["lines"]),
        }
    return None


def _compare_records(answer, wanted):
    try:
        records = {record["file"]: record for record in json.loads(answer)}
    except (ValueError, TypeError, KeyError):
        return "the answer is not a JSON list of objects with `file`"
    wrong = [record["file"] for record in wanted if records.get(record["file"]) != record]
    if wrong or len(records) != len(wanted):
        return f"{len(wrong)} of {len(wanted)} records are missing or wrong: {', '.join(wrong[:5])}"
    return None
