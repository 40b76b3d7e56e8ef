"""``--changed-since``: which files differ from the commit at which the branch began.

A file is unchanged when its bytes are those of the commit, before or after git's checkout conversions: line
ends, Git LFS, submodules. For other filters, git's index shows whether the file is still as it was checked
out. No filter of the repository is run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from loop_runner import inputs
from loop_runner.errors import ConfigError, EnvironmentFault
from loop_runner.records import InputText
from loop_runner.workspace.foreign import Foreign
from loop_runner.workspace.git.git import Git, GitFailed

_SUBMODULE = b"160000"
_INDEXED = re.compile(
    rb"\d+ ([0-9a-f]+) 0\t([^\0]*)\0  ctime: \d+:\d+\n  mtime: (\d+):(\d+)\n[^\n]*\n[^\n]*\n  size: (\d+)\t"
)
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


def since(
    texts: Sequence[InputText], revision: str, repository: Foreign | None, base: Path
) -> tuple[list[InputText], str]:
    """The ``texts`` that differ from where the branch left ``revision``, and a description of that commit.

    Raises ``ConfigError`` if the revision or the history that leads to it does not exist.
    """
    if repository is None:
        raise ConfigError(
            f"what changed since {revision} cannot be found: {base} lies in no git repository",
            why="changes are found by comparing with a commit",
            hint="leave the revision out (--changed-since, changed_since= in a program) to audit every file",
        )
    commit, comparison = _begin(repository, revision)
    then = _Tree(repository, commit)
    return [text for text in texts if not then.has(text)], comparison


# ── the commit to compare with ──────────────────────────────────────────────────────────────────────


def _begin(repository: Foreign, revision: str) -> tuple[str, str]:
    """The commit at which HEAD and ``revision`` parted, and a sentence about it."""
    commit = _commit(repository, revision)
    if commit is None:
        raise ConfigError(
            f"what changed since {revision} cannot be found: {repository.top} has no such commit",
            why="the changes since then cannot be determined",
            hint="in CI the history is often cut short: fetch it all (actions/checkout with fetch-depth: 0)",
        )
    head = _commit(repository, "HEAD")
    if head is None:
        return commit, f"compared with {revision}: HEAD has no commit yet"
    begin = _parting(repository, head, commit)
    if begin is None and _is_shallow(repository):
        raise ConfigError(
            f"what changed since {revision} cannot be found: the history ends before HEAD left it",
            why="it was fetched with a limited depth; the tip of the base would count its changes, too",
            hint="fetch it all: actions/checkout with fetch-depth: 0, GIT_DEPTH: 0, git fetch --unshallow",
        )
    if begin is None:
        return commit, f"compared with {revision} itself: it shares no commit with HEAD"
    if begin == head:
        return begin, f"HEAD is a part of {revision}, so that only uncommitted changes count"
    return begin, f"compared with {begin[:12]}, where HEAD left {revision}"


def _commit(repository: Foreign, revision: str) -> str | None:
    options = ["--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    try:
        return _git(repository).run("rev-parse", *options).decode().strip()
    except GitFailed:
        return None


def _parting(repository: Foreign, head: str, commit: str) -> str | None:
    try:
        return _git(repository).run("merge-base", head, commit).decode().split()[0]
    except (GitFailed, IndexError):
        return None


def _is_shallow(repository: Foreign) -> bool:
    return (repository.common_dir / "shallow").is_file()


def _git(repository: Foreign) -> Git:
    return Git(repository.git_dir, obeys_config=True)


# ── what is in it ───────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Tree:
    """The files of one commit, with those of its submodules."""

    repository: Foreign
    commit: str

    def has(self, text: InputText) -> bool:
        """Whether the file of ``text`` is in the commit as it is now."""
        top = self.repository.top.resolve()
        if not text.path.is_relative_to(top):
            return False
        path = os.fsencode(text.path.relative_to(top))
        if (oid := self._blobs.get(path)) is not None:
            return oid in _blob_ids(text, len(oid)) or self._is_as_checked_out(path, oid, text.path)
        return any(module.has(text) for prefix, module in self._modules.items() if path.startswith(prefix))

    @cached_property
    def _entries(self) -> list[tuple[bytes, str, bytes]]:
        try:
            output = _git(self.repository).run("ls-tree", "-r", "-z", "--full-tree", self.commit)
        except GitFailed as error:
            raise EnvironmentFault(
                f"{self.repository.top} does not hold all of the commit {self.commit[:12]}: {error}",
                why="the changes since then cannot be determined",
                hint="fetch it all: a treeless clone (--filter=tree:0) lacks it",
            ) from error
        heads = [entry.partition(b"\t") for entry in output.split(b"\0") if entry]
        return [(head.split()[0], head.split()[2].decode(), path) for head, _, path in heads]

    @cached_property
    def _blobs(self) -> Mapping[bytes, str]:
        return {path: oid for mode, oid, path in self._entries if mode != _SUBMODULE}

    @cached_property
    def _modules(self) -> Mapping[bytes, _Tree]:
        """The submodules that are checked out and have the commit, by their path with a slash."""
        modules = {}
        for mode, oid, path in self._entries:
            top = self.repository.top.resolve() / os.fsdecode(path)
            foreign = Foreign.around(top) if mode == _SUBMODULE else None
            if foreign is not None and foreign.top == top and _commit(foreign, oid) is not None:
                modules[path + b"/"] = _Tree(foreign, oid)
        return modules

    @cached_property
    def _index(self) -> Mapping[bytes, tuple[str, int, int]]:
        """Path → (blob id, mtime in ns, size) of files as they were checked out."""
        output = _git(self.repository).run("ls-files", "-s", "-z", "--debug")
        return {
            match[2]: (match[1].decode(), int(match[3]) * 10**9 + int(match[4]), int(match[5]))
            for match in _INDEXED.finditer(output)
        }

    def _is_as_checked_out(self, path: bytes, oid: str, file: Path) -> bool:
        """Whether git has checked out the blob ``oid`` there, through a filter, and it is unchanged."""
        seen = file.stat()
        index = self.repository.git_dir / "index"
        # A file of the index's own age may have changed after git looked at it.
        is_settled = index.is_file() and seen.st_mtime_ns < index.stat().st_mtime_ns
        return is_settled and self._index.get(path) == (oid, seen.st_mtime_ns, seen.st_size & 0xFFFFFFFF)


def _blob_ids(text: InputText, digits: int) -> set[str]:
    """The ids that git may have given to the bytes of ``text``: as they are, with LF, as an LFS pointer."""
    data = inputs.read_bytes(text)
    pointer = _POINTER.format(text.sha256, text.size_bytes).encode()
    return {_blob_id(form, digits) for form in (data, data.replace(b"\r\n", b"\n"), pointer)}


def _blob_id(data: bytes, digits: int) -> str:
    algorithm = hashlib.sha256 if digits == 64 else hashlib.sha1  # git's own two; no secret hangs on it
    return algorithm(b"blob %d\0" % len(data) + data).hexdigest()
