"""What going back needs: a ref for what is left, and the files of the earlier commit.

Used by ``Workspace.rewind`` only, under the lock, with the files as HEAD has them (``open`` sees to that).
Drops nothing: what the run leaves stays under ``refs/loop-runner/rewound/N``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from loop_runner.records import Call, Checkpoint
from loop_runner.workspace import fast_import, layout
from loop_runner.workspace.fast_import import Blob, NewCommit
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git import Git
from loop_runner.workspace.history import History

REWOUND = "refs/loop-runner/rewound"


def next_ref(history: History) -> str:
    """The first free number's ref."""
    return f"{REWOUND}/{max(history.refs(REWOUND), default=0) + 1}"


def tip(git: Git, head: Checkpoint, calls: Collection[Call]) -> str:
    """The commit to keep: ``head``, or one on top of it with the replies that no turn holds."""
    if not calls:
        return head.commit
    path = f"{layout.pass_folder(max(head.pass_number, 1))}/rewound/calls.jsonl"
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
