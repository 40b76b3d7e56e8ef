"""Checks a whole run folder and reports what was checked: ``loop-runner fsck``.

Owns the list of checks and the wording of their findings. Takes no lock and writes nothing, so it can run
while a run is active; files that change meanwhile are left out then, and the report says so. Never
unpickles, and runs git on the git folder only, never among the files that a model wrote.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loop_runner.errors import LoopRunnerError
from loop_runner.text import plural
from loop_runner.workspace import contained, history, journal, layout, lock, openable, recovery
from loop_runner.workspace.commits import Commit
from loop_runner.workspace.folder import Folder
from loop_runner.workspace.git import packs
from loop_runner.workspace.git.git import Git, GitFailed
from loop_runner.workspace.repair import consistency
from loop_runner.workspace.repair.inventory import Inventory
from loop_runner.workspace.walk import NO_LIMITS

Level = Literal["damage", "gap", "note"]
_FSCK_S = 3600.0
_MISSING = 2  # git fsck's exit code for them
_REF = re.compile(r"[0-9a-f]{40}\n?")
_PACKED = re.compile(r"#.*|\^?[0-9a-f]{40}|[0-9a-f]{40} refs/\S+")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    ``damage``: the run cannot be trusted to continue. ``gap``: it can, but an older checkpoint cannot be
    read any more. ``note``: nothing is wrong, but a person may want to know.
    """

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the run folder: what was checked, in words, and the findings."""

    name: str
    looked_at: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was checked. ``runner``: the active runner; ``newest_whole`` names a checkpoint."""

    folder: Path
    checks: tuple[Check, ...]
    runner: lock.Holder | None
    newest_whole: str  # "pass 3 turn 2 (1a2b3c4d5e)"; empty: nothing whole is left

    def findings(self, *levels: Level) -> list[Finding]:
        """The findings of these levels."""
        return [finding for check in self.checks for finding in check.findings if finding.level in levels]

    @property
    def is_whole(self) -> bool:
        """Everything that was committed can be read and agrees with itself."""
        return not self.findings("damage", "gap")


def examine(folder: Path) -> Report:
    """Check the run folder ``folder``. Raises ``WorkspaceError`` if it is not one, or is too new."""
    folder = folder.absolute()
    git_dir = folder / ".git"
    require_there(folder)
    runner = lock.holder(git_dir / "loop-runner" / "lock")
    refs, tip, others = _refs(git_dir)
    checks = [_guarded("settings", lambda: _settings(git_dir)), refs]
    with Inventory(git_dir) as inventory:
        checks.append(_guarded("objects", lambda: _objects(inventory, is_running=runner is not None)))
        commits, lost = inventory.ancestors(tip) if tip else ([], [])
        checks += _checkpoints(folder, inventory, commits, lost)
        checks.append(_others(inventory, others))
        checks.append(_guarded("journal", lambda: _journal(git_dir, {commit.oid for commit in commits})))
        if runner is None:
            if commits and inventory.is_whole_tree(commits[0].tree):
                checks.append(_guarded("files", lambda: _files(folder)))
            checks.append(_guarded("leftovers", lambda: _leftovers(git_dir)))
        else:
            checks.append(Check("files", "nothing: they change while a run is active"))
        best = best_checkpoint(inventory, commits, others.values())
    return Report(folder, tuple(checks), runner, name_of(best) if best else "")


def require_there(folder: Path) -> None:
    """Raise ``WorkspaceError`` unless at least part of a run folder is found."""
    contained.require_plain(folder)
    if not (folder / ".git").is_dir():
        openable.require_git_dir(folder)


def best_checkpoint(inventory: Inventory, commits: Sequence[Commit], hidden: Iterable[str]) -> Commit | None:
    """The newest whole checkpoint: among ``commits``, the history, the newest first; else among all.

    ``hidden`` are the commits of other refs, which hold abandoned work.
    """
    newest = _newest_whole(inventory, commits)
    return newest if newest is not None else _newest_whole(inventory, _unnamed(inventory, hidden))


def _newest_whole(inventory: Inventory, commits: Sequence[Commit]) -> Commit | None:
    known: dict[str, bool] = {}
    for commit in commits:
        if commit.tree not in known:
            known[commit.tree] = inventory.is_whole_tree(commit.tree) and not list(
                file_problems(inventory, inventory.ancestors(commit.oid)[0])
            )
        if known[commit.tree]:
            return commit
    return None


def _unnamed(inventory: Inventory, hidden: Iterable[str]) -> list[Commit]:
    """Commits of turns and passes that no other ref has, the furthest first."""
    skipped = {commit.oid for tip in hidden for commit in inventory.ancestors(tip)[0]}
    own = [commit for commit in inventory.commits() if commit.trailers.runner]
    free = [commit for commit in own if commit.oid not in skipped]
    if not any(commit.trailers.pass_number for commit in free):
        free = own  # all are before something that was set aside, which follows the newest that is left
    usable = [commit for commit in free if commit.trailers.pass_number or not commit.parents]
    return sorted(usable, key=_how_far, reverse=True)


