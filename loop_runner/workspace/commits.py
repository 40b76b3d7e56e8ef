"""Commits of a run folder, read from their bytes: what each one is, and what it counts as."""

from __future__ import annotations

import re
from dataclasses import dataclass

from loop_runner.records import (
    Checkpoint,
)
from loop_runner.workspace import layout


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of the history."""

    checkpoint: Checkpoint
    parents: tuple[str, ...]
    committed_at: float  # seconds since the epoch
    trailers: layout.Trailers

    @property
    def subject(self) -> str:
        """The commit's first line."""
        return self.checkpoint.subject

    @property
    def seconds(self) -> float:
        """How long the turn or the verification took."""
        return self.trailers.seconds

    @property
    def runner(self) -> str:
        """The version that made it; empty: a fork, or a person's own commit."""
        return self.trailers.runner

    @property
    def unanswered(self) -> int:
        """Requests sent for it whose reply never came: perhaps billed for nothing."""
        return self.trailers.unanswered

    @property
    def is_pass(self) -> bool:
        """The commit that ends a pass."""
        return self.checkpoint.pass_number > 0 and self.checkpoint.turn == 0 and bool(self.runner)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit object, read."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    message: str
    time: int = 0  # of committing, seconds since the epoch

    @property
    def trailers(self) -> layout.Trailers:
        """The trailers in its last paragraph."""
        return layout.trailers_from(self.message)


def commit_from(oid: str, data: bytes) -> Commit:
    """The commit with the bytes ``data``."""
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(b" ") for line in head.split(b"\n")]
    parents = tuple(value.decode() for name, _, value in lines if name == b"parent")
    tree = next(value.decode() for name, _, value in lines if name == b"tree")
    who = next((value for name, _, value in lines if name == b"committer"), b"")
    seconds = re.search(rb"> ([0-9]{1,12}) ", who)
    return Commit(oid, tree, parents, layout.to_text(body), int(seconds[1]) if seconds else 0)


def checkpoint_of(commit: Commit) -> Checkpoint:
    """The turn or pass that the commit of a runner stands for."""
    trailers = commit.trailers
    outcome = trailers.outcome if trailers.turn == 0 else None
    return Checkpoint(
        commit.oid, trailers.pass_number, trailers.turn, commit.message.partition("\n")[0], outcome
    )


def entry_from(record: str) -> Entry:
    """A line of the log, as ``History.commits`` asks for it."""
    oid, parents, seconds, message = record.lstrip("\n").split("\n", 3)
    commit = Commit(oid, "", tuple(parents.split()), message)
    return Entry(checkpoint_of(commit), commit.parents, float(seconds or 0), commit.trailers)
