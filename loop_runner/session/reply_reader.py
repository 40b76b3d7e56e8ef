"""Finds the code in a root model's reply, in whatever shape the model wrote it.

Owns what counts as code: fenced, half-fenced or bare Python, tool calls, ``FINAL(...)`` written as text.
Small models leave out every second fence, so the reader tries the readings in order of how sure they are,
and prefers one that parses. It never raises, never runs anything, and takes bounded time on any text:
replies are cut to ``MAX_CHARS`` and parsing has a budget.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from loop_runner.session.bare_code import code_at_end, code_at_start, code_in, find_bare, without_prompts
from loop_runner.session.parsing import CODE_TAGS, Kind, Parser, ReadReply, names_in

MAX_CHARS = 256_000  # more than any model writes in one reply
_CLOSINGS_TRIED = 40

_OUTPUT_TAGS = frozenset({"output", "out", "stdout", "result", "results", "console"})

_FENCE = re.compile(r"^([ \t]*)(?:[-*>][ \t]+)?(`{3,}|~{3,})(.*)$")
_LATE_OPENING = re.compile(r"(`{3,}|~{3,})[ \t]*(repl|python3?|py)[ \t]*$")
_ATTRIBUTE = re.compile(
    r"(?:tool|title|id|file|filename|name|path|caption|linenos|lines|highlight|exec|session|class|label|cell|turn)="
)
_QUOTE_FENCE = re.compile(r"^[ \t]*('''|\"\"\")(repl|python3?|py)[ \t]*$")
_TAG = re.compile(r"(?ims)^[ \t]*<(code|python|py|repl|execute|tool_code)>(.*?)(?:</\1>|\Z)")
_PARAMETER = re.compile(r"(?s)<parameter=(?:code|python|source)>(.*?)(?:</parameter>|\Z)")
_PYTHON_TOKEN = "<|python_tag|>"  # noqa: S105 - a model's own mark, no secret
_END_TOKEN = re.compile(r"(?:<\|[a-z_]{1,30}\|>|</s>)\Z")
_FINAL = re.compile(r"(?m)^[ \t*`]*(FINAL_VAR|FINAL)\(")
_INLINE_FINAL = re.compile(r"\b(FINAL_VAR|FINAL)\(([^\n]*)\)[.`*\s]*\Z")
_LABEL = re.compile(
    r"(?i)^[\s*#_>`\[]*(?:(?:expected|sample|example|execution|repl|code|console|printed|the)\s+)?"
    r"(?:output|stdout|observation|result)s?(?:\s+of\s+(?:your|the)\s+code)?[\s*_\]`]*:"
)
_NEXT_SPEAKER = re.compile(r"(?i)^\s*(?:<\|im_start\|>|(?:user|human)\s*:)")


def read(reply_text: str) -> ReadReply:
    """Find the code of a reply. Never raises; whether the code makes sense is for the kernel to say."""
    text = _normalised(reply_text)
    parser = Parser()
    for reading in (_fenced, _tagged, _tool_call, find_bare, _final):
        if (reply := reading(text, parser)) is not None:
            return reply
    return ReadReply(None, text.strip())


def _normalised(reply: str) -> str:
    """Cut to the cap, with plain line ends, without a byte order mark, thoughts and end-of-turn marks."""
    text = reply[:MAX_CHARS].replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    before, end_of_thought, after = text.partition("</think>")
    if text.lstrip().startswith("<think>") or (end_of_thought and "```" not in before):
        # Code in a thought is a draft; a thought that was cut off holds no reply.
        text = after
    for _ in range(10):
        text = text.rstrip()
        if (token := _END_TOKEN.search(text, max(len(text) - 40, 0))) is None:
            break
        text = text[: token.start()]
    return text


# ── fences ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Opening:
    """A fence line: how far it is indented, its marks, and what stands behind them."""

    indent: str
    mark: str
    info: str

    def closes(self, other: _Opening) -> bool:
        """True when this fence may end ``other``; one with a tag ends it and opens the next."""
        return self.mark.startswith(other.mark) and not self.info.endswith(self.mark)

    @property
    def kind(self) -> Kind:
        """What the fence says that it holds."""
        word = re.match(r"[{.\s]*([\w+#-]*)", self.info.lower())
        tag = word[1] if word else ""
        if tag in CODE_TAGS:
            return "code"
        if tag in _OUTPUT_TAGS:
            return "output"
        return "other" if tag else "bare"


@dataclass(frozen=True, slots=True)
class _Block:
    kind: Kind
    code: str


def _fenced(text: str, parser: Parser) -> ReadReply | None:
    if "```" not in text and "~~~" not in text and not re.search(r"(?m)^[ \t]*['\"]{3}(repl|py)", text):
        return None
    scan = _FenceScan(text.split("\n"), parser)
    scan.run()
    code = _chosen(scan.blocks, parser)
    if code is None:
        return None
    finals = [] if "FINAL" in code else _finals_beside_code(scan.prose_after, parser)
    return ReadReply("\n".join([code, *finals]), "\n".join(scan.prose).strip())


class _FenceScan:
    """Walks the lines once, from fence to fence."""

    def __init__(self, lines: list[str], parser: Parser) -> None:
        self._lines = lines
        self._parser = parser
        self._at = 0
        self._since = 0  # where the lines outside of fences began
        self._has_code = False
        self.blocks: list[_Block] = []
        self.prose: list[str] = []
        self.prose_after: list[str] = []  # behind the first code

    def run(self) -> None:
        """Fill ``blocks`` and ``prose``; stop at an output that the model made up."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            opening = _opening(line)
            if opening is None:
                if self._has_code and (_LABEL.match(line) or _NEXT_SPEAKER.match(line)):
                    return
                self._add_prose(line)
                self._at += 1
            elif not self._take(opening):
                return

    def _take(self, opening: _Opening) -> bool:
        """Read the block that ``opening`` opens, or closes; False when the rest is invented."""
        before = self._lines[self._since : self._at]
        # A bare fence right under code closes what was never opened.
        if opening.kind == "bare" and not opening.info and (run := code_at_end(before, self._parser)):
            self._add(_Block("code", run), self._at + 1)
            return True
        kind = self._kind(opening, before)
        if kind == "output" and self._has_code:
            return False
        line = self._lines[self._at]
        if not _FENCE.match(line):
            self._add_prose(line[: line.rindex(opening.mark)])
        content, after = self._content(opening, kind)
        self._add(_Block(kind, content), after)
        return True

    def _kind(self, opening: _Opening, before: Sequence[str]) -> Kind:
        last = next((line for line in reversed(before) if line.strip()), "")
        if opening.kind == "bare" and _LABEL.match(last):
            return "output"
        if opening.kind == "other" and self._parser.acts(opening.info.rstrip("`~")):
            return "bare"  # "```import re": the code begins on the fence's own line
        return opening.kind

    def _content(self, opening: _Opening, kind: Kind) -> tuple[str, int]:
        """What stands in the fence, and the line to go on from."""
        start = self._at + 1
        first = [] if kind in {"code", "output"} or opening.kind == "bare" else [opening.info]
        if kind == "code" and opening.kind == "code":
            first = self._beside_tag(opening.info)
        if opening.info.endswith(opening.mark):  # all on one line
            whole = opening.info[: -len(opening.mark)].strip()
            word = re.match(r"(?:repl|python3?|py)\b[ \t]*", whole)
            return whole[word.end() :] if word else whole, start
        closings = list(islice(self._closings(start, opening), _CLOSINGS_TRIED))
        if kind in {"output", "other"}:
            end = next((at for at in closings if not _info(self._lines[at])), len(self._lines))
            return "\n".join(self._lines[start:end]), end + 1
        for at in closings:
            # A fence inside of a string closes nothing: what stands before it does not parse.
            code = self._dedented(first + self._lines[start:at], opening)
            if self._parser.parse(code) is not None:
                return code, at + (not _info(self._lines[at]))
        return self._broken(first, start, closings, opening)

    def _beside_tag(self, info: str) -> list[str]:
        """The code that stands on the fence's own line, behind its tag; attributes (``title=x``) are none."""
        rest = info.partition(" ")[2].strip()
        if not rest or _ATTRIBUTE.match(rest):
            return []
        is_begun = self._parser.parse(rest) is None and self._parser.is_unfinished
        return [rest] if is_begun or self._parser.acts(rest) else []

    def _closings(self, start: int, opening: _Opening) -> Iterator[int]:
        for at in range(start, len(self._lines)):
            line = self._lines[at]
            if opening.mark[0] in "'\"":
                if line.strip() == opening.mark:
                    yield at
            elif (other := _opening(line)) is not None and other.closes(opening):
                yield at

    def _broken(
        self, first: list[str], start: int, closings: list[int], opening: _Opening
    ) -> tuple[str, int]:
        """Code that no closing makes whole: glued to its closing marks, cut off, or simply wrong."""
        for at in range(start, closings[0] if closings else len(self._lines)):
            line = self._lines[at].rstrip()
            if line.endswith(opening.mark):
                glued = [*self._lines[start:at], line[: -len(opening.mark)]]
                code = self._dedented(first + glued, opening)
                if self._parser.parse(code) is not None:
                    return code, at + 1
                break
        if len(self.blocks) < _CLOSINGS_TRIED or not closings:
            whole = self._dedented(first + self._lines[start:], opening)
            if self._parser.parse(whole) is not None:
                return whole, len(self._lines)
        if closings:
            at = closings[0]
            return self._dedented(first + self._lines[start:at], opening), at + (not _info(self._lines[at]))
        return code_at_start(whole.split("\n"), self._parser) or whole, len(self._lines)

    def _dedented(self, lines: list[str], opening: _Opening) -> str:
        code = "\n".join(lines)
        if opening.indent:
            less = "\n".join(line.removeprefix(opening.indent) for line in lines)
            if self._parser.parse(less) is not None:
                return less
        if lines and lines[0].lstrip().startswith(">>>"):
            return without_prompts(lines)
        if opening.kind == "bare" and lines and lines[0].strip().lower() in CODE_TAGS:
            return "\n".join(lines[1:])  # the tag slipped to the next line
        if lines and lines[0][:1] in {" ", "\t"} and self._parser.parse(code) is None:
            return textwrap.dedent(code)
        return code

    def _add_prose(self, line: str) -> None:
        self.prose.append(line)
        if self._has_code:
            self.prose_after.append(line)

    def _add(self, block: _Block, after: int) -> None:
        self.blocks.append(block)
        self._has_code |= block.kind in {"code", "bare"}
        self._at = self._since = after


