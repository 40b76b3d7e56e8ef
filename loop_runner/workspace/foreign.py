"""The user's own repository: read for a run's first commit, written once, by ``export``.

Reads objects only, never files beside them, with the runner's environment and settings. ``export`` makes
commits and one new branch, and never touches an existing branch, index or file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import ConfigError, EnvironmentFault, WorkspaceError
from loop_runner.text import one_line
from loop_runner.workspace import layout
from loop_runner.workspace.git import fast_import
from loop_runner.workspace.git.fast_import import EXECUTABLE, FILE, LINK, Blob, NewCommit
from loop_runner.workspace.git.git import Git, GitFailed, ObjectReader
from loop_runner.workspace.history import History
from loop_runner.workspace.walk import Limits, refused_contents

_SHOWN = 20  # paths in a list for a model or a person
_PREFIX = os.fsencode(layout.MODEL_FOLDER) + b"/"
_SUBMODULE = b"160000"
_SHA1_CHARS = 40
_LFS = b"version https://git-lfs.github.com/spec/"
_MODES = {FILE.encode(), EXECUTABLE.encode(), LINK.encode()}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A user's repository. ``git_dir`` is the working tree's own, ``common_dir`` has the objects."""

    top: Path
    git_dir: Path
    common_dir: Path

    @classmethod
    def around(cls, folder: Path) -> Foreign | None:
        """The repository that contains ``folder``; None when there is none."""
        for top in (folder, *folder.parents):
            git = top / ".git"
            if git.is_dir():
                return cls(top, git, git)
            if git.is_file():
                return cls(top, *_linked(git))
            if (top / "HEAD").is_file() and (top / "objects").is_dir() and (top / "refs").is_dir():
                return cls(top, top, top)  # a bare repository
        return None

    def head(self) -> str:
        """The id of the commit that is checked out. ``ConfigError`` when there is none yet."""
        try:
            return (
                Git(self.git_dir, obeys_config=True)
                .run("rev-parse", "--verify", "HEAD^{commit}")
                .decode()
                .strip()
            )
        except GitFailed as error:
            raise ConfigError(
                f"{self.top} has no commit yet",
                why="the agent begins with the files of the last commit",
                hint="commit something, or name another folder with `agent.repository`",
            ) from error

    def files(self, commit: str, limits: Limits = Limits()) -> dict[bytes, Blob]:  # noqa: B008 - frozen
        """The files of ``commit``, as a run's first commit has them. ``ConfigError``: too many."""
        reader = ObjectReader(self.git_dir, obeys_config=True)
        blobs: dict[bytes, Blob] = {}
        total = 0
        try:
            for mode, oid, path in self._listed(commit):
                if mode not in _MODES:
                    continue  # a submodule: another repository
                got = reader.get(oid)
                data = got.data if got else b""
                if refused_contents(path, data):
                    continue
                total += len(data)
                blobs[_PREFIX + path] = Blob(data, mode.decode())
                if len(blobs) > limits.files or total > limits.total_bytes:
                    raise _too_large(self.top, limits)
        finally:
            reader.close()
        return blobs

    def submodules(self, commit: str) -> list[bytes]:
        """The paths in ``commit`` at which another repository is mounted."""
        return [path for mode, _, path in self._listed(commit) if mode == _SUBMODULE]

    def ignored(self, paths: Sequence[bytes]) -> set[bytes]:
        """Those of ``paths`` that the repository's own ignore rules name, tracked or not."""
        if not paths:
            return set()
        options = ["--work-tree", str(self.top), "check-ignore", "--no-index", "-z", "--stdin"]
        try:
            output = Git(self.git_dir, obeys_config=True).run(*options, stdin=b"\0".join(paths) + b"\0")
        except GitFailed as error:
            if error.exit_code == 1:  # none is
                return set()
            raise
        return set(output.split(b"\0")) - {b""}

    def _listed(self, commit: str) -> list[tuple[bytes, str, bytes]]:
        output = Git(self.git_dir, obeys_config=True).run("ls-tree", "-r", "-z", "--full-tree", commit)
        entries = [entry.partition(b"\t") for entry in output.split(b"\0") if entry]
        return [(head.split()[0], head.split()[2].decode(), path) for head, _, path in entries]

    def has_ref(self, ref: str) -> bool:
        """Whether a branch of that name exists."""
        try:
            Git(self.git_dir, obeys_config=True).run("rev-parse", "--verify", "--quiet", ref)
        except GitFailed:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of ``export``."""

    branch: str
    commit: str
    passes: int
    left_out: tuple[str, ...]  # files that the user's ignore rules name
    not_carried: tuple[tuple[str, str], ...] = ()  # (path, reason): unchanged from the user's repository


def export(history: History, into: Foreign, base: str, branch: str) -> Exported:
    """Make ``branch`` in ``into``: ``base`` and one commit for each pass that changed a file.

    ``WorkspaceError`` when the branch exists already or the repository does not have ``base``. Files that
    the run could not store, and files in a submodule, stay as they are in ``base``.
    """
    ref = f"refs/heads/{branch}"
    _refuse(into, ref, branch, base)
    git = Git(into.common_dir, obeys_config=True)
    entries = history.passes()
    last, tip, made = _first_tree(history), base, 0
    known = set(last)
    ignored: set[bytes] = set()
    submodules = into.submodules(base)
    not_carried: dict[str, str] = {}
    for entry in entries:
        tree = _tree(history, entry.checkpoint.commit)
        ignored |= into.ignored(sorted(path for path in tree if path not in known))
        known |= set(tree)
        inside = {path for path in tree if _is_in(path, submodules)}
        not_carried |= {os.fsdecode(path): "it is in a submodule, another repository" for path in inside}
        tree = {path: stored for path, stored in tree.items() if path not in ignored | inside}
        new = NewCommit(
            message=f"{entry.subject}\n\n{_trailers(history.folder.name, entry.checkpoint.commit)}",
            time=int(entry.committed_at) or int(time.time()),
            parents=[tip],
            set_paths={p: Blob(history.blob(o), m) for p, (m, o) in tree.items() if last.get(p) != (m, o)},
            removed_paths=[path for path in last if path not in tree],
        )
        if new.set_paths or new.removed_paths:
            try:
                tip, made = fast_import.write(git, new), made + 1
            except GitFailed as error:
                raise _unwritable(into, error) from error
        last = tree
    try:
        fast_import.point(git, ref, tip, was=None)
    except GitFailed as error:
        raise _unwritable(into, error) from error
    if entries:
        not_carried |= _unstored(history, entries[-1].checkpoint.commit)
    shown = tuple(sorted(os.fsdecode(path) for path in ignored))
    return Exported(branch, tip, made, shown, tuple(sorted(not_carried.items())))


def _unwritable(into: Foreign, error: GitFailed) -> EnvironmentFault:
    return EnvironmentFault(
        f"git cannot write to the repository {into.top}: {one_line(error.stderr, 300)}",
        why="the branch is made there; none of its existing content has changed",
        hint="correct what git names, and export again; or name another repository: --to (to= in a program)",
    )


def _is_in(path: bytes, folders: Sequence[bytes]) -> bool:
    return any(path == folder or path.startswith(folder + b"/") for folder in folders)


def _unstored(history: History, commit: str) -> dict[str, str]:
    """Paths in the agent's folder that ``commit`` does not hold, with the reasons."""
    prefix = layout.MODEL_FOLDER + "/"
    unstored = history.unstored(commit)
    return {path.removeprefix(prefix): reason for path, reason in unstored if path.startswith(prefix)}


