"""The main job with the real local model, over the sources of this Python's standard library.

They fail, and do not skip, when the model is fetched and does not answer; `make test-model` fetches it
first.
"""

import json
import subprocess
import sys
import sysconfig

import pytest

from loop_runner.verify import short_answer

QUESTIONS = [
    ("What is the default value of maxsize in functools.lru_cache?", "128"),
    ("In http.client, which port number is HTTPS_PORT?", "443"),
    ("What is the default cutoff of difflib.get_close_matches?", "0.6"),
]


@pytest.mark.real_model
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("question", "right"), QUESTIONS, ids=[right for _, right in QUESTIONS])
def test_the_local_model_answers_with_a_quote_that_stands_there(tmp_path, question, right):
    result = subprocess.run(
        [
            *(sys.executable, "-m", "loop_runner", "ask", question, sysconfig.get_path("stdlib")),
            *("--model", "local:coder", "--json", "--verbose"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    print(result.stderr)
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["status"] == "verified"
    assert short_answer(data["answer"]) == right
