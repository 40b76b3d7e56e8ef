"""Removes secrets of the environment from everything that a kernel returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from loop_runner import redaction
from loop_runner.records import (
    CellResult,
    Snapshot,
)


def redacted(result: CellResult) -> CellResult:
    """``result`` without the environment's secrets, which a model may find in inputs or an agent's files."""
    if not redaction.is_active():
        return result
    answer, error = result.answer, result.error
    return replace(
        result,
        output=redaction.clean(result.output),
        error=None if error is None else redaction.clean(error),
        answer=replace(
            answer, content=redaction.clean(answer.content), extra=redaction.clean_json(answer.extra)
        ),
        notices=redaction.clean_json(result.notices),
    )


def without_secrets(taken: Snapshot) -> Snapshot:
    """``taken`` with clean previews; the content of its blobs was checked before."""
    if not redaction.is_active():
        return taken
    cleaned = (replace(variable, preview=redaction.clean(variable.preview)) for variable in taken.variables)
    return replace(taken, variables=tuple(cleaned))


def secret_in(taken: Snapshot, new: Mapping[str, bytes]) -> dict[str, str]:
    """The variables that must not be stored, each with the reason."""
    held = {blob: name for blob, data in new.items() if (name := redaction.secret_in(data))}
    return {
        variable.name: f"it contains the value of {held[variable.blob]}"
        for variable in taken.variables
        if variable.blob in held
    }
