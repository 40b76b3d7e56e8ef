"""Follows a citation of a fleet's answer to the inputs of its job, and checks there what the answer quotes.

An earlier answer is no evidence by itself. A citation of it is found when the quoted lines are there and what
they rest on is: the citations in those lines or, if they hold none, all citations of that answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from loop_runner.errors import LoopRunnerError
from loop_runner.inputs import content, job_inputs
from loop_runner.inputs.fleet_answers import KIND
from loop_runner.records import Inputs, InputText
from loop_runner.verify.located import LocatedCitation, Looked
from loop_runner.verify.one_line import exact_line

LookUp = Callable[[str, Inputs], Sequence[Looked]]
_SHOWN = 3


def followed(looked: Sequence[Looked], inputs: Inputs, look_up: LookUp) -> list[Looked]:
    """``looked`` with each found citation of a job's answer followed to what it rests on."""
    answers = {text.name: text for text in inputs.texts if text.origin and text.origin.kind == KIND}
    if not answers:
        return list(looked)
    rests = {name: _Rest(text, look_up) for name, text in answers.items()}
    return [
        replace(item, citation=rests[item.citation.name].under(item.citation))
        if item.citation.ok and item.citation.name in rests
        else item
        for item in looked
    ]


class _Rest:
    """What one answer rests on; looked up when it is first cited."""

    def __init__(self, text: InputText, look_up: LookUp) -> None:
        self._text = text
        self._look_up = look_up

    def under(self, citation: LocatedCitation) -> LocatedCitation:
        """``citation`` with the places that it rests on, or failed with the reason."""
        try:
            cited = self._in_lines(citation.line, max(citation.last_line, citation.line)) or self._all
        except LoopRunnerError as error:
            return replace(citation, ok=False, reason=error.message, is_fault=True)
        if wrong := next((item for item in cited if not item.ok), None):
            where = (
                f"{self._text.name} rests on {exact_line(f'{wrong.name}:{wrong.line}: {wrong.quote}', 200)}"
            )
            reason = f"{where}, which is not found in the inputs of its job: {wrong.reason}"
            return replace(citation, ok=False, reason=reason, is_fault=wrong.is_fault)
        places = tuple(item.where for item in cited if item.counts)
        if not places:
            reason = f"{self._text.name} quotes none of the inputs of its job, so nothing is behind this line"
            return replace(citation, ok=False, reason=reason)
        return replace(citation, original="", rests_on=places[:_SHOWN])

    def _in_lines(self, first: int, last: int) -> list[LocatedCitation]:
        return self._cited("\n".join(self._lines[first - 1 : last]))

    @cached_property
    def _all(self) -> list[LocatedCitation]:
        return self._cited("\n".join(self._lines))

    def _cited(self, part: str) -> list[LocatedCitation]:
        citations = (item.citation for item in self._look_up(part, self._inputs))
        return [item for item in citations if item.kind == "cited"]

    @cached_property
    def _inputs(self) -> Inputs:
        listed = job_inputs.of_answer(self._text)
        assert listed is not None
        return listed

    @cached_property
    def _lines(self) -> list[str]:
        return content(self._text).decode("utf-8", "replace").split("\n")
