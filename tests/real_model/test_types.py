"""A type's own prompts with the real local model: records out of a few documents.

It fails, and does not skip, when the model is fetched and does not answer: see ``test_stdlib.py``.
"""

import json

import pytest

from tests.support.commands import loop_runner

PROMPT = (
    "For every receipt give `total` (a number). Answer with a JSON list of objects with `file` and `total`."
)
RECORD = {
    "type": "object",
    "required": ["file", "total"],
    "properties": {"file": {"type": "string", "pattern": r"^r\d\.txt$"}, "total": {"type": "number"}},
}


@pytest.mark.real_model
@pytest.mark.timeout(1800)
def test_the_local_model_fills_records_that_fit_the_schema(tmp_path):
    folder = tmp_path / "receipts"
    loop_runner("init", "extract", folder, cwd=tmp_path)
    (folder / "schema.json").write_text(json.dumps({"type": "array", "minItems": 3, "items": RECORD}))
    ran = loop_runner(
        *("run", folder / "task.yaml", "--model", "local:coder", "--set", f"prompt={json.dumps(PROMPT)}"),
        *("--passes", "3", "--json", "--verbose"),
        cwd=tmp_path,
        timeout_s=1700,
    )
    print(ran.stderr)
    assert ran.returncode == 0, ran.stderr
    totals = {load["file"]: load["total"] for load in json.loads(json.loads(ran.stdout)["answer"])}
    assert totals == {"r1.txt": 6.3, "r2.txt": 7.5, "r3.txt": 5.0}
