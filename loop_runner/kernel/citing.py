"""Finds where a quote stands and writes its citation. Runs inside the kernel process.

A citation is a line ``> name:line: text``, the text standing on that line of that input; a verifier checks it
byte for byte, so what is returned is always cut from the input itself, never from what the model typed.
"""

from __future__ import annotations

import re

from loop_runner.kernel.texts import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_QUOTE_CHARS = 300
_PREFIXES = (
    re.compile(r"^(?P<name>[^\n]{1,300}?):(?P<line>\d+):\s?"),
    re.compile(r"^(?P<name>[^\n]{1,300}?):(?P<place>[^:\n]{1,60}):\s?"),  # "contract.pdf:page 12: text"
)


def find_citation(texts: Mapping[str, str], quote: str, name: str | None) -> str:
    """The citation of ``quote``; ``ValueError`` when it stands nowhere (in the text ``name``, if given)."""
    if name is not None and name not in texts:
        raise ValueError(f"no text is named {name!r:.80}{did_you_mean(name, texts)}")
    lines = [line for line in (_bare(line) for line in quote.splitlines()) if line.strip()]
    if not lines:
        raise ValueError("cite needs the text of a line, copied from the input")
    hint = None
    for line in lines:
        prefix = _prefix(texts, line)
        if prefix:
            hint = (prefix["name"], int(prefix.groupdict().get("line", 0)))
        wanted = line[prefix.end() :] if prefix else line
        place = _find(texts, wanted.strip(), name, hint)
        if place is not None:
            return _citation(texts, *place, wanted.strip())
    raise ValueError(
        f"this text stands in none of the inputs: {lines[0].strip()!r:.120}; "
        "copy one line exactly, as search_text shows it"
    )


def _prefix(texts: Mapping[str, str], line: str) -> re.Match[str] | None:
    """The name and line, or place, that a quote begins with, if there is such a text."""
    found = (pattern.match(line) for pattern in _PREFIXES)
    return next((match for match in found if match and match["name"] in texts), None)


def _bare(line: str) -> str:
    """A line without the marks that models put before what they quote."""
    line = line.strip()
    line = re.sub(r"^(?:>\s*)+", "", line)
    return line.strip("`") if line[:1] == "`" == line[-1:] else line


def _find(
    texts: Mapping[str, str], wanted: str, name: str | None, hint: tuple[str, int] | None
) -> tuple[str, int] | None:
    """Where ``wanted`` stands: (name, offset). The line that the model named itself goes first."""
    if not wanted:
        return None
    if hint is not None and name in (None, hint[0]):
        offset = _on_line(texts[hint[0]], hint[1], wanted)
        if offset is not None:
            return hint[0], offset
    for look in (_exact, _spaced, _loosely):
        for each in _order(texts, name, hint):
            offset = look(texts[each], wanted)
            if offset is not None:
                return each, offset
    return None


def _order(texts: Mapping[str, str], name: str | None, hint: tuple[str, int] | None) -> Iterator[str]:
    if name is not None:
        yield name
        return
    if hint is not None:
        yield hint[0]
    yield from texts


def _on_line(text: str, number: int, wanted: str) -> int | None:
    lines = text.split("\n")
    if not 1 <= number <= len(lines):
        return None
    column = lines[number - 1].find(wanted)
    return None if column < 0 else sum(map(len, lines[: number - 1])) + number - 1 + column


def _exact(text: str, wanted: str) -> int | None:
    """The line that is the quote and no more, else the first that holds it."""
    first = text.find(wanted)
    if first < 0:
        return None
    whole = re.compile(rf"^[^\S\n]*(?={re.escape(wanted)}[^\S\n]*$)", re.MULTILINE)
    match = whole.search(text, text.rfind("\n", 0, first) + 1)
    return first if match is None else match.end()


def _spaced(text: str, wanted: str) -> int | None:
    """With other white space between the words, line breaks included."""
    words = wanted.split()
    if words[0] not in text:
        return None
    match = re.search(r"\s+".join(map(re.escape, words)), text)
    return None if match is None else match.start()


def _loosely(text: str, wanted: str) -> int | None:
    """The line that holds every word of the quote, in any case; one or two words are not enough."""
    words = set(re.findall(r"\w+", wanted.lower()))
    if len(words) < 3:
        return None
    rarest = max(words, key=len)
    lowered = text.lower()
    if len(lowered) != len(text):
        return None
    at = lowered.find(rarest)
    while at >= 0:
        start = lowered.rfind("\n", 0, at) + 1
        end = lowered.find("\n", at)
        end = len(lowered) if end < 0 else end
        if words <= set(re.findall(r"\w+", lowered[start:end])):
            return start
        at = lowered.find(rarest, end)
    return None


def _citation(texts: Mapping[str, str], name: str, offset: int, wanted: str) -> str:
    text = texts[name]
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line = text[start : len(text) if end < 0 else end]
    quoted = line.strip()
    if len(quoted) > MAX_QUOTE_CHARS:  # a long line: the part of it that was quoted
        column = offset - start
        quoted = line[column : column + max(min(len(wanted), MAX_QUOTE_CHARS), 40)].strip()
    return f"> {name}:{text.count(chr(10), 0, offset) + 1}: {quoted}"
