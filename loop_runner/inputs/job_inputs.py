"""The inputs of the job whose verified answer is a text of this run: a citation is followed to them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.inputs import listing
from loop_runner.inputs.fleet_answers import KIND
from loop_runner.inputs.loading import found_in
from loop_runner.inputs.on_disk import hash_of_original, is_same
from loop_runner.records import Inputs, InputText
from loop_runner.workspace.history import History

Stored = Callable[[str], bytes | None]  # a file of the run folder of the job, by its path there


def of_answer(text: InputText) -> Inputs | None:
    """The inputs of the job whose answer ``text`` is; None for any other text.

    Files that are not where the job read them are looked for in the folder that holds the store. Raises
    ``LoopRunnerError`` when the list is not the one that this run began with.
    """
    origin = text.origin
    if origin is None or origin.kind != KIND:
        return None
    if hash_of_original(origin.path) != origin.sha256:
        raise ConfigError(
            f"the inputs of the job {origin.member!r} are not those that this run began with",
            why=f"a citation of its answer is followed to them, and {origin.path} has changed or is missing",
            hint="restore the store of the fleet as it was, or start a new run",
        )
    run = origin.path.parent
    inputs = listing.from_json(origin.path.read_text(encoding="utf-8"), run)
    moved = found_in(inputs, run.parent.parent.parent)
    pairs = zip(inputs.texts, moved.texts, strict=True)
    return replace(inputs, texts=tuple(text if is_same(text) else other for text, other in pairs))


def restore_each(inputs: Inputs, restore: Callable[[Inputs, Stored], Inputs]) -> None:
    """Have the converted texts of all jobs restored. What cannot be is reported when it is cited."""
    for text in inputs.texts:
        with suppress(LoopRunnerError):
            if (listed := of_answer(text)) is not None and text.origin is not None:
                with History(text.origin.path.parent) as history:
                    restore(listed, history.read)
