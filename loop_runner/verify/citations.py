"""The verifier that requires evidence: every quote must be at the place it cites and support the answer.

Owns which citations count and what they must achieve together; ``quotes.py`` looks them up. This verifier
exists to catch a quote that is real but does not support the answer: hence ``answer_in_quote`` and
``quote_mentions``. It never judges meaning.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from loop_runner.records import Accepted, Broken, Inputs, Rejected, Verdict
from loop_runner.text import label
from loop_runner.verify.bearing import DERIVED_FORM, SEARCHED_FORM, Bearing, bearing, is_none, searched
from loop_runner.verify.located import LocatedCitation, Looked
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import COUNT, FLAG, TEXTS, Keys, Options, one_of
from loop_runner.verify.question_kind import asks_for_text, misfit
from loop_runner.verify.question_names import unnamed
from loop_runner.verify.quotes import (
    MAX_ANSWER_CHARS,
    MAX_CITATIONS,
    in_part_words,
    locate,
    look_up,
    quoted_lines,
)
from loop_runner.verify.short_answer import stands_in
from loop_runner.verify.sources import independent
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Submission

__all__ = ["Citations", "LocatedCitation", "locate"]

_SHOWN = 10
_NONE = ("refused", "allowed")


@dataclass(frozen=True, slots=True)
class _Problem:
    """One fault: a sentence, and the evidence for it."""

    reason: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Citations(BaseVerifier):
    """Accepts an answer if all of its quotations are found and at least ``minimum`` of them count."""

    is_free = True
    is_repeatable = False
    breaks_by_inputs = True
    KEYS: ClassVar[Keys] = {
        "min": COUNT,
        "answer_in_quote": FLAG,
        "derived": FLAG,
        "none": one_of(_NONE),
        "names": TEXTS,
        "quote_mentions": TEXTS,
        "within_lines": COUNT,
        "ignore_case": FLAG,
        "sources": COUNT,
        "about_question": FLAG,
    }

    name: str
    minimum: int = 1
    answer_in_quote: bool = False
    names: tuple[str, ...] = ()  # patterns; a citation of another input does not count
    quote_mentions: tuple[str, ...] = ()
    within_lines: int = 0
    ignore_case: bool = False
    derived: bool = False  # an answer that no quote states may explain how it follows from them
    none: str = "refused"  # or "allowed": the answer may be "none", with the texts that were searched
    independent_sources: int = 1  # that the counted citations must come from
    about_question: bool = False  # the quotes must not be about something else than the question names

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Citations:  # noqa: ARG003
        """Raises ``VerifierError`` for a setting of the wrong type."""
        return cls(
            name or "citations",
            options.count("min", 1),
            options.flag("answer_in_quote"),
            options.texts("names"),
            options.texts("quote_mentions"),
            options.count("within_lines", 0),
            options.flag("ignore_case"),
            options.flag("derived"),
            options.choice("none", _NONE),
            options.count("sources", 1),
            options.flag("about_question"),
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        plural = "citation" if self.minimum == 1 else "citations"
        of = f" of {', '.join(map(label, self.names))}" if self.names else ""
        says = [
            (
                f"at least {self.minimum} {plural}{of}, each on its own line: "
                "`> name:line: the text of that line, copied`"
            )
        ]
        if self.independent_sources > 1:
            says.append(
                f"they must come from at least {self.independent_sources} independent sources "
                "(pages of one site are one)"
            )
        if self.answer_in_quote:
            says.append("the first line must be the short answer alone, and it must be in a quoted text")
            if self.derived:
                says.append(
                    f"if no line states it (yes or no, a count, a computed value), add a line {DERIVED_FORM}"
                )
        if self.about_question:
            says.append("the quoted lines must be about what the question names")
        if self.none == "allowed":
            says.append(f"if there is none, the first line must be `None`, and another {SEARCHED_FORM}")
        if self.quote_mentions:
            near = f" or within {self.within_lines} lines of one" if self.within_lines else ""
            words = " and ".join(repr(word) for word in self.quote_mentions)
            says.append(f"{words} must be in a quoted text{near}")
        return "; ".join(says)

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when a cited input has changed or cannot be read."""
        if not submission.inputs.texts:
            return Broken("the task has no inputs, so nothing can be cited")
        if len(submission.answer) > MAX_ANSWER_CHARS:
            return Rejected(f"the answer is longer than {MAX_ANSWER_CHARS:,} characters")
        looked = look_up(submission.answer, submission.inputs, self.within_lines, submission.prompt)
        for item in looked:
            if item.citation.is_fault:
                return Broken(item.citation.reason)
        counted = self._counted(looked)
        bears = self._bearing(submission, counted)
        problems = list(self._problems(submission, looked, counted, bears))
        quoted = [item.citation for item in looked if item.citation.ok and item.citation.kind != "pointer"]
        record = _record(counted, submission.inputs) | _in_part(quoted)
        if not problems:
            shown = "\n".join(_written(item.citation) for item in counted[:_SHOWN])
            return Accepted(shown, record=record, statement=_statement(quoted, bears))
        reason = "; ".join(problem.reason for problem in problems)
        evidence = "\n".join(problem.evidence for problem in problems if problem.evidence)
        if record.get("quoted_in_part"):
            evidence += "\n" + in_part_words(record["quoted_in_part"])
        return Rejected(reason, evidence, self._score(looked, counted, len(problems)), record)

    def _bearing(self, submission: Submission, counted: list[Looked]) -> Bearing | None:
        """The quotations' support for the short answer; None when the task does not require any."""
        if self.none == "allowed" and is_none(submission.answer):
            texts = [text for text in submission.inputs.texts if self._is_wanted(text.name)]
            return searched(submission.answer, texts)
        if not self.answer_in_quote or not counted:
            return None
        # The quotes alone, not their whole lines: what a quote leaves out was not shown.
        quotes = [item.citation.quote for item in counted]
        cited = {item.citation.name for item in counted} if asks_for_text(submission.prompt) else set()
        return bearing(
            submission.answer, quotes, ignore_case=self.ignore_case, may_derive=self.derived, cited=cited
        )

    def _counted(self, looked: list[Looked]) -> list[Looked]:
        """Those that are found, have content and are from the right inputs; each place once."""
        places = {
            (item.citation.name, item.citation.line): item
            for item in looked
            if item.citation.counts and self._is_wanted(item.citation.name)
        }
        return list(places.values())

    def _is_wanted(self, name: str) -> bool:
        return not self.names or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)

    def _problems(
        self, submission: Submission, looked: list[Looked], counted: list[Looked], bears: Bearing | None
    ) -> Iterator[_Problem]:
        if len(looked) > MAX_CITATIONS:
            yield _Problem(f"the answer has more than {MAX_CITATIONS} citations")
        wrong = [(number, item.citation) for number, item in enumerate(looked, 1) if not item.citation.ok]
        # Reported even when enough others are found: a reader would believe every quote of a verified answer.
        if wrong:
            yield _not_found(wrong, len(looked))
        is_none_there = self.none == "allowed" and is_none(submission.answer)
        # Correcting the wrong ones may be enough, so there is one complaint at a time.
        if len(counted) + len(wrong) < self.minimum and not is_none_there:
            yield self._too_few(looked, counted, submission.inputs)
        if bears is not None and bears.problem:
            quotes = "\n".join(_written(item.citation) for item in counted[:_SHOWN])
            shown = f"the quotes that are found:\n{quotes}\n" if quotes and not is_none_there else ""
            yield _Problem(bears.problem, shown + bears.advice)
        if counted and not is_none_there:
            yield from self._unmentioned(counted)
            yield from self._too_few_sources(counted, submission.inputs)
            if self.about_question and not wrong:
                yield from _about_others(submission, counted)
        if self.about_question and (kind := misfit(submission.prompt, submission.answer)):
            yield _Problem(
                f"the question asks for {kind}, and the first line is none",
                "write that alone into the first line",
            )

    def _too_few(self, looked: list[Looked], counted: list[Looked], inputs: Inputs) -> _Problem:
        how = (
            "write each citation on a line of its own: > name:line: the text of that line, copied\n"
            f"for example: > {inputs.texts[0].name}:12: the text of line 12, copied"
        )
        if not looked:
            return _Problem("the answer cites nothing", how)
        notes = [how]
        if any(item.citation.ok and not item.citation.counts for item in looked):
            notes.append("a quote of under 8 characters, or without a letter or digit, does not count")
        if self.names:
            notes.append(f"only citations of {', '.join(map(label, self.names))} count")
        return _Problem(f"{len(counted)} of its citations count, {self.minimum} must", "\n".join(notes))

    def _too_few_sources(self, counted: list[Looked], inputs: Inputs) -> Iterator[_Problem]:
        cited = {item.citation.name for item in counted}
        count = independent(text for text in inputs.texts if text.name in cited)
        if count < self.independent_sources:
            where = ", ".join(map(label, sorted(cited)[:_SHOWN]))
            yield _Problem(
                f"its citations come from {count} of {self.independent_sources} independent sources",
                f"cited are {where}; pages of one site, and texts with the same bytes, are one source",
            )

    def _unmentioned(self, counted: list[Looked]) -> Iterator[_Problem]:
        texts = [
            f"{item.citation.quote}\n{item.around}" if self.within_lines else item.citation.quote
            for item in counted
        ]
        missing = [
            word
            for word in self.quote_mentions
            if not any(stands_in(word, text, ignore_case=self.ignore_case) for text in texts)
        ]
        if missing:
            near = f", nor within {self.within_lines} lines of one" if self.within_lines else ""
            words = ", ".join(repr(word) for word in missing)
            yield _Problem(f"no quote mentions {words}{near}", "cite the line that is about the question")

    def _score(self, looked: list[Looked], counted: list[Looked], problems: int) -> float:
        """A score under 1: the share of citations that count, reduced for other faults."""
        share = len(counted) / max(len(looked), self.minimum, 1)
        return round(share / (1 + problems), 4)


