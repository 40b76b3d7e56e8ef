"""The verifiers that read only the answer's text: ``contains`` and ``regex``.

The pattern comes from the task, but the text comes from the model, and together they may never finish. The
match therefore runs in a process of its own (``regex_child.py``) with a time limit. Neither verifier writes.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from loop_runner import process, scratch
from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.text import cut_middle
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import FLAG, SECONDS, TEXT, Keys, Options, one_of
from loop_runner.verify.short_answer import short_answer
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Submission

Part = Literal["answer", "first_line", "short_answer"]
_PARTS = ("answer", "first_line", "short_answer")
_EVIDENCE_CHARS = 600
_BLANKS = " \t\r\n"
_CHILD = Path(__file__).with_name("regex_child.py")


@dataclass(frozen=True, slots=True)
class Contains(BaseVerifier):
    """Accepts an answer that contains ``text``."""

    is_free = True
    KEYS: ClassVar[Keys] = {"text": TEXT, "ignore_case": FLAG}

    name: str
    text: str
    ignore_case: bool = False

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Contains:  # noqa: ARG003
        """Raises ``VerifierError`` when ``text`` is missing."""
        return cls(
            name or f"contains {options.text('text')!r}", options.text("text"), options.flag("ignore_case")
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        case = " (in any letter case)" if self.ignore_case else ""
        return f"the answer must contain the text {self.text!r}{case}"

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """Never ``Broken``."""
        answer, text = submission.answer, self.text
        if text in answer or (self.ignore_case and text.casefold() in answer.casefold()):
            return Accepted()
        hint = (
            " (it does in other letter case, which counts here)"
            if text.casefold() in answer.casefold()
            else ""
        )
        return Rejected(f"the answer does not contain {text!r}{hint}", _seen(answer))


@dataclass(frozen=True, slots=True)
class Regex(BaseVerifier):
    """Accepts an answer, or the named part of it, in which Python's ``re.search`` finds ``pattern``."""

    is_free = True
    KEYS: ClassVar[Keys] = {
        "pattern": TEXT,
        "part": one_of(_PARTS),
        "ignore_case": FLAG,
        "timeout_s": SECONDS,
    }

    name: str
    pattern: str
    part: Part = "answer"
    ignore_case: bool = False
    timeout_s: float = 5.0

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Regex:  # noqa: ARG003
        """Raises ``VerifierError`` for an invalid pattern."""
        pattern = options.text("pattern")
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise VerifierError(
                f"verifier `regex`: the pattern {pattern!r} is wrong: {error}",
                why="no answer could be checked with it",
                hint="patterns are those of Python's `re`; in YAML put them in single quotes",
            ) from error
        part: Part = options.choice("part", _PARTS)  # type: ignore[assignment]
        name = name or f"regex `{exact_line(pattern, 80)}`"
        return cls(name, pattern, part, options.flag("ignore_case"), options.seconds("timeout_s", 5.0))

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        part = {
            "answer": "answer",
            "first_line": "first line",
            "short_answer": "first line, without a label,",
        }
        return f"the {part[self.part]} must match the regular expression `{self.pattern}`"

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when the match did not end in ``timeout_s``."""
        text = _part(submission.answer, self.part)
        request = json.dumps({"pattern": self.pattern, "ignore_case": self.ignore_case, "text": text})
        # -I and -S ignore the user's environment and site-packages, and it starts in 15 ms.
        with scratch.make("pattern") as folder:
            ended = process.run(
                [sys.executable, "-I", "-S", str(_CHILD)],
                cwd=folder,
                env={},
                timeout_s=self.timeout_s,
                stdin=request.encode(),
            )
        if ended.timed_out:
            return Broken(
                f"the pattern `{self.pattern}` did not finish in {self.timeout_s:g} s on this answer"
            )
        if ended.output.strip() == "found":
            return Accepted()
        if ended.output.strip() == "not found":
            where = self.part.replace("_", " ")
            return Rejected(f"the {where} does not match the pattern `{self.pattern}`", _seen(text))
        why = exact_line(ended.output[-300:]) or "no output"
        return Broken(f"the pattern could not be tried: {why} ({_how(ended.exit_code)})")


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the process was ended by signal {-code}: {signal.strsignal(-code)}"
    return f"exit code {code}"


def _part(answer: str, part: Part) -> str:
    """Surrounding white space does not count as part of it."""
    if part == "short_answer":
        return short_answer(answer)
    text = answer.strip(_BLANKS)
    return text.split("\n", 1)[0].rstrip(_BLANKS) if part == "first_line" else text


def _seen(text: str) -> str:
    return f"what was searched: {cut_middle(text, _EVIDENCE_CHARS)}" if text else "it is empty"
