"""The program of an audit as a root model: what it says when its cells fail."""

import asyncio

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.providers.program import ProgramClient
from loop_runner.records import Message, Request

TRACEBACK = """Output of your code:

```
Traceback (most recent call last):
  File "<cell 2>", line 2, in <module>
    plan = audit.read_plan()
  File "<cell 1>", line 1, in read_plan
{last}
```

Turn 2 of 20 is over.
"""


def failed(last):
    """The error after two cells that ended with ``last``."""
    output = TRACEBACK.format(last=last)
    texts = ("Judge.", output, output)
    request = Request("program:audit", tuple(Message("user", text) for text in texts))
    with pytest.raises(ModelError) as caught:
        asyncio.run(ProgramClient("audit").complete(request))
    return caught.value


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("TimeoutError: the cell took too long", "failed 2 times: TimeoutError: the cell took too long"),
        ("re.error: nothing to repeat", "failed 2 times: re.error: nothing to repeat"),
        (
            "ValueError: the plan of this audit has format 1",
            "ValueError: the plan of this audit has format 1",
        ),
        ("KeyboardInterrupt", "failed 2 times: KeyboardInterrupt"),
    ],
)
def test_a_failing_program_is_reported_with_the_last_line_of_its_traceback(last, words):
    error = failed(last)
    assert words in error.message
    assert "Traceback" not in str(error)
    assert "\n" not in error.message


def test_a_program_without_a_plan_is_no_model_and_says_what_to_do():
    error = failed("FileNotFoundError: [Errno 2] No such file or directory: 'plan.json'")
    assert error.message == "program:audit has no plan to follow"
    assert "loop-runner audit PATH... --rules FILE" in error.hint
    assert "Traceback" not in str(error)


def test_an_unknown_program_is_refused():
    with pytest.raises(ConfigError, match="there is no program 'other'"):
        ProgramClient("other")
