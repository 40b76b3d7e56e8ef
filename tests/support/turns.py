"""Makes turns, calls and variables for tests of the run folder. The same arguments give the same bytes."""

from __future__ import annotations

import hashlib

from loop_runner.records import Answer, Call, Reply, Snapshot, TurnRecord, Usage, Variable


def call(key="root", occurrence=0, kind="root", text="a reply", model="script:x"):
    fingerprint = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    usage = Usage(input_tokens=10, output_tokens=5)
    return Call(kind, model, fingerprint, occurrence, "" if kind == "root" else key, Reply(text, usage=usage))


def snapshot(**values):
    """One blob per keyword: name to bytes."""
    blobs = {hashlib.sha256(data).hexdigest(): data for data in values.values()}
    variables = tuple(
        Variable(name, "bytes", len(data), repr(data[:20]), "saved", "", hashlib.sha256(data).hexdigest())
        for name, data in values.items()
    )
    return Snapshot(variables, blobs)


def turn(pass_number=1, number=1, **changes):
    values = {
        "reply": f"I look at part {number}.",
        "code": f"print({number})",
        "output": f"{number}\n",
        "end": "ok",
        "answer": Answer(f"draft {pass_number}.{number}"),
        "calls": (call(f"root {pass_number}.{number}"),),
        "snapshot": snapshot(words=b"words %d" % number),
        "seconds": 0.25,
    }
    return TurnRecord(pass_number=pass_number, number=number, **{**values, **changes})
