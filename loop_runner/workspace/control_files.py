"""What the operator of a run asks while it runs: one file per request, in ``.git/loop-runner/control/``.

Any process may place a request: it is written beside its place, flushed and renamed, so it is whole or
absent. Names rise in the order of placing. Only the runner, which holds the lock, takes requests: it moves
them into ``taken/``, applies them, commits them with the next turn or pass, and removes the file when that
commit is durable. A request in ``taken/`` whose id is committed was applied already. Whatever is no request
(another version, garbage, a link, a folder) is moved into ``refused/`` and kept. Nothing here is believed
for where it lies: anyone who can write the run folder can place a file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from loop_runner import failpoints, redaction
from loop_runner.errors import EnvironmentFault, LoopRunnerError, WorkspaceError
from loop_runner.records import Checkpoint
from loop_runner.text import escape_controls
from loop_runner.workspace import durable, faults, layout
from loop_runner.workspace.lock import Holder

FOLDER = "control"
CONTROL_FILE = "control.json"  # in a turn's folder, a pass's, and the one of what is next
VERSION = 1
MAX_NOTE_CHARS = 16_000
MAX_PROMPT_CHARS = 200_000
MAX_BYTES = 1_000_000  # of a file; a prompt that is all escapes fits
MAX_PENDING = 1000
NEXT_RUNNER = "next"  # in place of a process: whichever takes up the run next
_TAKEN = "taken"
_REFUSED = "refused"
_QUESTION = "question.json"
_NAME = re.compile(r"([0-9]{20}-[0-9a-f]{8})\.json")
_OLD_S = 86_400  # after which half a file belongs to a process that was killed

Kind = Literal["note", "pause", "resume", "stop", "budget", "prompt", "approve", "reject"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One request. ``limits`` maps a limit to ``{"set": amount}`` or ``{"add": amount}``.

    ``runner`` is the process that a pause or a stop is meant for (``NEXT_RUNNER``: the next), ``about`` the
    question that an approval or a rejection answers, ``by`` and ``at`` who decided and when, as far as the
    operator gave them.
    """

    kind: Kind
    id: str = ""
    text: str = ""
    now: bool = False
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    runner: str = ""
    about: str = ""
    by: str = ""
    at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what is empty."""
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Question:
    """What the run waits for a person to decide. ``id`` names the question and the answer together."""

    id: str
    verifier: str
    text: str
    answer_sha256: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that holds no request, and why."""

    name: str
    reason: str


# ── any process ─────────────────────────────────────────────────────────────────────────────────────


def place(private: Path, request: ControlRequest) -> ControlRequest:
    """Place ``request``; durable when it returns. ``private`` is ``.git/loop-runner``.

    Raises ``WorkspaceError`` when too many requests wait, ``EnvironmentFault`` when nothing can be written.
    """
    folder = private / FOLDER
    try:
        if not _is_folder(folder):
            folder.mkdir(parents=True)
        names = _names(folder)
        newest = max((int(name[:20]) for name in names if _NAME.fullmatch(name)), default=0)
        number = max(time.time_ns(), newest + 1)  # a clock that was set back does not change the order
        placed = replace(request, id=f"{number:020d}-{os.urandom(4).hex()}")
        if len(names) < MAX_PENDING:
            _write(folder, placed)
    except OSError as error:
        raise _not_placed(folder, error) from error
    if len(names) >= MAX_PENDING:
        raise WorkspaceError(
            f"the request was not placed: {len(names):,} requests to this run wait already",
            why="no process takes them, and each of them would be applied later",
            hint=f"continue the run with `loop-runner resume`, or remove files from {folder}",
        )
    return placed


def _not_placed(folder: Path, error: OSError) -> LoopRunnerError:
    what = WorkspaceError if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else EnvironmentFault
    return what(
        f"the request was not placed in {folder}: {error.strerror or error}",
        why="a request is a file in the run folder, and the run itself is as it was",
        hint="see who may write there, and whether there is space; then ask again",
        exit_code=4,
    )


def waiting(private: Path) -> list[ControlRequest]:
    """The requests that no commit holds yet, in order: those that were taken first."""
    folder = private / FOLDER
    requests = [*_requests(folder / _TAKEN), *_requests(folder)]
    return [request for request in requests if isinstance(request, ControlRequest)]


