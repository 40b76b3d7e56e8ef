"""Reads a JSON file that a run committed about files it made: images that it drew, pages that it fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from loop_runner.errors import WorkspaceError

_Entries = TypeVar("_Entries")


def entries_of(
    data: bytes, file: str, version: int, read: Callable[[Mapping[str, Any]], _Entries], *, unknown: str
) -> _Entries:
    """What ``read`` makes of the file's body. ``unknown``: what the run does not know without the file.

    Raises ``WorkspaceError`` for another format, and for bytes that are not such a file.
    """
    try:
        body = json.loads(data)
        if body["format"] != version:
            raise WorkspaceError(
                f"{file} has format {body['format']!r}, this program reads {version}",
                why="a newer loop-runner wrote it",
                hint="upgrade loop-runner",
            )
        return read(body)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WorkspaceError(
            f"{file} cannot be read ({type(error).__name__}: {str(error)[:200]})",
            why=f"the run does not know {unknown}",
            hint="`loop-runner fsck RUN` says what is damaged",
            exit_code=4,
        ) from error