def _about_others(submission: Submission, counted: list[Looked]) -> Iterator[_Problem]:
    others = unnamed(submission.prompt, [item.citation for item in counted], submission.inputs)
    if others.names:
        names = " and ".join(exact_line(name, 80) for name in others.names)
        advice = "quote the line that is about it, or one that shows it"
        lines = "\n".join([f"{advice}; lines that name it:", *others.lines]) if others.lines else advice
        yield _Problem(f"the question is about {names}, and no quoted line, nor one near it, names it", lines)


def _record(counted: list[Looked], inputs: Inputs) -> dict[str, Any]:
    """For the proof: the places in the originals that quotes of converted texts come from."""
    origins = {text.name: text.origin for text in inputs.texts if text.origin is not None}
    placed = [
        {
            "name": item.citation.name,
            "line": item.citation.line,
            "place": item.citation.place,
            "original_sha256": origins[item.citation.name].sha256,
            **({"rests_on": list(item.citation.rests_on)} if item.citation.rests_on else {}),
        }
        for item in counted
        if item.citation.name in origins
    ]
    return {"citations": placed} if placed else {}


def _not_found(wrong: Sequence[tuple[int, LocatedCitation]], total: int) -> _Problem:
    shown = "\n".join(f"{_called(number, citation)}\n  {citation.reason}" for number, citation in wrong)
    quoted = [number for number, citation in wrong if citation.kind != "pointer"]
    parts = []
    if quoted:
        plural, verb = ("citations", "are") if len(quoted) > 1 else ("citation", "is")
        parts.append(f"{plural} {_numbers(quoted)} of {total} {verb} not found as cited")
    if count := len(wrong) - len(quoted):
        plural, verb = ("places", "are") if count > 1 else ("place", "is")
        parts.append(f"{count} {plural} that the answer names {verb} not quoted in it")
    return _Problem("; ".join(parts), shown)