def _how_far(commit: Commit) -> tuple[int, bool, int, int]:
    trailers = commit.trailers
    return trailers.pass_number, trailers.turn == 0, trailers.turn, commit.time


def file_problems(inventory: Inventory, commits: Sequence[Commit]) -> Iterator[str]:
    """What is wrong with the runner's files of the first of ``commits``, whose tree is whole."""
    files, _ = inventory.files(commits[0].tree)
    yield from consistency.problems_of_files(files, lambda path: blob(inventory, files[path][1]))
    if problem := consistency.problem_of_number(commits, files):
        yield problem


def blob(inventory: Inventory, oid: str) -> bytes:
    """The bytes of a whole blob; none when it is missing."""
    obj = inventory.get(oid)
    return obj[1] if obj else b""


def name_of(commit: Commit) -> str:
    """``pass 3 turn 2 (1a2b3c4d5e)``."""
    trailers = commit.trailers
    turn = f" turn {trailers.turn}" if trailers.turn else ""
    where = (
        f"pass {trailers.pass_number}{turn}" if trailers.pass_number else commit.message.partition("\n")[0]
    )
    return f"{where} ({commit.oid[:10]})"


# ── the checks ──────────────────────────────────────────────────────────────────────────────────────


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """``check``, or the report that it could not run, which counts as damage too."""
    try:
        return check()
    except (
        GitFailed,
        LoopRunnerError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Check(name, "could not be looked at", (Finding("damage", reason),))


def _settings(git_dir: Path) -> Check:
    listed = Git(git_dir).run("config", "--file", str(git_dir / "config"), "--list")
    missing = [name for name in ("objects", "refs") if not (git_dir / name).is_dir()]
    findings = [Finding("damage", f".git/{name} is missing") for name in missing]
    values = dict(line.partition("=")[::2] for line in listed.decode("utf-8", "replace").splitlines())
    if values.get("core.repositoryformatversion") not in ("0", "1"):
        findings.append(Finding("damage", ".git/config does not say which format the repository has"))
    return Check("settings", "the repository's format and settings", tuple(findings))


def _refs(git_dir: Path) -> tuple[Check, str, dict[str, str]]:
    """The check, the commit of the current branch ("" if none), and the commits of the other refs."""
    findings: list[Finding] = []
    values = dict(packed(git_dir, findings))
    for path in sorted((git_dir / "refs").rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            text = path.read_bytes().decode("utf-8", "replace")
            name = path.relative_to(git_dir).as_posix()
            if _REF.fullmatch(text):
                values[name] = text.strip()
            elif not text.startswith("ref: "):
                findings.append(Finding("damage", f"{name} holds no commit id"))
                values.pop(name, None)
    head = read_text(git_dir / "HEAD").strip()
    branch = head.removeprefix("ref: ")
    if not head.startswith("ref: refs/heads/") and not _REF.fullmatch(head):
        findings.append(Finding("damage", "HEAD names no branch"))
    tip = values.get(branch, branch if _REF.fullmatch(branch) else "")
    if not tip and branch.startswith("refs/heads/"):
        findings.append(Finding("damage", f"the branch {branch.removeprefix('refs/heads/')} names no commit"))
    values.pop(branch, None)
    return (
        Check("refs", f"HEAD, {branch} and {plural(len(values), 'other ref')}", tuple(findings)),
        tip,
        values,
    )


def packed(git_dir: Path, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    """The refs in packed-refs with their commits; lines that are none go to ``findings``."""
    for line in read_text(git_dir / "packed-refs").splitlines():
        if not _PACKED.fullmatch(line):
            findings.append(Finding("damage", "packed-refs holds a line that is no ref"))
        elif line[0] not in "#^":
            oid, _, name = line.partition(" ")
            if name:
                yield name, oid


def read_text(path: Path) -> str:
    """The text of a small file; empty when there is none."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _objects(inventory: Inventory, *, is_running: bool) -> Check:
    count, packs, loose = inventory.counts
    findings = []
    for broken in inventory.broken:
        if is_running and not broken.path.with_suffix(".pack").exists():
            continue  # the runner joins packs, and removes those that it joined
        name = broken.path.relative_to(inventory.git_dir).as_posix()
        level: Level = "note" if broken.is_index and not broken.path.exists() else "damage"
        findings.append(Finding(level, f"{name}: {broken.reason}"))
    output = git_fsck(inventory.git_dir)
    if is_running and output:
        output = git_fsck(inventory.git_dir)
    findings += [
        Finding("damage" if not findings else "note", f"git fsck: {line}") for line in output[:_SHOWN]
    ]
    looked = f"{count:,} objects, each read to its end, in {packs} packs and {loose} loose files; git fsck"
    return Check("objects", looked, tuple(findings))


def is_kept(inventory: Inventory, oid: str) -> bool:
    """Everything that a ref names can be read: an object, and a commit with its whole tree."""
    commit = inventory.commit(oid)
    return oid in inventory if commit is None else inventory.is_whole_tree(commit.tree)


def _others(inventory: Inventory, refs: dict[str, str]) -> Check:
    broken = [name for name, oid in sorted(refs.items()) if not is_kept(inventory, oid)]
    findings = [Finding("damage", f"{name} names a commit that is not whole") for name in broken]
    return Check("other refs", f"{len(refs)}, such as tags and what was set aside", tuple(findings))


def git_fsck(git_dir: Path) -> list[str]:
    """The complaints of git's own check."""
    # The index is for a person's `git status` and can be rebuilt; its content does not count.
    git = Git(git_dir, index=git_dir / "loop-runner" / "no-index")
    try:
        git.run("fsck", "--full", "--no-dangling", "--no-progress", "--no-reflogs", timeout_s=_FSCK_S)
    except GitFailed as error:
        lines = [line for line in error.stderr.strip().splitlines() if line]
        # Our own walk reports missing objects by name, checkpoint by checkpoint.
        return lines if lines or error.exit_code == _MISSING else [str(error)]
    return []


def _checkpoints(
    folder: Path, inventory: Inventory, commits: list[Commit], lost: list[str]
) -> Iterator[Check]:
    if not commits:
        yield Check("history", "nothing", (Finding("damage", "the newest commit cannot be read"),))
        return
    head = commits[0]
    files, missing = inventory.files(head.tree)
    findings = [Finding("damage", f"the commit {oid[:10]} is missing or damaged") for oid in lost]
    findings += [Finding("damage", f"{path} of the newest commit is missing or damaged") for path in missing]
    older = [item for item in commits[1:] if not inventory.is_whole_tree(item.tree)]
    if not missing:
        findings += [Finding("gap", f"{name_of(item)} cannot be read whole") for item in older]
    findings += [Finding("gap", item) for item in consistency.problems_of_story(commits)]
    if any(not item.message.startswith("run: ") and item.parents for item in commits[-1:]):
        findings.append(Finding("note", f"the history begins at {name_of(commits[-1])}: .git/shallow"))
    passes = sum(item.trailers.pass_number > 0 and not item.trailers.turn for item in commits)
    turns = sum(item.trailers.turn > 0 for item in commits)
    yield Check(
        "history",
        f"{plural(passes, 'pass', 'passes')} and {plural(turns, 'turn')}, one after another",
        tuple(findings),
    )
    if not missing:
        problems = [Finding("damage", item) for item in file_problems(inventory, commits)]
        version = layout.format_of(blob(inventory, files.get(layout.FORMAT_FILE, ("", ""))[1]))
        if version is not None and version > layout.FORMAT:
            openable.require_format(folder, layout.to_json({"format": version}))
        yield Check("committed files", f"{plural(len(files), 'file')} of {name_of(head)}", tuple(problems))


def _journal(git_dir: Path, known: set[str]) -> Check:
    path = git_dir / "loop-runner" / "journal"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Check("journal", "there is none: nothing is paid for and not committed")
    findings = []
    if data and not data.startswith(journal.HEADER):
        findings.append(Finding("note", "the journal does not begin as it should; it is made anew"))
    records = list(journal.records(data))
    torn = max(len(data) - len(journal.HEADER) - sum(length for _, _, length in records), 0)
    if torn:
        findings.append(
            Finding("note", f"the journal has {plural(torn, 'torn byte')}; `resume` keeps what is torn aside")
        )
    if strange := sum(after not in known for after, _, _ in records):
        findings.append(
            Finding(
                "note",
                f"the journal has {plural(strange, 'record')} behind a commit that is not in the history",
            )
        )
    return Check(
        "journal", f"{plural(len(records), 'record')} of replies, each with its checksum", tuple(findings)
    )


def _files(folder: Path) -> Check:
    held = Folder(folder, folder / ".git" / "loop-runner" / "displaced")
    try:
        with history.History(folder) as story:
            head = story.head_commit()
            expected = story.tree(head.oid)
            there = recovery.look(held, expected, NO_LIMITS)
    finally:
        held.close()
    differ = [
        os.fsdecode(path)
        for path in sorted(expected.keys() | there.files.keys())
        if (entry := there.files.get(path)) is None or (entry.mode, entry.blob) != expected.get(path)
    ]
    findings = [Finding("note", f"{path} differs from the last commit") for path in differ[:_SHOWN]]
    if len(differ) > _SHOWN:
        findings.append(Finding("note", f"and {len(differ) - _SHOWN} more; `resume` sets aside what differs"))
    findings += [Finding("note", f"{path}: {reason}") for path, reason in there.unstored[:_SHOWN]]
    return Check(
        "files", f"{plural(len(there.files), 'file')} on disk, against the last commit", tuple(findings)
    )


def _leftovers(git_dir: Path) -> Check:
    left = [path.relative_to(git_dir).as_posix() for path in recovery.stale(git_dir)]
    with contextlib.suppress(LoopRunnerError, GitFailed):
        left += [f"{path.name} (a commit that no branch has)" for path in packs.lost(git_dir)]
    text = "locks, unfinished objects and lost packs of a runner that was killed"
    return Check("leftovers", text, tuple(Finding("note", f"{name}; `resume` clears it") for name in left))
