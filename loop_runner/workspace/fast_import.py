"""One commit, raw and whole, as one ``git fast-import`` stream.

Owns the stream's format and what must be on disk before a commit counts as made. Bytes go in as they are:
no index, no attributes, no filters, no ignore rules. The stream must end in ``done``, so that the half of
a stream that a killed runner leaves is never taken for the whole; and git refuses to move a branch to a
commit that does not descend from what the branch holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop_runner.workspace import durable
from loop_runner.workspace.git import IDENTITY, Git

FILE, EXECUTABLE, LINK = "100644", "100755", "120000"


@dataclass(frozen=True, slots=True)
class Blob:
    """What stands at a path: its mode and its bytes (a link's are its target)."""

    data: bytes
    mode: str = FILE


@dataclass(frozen=True, slots=True)
class NewCommit:
    """A commit to make on ``ref``. Its tree is ``tree``, or that of the first parent, with the changes."""

    ref: str
    message: str
    time: int  # seconds since the epoch, UTC
    parents: Sequence[str] = ()
    tree: str | None = None
    set_paths: Mapping[bytes, Blob] = field(default_factory=dict)
    removed_paths: Sequence[bytes] = ()


def write(git: Git, commit: NewCommit) -> str:
    """Make ``commit`` and return its id; it survives a power cut when this returns.

    Raises ``GitFailed``; then the branch is where it was.
    """
    output = git.run("fast-import", "--quiet", "--done", "--date-format=raw", stdin=stream(commit))
    make_durable(git.git_dir, commit.ref)
    return output.decode().strip()


def make_durable(git_dir: Path, ref: str) -> None:
    """Fsync what git does not: the names of the new packs, and the branch with every folder above it."""
    durable.sync(git_dir / "objects" / "pack")
    path = git_dir / ref
    while path != git_dir:
        durable.sync(path)
        path = path.parent


def stream(commit: NewCommit) -> bytes:
    """The fast-import commands that make ``commit`` and print its id."""
    who = b"%s %d +0000" % (IDENTITY, commit.time)
    parts = [b"commit %s\nmark :1\n" % commit.ref.encode()]
    parts.append(b"author %s\ncommitter %s\n" % (who, who))
    parts.append(_data(commit.message.encode("utf-8", "replace")))
    for keyword, parent in zip((b"from", b"merge"), commit.parents, strict=False):
        parts.append(b"%s %s\n" % (keyword, parent.encode()))
    if commit.tree is not None:
        parts.append(b'M 040000 %s ""\n' % commit.tree.encode())
    # Removals first: a file may make way for a folder of the same name.
    parts += [b"D %s\n" % quote(path) for path in sorted(commit.removed_paths)]
    for path, blob in sorted(commit.set_paths.items()):
        parts += [b"M %s inline %s\n" % (blob.mode.encode(), quote(path)), _data(blob.data)]
    parts.append(b"\nget-mark :1\ndone\n")
    return b"".join(parts)


def quote(path: bytes) -> bytes:
    """``path`` as a C-style string: any byte a file name may hold comes through unchanged."""
    plain = b"".join(
        bytes([byte]) if 0x20 <= byte < 0x7F and byte not in b'"\\' else b"\\%03o" % byte for byte in path
    )
    return b'"%s"' % plain


def _data(data: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(data), data)
