"""The run folder's only writer: every turn a commit, every pass a merge, under one lock.

Owns the order of the writes, which is the whole promise: first the commit is durable, then the journal drops
its calls, then the files are put on disk. A crash at any moment leaves a history that the run continues
from, and the journal with the paid replies that are not in it. Pass and turn numbers always come from git.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Self

from loop_runner import __version__, failpoints
from loop_runner.errors import WorkspaceError
from loop_runner.records import (
    Answer,
    Checkpoint,
    PassOutcome,
    StopReason,
    TurnRecord,
)
from loop_runner.text import shell
from loop_runner.workspace import (
    awaited,
    bindings,
    branch,
    checkout,
    faults,
    journal,
    layout,
    points,
    recovery,
    rewinding,
)
from loop_runner.workspace.commits import Commit
from loop_runner.workspace.creating import (
    ATTRIBUTES,
    PRIVATE,
    branch_off,
    claimed,
    lay_out,
    refuse_contents,
    translated,
)
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git import fast_import, packs
from loop_runner.workspace.git.fast_import import Blob, NewCommit
from loop_runner.workspace.git.git import Git, GitFailed
from loop_runner.workspace.git.index import Index
from loop_runner.workspace.history import History, Price
from loop_runner.workspace.journal import Journal
from loop_runner.workspace.layout import Trailers
from loop_runner.workspace.lock import Lock
from loop_runner.workspace.model_files import ModelFiles
from loop_runner.workspace.points import Point
from loop_runner.workspace.runner_files import blobs, checked
from loop_runner.workspace.scope import EVERYTHING, Scope
from loop_runner.workspace.walk import Limits, Walker


class Workspace:
    """A run folder, open for writing. Made by ``create`` or ``open``; ends with ``close``.

    ``set_aside`` says where changed files went that ``open`` found, None when there were none.
    """

    def __init__(self, folder: Path, held: Lock, *, limits: Limits, scope: Scope = EVERYTHING) -> None:
        self.folder = folder
        self.private_folder = folder / ".git" / PRIVATE
        self.model_folder = folder / layout.MODEL_FOLDER
        self.set_aside: str | None = None
        self.started = ""  # recorded in the next commits: see ``Trailers``
        self.overrides = ""
        self.more_files: Callable[[], Mapping[str, bytes]] = dict  # of the next commit
        self._lock, self._limits = held, limits
        self._git = Git(folder / ".git", held.fd)
        self._index = Index(self._git)
        self._scope = scope
        with contextlib.ExitStack() as stack:
            stack.callback(held.release)
            stack.callback(self._index.wait)
            self.history = stack.enter_context(History(folder))
            self._stand_at(self.history.head())
            with faults.translated(folder, "opening it"):
                self._branch = branch.current(folder)
                self._folder = Folder(folder, self.private_folder / "displaced")
                stack.callback(self._folder.close)
                self._files = ModelFiles(self.history, self._folder, Walker(limits, skip=scope.skip), scope)
                self._recover()
            self.journal = Journal(
                self.private_folder / "journal",
                self._head.commit,
                folder=folder,
                earlier=self.history.since_checkpoint(),
            )
            stack.callback(self.journal.close)
            with translated(folder, "reading what is awaited"):
                since = {self._head.commit, *self.history.since_checkpoint()}
                awaited.restore(self._git, since, self.private_folder, self.journal)
            self._joiner = packs.Joiner(self._git.git_dir)
            stack.callback(self._joiner.stop)
            self._closing = stack.pop_all()

    # ── open and close ──────────────────────────────────────────────────────────────────────────────

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        name: str,
        files: Mapping[str, bytes],
        model_files: Mapping[bytes, Blob] | None = None,
        scope: Scope = EVERYTHING,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        before_placing: Callable[[Path], None] | None = None,
        when_claimed: Callable[[Path], None] | None = None,
    ) -> Workspace:
        """Make the run folder ``folder`` with ``files`` as its first commit; it appears whole or not at all.

        ``model_files`` are the content of ``workspace/`` before the first pass; paths begin with it.
        ``before_placing`` is called with the finished repository, just before it appears as ``.git``;
        ``when_claimed`` at the beginning, with the path of the empty ``workspace/``.

        Raises ``WorkspaceError`` when the folder is not empty, ``EnvironmentFault`` without git or space.
        """
        folder = folder.absolute()
        first = NewCommit(
            layout.message(f"run: {name}", Trailers(runner=__version__)),
            int(time.time()),
            set_paths={**blobs(layout.creation_files(checked(files))), **(model_files or {})},
        )
        with faults.translated(folder, "making the run folder"), claimed(folder):
            refuse_contents(folder)
            if when_claimed is not None:
                (folder / layout.MODEL_FOLDER).mkdir(exist_ok=True)
                when_claimed(folder / layout.MODEL_FOLDER)
            held = lay_out(folder, lambda git: fast_import.write(git, first), before_placing)
        return cls(folder, held, limits=limits, scope=scope)

    @classmethod
    def fork(
        cls,
        folder: Path,
        *,
        source: History,
        commit: NewCommit,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        before_placing: Callable[[Path], None] | None = None,
    ) -> Workspace:
        """Make the run folder ``folder`` with ``commit`` on top of its parents in ``source``.

        The objects are copied, so the two runs share nothing. Only git's objects are read from ``source``,
        so it may be active. Raises what ``create`` raises, and ``WorkspaceError`` for a damaged one.
        """
        folder = folder.absolute()
        with faults.translated(folder, "making the run folder"), claimed(folder):
            refuse_contents(folder)
            held = lay_out(folder, lambda git: branch_off(git, source, commit), before_placing)
        return cls(folder, held, limits=limits)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        scope: Scope = EVERYTHING,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> Workspace:
        """Take the run folder's lock and bring everything to the state of the last commit.

        Raises ``WorkspaceError``: no run folder, a newer format, damaged, unwritable, in use.
        """
        folder = folder.absolute()
        with History(folder):
            pass  # refuses anything but a run folder before anything is written there
        with faults.translated(folder, "taking its lock"):
            (folder / ".git" / PRIVATE).mkdir(exist_ok=True)
            held = Lock.take(folder / ".git" / PRIVATE / "lock", folder)
        return cls(folder, held, limits=limits, scope=scope)

    def close(self) -> None:
        """Leave the folder as a person expects it and release the lock; more than once is fine."""
        with self._closing:
            if self._lock.fd >= 0:
                self._index.set(self._head.commit)
                with contextlib.suppress(GitFailed, OSError):
                    awaited.clear(self._git, self._head.commit)

    def _stand_at(self, checkpoint: Checkpoint) -> None:
        self._head = checkpoint
        self.history.tip = checkpoint.commit  # whatever HEAD may say: an agent can move it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── reading the commits ─────────────────────────────────────────────────────────────────────────

    def head(self) -> Checkpoint:
        """The current checkpoint."""
        return self._head

    def stop_reason(self, pass_number: int, number: int) -> StopReason:
        """Why the reply of a committed turn ended, as the provider reported it."""
        return self.history.stop_reason(pass_number, number, self._head.commit)

    def made_in(self, names: Collection[str]) -> dict[str, tuple[int, int]]:
        """The (pass, turn) that made each of these variables, as far as it is known."""
        try:
            return bindings.made_in(self.history, names, self._head.commit)
        except WorkspaceError:
            return {}  # older history is damaged, so less is shown

    def answer(self, at_pass: int | None = None) -> Answer:
        """The committed answer, at HEAD or as a pass left it. ``WorkspaceError``: no such pass."""
        if at_pass is None:
            return self.history.answer()
        return self.history.answer(self._ended(at_pass).oid)

    def handed_in(self, pass_number: int) -> Answer:
        """The answer that a finished pass ended with, even if another answer was restored after it."""
        return self.history.answer(self.end_of(pass_number))

    def end_of(self, pass_number: int) -> str:
        """The commit of a finished pass's last turn; 0 is the beginning. ``WorkspaceError``: no such pass."""
        if pass_number == 0:
            return self.history.commits()[-1].checkpoint.commit
        return self._ended(pass_number).parents[-1]

    def _ended(self, pass_number: int) -> Commit:
        """The commit that ended a pass."""
        commit = self.history.newest_of(pass_number)
        if commit is None or commit.trailers.turn:
            raise WorkspaceError(
                f"{self.folder} has no pass {pass_number}",
                hint=f"`loop-runner log {shell(self.folder)}` lists them",
            )
        return commit

    def checkout(self, into: Path) -> None:
        """Put the answer and ``workspace/`` of HEAD into the empty or missing folder ``into``, read-only.

        Links are kept only when they lead to a file or folder of the checkout.
        """
        with faults.translated(into, "checking out the answer"):
            checkout.write(self.history, self._head.commit, into)

    def lay_out_now(self, into: Path) -> None:
        """Put ``workspace/`` into the folder ``into`` as a commit would take it now. From any thread."""
        with faults.translated(into, "copying the files of the workspace"):
            walked = self._scope.walk(Walker(self._limits, skip=self._scope.skip), self._folder.fd, {})
            files = {path: (entry.mode, entry.data or b"") for path, entry in walked.files.items()}
            checkout.write_files(files, into)

    def keep_awaited(self, name: str, record: bytes) -> None:
        """Record, for clones too, what this turn requested from a provider; durable on return."""
        with translated(self.folder, "writing down what is awaited"):
            awaited.keep(self._git, self._head.commit, name, record, self.journal.calls())

    def forget_awaited(self, name: str) -> None:
        """Remove a record of ``keep_awaited``."""
        with translated(self.folder, "writing down what is awaited"):
            awaited.forget(self._git, name)

    # ── committing ──────────────────────────────────────────────────────────────────────────────────

    def commit_turn(self, turn: TurnRecord, files: Mapping[str, bytes]) -> Checkpoint:
        """Commit a turn with the current files of the model; it survives a power cut after this returns.

        ``files`` are further files of the runner's, such as ``passes/0001/injected.md``. Calls in the journal
        that ``turn.calls`` does not name are committed with it: they are paid for. ``ValueError`` when the
        turn is not the next one.
        """
        self._require_next(turn.pass_number, turn.number)
        doing = f"committing pass {turn.pass_number} turn {turn.number}"
        with faults.translated(self.folder, doing):
            failpoints.passing("commit.walk")
            walked = self._files.walk()
        calls = [*turn.calls, *self.journal.calls(), *self.journal.unknown()]
        own_files, gone, stored = self._files.of_variables(turn, walked)
        changed, removed = self._files.changes(walked)
        own_files |= layout.turn_files(turn, calls) | dict(files) | dict(self.more_files())
        own_files = checked(own_files)
        trailers = self._trailers(turn.pass_number, turn.number, None, turn.seconds)
        checkpoint = self._commit(
            NewCommit(
                message=layout.message(layout.turn_subject(turn), trailers),
                time=int(time.time()),
                parents=[self._head.commit],
                set_paths=blobs(own_files) | changed,
                removed_paths=[os.fsencode(path) for path in gone] + removed,
            ),
            doing,
        )
        self._files.keep(walked, removed, stored, has_report=layout.WALK_FILE in own_files)
        self._settle(checkpoint, {journal.key(call) for call in calls}, own_files, gone, doing)
        if self._scope.source is not None:
            with faults.translated(self.folder, f"putting files in place after {doing}"):
                self._files.put(changed, removed)  # the run folder's own copy, so that it matches HEAD
        return checkpoint

    def commit_pass(
        self,
        pass_number: int,
        outcome: PassOutcome,
        subject: str = "",
        files: Mapping[str, bytes] | None = None,
        *,
        seconds: float = 0.0,
        put_back: str | None = None,
    ) -> Checkpoint:
        """Commit the end of a pass: a merge of its last turn into the chain of passes.

        The tree is the last turn's with ``files``. A pass without turns is an ordinary commit. Calls made
        since the last turn (judges') are kept in ``passes/N/calls.jsonl``. ``seconds``: how long verifying
        took. ``put_back``: a commit whose answer, variables and model's files are restored in this one; the
        pass's own versions stay in its turns. The kernel must be restarted afterwards.
        """
        doing = f"committing pass {pass_number}"
        calls = (*self.journal.calls(), *self.journal.unknown())
        own_files = checked({**(files or {}), **self.more_files()})
        if calls:
            path = f"{layout.pass_folder(pass_number)}/calls.jsonl"
            own_files[path] = layout.calls_to_jsonl(layout.in_order(calls))
        head = self.history.commit(self._head.commit)
        base = self.history.base_of(pass_number, head)
        changed, removed = ({}, []) if put_back is None else self._files.differences(put_back)
        trailers = self._trailers(pass_number, 0, outcome, seconds)
        checkpoint = self._commit(
            NewCommit(
                message=layout.message(subject or f"pass {pass_number}: {outcome}", trailers),
                time=int(time.time()),
                parents=[head.oid] if base == head.oid else [base, head.oid],
                tree=head.tree,
                set_paths=blobs(own_files) | changed,
                removed_paths=removed,
            ),
            doing,
        )
        self._settle(checkpoint, {journal.key(call) for call in calls}, own_files, [], doing)
        if put_back is not None:
            self._put_in_place(changed, removed, doing)
        self._index.start(checkpoint.commit)
        self._joiner.start()
        return checkpoint

    def commit_change(self, new: NewCommit) -> Checkpoint:
        """Commit a change of the runner's own files that is neither a turn nor a pass (such as another task).

        Its parents begin with HEAD. Replies in the journal stay there for the turn that they belong to.
        """
        doing = "committing a change of the task"
        written = self._commit(new, doing)
        files = {os.fsdecode(path): blob.data for path, blob in new.set_paths.items()}
        self._settle(written, set(), files, [os.fsdecode(path) for path in new.removed_paths], doing)
        self._stand_at(self.history.checkpoint(written.commit))
        return self._head

    def _trailers(self, pass_number: int, turn: int, outcome: PassOutcome | None, seconds: float) -> Trailers:
        return Trailers(
            pass_number,
            turn,
            outcome,
            seconds,
            __version__,
            started=self.started,
            folder=json.dumps(str(self.folder)) if self.started else "",
            overrides=self.overrides,
            unanswered=self.journal.unanswered(),
        )

    def wait_for_maintenance(self) -> None:
        """Wait until packs are joined and the index is written in the background; a run need not."""
        self._index.wait()
        self._joiner.wait()

    def _commit(self, new: NewCommit, doing: str) -> Checkpoint:
        try:
            with faults.translated(self.folder, doing):
                oid = fast_import.write(self._git, new)
                fast_import.point(self._git, self._branch, oid, was=self._head.commit)
        except GitFailed as error:
            with contextlib.suppress(OSError):  # half a pack takes up space that may be needed
                recovery.clear_stale(self._git.git_dir)
            if "but expected" in error.stderr:
                raise branch.moved(self.folder, self._branch) from error
            raise error.fault(self.folder, doing) from error
        trailers = layout.trailers_from(new.message)
        subject = new.message.partition("\n")[0]
        return Checkpoint(oid, trailers.pass_number, trailers.turn, subject, trailers.outcome)

    def _put_in_place(self, changed: Mapping[bytes, Blob], removed: list[bytes], doing: str) -> None:
        """The files of a commit that restores others. ``open`` completes it after a crash."""
        with faults.translated(self.folder, f"putting files in place after {doing}"):
            self._files.put(changed, removed)
            self._folder.make_folder(os.fsencode(layout.NOTES_FOLDER))
        self._files.know(self.history.tree(self._head.commit))

    def _settle(
        self,
        checkpoint: Checkpoint,
        calls: set[journal.Key],
        files: Mapping[str, bytes],
        gone: list[str],
        doing: str,
    ) -> None:
        """The steps after a durable commit. ``open`` completes them after a crash."""
        self._stand_at(checkpoint)
        self.journal.move_on(checkpoint.commit, calls)
        with faults.translated(self.folder, f"putting files in place after {doing}"):
            failpoints.passing("commit.settle")
            for path, data in files.items():
                self._folder.write(os.fsencode(path), Blob(data))
            for path in gone:
                self._folder.remove(os.fsencode(path))

    def _require_next(self, pass_number: int, turn: int) -> None:
        head = self._head
        after = (head.pass_number, head.turn + 1) if head.turn else (head.pass_number + 1, 1)
        if (pass_number, turn) != after:
            msg = f"pass {pass_number} turn {turn} does not follow {head.subject!r}"
            raise ValueError(msg)

    # ── going back ──────────────────────────────────────────────────────────────────────────────────

    def find(self, point: Point) -> Checkpoint:
        """The commit to go back to for ``point``; ``ConfigError`` when the history has no such point."""
        return points.find(self.history, point)

    def rewind(self, to: str, price: Price | None = None) -> str:
        """Go back to the commit ``to``; returns the ref that keeps what the run leaves.

        First the ref, then the branch, then the files: a crash in between leaves the run at the old or the
        new point. Replies that no turn holds yet are kept with the abandoned part, and return to the journal
        when the run goes back to it. Dropped spend stays spent: HEAD records it, in dollars if ``price``
        knows them.
        """
        doing = "going back"
        calls = {journal.key(call) for call in self.journal.calls()}
        kept = rewinding.next_ref(self.history)
        try:
            with faults.translated(self.folder, doing):
                tip = rewinding.tip(self._git, self._head, self.journal.calls())
                fast_import.point(self._git, kept, tip, was=None)
                _, held = rewinding.goal(self.history, to)
                to = rewinding.landing(
                    self._git, self.history, to, tip, unanswered=self.journal.unanswered(), price=price
                )
                self.journal.hold(to, held)
                fast_import.point(self._git, self._branch, to, was=self._head.commit)
        except GitFailed as error:
            raise error.fault(self.folder, doing) from error
        left = self._head.commit
        self._stand_at(self.history.checkpoint(to))
        self.journal.move_on(to, calls, held)
        with faults.translated(self.folder, "putting the earlier files in place"):
            rewinding.put_files(self._folder, self.history, left, to)
        self._files.know(self.history.tree(to))
        self._index.set(to)
        return kept

    # ── the model's files ───────────────────────────────────────────────────────────────────────────

    def left_out(self) -> list[str]:
        """Files that the last turn's commit newly leaves out: a line for each reason."""
        return [f"{path} is not committed: {reason}" for path, reason in self._files.newly_unstored]

    @property
    def unstored(self) -> tuple[tuple[str, str], ...]:
        """The model's files that the last turn's commit does not hold: (path, reason)."""
        return self._files.unstored

    # ── the branch ──────────────────────────────────────────────────────────────────────────────────

    def _recover(self) -> None:
        recovery.clear_stale(self.folder / ".git")
        with contextlib.suppress(GitFailed):  # space, not safety: any damage is reported where it matters
            packs.collect_lost(self._git.git_dir)
        info = self.folder / ".git" / "info"
        if not (info / "attributes").exists():  # a clone brings none
            info.mkdir(exist_ok=True)
            (info / "attributes").write_text(ATTRIBUTES)
        head = self.history.commit(self._head.commit)
        try:
            done = recovery.put_back(
                self._folder, self.history, self._git, head, self._limits, self._scope.skip
            )
        except GitFailed as error:
            raise error.fault(self.folder, "setting changed files aside") from error
        self.set_aside = done.set_aside
        self._files.know(done.tree)
        self._index.start(self._head.commit)
