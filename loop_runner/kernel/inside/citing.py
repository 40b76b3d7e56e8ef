"""Finds a quote in the texts and writes its citations. Runs inside the kernel process.

A citation is a line ``> name:line: text`` with the text of that line of that input; a verifier checks it. It
is always cut from the input itself, never from the model's own typing. A quote that is missing or ambiguous
raises ``ValueError`` with advice.
"""

from __future__ import annotations

import re
from collections import namedtuple

from .texts import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_QUOTE_CHARS = 300
_MAX_LINES = 50  # of one quote
_MAX_PLACES = 5  # named in the message about an ambiguous quote
_PREFIXES = (
    re.compile(r"^(?P<name>[^\n]{1,300}?):(?P<line>\d+):\s?"),
    re.compile(r"^(?P<name>[^\n]{1,300}?):(?P<place>[^:\n]{1,60}):\s?"),  # "contract.pdf:page 12: text"
)
_MARKS = re.compile(r"^(?:>\s*|[-*•]\s+(?=>))+")

Span = namedtuple("Span", "name start end")  # noqa: PYI024 - no ``typing`` in the kernel; offsets into the text


class Citer:
    """Cites ``texts``. ``places``: (first line, label) of a converted text's pages, sheets, messages.

    ``parts``: for texts that are cut from others, the other text's name and the line where they begin.
    Citations name that place.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        places: Mapping[str, Sequence[tuple[int, str]]] | None = None,
        parts: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self._parts = parts or {}
        self._texts = texts
        self._places = places or {}

    def cite(self, quote: str, name: str | None) -> str:
        """The citation of each line of ``quote`` (in the text ``name``, if given), joined by line ends."""
        if name is not None and name not in self._texts:
            raise ValueError(f"no text is named {name!r:.80}{did_you_mean(name, self._texts)}")
        lines = [line for line in map(_bare, quote.splitlines()) if line.strip()]
        if not lines:
            raise ValueError("cite needs the text of a line, copied from the input")
        if len(lines) > _MAX_LINES:
            raise ValueError(f"a quote has at most {_MAX_LINES} lines; cite the lines that matter")
        prefixes = [self._prefix(line) for line in lines]
        if not any(prefixes):
            return self._citations(self._only_span(lines, [name] if name else list(self._texts)))
        cited = [self._cite_line(line, prefix, name) for line, prefix in zip(lines, prefixes, strict=True)]
        return "\n".join(cited)

    def cite_lines(self, name: str, first: int, last: int) -> str:
        """The citations of the lines ``first`` to ``last`` that are not blank."""
        lines = self._texts[name].split("\n")
        if not 1 <= first <= last <= len(lines):
            raise ValueError(f"{name} has lines 1 to {len(lines):,}; cite_lines got {first:,} to {last:,}")
        cited = [
            f"> {self._where(name, number)}: {_shorten(line.strip(), 0, MAX_QUOTE_CHARS)}"
            for number, line in enumerate(lines[first - 1 : last], first)
            if line.strip()
        ]
        if not cited:
            raise ValueError(f"lines {first:,} to {last:,} of {name} are blank")
        return "\n".join(cited)

    # ── one line with the place that the model gave ─────────────────────────────────────────────────

    def _prefix(self, line: str) -> re.Match[str] | None:
        """The name and line, or place, at the beginning of a quote, if there is such a text."""
        matches = (pattern.match(line) for pattern in _PREFIXES)
        return next((match for match in matches if match and match["name"] in self._texts), None)

    def _cite_line(self, line: str, prefix: re.Match[str] | None, name: str | None) -> str:
        if prefix is None:
            return self._citations(self._only_span([line], [name] if name else list(self._texts)))
        named, wanted = prefix["name"], line[prefix.end() :].strip()
        if name not in (None, named):
            raise ValueError(f"the quote begins with {named!r:.80}, but cite was asked for {name!r:.80}")
        first, last = self._range(prefix)
        spans = [span for span in self._spans([wanted], [named]) if first <= self._line_of(span) <= last]
        if spans:
            return self._citations(self._one_of(spans))
        where = f"line {first}" if first == last else f"lines {first} to {last}"
        raise ValueError(f"{where} of {named} does not say {wanted!r:.120}{self._elsewhere(wanted, named)}")

    def _range(self, prefix: re.Match[str]) -> tuple[int, int]:
        """The first and last line that the prefix of a quote names."""
        groups = prefix.groupdict()
        if groups.get("line"):
            return int(groups["line"]), int(groups["line"])
        places = self._places.get(prefix["name"], ())
        for at, (first, label) in enumerate(places):
            if label.casefold() == groups["place"].strip().casefold():
                return first, places[at + 1][0] - 1 if at + 1 < len(places) else 1 << 60
        return 1, 1 << 60

    def _elsewhere(self, wanted: str, name: str) -> str:
        spans = self._spans([wanted], [name])
        if not spans:
            return self._nearest(wanted, [name])
        numbers = [self._line_of(span) for span in spans[:_MAX_PLACES]]
        lines = ", ".join(map(str, numbers))
        return f"; it is on line {lines}: cite_lines({name!r}, {numbers[0]}, {numbers[0]})"

    # ── finding ─────────────────────────────────────────────────────────────────────────────────────

    def _only_span(self, lines: list[str], names: list[str]) -> Span:
        """The one place of the quote; whole lines take precedence over parts of lines."""
        spans = self._spans(lines, names)
        if not spans:
            shown = " ".join(lines)
            raise ValueError(
                f"this text is in none of the inputs: {shown!r:.120}{self._nearest(shown, names)}"
            )
        return self._one_of(spans)

    def _one_of(self, spans: list[Span]) -> Span:
        chosen = [span for span in spans if self._is_whole(span)] or spans
        if len(chosen) > 1:
            places = [f"{span.name}:{self._line_of(span)}" for span in chosen[:_MAX_PLACES]]
            more = ", …" if len(chosen) > _MAX_PLACES else ""
            first, line = chosen[0].name, self._line_of(chosen[0])
            raise ValueError(
                f"this text is in {len(chosen):,} places: {', '.join(places)}{more}; say which one is meant, "
                f"such as cite_lines({first!r}, {line}, {line})"
            )
        return chosen[0]

    def _spans(self, lines: list[str], names: list[str]) -> list[Span]:
        """Every place where the lines follow in this order; white space and line ends may differ."""
        words = [word for line in lines for word in line.split()]
        pattern = re.compile(r"\s+".join(map(re.escape, words)))
        longest = max(words, key=len)
        return [
            Span(name, match.start(), match.end())
            for name in names
            if longest in self._texts[name]
            for match in pattern.finditer(self._texts[name])
        ]

    def _is_whole(self, span: Span) -> bool:
        text = self._texts[span.name]
        before = text[text.rfind("\n", 0, span.start) + 1 : span.start]
        end = text.find("\n", span.end)
        return not before.strip() and not text[span.end : len(text) if end < 0 else end].strip()

    def _line_of(self, span: Span) -> int:
        return self._texts[span.name].count("\n", 0, span.start) + 1

    def _nearest(self, wanted: str, names: list[str]) -> str:
        """The line that contains every word of the quote, for a message."""
        words = set(re.findall(r"\w+", wanted.lower()))
        if len(words) > 2:
            for name in names:
                for line in _lines_with(self._texts[name], words):
                    return f"; nearest: {name}:{line}, cite_lines({name!r}, {line}, {line})"
        return "; copy it exactly as search_text or read shows it"

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────

    def _where(self, name: str, line: int) -> str:
        whole, first = self._parts.get(name, (name, 1))
        return f"{whole}:{first + line - 1}"

    def _citations(self, span: Span) -> str:
        text = self._texts[span.name]
        at = text.rfind("\n", 0, span.start) + 1
        number = text.count("\n", 0, at) + 1
        cited = []
        while at < span.end:
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            line = text[at:end]
            if line.strip():
                shown = _shorten(line, max(span.start - at, 0), min(span.end, end) - at).strip()
                cited.append(f"> {self._where(span.name, number)}: {shown}")
            at, number = end + 1, number + 1
        return "\n".join(cited)


def _bare(line: str) -> str:
    """A line without the marks that models put before a quotation."""
    line = _MARKS.sub("", line.strip())
    return line.strip("`") if line[:1] == "`" == line[-1:] else line


def _shorten(line: str, start: int, end: int) -> str:
    """The line; of a long one, the part from ``start`` to ``end``, cut at word ends."""
    if len(line.strip()) <= MAX_QUOTE_CHARS:
        return line
    while start and not line[start - 1].isspace():
        start -= 1
    end = min(end, start + MAX_QUOTE_CHARS)
    while end < len(line) and not line[end].isspace():
        end += 1
    return line[start:end]


def _lines_with(text: str, words: set[str]) -> Iterator[int]:
    """The numbers of the lines that contain all of these words (given in lower case)."""
    lowered = text.lower()
    rarest = max(words, key=len)
    at = lowered.find(rarest)
    while at >= 0:
        start = lowered.rfind("\n", 0, at) + 1
        end = lowered.find("\n", at)
        end = len(lowered) if end < 0 else end
        if words <= set(re.findall(r"\w+", lowered[start:end])):
            yield lowered.count("\n", 0, start) + 1
        at = lowered.find(rarest, end)
