"""Makes one commit, raw and whole, as one ``git fast-import`` stream, and moves a branch to it.

Owns the stream's format and the order that keeps every moment whole: the objects are on disk, with their
names, before the branch names them. Bytes go in unchanged: no index, no attributes, no filters, no ignore
rules. The stream must end in ``done``, so that half a stream, left by a killed runner, is never taken for
the whole. A branch only moves from the commit that the writer knew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loop_runner import failpoints, redaction
from loop_runner.workspace import durable
from loop_runner.workspace.git.git import IDENTITY, Git

FILE, EXECUTABLE, LINK = "100644", "100755", "120000"

_SCRATCH = b"refs/loop-runner/next"
# Stored byte for byte: files that contain a secret are left out when they are read, not changed here.
_EXACT = (b"workspace/", b"variables/", b"gates/")
_NOWHERE = "0" * 40


@dataclass(frozen=True, slots=True)
class Blob:
    """The entry at a path: its mode and its bytes (for a link, its target)."""

    data: bytes
    mode: str = FILE


@dataclass(frozen=True, slots=True)
class NewCommit:
    """A commit to make. Its tree is ``tree``, or that of the first parent, with the changes."""

    message: str
    time: int  # seconds since the epoch, UTC
    parents: Sequence[str] = ()
    tree: str | None = None
    set_paths: Mapping[bytes, Blob] = field(default_factory=dict)
    removed_paths: Sequence[bytes] = ()


def write(git: Git, commit: NewCommit) -> str:
    """Make ``commit`` and return its id: durable, and not yet named by a ref. Raises ``GitFailed``."""
    # The pack is joined with others later, which looks for deltas; here they would only cost time.
    failpoints.passing("commit.write")
    output = git.run("fast-import", "--quiet", "--done", "--depth=0", stdin=stream(commit))
    failpoints.passing("commit.sync")
    durable.sync(git.git_dir / "objects" / "pack")
    return output.decode().strip()


def point(git: Git, ref: str, to: str, *, was: str | None) -> None:
    """Move ``ref`` from ``was`` (None: it is new) to the durable commit ``to``; durable on return.

    Raises ``GitFailed`` when the ref has moved meanwhile.
    """
    failpoints.passing("commit.point")
    git.run("update-ref", ref, to, was or _NOWHERE)
    failpoints.passing("commit.pointed")
    path = git.git_dir / ref
    if not path.is_file():
        return  # a repository that keeps its refs in a table, which git has synced
    if was is None:
        durable.sync_chain(path.parent, git.git_dir)
    else:
        durable.sync(path.parent)


def stream(commit: NewCommit) -> bytes:
    """The fast-import commands that make ``commit`` and print its id."""
    who = b"%s %d +0000" % (IDENTITY, max(commit.time, 0))  # git knows no time before 1970
    parts = [b"commit %s\nmark :1\n" % _SCRATCH]
    parts.append(b"author %s\ncommitter %s\n" % (who, who))
    parts.append(_data(redaction.clean_bytes(commit.message.encode("utf-8", "replace"))))
    # "from" a parent means starting with its files. If the tree is given they are not read: a repaired
    # history may have lost those of an earlier pass, and still continues.
    first = b"from" if commit.tree is None else b"merge"
    for keyword, parent in zip((first, b"merge"), commit.parents, strict=False):
        parts.append(b"%s %s\n" % (keyword, parent.encode()))
    if commit.tree is not None:
        parts.append(b'M 040000 %s ""\n' % commit.tree.encode())
    # Removals first: a file may make way for a folder of the same name.
    parts += [b"D %s\n" % quote(path) for path in sorted(commit.removed_paths)]
    for path, blob in sorted(commit.set_paths.items()):
        parts += [b"M %s inline %s\n" % (blob.mode.encode(), quote(path)), _data(shown(path, blob.data))]
    # The reset removes the scratch branch before git writes it: the commit is made, but no ref.
    parts.append(b"\nget-mark :1\nreset %s\n\ndone\n" % _SCRATCH)
    return b"".join(parts)


def quote(path: bytes) -> bytes:
    """``path`` as a C-style string: any byte that a file name may hold is preserved."""
    plain = b"".join(
        bytes([byte]) if 0x20 <= byte < 0x7F and byte not in b'"\\' else b"\\%03o" % byte for byte in path
    )
    return b'"%s"' % plain


def shown(path: bytes, data: bytes) -> bytes:
    """The bytes to store: files that the runner writes are freed of secrets from the environment."""
    return data if path.startswith(_EXACT) else redaction.clean_bytes(data)


def _data(data: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(data), data)
