"""Real answers in many forms, each with the verdict that a careful reader would give.

The answers are in ``answers/*.yaml``; a file holds one topic:

    inputs:                      # sets of texts, by a name that rows refer to
      policy:
        policy.txt: |
          first line
          second line
    rows:
      - gate: citations          # a kind of verifier
        options: {min: 1}        # its settings, as in a task file; {} when left out
        inputs: policy           # one of the sets above; no inputs when left out
        prompt: What is ...?     # the task's prompt, where the gate reads it; may be left out
        replies: ["87"]          # what models answer, in order, for a gate that asks them; may be left out
        answer: |
          the answer, as a model hands it in
        expected: accept         # accept or reject
        why: why a careful reader would accept or reject it, in a few words
        says: quote the whole    # part of the reason or the evidence of the verdict; may be left out

``gate``, ``options``, ``inputs`` and ``prompt`` of a row that has none are those of the row before it.
An answer with characters that cannot be seen is written in double quotes, with escapes.
"""

import hashlib
from pathlib import Path

import pytest
import yaml

from loop_runner.records import Accepted, Inputs, InputText, Rejected
from tests.support.gates import Says, made, submission

ANSWERS = Path(__file__).with_name("answers")
INHERITED = ("gate", "options", "inputs", "prompt")
KEYS = {*INHERITED, "replies", "answer", "expected", "why", "says"}


def rows():
    """Every row of every file, complete, as a parameter of the test below."""
    for path in sorted(ANSWERS.glob("*.yaml")):
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        before: dict[str, object] = {"options": {}, "inputs": None, "prompt": "What is the answer?"}
        for number, row in enumerate(table["rows"], 1):
            assert set(row) <= KEYS, f"{path.name}, row {number}: {set(row) - KEYS}"
            before |= {key: row[key] for key in INHERITED if key in row}
            texts = table["inputs"][before["inputs"]] if before["inputs"] else {}
            yield pytest.param({**row, **before, "texts": texts}, id=f"{path.stem}-{number}: {row['why']}")


def load(texts, folder):
    """The texts as inputs of a task."""
    listed = []
    for number, (name, text) in enumerate(texts.items()):
        path = folder / f"input-{number}"
        path.write_bytes(data := text.encode())
        listed.append(InputText(name, path, len(data), hashlib.sha256(data).hexdigest()))
    return Inputs(tuple(listed))


@pytest.mark.parametrize("row", list(rows()))
def test_the_gate_decides_as_a_careful_reader_would(tmp_path, row):
    gate = made({row["gate"]: row["options"]}, tmp_path, panel=Says(*row.get("replies", ())))
    verdict = gate.verify(
        submission(tmp_path, row["answer"], inputs=load(row["texts"], tmp_path), prompt=row["prompt"])
    )
    assert isinstance(verdict, {"accept": Accepted, "reject": Rejected}[row["expected"]]), verdict
    if "says" in row:
        assert isinstance(verdict, Accepted | Rejected)
        shown = verdict.evidence if isinstance(verdict, Accepted) else f"{verdict.reason}\n{verdict.evidence}"
        assert row["says"] in shown