def notes(files: Mapping[bytes, Blob], submodules: Sequence[bytes]) -> str:
    """A note for an agent about files without their real content; "" when there are none."""
    pointers = [path.removeprefix(_PREFIX) for path, blob in files.items() if blob.data.startswith(_LFS)]
    parts = [
        ("These folders are empty: each is a submodule, whose files are not included", submodules),
        (
            "These files are pointers of Git LFS, without their contents: do not change them",
            pointers,
        ),
    ]
    return "\n\n".join(f"{what}: {_listing(paths)}." for what, paths in parts if paths)


def _listing(paths: Sequence[bytes]) -> str:
    shown = ", ".join(f"`{one_line(os.fsdecode(path))}`" for path in sorted(paths)[:_SHOWN])
    return f"{shown} and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else shown


def _refuse(into: Foreign, ref: str, branch: str, base: str) -> None:
    git = Git(into.git_dir, obeys_config=True)
    try:
        kind = git.run("rev-parse", "--show-object-format").decode().strip()
    except GitFailed as error:
        raise ConfigError(
            f"git cannot read the repository {into.top}: {one_line(error.stderr, 300)}",
            why="the branch is made there",
            hint="correct what git names, or name another repository with --to (to= in a program)",
        ) from error
    if kind != "sha1" and len(base) == _SHA1_CHARS:
        raise ConfigError(
            f"{into.top} is a {kind} repository; the run began with a commit of a sha1 repository",
            why="git cannot put commits of one kind on top of the other",
            hint="name a sha1 repository that has the commit with --to (to= in a program)",
        )
    try:
        git.run("check-ref-format", ref)
    except GitFailed as error:
        raise ConfigError(
            f"{branch!r} cannot be the name of a branch",
            why="git refuses it",
            hint="choose another --branch (branch= in a program)",
        ) from error
    if into.has_ref(ref):
        raise WorkspaceError(
            f"{into.top} has a branch {branch} already",
            why="an export never changes an existing branch",
            hint=f"delete it with `git branch -D {branch}`, or choose another name"
            " with --branch (branch= in a program)",
        )
    if near := _in_the_way(git, ref):
        raise WorkspaceError(
            f"{into.top} has a branch {near}, so there can be no branch {branch}",
            why="git keeps branches like files: a name cannot be a folder of another name",
            hint="choose another name with --branch (branch= in a program)",
        )
    if not into.has_ref(f"{base}^{{commit}}"):
        raise WorkspaceError(
            f"{into.top} does not have the commit {base[:12]} that the run began with",
            why="the run's commits are made on top of it",
            hint="name the repository that the run was started in with --to (to= in a program)",
        )


