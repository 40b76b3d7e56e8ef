"""Glob patterns over names with "/" between their parts. Standard library only: both sides use it."""

from __future__ import annotations

import fnmatch


def parts(name: str) -> tuple[str, ...]:
    """The parts of a name or pattern."""
    return tuple(name.strip("/").split("/"))


def matches(name: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Part by part; ``**`` matches any number of parts, ``*`` never crosses a "/"."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(matches(name[skip:], pattern[1:]) for skip in range(len(name) + 1))
    return bool(name) and fits(name[0], pattern[0]) and matches(name[1:], pattern[1:])


def fits(part: str, pattern: str) -> bool:
    """Matches one part of a name. A name with brackets, such as ``[id]``, also matches itself."""
    return part == pattern or fnmatch.fnmatchcase(part, pattern)


def is_excluded(name: str, patterns: list[tuple[str, ...]]) -> bool:
    """A pattern without "/" is tried on each part of the name; others on the whole name and its folders."""
    own = parts(name)
    return any(
        any(fits(part, pattern[0]) for part in own)
        if len(pattern) == 1
        else any(matches(own[:end], pattern) for end in range(1, len(own) + 1))
        for pattern in patterns
    )