def _opening(line: str) -> _Opening | None:
    if "```" not in line and "~~~" not in line:
        quotes = _QUOTE_FENCE.match(line)
        return _Opening("", quotes[1], quotes[2]) if quotes else None
    if fence := _FENCE.match(line):
        return _Opening(fence[1], fence[2], fence[3].strip(" \t"))
    if late := _LATE_OPENING.search(line, max(len(line) - 40, 0)):
        return _Opening("", late[1], late[2])
    return None


def _info(line: str) -> str:
    opening = _opening(line)
    return opening.info if opening is not None else ""


def _chosen(blocks: Sequence[_Block], parser: Parser) -> str | None:
    """The code of the blocks that are code, in order; None when none of them is."""
    codes = [block.code for block in blocks if block.kind == "code" and block.code.strip()]
    if not codes:
        bare = [block.code for block in blocks if block.kind == "bare" and block.code.strip()]
        codes = [code for code in bare if parser.acts(code)] or bare[:1]
        if codes and parser.parse(codes[0]) is None and not code_in(codes[0].split("\n"), parser):
            return None  # prose in a fence
    else:
        codes = [
            block.code
            for block in blocks
            if block.code.strip()
            and (block.kind == "code" or (block.kind == "bare" and parser.acts(block.code)))
        ]
    # One torn block must not take the others with it; if all are torn, the model is to see its error.
    whole = [code for code in codes if parser.parse(code) is not None] or codes[:1]
    distinct = [code for at, code in enumerate(whole) if at == 0 or code != whole[at - 1]]
    return "\n".join(distinct) if distinct else None


