"""The adapter for inspect_ai, tried where that package is installed: INSPECT_PYTHON names its Python."""

import os
import subprocess

import pytest

PYTHON = os.environ.get("INSPECT_PYTHON", "")
CODE = """
from inspect_ai import eval
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from evals.families import FAMILIES
from evals.inspect_task import questions

right = [FAMILIES["needles"](seed, 10_000).key.accepted[0] for seed in range(0, 48, 2)]
outputs = [ModelOutput.from_content("mockllm/model", answer) for answer in [*right[:-6], *["none"] * 6]]
for output in outputs:
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it fetches a tokenizer
model = get_model("mockllm/model", custom_outputs=outputs)
(log,) = eval(questions(), model=model, display="none", log_dir="logs", max_samples=1)
assert log.status == "success", log.error.message
print(log.results.scores[0].metrics["accuracy"].value)
try:
    questions(half="unseen")
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="make test-inspect installs inspect_ai and names its Python")
def test_inspect_asks_the_same_questions_and_grades_with_the_same_grader(tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    ended = subprocess.run(
        [PYTHON, "-c", CODE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.split() == ["0.75", "GuardError"], ended.stderr[-2000:]
