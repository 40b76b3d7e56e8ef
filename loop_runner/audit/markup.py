"""Makes what models and files wrote safe in Markdown, in XML and in the commands of a CI runner.

Owns those escapes. Everything is one line without control characters first (``text.one_line``).
"""

from __future__ import annotations

import re

from loop_runner import text

_MAX_CHARS = 500
_SPECIAL = re.compile(r"[\\`*_\[\]|~<>&@#]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;", "#": "&#35;"}
_TICKS = re.compile(r"`+")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(value: str, max_chars: int = _MAX_CHARS) -> str:
    """One line for a terminal or a message."""
    return text.one_line(value, max_chars)


def markdown(value: str) -> str:
    """Text that is shown as it is: no link, image, HTML, mention or number of an issue comes of it."""
    escaped = _SPECIAL.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), plain(value))
    # What GitHub makes a link of without any mark.
    return re.sub(r"(?i)\bwww\.", "www&#46;", escaped.replace("://", "&#58;//"))


def code(value: str) -> str:
    """A code span that nothing in it can end."""
    shown = plain(value)
    longest = max((len(run) for run in _TICKS.findall(shown)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest or not shown.strip() else ""
    return f"{ticks}{pad}{shown or ' '}{pad}{ticks}"


def xml(value: str) -> str:
    """Text in which every character may stand in XML 1.0; whoever writes the XML escapes the marks."""
    return _NO_XML.sub("\ufffd", text.escape_controls(value))


def command_data(value: str) -> str:
    """The message of a workflow command."""
    return plain(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(value: str) -> str:
    """The value of a property of a workflow command."""
    shown = value.encode("utf-8", "replace").decode().replace("%", "%25").replace("\r", "%0D")
    return shown.replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")


def for_runner(output: str) -> str:
    """Markdown for the log of GitHub's runner, which takes ``##[`` for a command wherever it stands."""
    return output.replace("##[", "## [")
