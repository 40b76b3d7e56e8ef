"""The kind ``human``: a person decides about the answer, from any process, when every other check accepts.

The run waits for the decision at no cost; ``loop-runner approve`` and ``reject``, and the same methods of
``lr.Run``, place it. A decision is about one answer: another answer is asked about anew. What a person
decided cannot be run again: ``verify`` repeats it from the record, and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import TEXT, Keys, Options
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, PersonsDecision, Submission
from loop_runner.workspace.control_files import Question

RECORD = "person"  # the key of the report that says what a person decided


@dataclass(frozen=True, slots=True)
class Human(BaseVerifier):
    """Accepts what a person approves; rejects, with the person's reason, what they reject."""

    asks_person = True
    is_repeatable = False
    KEYS: ClassVar[Keys] = {"question": TEXT}

    name: str
    question: str

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Human:  # noqa: ARG003
        """Raises ``VerifierError`` without a question."""
        return cls(name or "human", " ".join(options.text("question").split()))

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"a person must approve the answer: {exact_line(self.question, 400)}"

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` where no person can be asked, or where this run must not wait for one."""
        if means.person is None:
            return Broken("a person decides about this answer, and none can be asked here")
        identity = _sha256(f"{self.name}\0{self.question}\0{submission.answer}")[:16]
        question = Question(identity, self.name, self.question, _sha256(submission.answer))
        decision = means.person.ask(question)
        if decision is None:
            return Broken(f"it waits for a person's decision: {exact_line(self.question, 400)}")
        record: dict[str, Any] = {"question": self.question, "decision": "rejected"}
        record |= {key: value for key in ("by", "at", "text") if (value := getattr(decision, key))}
        by = f" by {decision.by}" if decision.by else " by a person"
        if decision.is_approved:
            record["decision"] = "approved"
            return Accepted(
                f"approved{by}", record={RECORD: record}, statement=f"approved{by}: {self.question}"
            )
        return Rejected(f"rejected{by}", decision.text, record={RECORD: record})


class RecordedPerson:
    """What persons decided, as the reports of a verdict or a proof say it: nobody is asked again."""

    def __init__(self, reports: Iterable[Mapping[str, Any]]) -> None:
        self._decisions = dict(_decisions(reports))

    def ask(self, question: Question) -> PersonsDecision | None:
        """The recorded decision of the verifier that asks."""
        result = self._decisions.get(question.verifier)
        if result is None or result.get("question") != question.text:
            return None
        texts = {key: str(result.get(key, "")) for key in ("text", "by", "at")}
        return PersonsDecision(result.get("decision") == "approved", **texts)


def _decisions(reports: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for report in reports:
        person = report.get("record", {}).get(RECORD)
        if isinstance(person, Mapping):
            yield str(report["verifier"]), person
        yield from _decisions(report.get("members", ()))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
