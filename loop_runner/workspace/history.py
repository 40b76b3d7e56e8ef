"""Reads a run folder: where it stands, what was committed, what it cost.

Takes no lock and writes nothing, so it may look at a run that is going on. Everything comes from git,
never from the files beside it. Never unpickles: variables are names, previews and opaque bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from loop_runner import plugins
from loop_runner.errors import ConfigError, EnvironmentFault, WorkspaceError
from loop_runner.records import (
    SUBCALL_KINDS,
    Answer,
    Call,
    Checkpoint,
    PastTurn,
    Snapshot,
    Spend,
    StopReason,
    Usage,
    Variable,
)
from loop_runner.text import one_line, shell
from loop_runner.workspace import changes, dropped, journal, layout, lock, sent, structure
from loop_runner.workspace.changes import Change
from loop_runner.workspace.git.git import Git, GitFailed, GitObject, ObjectReader, git_works
from loop_runner.workspace.git.trees import Damaged, TooLarge, Trees
from loop_runner.workspace.layout import TurnText

Price = Callable[[str, Usage], float | None]
"""US dollars for a model's usage; None when the price is not known."""


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
        """Requests sent for it whose reply never came: perhaps billed in vain."""
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
        """What its last paragraph says."""
        return layout.trailers_from(self.message)


