"""Brings a damaged run folder back to its newest whole checkpoint: ``loop-runner fsck --repair``.

Works under the run folder's lock, in an order that stays repairable after a kill: the readable part of a
damaged file is safe in a whole one before the damaged one is moved. Nothing is deleted: damaged files go to
``.git/loop-runner/damaged/N/``, and the readable part of an abandoned checkpoint is committed under
``refs/loop-runner/damaged/N``. Never unpickles, and runs no git among the files that a model wrote.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from loop_runner import __version__
from loop_runner.text import plural
from loop_runner.workspace import durable, faults, journal, layout, recovery
from loop_runner.workspace.commits import Commit
from loop_runner.workspace.creating import ATTRIBUTES, BRANCH, CONFIG
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git import fast_import, objects
from loop_runner.workspace.git.fast_import import Blob, NewCommit
from loop_runner.workspace.git.git import Git, GitFailed
from loop_runner.workspace.lock import Lock
from loop_runner.workspace.repair import fsck
from loop_runner.workspace.repair.inventory import Broken, Inventory
from loop_runner.workspace.walk import NO_LIMITS, Walker

DAMAGED = "refs/loop-runner/damaged"
_OWNED = (layout.MODEL_FOLDER, *layout.RUNNER_FOLDERS, "example")
_OWNED_FILES = ("*.json", "*.md", "*.yaml")
_DERIVED = ("objects/info/commit-graph*", "objects/pack/multi-pack-index*", "objects/pack/*.rev")
_REF = re.compile(r"[0-9a-f]{40}\n?")
_KEEP = "loop-runner: kept by a repair\n"


@dataclass(frozen=True, slots=True)
class Repaired:
    """The steps taken, in sentences. ``stands_at`` names the checkpoint; empty: nothing whole is left."""

    stands_at: str
    steps: tuple[str, ...]
    ref: str  # the readable part of the abandoned checkpoint; empty when none was abandoned
    aside: Path | None  # where the damaged files are now; None when there were none


def repair(folder: Path) -> Repaired:
    """Repair the run folder ``folder``. Raises ``WorkspaceError`` when a runner is active in it."""
    folder = folder.absolute()
    fsck.require_there(folder)
    git_dir = folder / ".git"
    with faults.translated(folder, "taking its lock"):
        (git_dir / "loop-runner").mkdir(exist_ok=True)
        held = Lock.take(git_dir / "loop-runner" / "lock", folder)
    try:
        with faults.translated(folder, "repairing it"):
            return _Repair(folder, held).run()
    except GitFailed as error:
        raise error.fault(folder, "repairing it") from error
    finally:
        held.release()


class _Repair:
    """One repair, from the outside in: settings, objects, refs, the branch, the journal."""

    def __init__(self, folder: Path, held: Lock) -> None:
        self.folder = folder
        self.git_dir = folder / ".git"
        self.git = Git(self.git_dir, held.fd)
        self.steps: list[str] = []
        taken = [int(path.name) for path in self._damaged().glob("*") if path.name.isdigit()]
        self.aside = self._damaged() / str(max(taken, default=0) + 1)

    def run(self) -> Repaired:
        recovery.clear_stale(self.git_dir)
        self._repair_settings()
        with Inventory(self.git_dir) as inventory:
            branch, values = self._repair_refs()
            tip = values.get(branch, "")
            self._find_on_disk(inventory, tip)
            self._repair_objects(inventory)
        with Inventory(self.git_dir) as inventory:
            best, ref = self._go_back(inventory, branch, values)
        if best is not None and ref:
            self._keep_journal(best)
        aside = self.aside if self.aside.exists() else None
        return Repaired(fsck.name_of(best) if best else "", tuple(self.steps), ref, aside)

    # ── settings and refs ───────────────────────────────────────────────────────────────────────────

    def _repair_settings(self) -> None:
        for part in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
            for above in (self.git_dir / part.partition("/")[0], self.git_dir / part):
                if above.exists() and not above.is_dir():
                    self._move(above, "is no folder")
            (self.git_dir / part).mkdir(parents=True, exist_ok=True)
        if not (self.git_dir / "info" / "attributes").exists():
            (self.git_dir / "info" / "attributes").write_text(ATTRIBUTES)
        try:
            version = self.git.run("config", "--file", "config", "core.repositoryformatversion").strip()
        except GitFailed:
            version = b""
        if version not in (b"0", b"1"):
            self._move(self.git_dir / "config", "is not a configuration; it was rebuilt")
            durable.replace(self.git_dir / "config", CONFIG.encode())

    def _repair_refs(self) -> tuple[str, dict[str, str]]:
        """The branch, and the commit of each ref, after everything that is not a ref was moved aside."""
        values = self._packed()
        for path in sorted((self.git_dir / "refs").rglob("*")):
            if not path.is_file():
                continue
            text = fsck.read_text(path)
            name = path.relative_to(self.git_dir).as_posix()
            if _REF.fullmatch(text):
                values[name] = text.strip()
            elif not text.startswith("ref: "):
                self._move(path, "holds no commit id")
        return self._repair_head(values), values

    def _packed(self) -> dict[str, str]:
        path = self.git_dir / "packed-refs"
        findings: list[fsck.Finding] = []
        values = dict(fsck.packed(self.git_dir, findings))
        if findings:
            self._move(path, "holds lines that are not refs; the others were kept")
            lines = "".join(f"{oid} {name}\n" for name, oid in sorted(values.items()))
            durable.replace(path, f"# pack-refs with: sorted \n{lines}".encode())
        return values

    def _repair_head(self, values: dict[str, str]) -> str:
        head = fsck.read_text(self.git_dir / "HEAD").strip()
        if head.startswith("ref: refs/heads/") and " " not in head[5:]:
            return head.removeprefix("ref: ")
        branches = [name for name in values if name.startswith("refs/heads/")]
        branch = branches[0] if len(branches) == 1 else BRANCH
        if _REF.fullmatch(head):
            values[branch] = head  # a detached HEAD: the commit counts, the branch is moved to it
        self._move(self.git_dir / "HEAD", f"names no branch; it is now {branch}")
        durable.replace(self.git_dir / "HEAD", f"ref: {branch}\n".encode())
        return branch

    # ── objects ─────────────────────────────────────────────────────────────────────────────────────

    def _find_on_disk(self, inventory: Inventory, tip: str) -> None:
        """Take what the newest commit lacks from the files beside it, where they still have those bytes."""
        commit = inventory.commit(tip)
        if commit is None or inventory.is_whole_tree(commit.tree):
            return
        there = _on_disk(self.folder)
        taken = 0
        while objects_found := _wanted(inventory, commit.tree, there):
            inventory.add(objects_found)
            taken += len(objects_found)
        if taken:
            self.steps.append(f"{taken} lost objects were rebuilt from the files on disk")

    def _repair_objects(self, inventory: Inventory) -> None:
        saved = inventory.salvaged
        damaged = [broken for broken in inventory.broken if not broken.is_index]
        if not inventory.broken and not saved:
            self._drop_derived(is_needed=False)
            return
        if saved:
            self._write_pack(saved)
        for broken in inventory.broken:
            if broken.is_index:
                self._make_index(broken)
        for broken in damaged:
            self._set_aside(broken)
        self._drop_derived(is_needed=True)
        durable.sync(self.git_dir / "objects" / "pack")

    def _write_pack(self, saved: objects.Objects) -> None:
        """A whole pack with everything readable, in place before anything damaged is moved."""
        pack = self._scratch() / "saved.pack"
        pack.write_bytes(objects.make_pack(saved.values()))
        name = self._index(pack, pack.with_suffix(".idx"))
        target = self.git_dir / "objects" / "pack" / f"pack-{name}.pack"
        for suffix in (".pack", ".idx"):
            durable.sync(pack.with_suffix(suffix))
            pack.with_suffix(suffix).replace(target.with_suffix(suffix))
        durable.sync(target.parent)
        self.steps.append(
            f"what could still be read ({plural(len(saved), 'object')}) was written into a whole pack"
        )

    def _make_index(self, broken: Broken) -> None:
        new = self._scratch() / "new.idx"
        self._index(broken.path.with_suffix(".pack"), new)
        durable.sync(new)
        if broken.path.exists():
            self._move(broken.path, "was rebuilt from its pack")
        else:
            self.steps.append(f"{broken.path.name} was made from its pack")
        new.replace(broken.path)

    def _index(self, pack: Path, index: Path) -> str:
        """Write the index of a pack; the pack's name. In an empty repository: ours is damaged."""
        index.unlink(missing_ok=True)
        return Git(self._scratch()).run("index-pack", "-o", str(index), str(pack)).decode().split()[-1]

    def _scratch(self) -> Path:
        scratch = self.aside / "scratch"
        for part in ("objects", "refs"):
            (scratch / part).mkdir(parents=True, exist_ok=True)
        (scratch / "HEAD").write_text(f"ref: {BRANCH}\n")
        return scratch

    def _set_aside(self, broken: Broken) -> None:
        beside = [path for path in broken.path.parent.glob(f"{broken.path.stem}.*") if path != broken.path]
        if broken.path.parent.name == "pack":
            for path in beside:
                self._move(path, "belongs to it")
        self._move(broken.path, broken.reason)

    def _drop_derived(self, *, is_needed: bool) -> None:
        """Move away what git derives from the objects, because it may be part of the damage."""
        derived = [path for pattern in _DERIVED for path in self.git_dir.glob(pattern)]
        if derived and (is_needed or fsck.git_fsck(self.git_dir)):
            for path in derived:
                self._move(path, "can be rebuilt")

    # ── the branch ──────────────────────────────────────────────────────────────────────────────────

    def _go_back(
        self, inventory: Inventory, branch: str, values: dict[str, str]
    ) -> tuple[Commit | None, str]:
        """Point the branch at the newest whole checkpoint; returns it, and where the other is kept."""
        tip = values.get(branch, "")
        before, _ = inventory.ancestors(tip) if tip else ([], [])
        hidden = [oid for name, oid in values.items() if name != branch]
        best = fsck.best_checkpoint(inventory, before, hidden)
        if best is None:
            self.steps.append("no checkpoint is whole; the files on disk were left as they are")
            return None, ""
        self._cut_history(inventory, best)
        ref = ""
        if best.oid != tip:
            given_up = before[0] if before and before[0].oid == tip else None
            ref = self._keep(inventory, best, tip, given_up)
            self._keep_packs(inventory, best, before)
            self._point(branch, best.oid)
            self.steps.append(f"the run was taken back to {fsck.name_of(best)}")
        for name, oid in values.items():
            if name != branch:
                self._repair_other(inventory, best, name, oid)
        return best, ref

    def _cut_history(self, inventory: Inventory, best: Commit) -> None:
        """Tell git where the history ends when commits in the middle of it are lost."""
        commits, lost = inventory.ancestors(best.oid)
        if not lost:
            return
        gone = set(lost)
        ends = sorted(commit.oid for commit in commits if gone & set(commit.parents))
        path = self.git_dir / "shallow"
        known = fsck.read_text(path).split()
        # With this folder there, the history is known to have been cut by a repair: see ``require_git_dir``.
        (self.git_dir / "loop-runner" / "damaged").mkdir(parents=True, exist_ok=True)
        durable.replace(path, "".join(f"{oid}\n" for oid in sorted({*known, *ends})).encode())
        self.steps.append(f"{len(lost)} older commits are lost: the history now begins after them")

    def _keep(self, inventory: Inventory, best: Commit, tip: str, given_up: Commit | None) -> str:
        """Commit the readable part of the abandoned checkpoint, under a ref of its own."""
        number = len(self.git.run("for-each-ref", "--format=x", DAMAGED).split()) + 1
        ref = f"{DAMAGED}/{number}"
        files, missing = inventory.files(given_up.tree) if given_up else ({}, {})
        what = fsck.name_of(given_up) if given_up else tip[:10] or "a branch that named no commit"
        words = f"{plural(len(missing), 'file')} lost" if given_up else "the commit itself is lost"
        commit = fast_import.write(
            self.git,
            NewCommit(
                message=layout.message(f"damaged: {what}: {words}", layout.Trailers(runner=__version__)),
                time=int(time.time()),
                parents=[best.oid],
                set_paths={
                    os.fsencode(path): Blob(fsck.blob(inventory, oid), mode)
                    for path, (mode, oid) in files.items()
                },
                removed_paths=[
                    os.fsencode(path) for path in inventory.files(best.tree)[0] if path not in files
                ]
                if given_up
                else (),
            ),
        )
        fast_import.point(self.git, ref, commit, was=None)
        self.steps.append(f"what can be read of {what} is kept under {ref}")
        return ref

    def _keep_packs(self, inventory: Inventory, best: Commit, before: Iterable[Commit]) -> None:
        """Mark the packs of abandoned commits, so that nothing removes them as leftovers."""
        kept = {commit.oid for commit in inventory.ancestors(best.oid)[0]}
        gone = {commit.oid for commit in before} - kept
        for index in (self.git_dir / "objects" / "pack").glob("*.idx"):
            if gone & objects.ids_in(index):
                index.with_suffix(".keep").write_text(_KEEP)

    def _repair_other(self, inventory: Inventory, best: Commit, name: str, oid: str) -> None:
        """Drop a ref whose commit is not whole, and keep what can be read of it."""
        if fsck.is_kept(inventory, oid):
            return
        self._keep(inventory, best, oid, inventory.commit(oid))
        path = self.git_dir / name
        if path.is_file():
            self._move(path, "named a commit that is not whole")
        self._drop_packed(name)

    def _drop_packed(self, name: str) -> None:
        path = self.git_dir / "packed-refs"
        lines = fsck.read_text(path).splitlines(keepends=True)
        kept = []
        is_dropped = False
        for line in lines:
            is_dropped = line.rstrip().endswith(f" {name}") or (is_dropped and line.startswith("^"))
            kept += [] if is_dropped else [line]
        if kept != lines:
            durable.replace(path, "".join(kept).encode())

    def _point(self, branch: str, oid: str) -> None:
        # By hand: git may fail on what is there, and the lock keeps others out.
        path = self.git_dir / branch
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path, f"{oid}\n".encode())
        durable.sync_chain(path.parent, self.git_dir)

    def _keep_journal(self, best: Commit) -> None:
        """Set aside the replies that were paid for after a checkpoint that no longer exists."""
        path = self.git_dir / "loop-runner" / "journal"
        if path.exists() and any(after != best.oid for after, _, _ in journal.records(path.read_bytes())):
            self.aside.mkdir(parents=True, exist_ok=True)
            durable.replace(self.aside / "journal", path.read_bytes())
            self.steps.append(f"replies paid for after it are kept in {self.aside / 'journal'}")

    # ── moving aside ────────────────────────────────────────────────────────────────────────────────

    def _damaged(self) -> Path:
        return self.git_dir / "loop-runner" / "damaged"

    def _move(self, path: Path, why: str) -> None:
        if not os.path.lexists(path):
            return
        name = path.relative_to(self.git_dir)
        target = self.aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        durable.sync(path.parent)
        self.steps.append(f".git/{name} {why}" if " " in why else f".git/{name}: {why}")