def _called(number: int, citation: LocatedCitation) -> str:
    """The faulty part as the answer writes it; a place named in running text has no citation number."""
    if citation.kind == "pointer":
        return f"the place {exact_line(_place(citation))}"
    return f"citation {number}: {_written(citation)}"


def _numbers(numbers: Sequence[int]) -> str:
    """Ascending numbers, with three or more in a row as a range: "1, 2, 5-9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else [str(number) for number in run] for run in runs)
    return ", ".join(part for shown in parts for part in shown)


def _statement(quoted: Sequence[LocatedCitation], bears: Bearing | None) -> str:
    """What was checked, in one line, and nothing that was not."""
    parts = []
    if quoted:
        exact = sum(not item.how for item in quoted)
        read = f", {exact} of them copied exactly" if exact < len(quoted) else ", copied exactly"
        part = sum(bool(item.marked) for item in quoted)
        parts.append(
            f"{len(quoted)} quotation{'s' if len(quoted) > 1 else ''} found in the inputs{read}"
            + (f", {part} in part of the line" if part else "")
        )
    if bears is not None and bears.statement:
        parts.append(bears.statement)
    elif quoted:
        parts.append("that they prove the answer was not checked")
    return "; ".join(parts) or "nothing is quoted, and nothing had to be"


def _in_part(quoted: Sequence[LocatedCitation]) -> dict[str, Any]:
    """For readers, jurors and the next pass: each partly quoted line in full, with the quoted part marked."""
    shown = quoted_lines([citation for citation in quoted if citation.marked or citation.note])
    return {"quoted_in_part": shown} if shown else {}


def _written(citation: LocatedCitation) -> str:
    place = f"{_place(citation)}: " if citation.name or citation.line else ""
    return f"> {exact_line(place + citation.quote)}"


def _place(citation: LocatedCitation) -> str:
    label = f" ({citation.place})" if citation.place else ""
    last = f"-{citation.last_line}" if citation.last_line else ""
    return f"{citation.name}:{citation.line}{last}{label}"
