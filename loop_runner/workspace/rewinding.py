"""The parts of going back: a ref for what is left behind, its cost, and the files of the earlier commit.

Used by ``Workspace.rewind`` only, under the lock, with the files as HEAD has them (``open`` ensures that).
Drops nothing: what the run leaves stays under ``refs/loop-runner/rewound/N``, and the commit that the run
continues from records what that cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from loop_runner.records import Call, Checkpoint, Spend
from loop_runner.workspace import dropped, layout
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git import fast_import
from loop_runner.workspace.git.fast_import import Blob, NewCommit
from loop_runner.workspace.git.git import Git
from loop_runner.workspace.history import History, Price
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.points import REWOUND


def next_ref(history: History) -> str:
    """The first free number's ref."""
    return f"{REWOUND}/{max(history.refs(REWOUND), default=0) + 1}"


def tip(git: Git, head: Checkpoint, calls: Collection[Call]) -> str:
    """The commit to keep: ``head``, or one on top of it with the replies that no turn holds."""
    if not calls:
        return head.commit
    path = _kept_calls(head)
    what = "1 reply" if len(calls) == 1 else f"{len(calls)} replies"
    return fast_import.write(
        git,
        NewCommit(
            message=layout.message(f"kept: {what} that no turn holds", layout.Trailers()),
            time=int(time.time()),
            parents=[head.commit],
            set_paths={os.fsencode(path): Blob(layout.calls_to_jsonl(layout.in_order(calls)))},
        ),
    )


def goal(history: History, to: str) -> tuple[str, tuple[Call, ...]]:
    """The commit to go to for ``to``, and replies for the journal, if ``tip`` kept some there."""
    commit = history.commit(to)
    path = _kept_calls(history.checkpoint(to))
    calls = None if commit.trailers.runner or not commit.parents else history.read(path, to)
    if calls is None or calls == history.read(path, commit.parents[0]):
        return to, ()
    with parsing(history.folder, path):
        return commit.parents[0], tuple(layout.calls_from_jsonl(calls))


def landing(
    git: Git, history: History, to: str, left: str, *, unanswered: int = 0, price: Price | None = None
) -> str:
    """The commit to continue from after going back from ``left`` to the history up to ``to``.

    It is the one from ``goal``, or one on top of it that records the spend outside of that history.
    ``unanswered``: requests after ``left`` without a reply.
    """
    spent = dropped.plus(history.spend(price, left), history.dropped(left))
    spent = dropped.plus(spent, Spend(unanswered=unanswered))
    owed = dropped.rest(spent, history.spend(price, to))
    stands, _ = goal(history, to)
    if owed == history.dropped(stands):
        return stands
    trailers = layout.Trailers(dropped=dropped.to_text(owed))
    subject = f"rewound: to {history.checkpoint(stands)}"
    return fast_import.write(
        git, NewCommit(message=layout.message(subject, trailers), time=int(time.time()), parents=[stands])
    )


def _kept_calls(head: Checkpoint) -> str:
    return f"{layout.pass_folder(max(head.pass_number, 1))}/rewound/calls.jsonl"


def put_files(folder: Folder, history: History, old: str, new: str) -> None:
    """Turn the files of commit ``old``, which are there, into those of ``new``."""
    before, after = history.tree(old), history.tree(new)
    for path in before.keys() - after.keys():
        folder.remove(path)
    for name in _empty_folders(history, old):
        folder.remove_empty(os.fsencode(name))
    for path, at in after.items():
        if before.get(path) != at:
            mode, oid = at
            folder.write(path, Blob(history.blob(oid), mode))
    for name in (layout.NOTES_FOLDER, *_empty_folders(history, new)):
        folder.make_folder(os.fsencode(name))


def _empty_folders(history: History, commit: str) -> tuple[str, ...]:
    return layout.walk_report_from(history.read(layout.WALK_FILE, commit))[1]
