"""Reads a run folder: its state, its commits, its cost.

Takes no lock and writes nothing, so it can read a run that is active. Everything comes from git, never from
the files beside it. Never unpickles: variables are names, previews and opaque bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from loop_runner.errors import WorkspaceError
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
from loop_runner.text import shell
from loop_runner.workspace import changes, dropped, journal, layout, lock, sent
from loop_runner.workspace.called_tools import is_made, is_unknown
from loop_runner.workspace.changes import Change
from loop_runner.workspace.commits import Commit, Entry, checkpoint_of, commit_from, entry_from
from loop_runner.workspace.git.git import Git, GitFailed, GitObject, ObjectReader
from loop_runner.workspace.git.trees import Damaged, TooLarge, Trees
from loop_runner.workspace.layout import TurnText
from loop_runner.workspace.openable import damaged, parsing, require_format, require_git_dir

Price = Callable[[str, Usage], float | None]
"""US dollars for a model's usage; None when the price is not known."""


class History:
    """A run folder, read. Raises ``WorkspaceError`` if it is not one, is too new, or is damaged."""

    def __init__(self, folder: Path, *, unplaced: Path | None = None) -> None:
        """``unplaced`` is the repository of a run folder in the making, before it becomes ``.git``."""
        self.folder = folder
        self.git_dir = unplaced or folder.absolute() / ".git"
        if unplaced is None:
            require_git_dir(folder)
        self._git = Git(self.git_dir)
        self._objects = ObjectReader(self.git_dir)
        self._trees = Trees(self._get)
        self._story: tuple[tuple[str, bool], list[Entry]] | None = None  # the last one that was read
        self.tip = "HEAD"  # the commit to read if none is named
        self._require_checked_out()
        require_format(folder, self.read(layout.FORMAT_FILE, at=self.head_commit().oid))

    # ── the current state ───────────────────────────────────────────────────────────────────────────

    def head(self) -> Checkpoint:
        """The newest checkpoint. A person's own commit on top counts as the turn or pass below it."""
        return self.checkpoint("HEAD")

    def checkpoint(self, name: str) -> Checkpoint:
        """What the commit ``name`` counts as. A fork of an accepted pass counts as unfinished."""
        top = commit = self.commit(name)
        is_forked = False
        while not commit.trailers.runner and commit.parents:
            is_forked = is_forked or bool(commit.trailers.forked_from)
            commit = self.commit(commit.parents[0])
        result = checkpoint_of(commit)
        if is_forked and result.outcome == "accepted":
            result = replace(result, outcome="stopped")
        return replace(result, commit=top.oid)

    def running(self) -> lock.Holder | None:
        """The runner that is active in the folder; None when there is none."""
        return lock.holder(self.git_dir / "loop-runner" / "lock")

    # ── what was committed ──────────────────────────────────────────────────────────────────────────

    def read(self, path: str, at: str | None = None) -> bytes | None:
        """The bytes at ``path`` in the commit ``at`` (``tip`` when None); None when there is no such file."""
        obj = self._get(f"{at or self.tip}:{path}")
        if obj is None and self._is_listed(path, at or self.tip):
            raise damaged(self.folder, f"{path} at {at or self.tip}")
        return obj.data if obj is not None and obj.kind == "blob" else None

    def files(self, prefix: str = "", at: str | None = None) -> list[str]:
        """The paths below the folder ``prefix`` ("workspace/notes/"), sorted."""
        return [
            os.fsdecode(path) for path in sorted(self.tree(at or self.tip, *([prefix] if prefix else [])))
        ]

    def sizes(self, prefix: str, at: str | None = None) -> list[tuple[str, int]]:
        """(path, bytes) of every committed file below the folder ``prefix``, sorted by path."""
        listing = self._run("ls-tree", "-r", "-l", "-z", "--full-tree", at or self.tip, "--", prefix)
        entries = (line.partition(b"\t") for line in listing.split(b"\0") if line)
        sized = [(path, about.split()) for about, _, path in entries]
        return sorted((os.fsdecode(path), int(about[3])) for path, about in sized if about[1] == b"blob")

    def newest_first(self, prefix: str, at: str | None = None) -> list[str]:
        """The paths below the folder ``prefix``, those that were written last first, then by name."""
        paths = self.files(prefix, at)
        if len(paths) < 2:
            return paths
        # -c: a merge lists a file only if it differs from every parent, which is how files are restored.
        log = self._run("log", "-c", "-z", "--format=", "--name-only", at or self.tip, "--", prefix)
        written = dict.fromkeys(os.fsdecode(path.strip(b"\n")) for path in log.split(b"\0"))
        rank = {path: number for number, path in enumerate(written)}
        return sorted(paths, key=lambda path: (rank.get(path, len(rank)), path))

    def answer(self, at: str | None = None) -> Answer:
        """The committed answer."""
        with parsing(self.folder, "answer.json"):
            return layout.answer_from(self.read("answer.md", at), self.read("answer.json", at))

    def turns(self, pass_number: int, at: str | None = None) -> list[TurnText]:
        """The parts that each committed turn of a pass adds to the conversation, in order."""
        texts: list[TurnText] = []
        while True:
            folder = layout.turn_folder(pass_number, len(texts) + 1)
            reply, output = self.read(f"{folder}/reply.md", at), self.read(f"{folder}/output.txt", at)
            if reply is None or output is None:
                return texts
            note = layout.to_text(self.read(f"{folder}/note.md", at) or b"")
            texts.append(TurnText(layout.to_text(reply), layout.to_text(output), note))

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

    def files_hash(self) -> str:
        """SHA-256 over names, modes and contents of the model's files at ``tip``."""
        tree = self.tree(self.tip, f"{layout.MODEL_FOLDER}/")
        rows = (
            b"%s %s %s\0" % (mode.encode(), blob.encode(), path)
            for path, (mode, blob) in sorted(tree.items())
        )
        return hashlib.sha256(b"".join(rows)).hexdigest()

    def unstored(self, at: str | None = None) -> tuple[tuple[str, str], ...]:
        """The paths of ``workspace/`` that the commit does not hold: (path, reason)."""
        with parsing(self.folder, layout.WALK_FILE):
            return layout.walk_report_from(self.read(layout.WALK_FILE, at))[0]

    # ── the commits ─────────────────────────────────────────────────────────────────────────────────

    def commits(self, *, first_parent: bool = False, at: str | None = None) -> list[Entry]:
        """Every commit up to ``at``, the newest first; ``first_parent``: only passes and commits between."""
        newest = self.commit(at or self.tip)
        if not newest.parents:
            return [Entry(checkpoint_of(newest), (), float(newest.time), newest.trailers)]
        if self._story is None or self._story[0] != (newest.oid, first_parent):
            options = ["--first-parent"] if first_parent else ["--topo-order"]
            text = self._run("log", "-z", "--format=%H%n%P%n%ct%n%B", *options, newest.oid, "--")
            records = [record for record in layout.to_text(text).split("\0") if record.strip()]
            self._story = ((newest.oid, first_parent), [entry_from(record) for record in records])
        return list(self._story[1])

    def passes(self) -> list[Entry]:
        """The ends of the passes, the oldest first."""
        return [entry for entry in reversed(self.commits(first_parent=True)) if entry.is_pass]

    def changes(self, pass_number: int) -> tuple[Change, ...]:
        """(kind, path) of each of the model's files that a pass added, changed or deleted (so far)."""
        newest = self.newest_of(pass_number)
        last = "" if newest is None else newest.oid if newest.trailers.turn else newest.parents[-1]
        if newest is None or not self.has(last):  # a repair may have cut the history there
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
        """Every committed model call of the run, including judges' calls."""
        for path in self.files("passes/", at):
            if path.endswith("/calls.jsonl"):
                with parsing(self.folder, path):
                    calls = layout.calls_from_jsonl(self.read(path, at) or b"")
                yield from calls

    def spend(self, price: Price | None = None, at: str | None = None) -> Spend:
        """The spend that the commits record. Without ``price``, dollars are unknown once a model was asked.

        It excludes what rewinds dropped; ``dropped`` has that.
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
        """The spend on turns that rewinds removed from the history; it counts against the budget."""
        texts = (entry.trailers.dropped for entry in self.commits(at=at))
        return next((dropped.from_text(text) for text in texts if text), dropped.NOTHING)

    def unmet(self, price: Price | None = None) -> Spend:
        """The cost of the replies in the journal: paid for, and not yet in a commit."""
        private = self.git_dir / "loop-runner"
        return _sum_of(journal.calls(private / "journal", self.since_checkpoint()), price)

    def unknown_tool_calls(self) -> list[Call]:
        """Tool calls that may have been made, of which no result is known: in commits and since HEAD."""
        private = self.git_dir / "loop-runner"
        committed = [call for call in self.calls() if is_unknown(call)]
        since = journal.calls(private / "journal", self.since_checkpoint())
        lost = [] if self.running() else journal.unknown(private / "journal", self.since_checkpoint())
        return [*committed, *(call for call in since if is_unknown(call)), *lost]

    def in_flight(self) -> int:
        """Requests sent since HEAD that have no reply yet; with no active runner, they never got one."""
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
        oids = [commit.oid]
        while not commit.trailers.runner and commit.parents:
            commit = self.commit(commit.parents[0])
            oids.append(commit.oid)
        return oids

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
        """The commit ``name``; raises ``WorkspaceError`` when it is incomplete."""
        obj = self._get(name)
        if obj is None or obj.kind != "commit":
            raise damaged(self.folder, name)
        return commit_from(obj.oid, obj.data)

    def has(self, oid: str) -> bool:
        """Whether such an object exists, which may be damaged."""
        return self._get(oid) is not None

    def newest_of(self, pass_number: int) -> Commit | None:
        """The commit that ended the pass, or its last turn so far; None when there is no such pass.

        Goes back from HEAD, commit by commit: fast for the passes just before it, however many there are.
        """
        commit = self.head_commit()
        while (trailers := commit.trailers).pass_number != pass_number or not trailers.runner:
            is_before = bool(trailers.runner) and trailers.pass_number < pass_number
            if is_before or not commit.parents or not self.has(commit.parents[0]):
                return None
            commit = self.commit(commit.parents[0])
        return commit

    def base_of(self, pass_number: int, head: Commit) -> str:
        """The commit that the pass's first turn was made after; ``head`` itself when the pass has no turn."""
        commit = head
        while (trailers := commit.trailers).pass_number == pass_number or not trailers.runner:
            is_end = trailers.turn == 0 and bool(trailers.runner)
            if is_end or not commit.parents:
                break
            if not self.has(commit.parents[0]):
                break  # a repair may have cut the history there
            if trailers.turn == 1:
                return commit.parents[0]
            commit = self.commit(commit.parents[0])
        return head.oid

    def refs(self, prefix: str) -> dict[int, str]:
        """The commits kept under ``prefix``/N: number to id, in order."""
        listed = self._run("for-each-ref", "--format=%(refname) %(objectname)", prefix).decode().split("\n")
        pairs = (line.rpartition("/")[2].split(" ") for line in listed if line)
        return dict(sorted((int(number), oid) for number, oid in pairs if number.isdecimal()))

    def tree(self, commit: str, *paths: str) -> dict[bytes, tuple[str, str]]:
        """Every file of a commit, or those of ``paths`` ("workspace/"): path to (mode, blob id)."""
        try:
            with self._reading(commit):
                return self._trees.files(self._root(commit), [os.fsencode(path) for path in paths])
        except TooLarge:
            return self._listed(commit, paths)

    def _listed(self, commit: str, paths: tuple[str, ...]) -> dict[bytes, tuple[str, str]]:
        """``tree``, by a separate git: faster for many folders."""
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
        obj = self._get(oid)
        if obj is None:
            raise damaged(self.folder, oid)
        return obj.data

    def _require_checked_out(self) -> None:
        """A clone of a remote whose HEAD names no branch has commits, but none checked out."""
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
        """The commit lists such a path: to a reading git, missing and damaged look the same."""
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


def _sum_of(calls: Sequence[Call], price: Price | None) -> Spend:
    """The usage of ``calls``; dollars are unknown if any price is."""
    tool_calls = sum(map(is_made, calls))
    calls = [call for call in calls if call.kind != "tool"]
    dollars = [
        call.usd if price is None or call.usd is not None else price(call.model, call.reply.usage)
        for call in calls
    ]
    known = [amount for amount in dollars if amount is not None]
    return Spend(
        usage=sum((call.reply.usage for call in calls), Usage()),
        requests=len(calls),
        subcalls=sum(call.kind in SUBCALL_KINDS for call in calls),
        usd=sum(known, 0.0) if len(known) == len(dollars) else None,
        known_usd=sum(known, 0.0),
        tool_calls=tool_calls,
    )


def _lost(variable: Variable) -> Variable:
    return replace(variable, status="lost", reason="its blob is missing or damaged", blob="")