# ── the files on disk ───────────────────────────────────────────────────────────────────────────────


def _on_disk(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Every blob and tree that the runner's and the model's files make, by id."""
    held = Folder(folder, folder / ".git" / "loop-runner" / "displaced")
    tops = [name for name in _OWNED if (folder / name).is_dir()]
    files: dict[bytes, tuple[str, bytes]] = {}
    walker = Walker(NO_LIMITS)
    try:
        for top in tops:
            for name, entry in walker.walk(held.fd, os.fsencode(top), {}).files.items():
                files[name] = (entry.mode, entry.data or b"")
        for path in {path for pattern in _OWNED_FILES for path in folder.glob(pattern)}:
            with contextlib.suppress(OSError):
                entry_found = walker.look_at(held.fd, os.fsencode(path.name), {})
                if entry_found:
                    files[os.fsencode(path.name)] = (entry_found.mode, entry_found.data or b"")
    finally:
        held.close()
    made: dict[str, tuple[str, bytes]] = {}
    _tree(files, made)
    return made


def _tree(files: dict[bytes, tuple[str, bytes]], made: dict[str, tuple[str, bytes]]) -> str:
    entries: list[tuple[bytes, bytes, str]] = []
    below: dict[bytes, dict[bytes, tuple[str, bytes]]] = {}
    for path, entry in files.items():
        name, _, rest = path.partition(b"/")
        if rest:
            below.setdefault(name, {})[rest] = entry
            continue
        mode, data = entry
        oid = objects.object_id("blob", data)
        made[oid] = ("blob", data)
        entries.append((mode.encode(), name, oid))
    entries += [(b"40000", name, _tree(inner, made)) for name, inner in below.items()]
    data = objects.make_tree(entries)
    oid = objects.object_id("tree", data)
    made[oid] = ("tree", data)
    return oid


def _wanted(inventory: Inventory, tree: str, there: objects.Objects) -> dict[str, tuple[str, bytes]]:
    missing = inventory.files(tree)[1]
    return {oid: there[oid] for oid in missing.values() if oid in there}
