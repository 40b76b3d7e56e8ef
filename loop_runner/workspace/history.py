"""Reads a run folder: where it stands, what was committed, what it cost.

Takes no lock and writes nothing, so it may look at a run that is going on. Everything comes from git,
never from the files beside it. Never unpickles: variables are names, previews and opaque bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from loop_runner.errors import WorkspaceError
from loop_runner.records import SUBCALL_KINDS, Answer, Call, Checkpoint, Snapshot, Spend, Usage, Variable
from loop_runner.workspace import changes, layout, lock
from loop_runner.workspace.changes import Change
from loop_runner.workspace.git import Git, GitFailed, GitObject, ObjectReader
from loop_runner.workspace.layout import TurnText

Price = Callable[[str, Usage], float | None]
"""US dollars for a model's usage; None when the price is not known."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of the history."""

    checkpoint: Checkpoint
    parents: tuple[str, ...]
    committed_at: float  # seconds since the epoch
    seconds: float  # how long the turn or the verification took
    runner: str  # version that made it; empty: a person's own commit

    @property
    def subject(self) -> str:
        """The commit's first line."""
        return self.checkpoint.subject

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

    @property
    def trailers(self) -> layout.Trailers:
        """What its last paragraph says."""
        return layout.trailers_from(self.message)


class History:
    """A run folder, read. Raises ``WorkspaceError`` when it is none, is newer than we are or is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git_dir = folder.absolute() / ".git"
        require_git_dir(folder)
        self._git = Git(self.git_dir)
        self._objects = ObjectReader(self.git_dir)
        require_format(folder, self.read(layout.FORMAT_FILE, at=self.head_commit().oid))

    # ── where it stands ─────────────────────────────────────────────────────────────────────────────

    def head(self) -> Checkpoint:
        """The newest checkpoint. A person's own commit on top counts as the turn or pass below it."""
        head = commit = self.head_commit()
        while not commit.trailers.runner and commit.parents:
            commit = self.commit(commit.parents[0])
        return replace(_checkpoint(commit), commit=head.oid)

    def running(self) -> lock.Holder | None:
        """Who is running in the folder now; None when nobody is."""
        return lock.holder(self.git_dir / "loop-runner" / "lock")

    # ── what was committed ──────────────────────────────────────────────────────────────────────────

    def read(self, path: str, at: str | None = None) -> bytes | None:
        """The bytes at ``path`` in the commit ``at`` (HEAD when None); None when there is no such file."""
        found = self._get(f"{at or 'HEAD'}:{path}")
        if found is None and self._is_listed(path, at or "HEAD"):
            raise damaged(self.folder, f"{path} at {at or 'HEAD'}")
        return found.data if found is not None and found.kind == "blob" else None

    def files(self, prefix: str = "", at: str | None = None) -> list[str]:
        """The paths below the folder ``prefix`` ("workspace/notes/"), sorted."""
        return [os.fsdecode(path) for path in sorted(self.tree(at or "HEAD", prefix))]

    def answer(self, at: str | None = None) -> Answer:
        """The committed answer."""
        with parsing(self.folder, "answer.json"):
            return layout.answer_from(self.read("answer.md", at), self.read("answer.json", at))

    def turns(self, pass_number: int, at: str | None = None) -> list[TurnText]:
        """What each committed turn of a pass adds to the conversation, in order."""
        texts: list[TurnText] = []
        while True:
            folder = layout.turn_folder(pass_number, len(texts) + 1)
            reply, output = self.read(f"{folder}/reply.md", at), self.read(f"{folder}/output.txt", at)
            if reply is None or output is None:
                return texts
            texts.append(TurnText(layout.to_text(reply), layout.to_text(output)))

    def snapshot(self, at: str | None = None) -> Snapshot:
        """The variables with their blobs. A blob that is missing or damaged makes its variables lost."""
        blobs: dict[str, bytes] = {}
        variables = []
        with parsing(self.folder, layout.MANIFEST):
            listed = layout.variables_from(self.read(layout.MANIFEST, at))
        for variable in listed:
            kept = variable
            if variable.blob and variable.blob not in blobs:
                data = self._blob(variable.blob, at)
                if data is None:
                    kept = _lost(variable)
                else:
                    blobs[variable.blob] = data
            variables.append(kept)
        return Snapshot(tuple(variables), blobs)

    def unstored(self, at: str | None = None) -> tuple[tuple[str, str], ...]:
        """What of ``workspace/`` the commit does not hold: (path, reason)."""
        with parsing(self.folder, layout.WALK_FILE):
            return layout.walk_report_from(self.read(layout.WALK_FILE, at))[0]

    # ── the story ───────────────────────────────────────────────────────────────────────────────────

    def commits(self, *, first_parent: bool = False) -> list[Entry]:
        """Every commit, the newest first; with ``first_parent`` the passes and what stands between them."""
        options = ["--first-parent"] if first_parent else ["--topo-order"]
        text = self._run("log", "-z", "--format=%H%n%P%n%ct%n%B", *options, "HEAD", "--")
        return [_entry(record) for record in layout.to_text(text).split("\0") if record.strip()]

    def passes(self) -> list[Entry]:
        """The ends of the passes, the oldest first."""
        return [entry for entry in reversed(self.commits(first_parent=True)) if entry.is_pass]

    def changes(self, pass_number: int) -> tuple[Change, ...]:
        """(kind, path) of each of the model's files that a pass added, changed or deleted (so far)."""
        commits = [
            each for each in self.commits() if each.checkpoint.pass_number == pass_number and each.runner
        ]
        first = next((each for each in commits if each.checkpoint.turn == 1), None)
        if first is None:
            return ()
        try:
            return changes.between(self.git_dir, first.parents[0], commits[0].checkpoint.commit)
        except GitFailed as error:
            raise damaged(self.folder, "HEAD", error.stderr) from error

    def calls(self, at: str | None = None) -> Iterator[Call]:
        """Every committed model call of the run, judges' included."""
        for path in self.files("passes/", at):
            if path.endswith("/calls.jsonl"):
                with parsing(self.folder, path):
                    calls = layout.calls_from_jsonl(self.read(path, at) or b"")
                yield from calls

    def spend(self, price: Price | None = None) -> Spend:
        """What the commits say was used. Without ``price``, dollars are unknown once a model was asked."""
        calls = list(self.calls())
        entries = self.commits()
        dollars = [price(call.model, call.reply.usage) if price else None for call in calls]
        known = [each for each in dollars if each is not None]
        return Spend(
            usage=sum((call.reply.usage for call in calls), Usage()),
            passes=sum(entry.is_pass for entry in entries),
            turns=sum(entry.checkpoint.turn > 0 for entry in entries),
            requests=len(calls),
            subcalls=sum(call.kind in SUBCALL_KINDS for call in calls),
            seconds=sum(entry.seconds for entry in entries),
            usd=sum(known, 0.0) if len(known) == len(dollars) else None,
        )

    def close(self) -> None:
        """End the reading git; reading again starts another."""
        self._objects.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── for the workspace ───────────────────────────────────────────────────────────────────────────

    def head_commit(self) -> Commit:
        """The commit that HEAD names; raises ``WorkspaceError`` when it is damaged."""
        return self.commit("HEAD")

    def commit(self, name: str) -> Commit:
        """The commit called ``name``; raises ``WorkspaceError`` when it is not whole."""
        found = self._get(name)
        if found is None or found.kind != "commit":
            raise damaged(self.folder, name)
        return _commit(found)

    def tree(self, commit: str, prefix: str = "") -> dict[bytes, tuple[str, str]]:
        """Every file of a commit below ``prefix``: path to (mode, blob id)."""
        where = ["--", prefix] if prefix else []
        listing = self._run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, *where)
        entries = (line.partition(b"\t") for line in listing.split(b"\0") if line)
        files = {}
        for about, _, path in entries:
            mode, kind, oid = about.decode().split()
            if kind == "blob":  # a person may have committed a submodule
                files[path] = (mode, oid)
        return files

    def blob(self, oid: str) -> bytes:
        """The bytes of a blob; raises ``WorkspaceError`` when it is damaged."""
        found = self._get(oid)
        if found is None:
            raise damaged(self.folder, oid)
        return found.data

    def _is_listed(self, path: str, at: str) -> bool:
        """The commit says that there is such a path: to a reading git, missing and damaged look the same."""
        try:
            return bool(self._git.run("ls-tree", "-z", "--full-tree", "--end-of-options", at, "--", path))
        except GitFailed as error:
            if "Not a valid object name" in error.stderr:
                return False  # there is no such commit
            raise damaged(self.folder, at, error.stderr) from error

    def _blob(self, name: str, at: str | None) -> bytes | None:
        try:
            data = self.read(layout.blob_path(name), at)
            if data is None and (listed := self.read(layout.chunk_list_path(name), at)) is not None:
                chunks = (self.read(layout.chunk_path(chunk), at) for chunk in layout.chunks_from(listed))
                data = b"".join(chunk or b"" for chunk in chunks)
        except WorkspaceError:
            return None  # the object is damaged; the variable is lost, the run is not
        return data if data is not None and hashlib.sha256(data).hexdigest() == name else None

    def _get(self, name: str) -> GitObject | None:
        try:
            return self._objects.get(name)
        except GitFailed as error:
            raise damaged(self.folder, name, error.stderr) from error

    def _run(self, *args: str) -> bytes:
        try:
            return self._git.run(*args)
        except GitFailed as error:
            raise damaged(self.folder, "HEAD", error.stderr) from error