class History:
    """A run folder, read. Raises ``WorkspaceError`` when it is none, is newer than we are or is damaged."""

    def __init__(self, folder: Path, *, unplaced: Path | None = None) -> None:
        """``unplaced`` is the repository of a run folder that is being made, before it becomes ``.git``."""
        self.folder = folder
        self.git_dir = unplaced or folder.absolute() / ".git"
        if unplaced is None:
            require_git_dir(folder)
        self._git = Git(self.git_dir)
        self._objects = ObjectReader(self.git_dir)
        self._trees = Trees(self._get)
        self._story: tuple[tuple[str, bool], list[Entry]] | None = None  # the last one that was read
        self._require_checked_out()
        require_format(folder, self.read(layout.FORMAT_FILE, at=self.head_commit().oid))

    # ── where it stands ─────────────────────────────────────────────────────────────────────────────

    def head(self) -> Checkpoint:
        """The newest checkpoint. A person's own commit on top counts as the turn or pass below it."""
        return self.checkpoint("HEAD")

    def checkpoint(self, name: str) -> Checkpoint:
        """What the commit called ``name`` counts as. A fork of an accepted pass is a run that goes on."""
        top = commit = self.commit(name)
        is_forked = False
        while not commit.trailers.runner and commit.parents:
            is_forked = is_forked or bool(commit.trailers.forked_from)
            commit = self.commit(commit.parents[0])
        found = _checkpoint(commit)
        if is_forked and found.outcome == "accepted":
            found = replace(found, outcome="stopped")
        return replace(found, commit=top.oid)

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
        return [os.fsdecode(path) for path in sorted(self.tree(at or "HEAD", *([prefix] if prefix else [])))]

    def sizes(self, prefix: str, at: str | None = None) -> list[tuple[str, int]]:
        """(path, bytes) of every committed file below the folder ``prefix``, sorted by path."""
        listing = self._run("ls-tree", "-r", "-l", "-z", "--full-tree", at or "HEAD", "--", prefix)
        entries = (line.partition(b"\t") for line in listing.split(b"\0") if line)
        sized = [(path, about.split()) for about, _, path in entries]
        return sorted((os.fsdecode(path), int(about[3])) for path, about in sized if about[1] == b"blob")

    def newest_first(self, prefix: str, at: str | None = None) -> list[str]:
        """The paths below the folder ``prefix``, those that were written last first, then by name."""
        paths = self.files(prefix, at)
        if len(paths) < 2:
            return paths
        # -c: a merge lists a file only if it differs from every parent, which is how files are restored.
        log = self._run("log", "-c", "-z", "--format=", "--name-only", at or "HEAD", "--", prefix)
        written = dict.fromkeys(os.fsdecode(path.strip(b"\n")) for path in log.split(b"\0"))
        rank = {path: number for number, path in enumerate(written)}
        return sorted(paths, key=lambda path: (rank.get(path, len(rank)), path))

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

    def past_turn(self, pass_number: int, number: int, at: str | None = None) -> PastTurn | None:
        """One committed turn; None if there is no such turn."""
        folder = layout.turn_folder(pass_number, number)
        reply, output = self.read(f"{folder}/reply.md", at), self.read(f"{folder}/output.txt", at)
        if reply is None or output is None:
            return None
        code = self.read(f"{folder}/cell.py", at)
        with parsing(self.folder, f"{folder}/turn.json"):
            end = "no_code" if code is None else layout.end_from(self.read(f"{folder}/turn.json", at))
        return PastTurn(layout.to_text(reply), layout.to_text(code or b""), layout.to_text(output), end)

    def stop_reason(self, pass_number: int, number: int, at: str | None = None) -> StopReason:
        """Why the reply of a committed turn ended, as the provider reported it."""
        path = f"{layout.turn_folder(pass_number, number)}/calls.jsonl"
        with parsing(self.folder, path):
            calls = layout.calls_from_jsonl(self.read(path, at) or b"")
        replies = [call.reply for call in calls if call.kind == "root" and not call.is_lost]
        return replies[-1].stop_reason if replies else "end_turn"

    def variables(self, at: str | None = None) -> tuple[Variable, ...]:
        """The variables as the manifest lists them, without their blobs."""
        with parsing(self.folder, layout.MANIFEST):
            return layout.variables_from(self.read(layout.MANIFEST, at))

    def snapshot(self, at: str | None = None) -> Snapshot:
        """The variables with their blobs. A blob that is missing or damaged makes its variables lost."""
        blobs: dict[str, bytes] = {}
        variables = []
        for variable in self.variables(at):
            kept = variable
            if variable.blob and variable.blob not in blobs:
                data = self._blob(variable.blob, at)
                if data is None:
                    kept = _lost(variable)
                else:
                    blobs[variable.blob] = data
            variables.append(kept)
        return Snapshot(tuple(variables), blobs, self.versions(at).get("python", ""))

    def versions(self, at: str | None = None) -> dict[str, str]:
        """The versions ("loop_runner", "python") that wrote the variables; empty if not recorded."""
        with parsing(self.folder, layout.MANIFEST):
            return layout.versions_from(self.read(layout.MANIFEST, at))

    def unstored(self, at: str | None = None) -> tuple[tuple[str, str], ...]:
        """What of ``workspace/`` the commit does not hold: (path, reason)."""
        with parsing(self.folder, layout.WALK_FILE):
            return layout.walk_report_from(self.read(layout.WALK_FILE, at))[0]

    # ── the story ───────────────────────────────────────────────────────────────────────────────────

    def commits(self, *, first_parent: bool = False, at: str | None = None) -> list[Entry]:
        """Every commit up to ``at``, the newest first; ``first_parent``: the passes and what is between."""
        newest = self.commit(at or "HEAD")
        if not newest.parents:
            return [Entry(_checkpoint(newest), (), float(newest.time), newest.trailers)]
        if self._story is None or self._story[0] != (newest.oid, first_parent):
            options = ["--first-parent"] if first_parent else ["--topo-order"]
            text = self._run("log", "-z", "--format=%H%n%P%n%ct%n%B", *options, newest.oid, "--")
            records = [record for record in layout.to_text(text).split("\0") if record.strip()]
            self._story = ((newest.oid, first_parent), [_entry(record) for record in records])
        return list(self._story[1])

    def passes(self) -> list[Entry]:
        """The ends of the passes, the oldest first."""
        return [entry for entry in reversed(self.commits(first_parent=True)) if entry.is_pass]

    def changes(self, pass_number: int) -> tuple[Change, ...]:
        """(kind, path) of each of the model's files that a pass added, changed or deleted (so far)."""
        newest = self.newest_of(pass_number)
        last = "" if newest is None else newest.oid if newest.trailers.turn else newest.parents[-1]
        if newest is None or not self.has(last):  # a repair may have cut history there
            return ()
        last_turn = self.commit(last)
        base = self.base_of(pass_number, last_turn)
        return () if base == last_turn.oid else self.changes_between(base, newest.oid)

    def changes_between(self, old: str, new: str) -> tuple[Change, ...]:
        """(kind, path) of each of the model's files that differs from the commit ``old`` to ``new``."""
        try:
            return changes.between(self.git_dir, old, new)
        except GitFailed as error:
            raise damaged(self.folder, new, error.stderr) from error

    def calls(self, at: str | None = None) -> Iterator[Call]:
        """Every committed model call of the run, judges' included."""
        for path in self.files("passes/", at):
            if path.endswith("/calls.jsonl"):
                with parsing(self.folder, path):
                    calls = layout.calls_from_jsonl(self.read(path, at) or b"")
                yield from calls

    def spend(self, price: Price | None = None, at: str | None = None) -> Spend:
        """What the commits say was used. Without ``price``, dollars are unknown once a model was asked.

        What rewinds dropped is not among it; ``dropped`` has that.
        """
        entries = self.commits(at=at)
        return replace(
            _sum_of(list(self.calls(at)), price),
            passes=sum(entry.is_pass for entry in entries),
            turns=sum(entry.checkpoint.turn > 0 for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
            unanswered=sum(entry.unanswered for entry in entries),
        )

    def dropped(self, at: str | None = None) -> Spend:
        """What was spent on turns that rewinds took out of the history; paid, so it counts for the budget."""
        said = (entry.trailers.dropped for entry in self.commits(at=at))
        return next((dropped.from_text(text) for text in said if text), dropped.NOTHING)

    def unmet(self, price: Price | None = None) -> Spend:
        """What the replies in the journal cost: paid for, and in no commit yet."""
        private = self.git_dir / "loop-runner"
        return _sum_of(journal.calls(private / "journal", self.since_checkpoint()), price)

    def in_flight(self) -> int:
        """Requests sent since HEAD that have no reply yet; when nobody runs here, they never got one."""
        return self.under_way()[1]

    def under_way(self) -> tuple[int, int]:
        """Requests since HEAD: those with a reply, and those without one; see ``in_flight``."""
        private = self.git_dir / "loop-runner"
        afters = self.since_checkpoint()
        answered = journal.answered(private / "journal", afters)
        return len(answered), sent.unanswered(private / sent.NAME, afters, answered)

    def since_checkpoint(self) -> list[str]:
        """HEAD, and where a person committed on top of a turn or pass, all down to that."""
        commit = self.head_commit()
        found = [commit.oid]
        while not commit.trailers.runner and commit.parents:
            commit = self.commit(commit.parents[0])
            found.append(commit.oid)
        return found

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
        return commit_from(found.oid, found.data)

    def has(self, oid: str) -> bool:
        """Whether there is such an object, which need not be whole."""
        return self._get(oid) is not None

    def newest_of(self, pass_number: int) -> Commit | None:
        """The commit that ended the pass, or its last turn so far; None when there is no such pass.

        Goes back from HEAD, commit by commit: quick for the passes just before it, however many there are.
        """
        commit = self.head_commit()
        while (said := commit.trailers).pass_number != pass_number or not said.runner:
            is_before = bool(said.runner) and said.pass_number < pass_number
            if is_before or not commit.parents or not self.has(commit.parents[0]):
                return None
            commit = self.commit(commit.parents[0])
        return commit

    def base_of(self, pass_number: int, head: Commit) -> str:
        """The commit that the pass's first turn was made after; ``head`` itself when the pass has no turn."""
        commit = head
        while (said := commit.trailers).pass_number == pass_number or not said.runner:
            is_end = said.turn == 0 and bool(said.runner)
            if is_end or not commit.parents:
                break
            if not self.has(commit.parents[0]):
                break  # a repair may have cut history there
            if said.turn == 1:
                return commit.parents[0]
            commit = self.commit(commit.parents[0])
        return head.oid

    def refs(self, prefix: str) -> dict[int, str]:
        """The commits kept under ``prefix``/N: number to id, in order."""
        listed = self._run("for-each-ref", "--format=%(refname) %(objectname)", prefix).decode().split("\n")
        found = (line.rpartition("/")[2].split(" ") for line in listed if line)
        return dict(sorted((int(number), oid) for number, oid in found if number.isdecimal()))

    def tree(self, commit: str, *paths: str) -> dict[bytes, tuple[str, str]]:
        """Every file of a commit, or those of ``paths`` ("workspace/"): path to (mode, blob id)."""
        try:
            with self._reading(commit):
                return self._trees.files(self._root(commit), [os.fsencode(path) for path in paths])
        except TooLarge:
            return self._listed(commit, paths)

    def _listed(self, commit: str, paths: tuple[str, ...]) -> dict[bytes, tuple[str, str]]:
        """``tree``, by a git of its own: quicker for many folders."""
        where = ["--", *paths] if paths else []
        listing = self._run("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit, *where)
        entries = (line.partition(b"\t") for line in listing.split(b"\0") if line)
        files = {}
        for about, _, path in entries:
            mode, kind, oid = about.decode().split()
            if kind == "blob":  # a person may have committed a submodule
                files[path] = (mode, oid)
        return files

    def top_level(self, commit: str) -> dict[str, str]:
        """The files and folders at the top of a commit: name to id."""
        with self._reading(commit):
            items = self._trees.items(self._root(commit))
        return {os.fsdecode(name): item.oid for name, item in items.items()}

    def _root(self, commit: str) -> str:
        root = self._trees.root(commit)
        if root is None:
            raise damaged(self.folder, commit)
        return root

    @contextlib.contextmanager
    def _reading(self, commit: str) -> Iterator[None]:
        try:
            yield
        except Damaged as error:
            raise damaged(self.folder, commit, str(error)) from error

    def blob(self, oid: str) -> bytes:
        """The bytes of a blob; raises ``WorkspaceError`` when it is damaged."""
        found = self._get(oid)
        if found is None:
            raise damaged(self.folder, oid)
        return found.data

    def _require_checked_out(self) -> None:
        """A clone of a remote whose HEAD names no branch has commits and stands on none of them."""
        if self._get("HEAD") is not None:
            return
        branches = self._run("for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes").decode().split()
        if branches:
            raise WorkspaceError(
                f"{self.folder} is a clone with nothing checked out",
                why="the remote's HEAD names a branch that it does not have",
                hint=f"`git -C {shell(self.folder)} switch {branches[0]}`",
            )

    def _is_listed(self, path: str, at: str) -> bool:
        """The commit says that there is such a path: to a reading git, missing and damaged look the same."""
        with self._reading(at):
            root = self._trees.root(at)
            return root is not None and self._trees.find(root, os.fsencode(path)) is not None

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
    structure.require_plain(folder)
    try:
        if (git_dir / "shallow").exists() and not (git_dir / "loop-runner" / "damaged").is_dir():
            raise _is_shallow(folder)  # where a repair was made, what is missing was said
        is_marked = (git_dir / "loop-runner").is_dir() or (folder / layout.FORMAT_FILE).is_file()
        if git_dir.is_dir() and (is_marked or _has_commits(git_dir)):
            return  # a run folder without its HEAD is damaged, not something else
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


def _has_commits(git_dir: Path) -> bool:
    """Whether a repository that no runner has marked may hold a run: a clone with nothing checked out."""
    return (git_dir / "HEAD").is_file() and (
        (git_dir / "packed-refs").is_file()
        or any(path.is_file() for path in (git_dir / "refs" / "heads").rglob("*"))
    )


def _is_shallow(folder: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{folder} is a shallow clone",
        why="what the run has used and done is told from its whole history",
        hint=f"`git -C {shell(folder)} fetch --unshallow`",
    )


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
            hint=plugins.newer(),
        )


def damaged(folder: Path, what: str, said: str = "") -> WorkspaceError | EnvironmentFault:
    """Something in the history cannot be read: it is damaged, or git does not work."""
    if not git_works():
        return EnvironmentFault(
            "git does not work: `git --version` fails, or names a version that is too old",
            why="a run folder is a git repository: every turn is a commit",
            hint="see which git is first on PATH (`command -v git`); install 2.32 or later",
        )
    detail = f" ({said.strip().splitlines()[-1]})" if said.strip() else ""
    return WorkspaceError(
        f"{folder} is damaged: {what} cannot be read{detail}",
        why="the run goes on from what is committed, and this commit is not whole",
        hint=f"nothing was changed; `loop-runner fsck {shell(folder)}` says what is damaged, and with "
        "--repair it goes back to the newest checkpoint that is whole",
        exit_code=4,
    )


@contextlib.contextmanager
def parsing(folder: Path, path: str) -> Iterator[None]:
    """Within it, a file that does not hold what it should is a ``WorkspaceError``: somebody changed it."""
    try:
        yield
    except ConfigError as error:
        raise WorkspaceError(
            f"{folder} is damaged: {path} is not one that the runner wrote: {error.message}",
            why="the run cannot be read or continued by it",
            hint=f"`loop-runner log {shell(folder)}` lists the commits; take the file from one of them",
            exit_code=4,
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WorkspaceError(
            f"{folder} is damaged: {path} does not hold what it should ({one_line(str(error), 300)})",
            why="the run goes on from what is committed, and nobody can tell what this was",
            hint=f"nothing was changed; `loop-runner log {shell(folder)}` lists the commits, and "
            f"`loop-runner fsck {shell(folder)}` says what is damaged",
            exit_code=4,
        ) from error


def commit_from(oid: str, data: bytes) -> Commit:
    """The commit with the bytes ``data``."""
    head, _, body = data.partition(b"\n\n")
    lines = [line.partition(b" ") for line in head.split(b"\n")]
    parents = tuple(value.decode() for name, _, value in lines if name == b"parent")
    tree = next(value.decode() for name, _, value in lines if name == b"tree")
    who = next((value for name, _, value in lines if name == b"committer"), b"")
    seconds = re.search(rb"> ([0-9]{1,12}) ", who)
    return Commit(oid, tree, parents, layout.to_text(body), int(seconds[1]) if seconds else 0)


def _checkpoint(commit: Commit) -> Checkpoint:
    said = commit.trailers
    outcome = said.outcome if said.turn == 0 else None
    return Checkpoint(commit.oid, said.pass_number, said.turn, commit.message.partition("\n")[0], outcome)


def _sum_of(calls: Sequence[Call], price: Price | None) -> Spend:
    """What ``calls`` used; dollars are unknown where the price of one is."""
    dollars = [
        call.usd if price is None or call.usd is not None else price(call.model, call.reply.usage)
        for call in calls
    ]
    known = [each for each in dollars if each is not None]
    return Spend(
        usage=sum((call.reply.usage for call in calls), Usage()),
        requests=len(calls),
        subcalls=sum(call.kind in SUBCALL_KINDS for call in calls),
        usd=sum(known, 0.0) if len(known) == len(dollars) else None,
        known_usd=sum(known, 0.0),
    )


def _entry(record: str) -> Entry:
    oid, parents, seconds, message = record.lstrip("\n").split("\n", 3)
    commit = Commit(oid, "", tuple(parents.split()), message)
    return Entry(_checkpoint(commit), commit.parents, float(seconds or 0), commit.trailers)


def _lost(variable: Variable) -> Variable:
    return replace(variable, status="lost", reason="its blob is missing or damaged", blob="")