def question(private: Path) -> Question | None:
    """The question that waits for a person; None when there is none."""
    try:
        data = json.loads(_read(private / FOLDER / _QUESTION))
        return Question(**{key: data[key] for key in (attribute.name for attribute in fields(Question))})
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def runner_of(holder: Holder | None) -> str:
    """Names the process that holds the lock on the run; "" when none does."""
    return "" if holder is None else f"{holder.pid}@{holder.since}"


def _write(folder: Path, request: ControlRequest) -> None:
    name = request.id
    content = {key: value for key, value in request.to_dict().items() if key != "id"}
    data = json.dumps({"version": VERSION, **content}).encode()
    beside = folder / f".{name}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(fd, "wb") as file:
            failpoints.passing("control.write")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        failpoints.passing("control.place")
        beside.rename(folder / f"{name}.json")
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    failpoints.passing("control.placed")
    durable.sync(folder)


# ── the runner, which holds the lock ────────────────────────────────────────────────────────────────


class Inbox:
    """Takes requests for one process of the runner, and lets go of those that are committed."""

    def __init__(self, private: Path) -> None:
        self._folder = private / FOLDER
        self._taken = self._folder / _TAKEN
        self._seen: tuple[int, int] | None = None  # of the folder, when nothing was left in it

    def recovered(self) -> list[ControlRequest]:
        """What an earlier process took and no commit holds."""
        return [request for request in _requests(self._taken) if isinstance(request, ControlRequest)]

    def pending(self) -> list[ControlRequest | Refused]:
        """What waits to be taken, in order. Cheap where nothing was placed."""
        now = _changed_at(self._folder)
        if now is None or now == self._seen:
            return []
        requests = _requests(self._folder)
        # A folder that changed just now may change again within one tick of its clock.
        is_settled = time.time_ns() - now[0] > 50_000_000
        self._seen = now if not requests and is_settled else None
        return requests

    def address(self, request: ControlRequest) -> None:
        """Write into its file that ``request`` is meant for ``request.runner``: no later process obeys it."""
        with faults.translated(self._folder, "taking a request"):
            (self._folder / f".{request.id}.new").unlink(missing_ok=True)  # of a process that was killed here
            _write(self._folder, request)

    def take(self, request: ControlRequest) -> None:
        """From now on ``request`` is the runner's: a restarted process applies it at the same place."""
        self._move(f"{request.id}.json", self._taken)

    def refuse(self, refused: Refused) -> None:
        """Keep what is no request where it is not looked at again; a link or a pipe is removed.

        A run folder whose ``.git`` holds one is not opened: it could lead out of the folder.
        """
        path = self._folder / refused.name
        with faults.translated(self._folder, "putting aside what is no request"):
            if stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode):
                self._move(refused.name, self._folder / _REFUSED)
            else:
                path.unlink()

    def settle(self, ids: Collection[str]) -> None:
        """The requests ``ids`` are in a durable commit."""
        if not ids:
            return
        with faults.translated(self._folder, "removing requests that are committed"):
            forget(self._folder.parent, ids)

    def show(self, question: Question | None) -> None:
        """Write down what the run waits for; None: for nothing."""
        path = self._folder / _QUESTION
        with faults.translated(self._folder, "writing down the question"):
            if question is None:
                path.unlink(missing_ok=True)
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            durable.replace(path, json.dumps(asdict(question)).encode())

    def _move(self, name: str, into: Path) -> None:
        with faults.translated(self._folder, "taking a request"):
            into.mkdir(exist_ok=True)
            failpoints.passing("control.take")
            target = into / name
            if os.path.lexists(target):  # an old one, which was refused
                target = into / f"{name}.{time.time_ns()}"
            (self._folder / name).rename(target)
            failpoints.passing("control.taken")
            durable.sync(into)
            durable.sync(self._folder)


def forget(private: Path, committed: Collection[str]) -> None:
    """Remove requests that were taken and are committed, and halves of files that no process writes."""
    folder = private / FOLDER
    for request in _requests(folder / _TAKEN):
        if isinstance(request, ControlRequest) and request.id in committed:
            failpoints.passing("control.settle")
            (folder / _TAKEN / f"{request.id}.json").unlink(missing_ok=True)
            failpoints.passing("control.settled")
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.new"):
            if time.time() - path.lstat().st_mtime > _OLD_S:
                path.unlink()