def require_git_dir(folder: Path) -> None:
    """Raise ``WorkspaceError`` unless ``folder`` looks like a run folder from outside."""
    git_dir = folder / ".git"
    try:
        if git_dir.is_dir() and (git_dir / "HEAD").is_file():
            return
        if not git_dir.is_dir() and (folder / ".git.new").is_dir():
            raise WorkspaceError(
                f"{folder} is a run folder whose making was interrupted",
                why="it holds no commit yet, so there is nothing to go on from",
                hint="start the run again; it takes the folder over",
            )
    except PermissionError as error:
        raise WorkspaceError(
            f"{folder} cannot be read ({(error.strerror or '').lower()})",
            why="where the run stands is in its git history",
            hint="give yourself permission to read the folder and all in it",
            exit_code=4,
        ) from error
    raise not_a_run(folder)


def not_a_run(folder: Path) -> WorkspaceError:
    """``folder`` is something else."""
    what = "is not a run folder" if folder.exists() else "does not exist"
    return WorkspaceError(
        f"{folder} {what}",
        why="a run folder is a git repository with a loop-runner.json in it",
        hint="start a run with `loop-runner run TASK.yaml`",
    )


def require_format(folder: Path, format_file: bytes | None) -> None:
    """Raise ``WorkspaceError`` unless this version can read the run folder."""
    if format_file is None:
        raise not_a_run(folder)
    version = layout.format_of(format_file)
    if version is None:
        raise damaged(folder, layout.FORMAT_FILE)
    if version > layout.FORMAT:
        raise WorkspaceError(
            f"{folder} has format {version}; this loop-runner knows formats up to {layout.FORMAT}",
            why="it was made by a newer version, and an older one would misread it",
            hint="upgrade with `pip install --upgrade loop-runner`",
        )


def damaged(folder: Path, what: str, said: str = "") -> WorkspaceError:
    """Something in the history cannot be read."""
    detail = f" ({said.strip().splitlines()[-1]})" if said.strip() else ""
    return WorkspaceError(
        f"{folder} is damaged: {what} cannot be read{detail}",
        why="the run goes on from what is committed, and this commit is not whole",
        hint=f"nothing was changed; `git -C {folder} fsck` lists what is damaged",
        exit_code=4,
    )


@contextlib.contextmanager
def parsing(folder: Path, path: str) -> Iterator[None]:
    """Within it, a file that does not hold what it should is a ``WorkspaceError``: somebody changed it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WorkspaceError(
            f"{folder} is damaged: {path} does not hold what it should ({error})",
            why="the run goes on from what is committed, and nobody can tell what this was",
            hint=f"nothing was changed; `git -C {folder} log -- {path}` names the commit to revert",
            exit_code=4,
        ) from error


def _commit(found: GitObject) -> Commit:
    head, _, body = found.data.partition(b"\n\n")
    lines = [line.partition(b" ") for line in head.split(b"\n")]
    parents = tuple(value.decode() for name, _, value in lines if name == b"parent")
    tree = next(value.decode() for name, _, value in lines if name == b"tree")
    return Commit(found.oid, tree, parents, layout.to_text(body))


def _checkpoint(commit: Commit) -> Checkpoint:
    said = commit.trailers
    outcome = said.outcome if said.turn == 0 else None
    return Checkpoint(commit.oid, said.pass_number, said.turn, commit.message.partition("\n")[0], outcome)


def _entry(record: str) -> Entry:
    oid, parents, seconds, message = record.lstrip("\n").split("\n", 3)
    commit = Commit(oid, "", tuple(parents.split()), message)
    said = commit.trailers
    return Entry(_checkpoint(commit), commit.parents, float(seconds), said.seconds, said.runner)


def _lost(variable: Variable) -> Variable:
    return replace(variable, status="lost", reason="its blob is missing or damaged", blob="")
