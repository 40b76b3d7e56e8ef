"""Splits a command that the task writes as one text, and refuses syntax that only a shell understands.

No shell runs the commands of a task. An operator such as ``&&`` would silently become an argument, and
the check would not do what its author meant. Words and quotes are read as POSIX ``sh`` reads them.
"""

from __future__ import annotations

import json
import re

_BLANKS = " \t\r\n"
_OPERATORS = "|&;<>()$`*?"  # active wherever they are not quoted
_ACTIVE_IN_DOUBLE_QUOTES = re.compile(r"`|\$[\w({@*#?$!-]")
_ESCAPED_IN_DOUBLE_QUOTES = '$`"\\'
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_BRACES = re.compile(r"\{[^{}]*(?:,|\.\.)[^{}]*\}")
_CLASS = re.compile(r"\[[^\]]+\]")
# Words that only a shell understands: no program has the name, or the program could not do the same.
_SHELL_WORDS = frozenset(
    (
        *("!", ".", ":", "[[", "{", "}", "alias", "break", "case", "cd", "continue", "eval", "exec", "exit"),
        *("export", "for", "function", "if", "return", "set", "shift", "source", "trap", "umask", "unset"),
        *("until", "while"),
    )
)
_QUOTED = "\0"  # in the mask of a word: a character protected by quotes


class NeedsShell(ValueError):  # noqa: N818 - not a fault of the program; the text says what a shell would do
    """The text uses ``what``, which only a shell understands."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} means something to a shell only, and no shell runs it")


def split(text: str) -> list[str]:
    """The words of ``text``. ``NeedsShell`` for an unquoted operator, ``ValueError`` for an open quote."""
    words, masks = _Scanner(text.strip(_BLANKS)).words()
    for number, mask in enumerate(masks):
        _refuse_expansions(mask, is_first=number == 0)
    return words


def as_list(text: str) -> str:
    """The list that runs ``text`` in a shell, to be copied into a task file."""
    return json.dumps(["sh", "-c", text.strip(_BLANKS)], ensure_ascii=False)


def _refuse_expansions(mask: str, *, is_first: bool) -> None:
    """``mask``: the word, with every quoted character replaced by ``_QUOTED``."""
    if is_first and (mask in _SHELL_WORDS or _ASSIGNMENT.match(mask)):
        raise NeedsShell(f"`{mask.replace(_QUOTED, '…')}` as the first word")
    if mask[:1] in ("~", "#"):
        raise NeedsShell(f"`{mask[0]}` at the beginning of a word")
    for pattern in (_BRACES, _CLASS):
        if match := pattern.search(mask):
            raise NeedsShell(f"`{match[0].replace(_QUOTED, '…')}` without quotes")


class _Scanner:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._words: list[str] = []
        self._masks: list[str] = []
        self._is_in_word = False

    def words(self) -> tuple[list[str], list[str]]:
        """The words, and for each its mask."""
        while self._at < len(self._text):
            self._step(self._next())
        return self._words, self._masks

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _step(self, char: str) -> None:
        if char == "\n":
            raise NeedsShell("a line end without quotes")
        if char in _BLANKS:
            self._is_in_word = False
        elif char == "'":
            self._single_quoted()
        elif char == '"':
            self._double_quoted()
        elif char == "\\":
            self._escaped()
        elif char in _OPERATORS:
            raise NeedsShell(f"`{self._operator(char)}` without quotes")
        else:
            self._add(char, char)

    def _operator(self, char: str) -> str:
        rest = re.match(r"[|&;<>]*|\w*", self._text[self._at :] if char in "|&;<>$" else "")
        return char + (rest[0] if rest else "")

    def _add(self, text: str, mask: str) -> None:
        if not self._is_in_word:
            self._is_in_word = True
            self._words.append("")
            self._masks.append("")
        self._words[-1] += text
        self._masks[-1] += mask

    def _protect(self, text: str) -> None:
        self._add(text, _QUOTED * max(len(text), 1))

    def _single_quoted(self) -> None:
        end = self._text.find("'", self._at)
        if end < 0:
            raise ValueError("a quote mark ' is not closed")
        self._protect(self._text[self._at : end])
        self._at = end + 1

    def _double_quoted(self) -> None:
        self._protect("")
        while self._at < len(self._text):
            if active := _ACTIVE_IN_DOUBLE_QUOTES.match(self._text, self._at):
                raise NeedsShell(f"`{active[0]}` in double quotes")
            char = self._next()
            if char == '"':
                return
            if char == "\\" and self._text[self._at : self._at + 1] == "\n":
                self._at += 1
                continue
            if char == "\\" and self._text[self._at : self._at + 1] in tuple(_ESCAPED_IN_DOUBLE_QUOTES):
                char = self._next()
            self._protect(char)
        raise ValueError('a quote mark " is not closed')

    def _escaped(self) -> None:
        if self._at >= len(self._text):
            raise ValueError("nothing follows the last backslash")
        char = self._next()
        if char != "\n":  # a line that continues
            self._protect(char)