def forget_committed(private: Path, read: Callable[[str], bytes | None], head: Checkpoint) -> None:
    """Remove what was taken and is in the commit ``head``: its process ended before it could."""
    if not (private / FOLDER / _TAKEN).is_dir():
        return
    committed: set[str] = set()
    folders = [layout.turn_folder(head.pass_number, head.turn)] if head.turn else []
    for folder in (*folders, layout.pass_folder(head.pass_number), next_folder(head.pass_number)):
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
            committed |= {request.id for request, _ in from_json(read(f"{folder}/{CONTROL_FILE}"))}
    forget(private, committed)


def next_folder(pass_number: int) -> str:
    """Where a change of the prompt after a pass is recorded."""
    return f"{layout.pass_folder(pass_number)}/next"


def to_json(applied: Sequence[tuple[ControlRequest, str]]) -> list[dict[str, Any]]:
    """Requests as ``control.json`` lists them, each with why it was refused ("" if it was not)."""
    rows = [(replace(request, runner=""), why) for request, why in applied]  # a process is no matter of it
    return [request.to_dict() | ({"refused": why} if why else {}) for request, why in rows]


def from_json(data: bytes | None) -> list[tuple[ControlRequest, str]]:
    """What ``to_json`` was given; raises what a damaged file makes JSON raise."""
    listed = json.loads(data)["requests"] if data else []
    known = {attribute.name for attribute in fields(ControlRequest)}
    return [
        (ControlRequest(**{key: value for key, value in row.items() if key in known}), row.get("refused", ""))
        for row in listed
    ]


# ── reading a file that anyone may have written ─────────────────────────────────────────────────────


def _requests(folder: Path) -> list[ControlRequest | Refused]:
    return [_request(folder, name) for name in _names(folder)]


def _names(folder: Path) -> list[str]:
    """The names of files that may be requests, in the order of placing."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name.endswith(".json") and name != _QUESTION)[: 2 * MAX_PENDING]


def _request(folder: Path, name: str) -> ControlRequest | Refused:
    match = _NAME.fullmatch(name)
    if match is None:
        return Refused(name, "its name is not one that loop-runner gives")
    try:
        return _parsed(match[1], _read(folder / name))
    except OSError as error:
        return Refused(name, f"it cannot be read: {error.strerror or error}")
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        return Refused(name, str(error) or type(error).__name__)


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no ordinary file")
        if about.st_size > MAX_BYTES:
            raise ValueError(f"it has {about.st_size:,} bytes, and {MAX_BYTES:,} are the most")
        return file.read(MAX_BYTES)


def _parsed(name: str, data: bytes) -> ControlRequest:
    request = json.loads(data)
    if not isinstance(request, dict) or request.get("version") != VERSION:
        raise ValueError(f"it is not a request of version {VERSION}")
    if request.get("kind") not in KINDS:
        raise ValueError(f"there is no request {request.get('kind')!r:.40}")
    texts = {key: request.get(key, "") for key in ("text", "runner", "about", "by", "at")}
    if not all(isinstance(value, str) for value in texts.values()):
        raise ValueError("what should be a text is none")
    texts = {key: redaction.clean(value) for key, value in texts.items()}
    most = MAX_PROMPT_CHARS if request["kind"] == "prompt" else MAX_NOTE_CHARS
    if len(texts["text"]) > most:
        raise ValueError(f"its text has {len(texts['text']):,} characters, and {most:,} are the most")
    cleaned = {key: escape_controls(value) for key, value in texts.items() if key != "text"}
    text = texts["text"] if request["kind"] == "prompt" else escape_controls(texts["text"])
    now = request.get("now", False) is True
    limits = dict(_limits(request.get("limits", {})))
    return ControlRequest(cast("Kind", request["kind"]), name, text, now, limits, **cleaned)


def _limits(values: object) -> Iterator[tuple[str, Mapping[str, float]]]:
    for name, change in cast("Mapping[str, Any]", values).items():
        ((how, amount),) = change.items()
        if how not in ("set", "add") or isinstance(amount, bool) or not isinstance(amount, int | float):
            raise ValueError(f"the limit {name!r:.40} is changed in no known way")
        yield str(name), {how: amount}


def _is_folder(path: Path) -> bool:
    """Whether it is a folder; ``NotADirectoryError`` when it is something else, or a link."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(20, "it should be a folder, and is something else", str(path))
    return True


def _changed_at(folder: Path) -> tuple[int, int] | None:
    try:
        about = folder.lstat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino
