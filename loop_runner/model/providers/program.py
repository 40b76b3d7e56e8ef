"""``program:NAME``: a root "model" that is a built-in program, so that its run is like any other.

Owns the cells of each program. Deterministic, free, and blind: it only checks whether the
conversation has begun, so nothing that a file or a model says can change what it writes next.
"""

from __future__ import annotations

import re

from loop_runner.errors import ConfigError, ModelError
from loop_runner.records import Reply, Request
from loop_runner.text import one_line

_AUDIT = """\
from loop_runner.kernel import audit
plan = audit.read_plan()
if "judged" not in globals():
    found = audit.find(plan, context)
    judged, turns = audit.known(plan), 0
{again}\
batch = audit.waiting(plan, found, judged, context)
turns += 1
replies = llm_batch(audit.questions(batch), schema=audit.schema(plan, batch))
audit.keep(plan, judged, batch, replies, context, turns)
print(audit.progress(found, judged))
if not audit.waiting(plan, found, judged, context):
    answer["content"] = audit.report(plan, found, judged, context)
    answer["ready"] = True
"""
_PLAN = "plan.json"
_ERROR = re.compile(
    r"[\w.]*(?:error|exception|interrupt|exit)\b", re.IGNORECASE
)  # begins the last line of a traceback
_AGAIN = "audit.again(judged)  # what failed in the pass before is asked once more\n"
_FINISHED = "audit: "  # begins the line of a cell that ran to its end
_MAX_FAILED = 2


class ProgramClient:
    """Writes the next cell of the program ``name``. Raises ``ConfigError`` for one that there is not."""

    def __init__(self, name: str) -> None:
        if name != "audit":
            raise ConfigError(
                f"there is no program {name!r}",
                why="a program is a part of loop-runner, not a model",
                hint="loop-runner audit uses program:audit; a task names a model",
            )

    async def complete(self, request: Request) -> Reply:
        """The next cell. Raises ``ModelError`` when the cells keep failing: the same again would not help."""
        outputs = [message.text for message in request.messages if message.role == "user"][1:]
        failed = outputs[-_MAX_FAILED:]
        if len(failed) == _MAX_FAILED and not any(_FINISHED in output for output in failed):
            raise _failed(failed[-1])
        code = _AUDIT.format(again="" if outputs else _AGAIN)
        return Reply(f"```repl\n{code}```", model="program:audit")

    async def close(self) -> None:
        """Nothing to let go of."""


def _failed(output: str) -> ModelError:
    """The error for a program whose cells keep failing, with the last line of the traceback."""
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("```")]
    reason = next(
        (line for line in reversed(lines) if _ERROR.match(line)), lines[0] if lines else "no output"
    )
    if _PLAN in reason:
        return ModelError(
            "program:audit has no plan to follow",
            why="it is a part of `loop-runner audit`, not a model",
            hint="name a model, or start an audit: loop-runner audit PATH... --rules FILE",
        )
    return ModelError(
        f"the program of the audit failed {_MAX_FAILED} times: {one_line(reason, 300)}",
        why="without it nothing is judged; the replies so far are kept",
        hint="if a pattern takes very long, or a file breaks the parser, narrow `files:` in the rules",
    )
