"""``check()`` in a cell: the verdict of the free verifiers on an answer that is not yet handed in.

It follows the stop hook's rule and wording, on the text that the cell sends and on the files as a commit
would contain them. It is a pure function of both, so a cell that runs again prints the same; nothing is
written or charged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loop_runner import scratch
from loop_runner.records import Allow, Block, Inputs
from loop_runner.text import one_line
from loop_runner.verify import Gates, Means, Submission, free
from loop_runner.verify.stop_hook import StopHook

_EMPTY = "`answer['content']` is empty: there is nothing to check yet. An answer is accepted when:"


class Checks:
    """Reports what the free verifiers would decide. May be called from any thread.

    ``lay_out`` writes the current files of the workspace into a folder.
    """

    def __init__(
        self, gates: Gates, inputs: Callable[[], Inputs], prompt: str, lay_out: Callable[[Path], None]
    ) -> None:
        self._requirements = gates.requirements()
        self._free = free(gates.verifiers)
        self._means = Means(programs=gates.programs)  # cannot run a program or ask a model
        self._inputs = inputs
        self._prompt = prompt
        self._lay_out = lay_out

    def say(self, content: str) -> str:
        """What the model's code prints."""
        if not content.strip():
            return "\n".join([_EMPTY, *(f"- {text}" for text in self._requirements)])
        if not self._free.verifiers:
            return f"The checks run only when you set `ready`: {self._others()}."
        parts = [self._judged(content)]
        if self._free.others:
            parts.append(f"Not checked now, only when you set `ready`: {self._others()}.")
        return "\n\n".join(parts)

    def _judged(self, content: str) -> str:
        with scratch.make("check") as folder:
            checkout = folder / "checkout"
            (checkout / "workspace").mkdir(parents=True)
            if self._free.reads_files:
                self._lay_out(checkout)
            submission = Submission(content, checkout, self._inputs(), self._prompt)
            decision = StopHook(self._free.verifiers, self._means, retries=0).decide(submission)
        if isinstance(decision, Allow):
            names = ", ".join(one_line(report.verifier) for report in decision.reports)
            count = len(decision.reports)
            total = count + len(self._free.others)
            whole = f"All {count} checks" if count == total > 1 else f"{count} of {total} checks"
            return f"{whole} can run now and would accept this answer: {names}."
        if isinstance(decision, Block):
            return decision.reason
        return f"The answer could not be checked: {decision.reason}"

    def _others(self) -> str:
        return ", ".join(map(one_line, self._free.others)) or "none"