def _in_the_way(git: Git, ref: str) -> str:
    """A branch whose name is a folder of ``ref``, or is inside it as in a folder; "" if there is none."""
    parents = [
        ref[:at] for at, char in enumerate(ref) if char == "/" and ref.startswith("refs/heads/", 0, at)
    ]
    listed = git.run("for-each-ref", "--format=%(refname)", f"{ref}/", *parents).decode("utf-8", "replace")
    blocking = [name for name in listed.splitlines() if name in parents or name.startswith(f"{ref}/")]
    return blocking[0].removeprefix("refs/heads/") if blocking else ""


def _trailers(run: str, commit: str) -> str:
    return f"Loop-Run: {run}\nLoop-Commit: {commit}\n"


def _first_tree(history: History) -> Mapping[bytes, tuple[str, str]]:
    """The model's files before the first pass: those of the run's very first commit."""
    first = history.commits(first_parent=True)[-1]
    return _tree(history, first.checkpoint.commit)


def _tree(history: History, commit: str) -> dict[bytes, tuple[str, str]]:
    """Path (as in the user's repository) → (mode, blob id)."""
    tree = history.tree(commit, layout.MODEL_FOLDER + "/")
    return {path.removeprefix(_PREFIX): entry for path, entry in tree.items() if path.startswith(_PREFIX)}


def _linked(file: Path) -> tuple[Path, Path]:
    """Both folders behind a ``.git`` that is a file: for a worktree, or a submodule."""
    target = file.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    git_dir = (file.parent / target).resolve()
    common = git_dir / "commondir"
    if not common.is_file():
        return git_dir, git_dir
    return git_dir, (git_dir / common.read_text(encoding="utf-8").strip()).resolve()


def _too_large(top: Path, limits: Limits) -> ConfigError:
    return ConfigError(
        f"{top} holds more than {limits.files:,} files or {limits.total_bytes:,} bytes",
        why="every pass is committed whole",
        hint="name a smaller repository with `agent.repository`, or a folder with `session: hook`",
    )


def lay_out_for_agent(run_folder: Path, branch: str, head: str) -> None:
    """Give ``workspace/`` a small repository of its own, so that the agent's git never reaches the run's.

    It is on ``branch``, with the committed files as its only commit. It is complete before the agent sees it,
    and never read again. Does nothing when one exists.
    """
    place = run_folder / layout.MODEL_FOLDER / ".git"
    if place.is_symlink() or place.exists():
        return
    new = run_folder / ".git" / "loop-runner" / "agent.git"
    _remove(new)
    for part in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (new / part).mkdir(parents=True)
    (new / "HEAD").write_text(f"ref: refs/heads/{branch}\n", encoding="utf-8")
    (new / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n", encoding="utf-8")
    alternates = run_folder.absolute() / ".git" / "objects"
    (new / "objects" / "info" / "alternates").write_text(f"{alternates}\n", encoding="utf-8")
    git = Git(new)
    try:
        tree = (
            Git(run_folder.absolute() / ".git")
            .run("rev-parse", f"{head}:{layout.MODEL_FOLDER}")
            .decode()
            .strip()
        )
    except GitFailed:
        tree = None  # it is empty
    commit = fast_import.write(git, NewCommit("what the agent began with\n", int(time.time()), tree=tree))
    fast_import.point(git, f"refs/heads/{branch}", commit, was=None)
    git.run("read-tree", commit)
    new.rename(place)


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