def _finals_beside_code(lines: Sequence[str], parser: Parser) -> list[str]:
    """``FINAL`` as text beside code, if it names a variable; a literal was written before any output."""
    for line in lines:
        if not _FINAL.match(line):
            continue
        call = line.strip(" \t*`")
        tree = parser.parse(call)
        if tree is not None and names_in(tree) - {"FINAL", "FINAL_VAR"}:
            return [call]
        if tree is not None and call.startswith("FINAL_VAR("):
            return [call]
    return []


# ── tags and tool calls ─────────────────────────────────────────────────────────────────────────────


def _tagged(text: str, parser: Parser) -> ReadReply | None:
    if _PYTHON_TOKEN in text:
        prose, _, code = text.partition(_PYTHON_TOKEN)
        code_found = _fitted(code, parser)
        return ReadReply(code_found, prose.strip()) if code_found else None
    for pattern in (_PARAMETER, _TAG):
        inside = [match[match.lastindex or 1] for match in islice(pattern.finditer(text), 20)]
        fitted = [code_found for part in inside if (code_found := _fitted(part, parser))]
        if fitted:
            return ReadReply("\n".join(fitted), pattern.sub("", text).strip())
    return None


def _fitted(code: str, parser: Parser) -> str | None:
    """``code`` without what a tag's line breaks and indentation add; a JSON call in it is opened."""
    call = _tool_call(code, parser)
    if call is not None:
        return call.code
    plain = textwrap.dedent(code.strip("\n")).rstrip()
    if plain.lstrip().startswith(">>>"):
        plain = without_prompts(plain.split("\n"))
    return plain or None


