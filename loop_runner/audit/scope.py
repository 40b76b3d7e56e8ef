"""Chooses the files of an audit and names them as CI systems do: from the top of the repository.

Owns the names, ``--changed-since`` and what is left out. The user's repository is only ever read: its
objects, with the runner's own git settings; whether a file has changed is seen by its bytes, so that
neither the index nor a filter of the repository has a say.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from loop_runner import inputs
from loop_runner.errors import ConfigError
from loop_runner.records import Inputs, InputText
from loop_runner.workspace.foreign import Foreign
from loop_runner.workspace.git import Git, GitFailed


@dataclass(frozen=True, slots=True)
class Scope:
    """The files of an audit. ``base`` is what their names are relative to, for those that lie below it."""

    base: Path
    texts: Inputs
    unchanged: int = 0  # left out by ``--changed-since``


def choose(paths: Sequence[Path], cwd: Path, exclude: Sequence[str] = (), since: str | None = None) -> Scope:
    """The text files at ``paths``. Raises ``ConfigError`` for a path or a revision that is not there."""
    cwd = cwd.resolve()
    repository = Foreign.around(cwd)
    base = cwd
    if repository is not None and all(path.resolve().is_relative_to(repository.top) for path in paths):
        base = repository.top.resolve()
    found = inputs.load([_spec(path, base, exclude) for path in paths], cwd)
    kept = [text for text in found.texts if not _is_of_a_run(text.path.parent) and _is_plain(text)]
    changed = kept if since is None else _changed(kept, since, repository, base)
    texts = replace(found, texts=tuple(changed), is_single=False)
    return Scope(base, texts, len(kept) - len(changed))


def _spec(path: Path, base: Path, exclude: Sequence[str]) -> dict[str, Any]:
    place = path.resolve()
    spec: dict[str, Any] = {"path": str(place)}
    if place != base and place.is_relative_to(base):
        spec["name"] = place.relative_to(base).as_posix()
    return spec | ({"exclude": list(exclude)} if exclude else {})


def _is_plain(text: InputText) -> bool:
    """A text that was converted from something else has other lines than its file."""
    return text.origin is None


@cache
def _is_of_a_run(folder: Path) -> bool:
    """Whether ``folder`` lies in a run folder: what an audit wrote is not audited."""
    if (folder / "loop-runner.json").is_file():
        return True
    return folder != folder.parent and _is_of_a_run(folder.parent)


# ── what has changed ────────────────────────────────────────────────────────────────────────────────


def _changed(
    texts: Sequence[InputText], since: str, repository: Foreign | None, base: Path
) -> list[InputText]:
    """Those that are not in the commit where the branch began, byte for byte, under their own name."""
    if repository is None:
        raise ConfigError(
            f"--changed-since {since}: {base} lies in no git repository",
            why="what has changed is seen by comparing with a commit",
            hint="leave --changed-since out to audit every file",
        )
    then = _tree(repository, _begin(repository, since))
    return [text for text in texts if _is_new(text, then, repository.top.resolve())]


def _is_new(text: InputText, then: Mapping[bytes, str], top: Path) -> bool:
    if not text.path.is_relative_to(top):
        return True
    oid = then.get(os.fsencode(text.path.relative_to(top)))
    return oid is None or oid != _blob_id(inputs.read_bytes(text), len(oid))


def _blob_id(data: bytes, digits: int) -> str:
    algorithm = hashlib.sha256 if digits == 64 else hashlib.sha1  # git's own two; no secret hangs on it
    return algorithm(b"blob %d\0" % len(data) + data).hexdigest()


def _begin(repository: Foreign, since: str) -> str:
    """The commit at which HEAD and ``since`` parted; ``since`` itself when the history does not say."""
    git = Git(repository.git_dir)
    try:
        commit = _line(git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}"))
    except GitFailed as error:
        raise ConfigError(
            f"--changed-since {since}: {repository.top} has no such commit",
            why="what has changed since then cannot be told",
            hint="in CI the history is often cut short: fetch it all (actions/checkout with fetch-depth: 0)",
        ) from error
    try:
        return _line(git.run("merge-base", "HEAD", commit)) or commit
    except GitFailed:
        return commit


def _tree(repository: Foreign, commit: str) -> dict[bytes, str]:
    output = Git(repository.git_dir).run("ls-tree", "-r", "-z", "--full-tree", commit)
    entries = [entry.partition(b"\t") for entry in output.split(b"\0") if entry]
    return {path: head.split()[2].decode() for head, _, path in entries}


def _line(output: bytes) -> str:
    return output.decode().strip().split("\n", 1)[0]
