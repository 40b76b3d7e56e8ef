"""Decides who caused a gate to fail: the answer, or our side.

A broken gate stops the run and releases an agent, so an answer must not be able to break one. It could try
with a program that never ends or kills its checker, with output that imitates a missing file, or with bytes
that a checker cannot read. The gate is therefore tried again on answers that the judged side did not write.
If it works on one of them, the answer made it fail, and the verdict is a rejection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from loop_runner import scratch
from loop_runner.records import Broken, Rejected, Verdict
from loop_runner.verify import gate
from loop_runner.verify.verifier import Means, Submission, Verifier

_ANSWERS = ("", "0", '{"a": [1]}')
_DETAILS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+|/\S+")


def judged(verifier: Verifier, submission: Submission, broken: Broken, means: Means) -> Verdict:
    """``broken``, or a rejection if the judged side caused the fault or may have caused it.

    An agent may write to the inputs, too.
    """
    if verifier.breaks_by_inputs and means.is_agent and submission.inputs.texts:
        return Rejected(f"{broken.reason}; restore the input as it was when the run began")
    if broken.limit or not verifier.is_repeatable:
        return broken
    if all(_is_same(other, broken) for other in _on_other_answers(verifier, submission, means)):
        return broken
    return Rejected(f"the check could not finish its work because of this answer: {broken.reason}")


def _on_other_answers(verifier: Verifier, submission: Submission, means: Means) -> Iterator[Verdict]:
    for answer in _ANSWERS:
        with scratch.make("control") as folder:
            checkout = gate.checkout_of(folder / "checkout", answer)
            yield _verdict(verifier, replace(submission, answer=answer, checkout=checkout), means)


def _verdict(verifier: Verifier, submission: Submission, means: Means) -> Verdict:
    try:
        return verifier.verify(submission, means)
    except Exception as error:  # noqa: BLE001 - a border: a verifier's own bug
        return Broken(f"it failed with {type(error).__name__}: {error}")


def _is_same(verdict: Verdict, broken: Broken) -> bool:
    """Whether the gate failed in the same way. The last line of output, values and numbers may differ."""
    return isinstance(verdict, Broken) and _gist(verdict.reason) == _gist(broken.reason)


def _gist(reason: str) -> str:
    return _DETAILS.sub("", reason.partition("; its last line: ")[0])