def _tool_call(text: str, _parser: Parser) -> ReadReply | None:
    """``{"code": "..."}``, or a call with arguments that hold one."""
    for start in islice(re.finditer(r"(?m)(?:^|>)[ \t]*(?=\{)", text), 10):
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(text, start.end())
        except (ValueError, RecursionError):
            continue
        if code := _code_of(value, depth=4):
            return ReadReply(code, (text[: start.start()] + text[end:]).strip())
    return None


def _code_of(value: Any, depth: int) -> str | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, dict) or not depth:
        return None
    for key in ("code", "python", "source", "script", "cell"):
        if isinstance(value.get(key), str) and value[key].strip():
            inner = _opening(value[key].strip().split("\n", 1)[0])
            return read(value[key]).code if inner else str(value[key])
    inside = (value.get(key) for key in ("arguments", "parameters", "input", "args", "function"))
    return next((code for part in inside if (code := _code_of(part, depth - 1))), None)


# ── FINAL ───────────────────────────────────────────────────────────────────────────────────────────


def _final(text: str, parser: Parser) -> ReadReply | None:
    """``FINAL(...)`` as text: what is no Python inside becomes a string."""
    starts = list(islice(_FINAL.finditer(text), 50))
    if starts:
        start = starts[-1]
        return ReadReply(_final_call(start[1], text[start.end() :], parser), text[: start.start()].strip())
    if inline := _INLINE_FINAL.search(text[-2000:]):
        return ReadReply(_final_call(inline[1], f"{inline[2]})", parser), text.strip())
    return None


def _final_call(name: str, rest: str, parser: Parser) -> str:
    for end in islice(re.finditer(r"\)", rest), 30):
        call = f"{name}({rest[: end.start()]})"
        if parser.parse(call) is not None:
            return call
    last = rest.rfind(")")
    argument = (rest if last < 0 else rest[:last]).strip()
    return f"{name}({argument!r})"
