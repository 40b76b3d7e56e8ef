"""Requests that a run has sent to a provider and still waits for: stored in git before anyone waits.

A batch may take a day, and this machine may be gone by then. Each request is an annotated tag on the commit
that the turn began at, so a plain clone contains it. Its message is the provider client's record and the
replies that the turn has received so far, which no commit holds yet. Owns
``refs/tags/loop-runner/awaited/``; a tag on any commit but the last belongs to a turn that is committed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from loop_runner.records import Call
from loop_runner.workspace import durable, layout
from loop_runner.workspace.git.git import IDENTITY, Git, may_have_refs
from loop_runner.workspace.journal import Journal

_TAGS = "loop-runner/awaited"
REFS = f"refs/tags/{_TAGS}"
FOLDER = "batches"  # in the private folder: where clients keep their own records
_NAME = re.compile(r"[0-9a-f]{1,64}")


def keep(git: Git, commit: str, name: str, record: bytes, calls: Sequence[Call]) -> None:
    """Store that ``record`` is awaited since ``commit``; durable on return. Raises ``GitFailed``."""
    message = json.dumps(
        {"record": record.decode(), "calls": [layout.call_to_json(call) for call in calls]}
    ).encode("ascii")
    head = b"tag %s/%s\nfrom %s\n" % (_TAGS.encode(), name.encode(), commit.encode())
    tagger = b"tagger %s %d +0000\n" % (IDENTITY, int(time.time()))
    stream = head + tagger + b"data %d\n%s\ndone\n" % (len(message), message)
    git.run("fast-import", "--quiet", "--done", "--depth=0", "--force", stdin=stream)
    durable.sync(git.git_dir / "objects" / "pack")
    folder = git.git_dir / REFS
    if folder.is_dir():
        durable.sync_chain(folder, git.git_dir)


def forget(git: Git, name: str) -> None:
    """Remove the record of that name; does nothing if it does not exist."""
    git.run("update-ref", "-d", f"{REFS}/{name}")


def restore(git: Git, commits: Collection[str], private: Path, journal: Journal) -> int:
    """Restore the records awaited since one of ``commits`` in a clone.

    Tags on other commits are removed: their turn is committed. Returns how many records were made.
    """
    made = 0
    for name, target, message in _listed(git):
        if target not in commits:
            forget(git, name)
            continue
        path = private / FOLDER / f"{name}.json"
        if path.exists() or not _NAME.fullmatch(name):
            continue
        with suppress(ValueError, LookupError, TypeError, AttributeError):
            body = json.loads(message)
            calls = [layout.call_from_json(call) for call in body["calls"]]
            path.parent.mkdir(exist_ok=True)
            durable.replace(path, body["record"].encode())
            journal.append_many(
                [call for call in calls if not journal.find(call.fingerprint, call.occurrence)]
            )
            made += 1
    return made


def clear(git: Git, commit: str) -> None:
    """Remove the tags of turns that are committed: all that are not on ``commit``."""
    for name, target, _ in _listed(git):
        if target != commit:
            forget(git, name)


def _listed(git: Git) -> Iterator[tuple[str, str, str]]:
    """(name, commit, message) of each tag."""
    if not may_have_refs(git.git_dir, f"{REFS}/"):
        return
    form = "--format=%(refname)%00%(*objectname)%00%(contents)%00"
    parts = git.run("for-each-ref", form, f"{REFS}/").decode("utf-8", "replace").split("\0")
    for ref, target, message in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        yield ref.strip().rpartition("/")[2], target, message
