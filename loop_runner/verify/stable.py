"""Two verifiers that only look at what the model itself says: ``stable`` and ``promise``.

``stable`` requires the same answer in several passes in a row; ``promise`` requires a phrase at the answer's
end. Neither knows the truth: they show that a model is settled, not that it is right (docs/verifiers.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from loop_runner.records import Accepted, Rejected, Verdict
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import COUNT, TEXT, Keys, Options, one_of
from loop_runner.verify.sameness import Sameness, compare, compared_parts, normalised_lines
from loop_runner.verify.spelling import normalise
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Submission

_COMPARED = ("short_answer", "text")


@dataclass(frozen=True, slots=True)
class Stable(BaseVerifier):
    """Accepts when this pass and the ``passes - 1`` before it handed in the same answer."""

    KEYS: ClassVar[Keys] = {"passes": COUNT, "compare": one_of(_COMPARED)}

    name: str
    passes: int = 2
    compare: str = "short_answer"

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Stable:  # noqa: ARG003
        """Raises ``VerifierError`` for settings of the wrong type."""
        return cls(
            name or "stable",
            max(options.count("passes", 2), 2),
            options.choice("compare", _COMPARED),
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"{self.passes} passes in a row must hand in the same answer, each found anew"

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """Never ``Broken``."""
        count = 1
        for earlier in reversed(submission.earlier):
            if not self._is_same(submission, earlier):
                break
            count += 1
        if count >= self.passes:
            return Accepted(f"{count} passes in a row handed in this answer")
        times = "pass has" if count == 1 else "passes have"
        return Rejected(
            f"{count} {times} handed in this answer, {self.passes} in a row must",
            f"what is compared: {exact_line(self._compared(submission), 600)}\n"
            "find the answer anew, by another way if there is one, and hand in what you find",
            round(count / (self.passes + 1), 4),
        )

    def _is_same(self, submission: Submission, earlier: str) -> bool:
        if self.compare == "text":
            return normalised_lines(submission.answer) == normalised_lines(earlier)
        return compare(submission.answer, earlier, submission.prompt) is Sameness.SAME

    def _compared(self, submission: Submission) -> str:
        if self.compare == "text":
            return normalised_lines(submission.answer)
        parts = compared_parts(submission.answer, submission.prompt)
        return " / ".join(normalise(part.value) for part in parts)


@dataclass(frozen=True, slots=True)
class Promise(BaseVerifier):
    """Accepts an answer that ends with ``phrase``, alone or between ``<promise>`` tags."""

    is_free = True
    KEYS: ClassVar[Keys] = {"phrase": TEXT}

    name: str
    phrase: str

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Promise:  # noqa: ARG003
        """Raises ``VerifierError`` without a phrase."""
        phrase = " ".join(options.text("phrase").split())
        return cls(name or f"promise {phrase!r}", phrase)

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"the answer must end with <promise>{self.phrase}</promise>, and only once that is true"

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """Never ``Broken``."""
        end = " ".join(submission.answer.split())
        tagged = re.search(r"<promise>\s*(.*?)\s*</promise>$", end)
        if (tagged and tagged[1] == self.phrase) or re.search(rf"(?:^|\W){re.escape(self.phrase)}$", end):
            return Accepted()
        last = end[-200:]
        return Rejected(f"the answer does not end with {self.phrase!r}", f"it ends with: {exact_line(last)}")
