"""``manual:DIR``: a person with an editor, or any program, answers; the folder is a mailbox.

Owns the files: ``0003-root-1f2e3d4c5b6a.request.md`` is a request, ``0003-root-1f2e3d4c5b6a.reply.md`` its
answer. A reply counts when its last line is ``=== end ===``, or when it has not changed for two seconds, so
that half a file that an editor is still writing is never taken for a whole one. A resumed run finds its
open request again. Relies on watchdog to be woken, and looks by itself where nothing wakes it.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from loop_runner.budget import BudgetSpentError
from loop_runner.errors import ConfigError
from loop_runner.model.client import Setting
from loop_runner.records import Reply, Request, Usage
from loop_runner.text import fence

END_MARK = "=== end ==="
_ROUNDED_S = 0.1  # the time left is given in tenths; the limit must be reached when the wait ends
_STABLE_S = 2.0
_LOOK_AGAIN_S = 0.5
_MAX_BYTES = 4 * 1024 * 1024
_MARKS = (  # the longest first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_REQUEST = re.compile(r"(\d{4,})-[a-z]+-[0-9a-f]{12}\.request\.md")


@dataclass(frozen=True, slots=True)
class Letter:
    """One request in the mailbox and the file that answers it."""

    request: Path
    reply: Path


class NoReplyError(BudgetSpentError):
    """Nobody answered before the run's time was up; the request stays open."""

    def __init__(self, letter: Letter, seconds: float) -> None:
        super().__init__("time")
        self.message = f"no reply to {letter.request} was written in the remaining {seconds:.0f} s"
        self.hint = f"write {letter.reply.name}, then: loop-runner resume RUN --set budget.wall=MORE"


class ManualClient:
    """Writes requests into ``folder`` and waits for their answers; many may be open at once."""

    width = 1024  # people are not rate limited
    takes_up = True  # a request that a killed run left open is answered in the next one

    def __init__(
        self,
        folder: Path,
        setting: Setting,
        *,
        stable_s: float = _STABLE_S,
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(
                f"manual:{folder} is not a folder",
                why="requests and replies are files in it",
                hint="name a folder; it is created if it does not exist",
            )
        self._folder = folder
        self._setting = setting
        self._stable_s = stable_s
        self._look_again_s = look_again_s
        self._changed: asyncio.Event | None = None
        self._closing = contextlib.AsyncExitStack()

    async def complete(self, request: Request) -> Reply:
        """The reply, however long it takes. Raises ``NoReplyError`` when the run's time is up."""
        if self._changed is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._changed = asyncio.Event()
            await self._closing.enter_async_context(_woken_by(self._folder, self._changed))
        letter = self._post(request)
        left = self._setting.seconds_left()
        try:
            async with asyncio.timeout(None if left is None else left + _ROUNDED_S):
                text = await self._wait_for(letter.reply)
        except TimeoutError:
            error = NoReplyError(letter, left or 0.0)
            self._setting.tell(error.message)
            raise error from None
        self._setting.tell(f"reply read: {letter.reply}")
        return Reply(text, usage=Usage(), model=self._folder.name)

    async def close(self) -> None:
        """Stop looking at the folder; the files stay."""
        await self._closing.aclose()
        self._changed = None

    # ── posting ─────────────────────────────────────────────────────────────────────────────────────

    def _post(self, request: Request) -> Letter:
        """The request's files: those that an earlier process wrote for it, or new ones."""
        mark = self._mark(request)
        known = sorted(self._folder.glob(f"*-{request.kind}-{mark}.request.md"))
        if known:
            letter = _letter(known[-1])
            self._setting.tell(f"still waiting for {letter.reply}")
            return letter
        numbers = [
            int(match[1]) for path in self._folder.iterdir() if (match := _REQUEST.fullmatch(path.name))
        ]
        number = max(numbers, default=0) + 1
        letter = _letter(self._folder / f"{number:04d}-{request.kind}-{mark}.request.md")
        beside = letter.request.with_suffix(".tmp")
        beside.write_text(_as_markdown(request, letter), encoding="utf-8")
        os.replace(beside, letter.request)  # noqa: PTH105 - the same name as everywhere: whole or not at all
        self._setting.tell(
            f"waiting for a person: read {letter.request}, write {letter.reply.name} beside it"
        )
        return letter

    def _mark(self, request: Request) -> str:
        """Names the request within the run: the same after a crash, another one in a later turn."""
        identity = f"{self._setting.position()} {request.fingerprint()} {request.occurrence}"
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────

    async def _wait_for(self, reply: Path) -> str:
        assert self._changed is not None
        seen: tuple[int, int] | None = None
        since = 0.0
        while True:
            state = _state(reply)
            if state is not None:
                text = _read(reply)
                if text.endswith(END_MARK):
                    return text.removesuffix(END_MARK).strip("\n")
                now = time.monotonic()
                seen, since = (seen, since) if state == seen else (state, now)
                if text.strip() and now - since >= self._stable_s:
                    return text
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_again_s):
                    await self._changed.wait()
            self._changed.clear()


def _letter(request: Path) -> Letter:
    return Letter(request, request.with_name(request.name.replace(".request.md", ".reply.md")))


def _state(path: Path) -> tuple[int, int] | None:
    """A value that changes with each write to ``path``; None while it does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return _decoded(file.read(_MAX_BYTES)).replace("\r\n", "\n").rstrip()
    return ""


def _decoded(data: bytes) -> str:
    """``data`` as an editor wrote it: UTF-8, or UTF-16 and UTF-32 as Windows programs save them."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace").removeprefix("\ufeff")
    # Without a mark: in UTF-16, every second byte of a text in a Latin alphabet is 0.
    for at, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(data) > 2 and len(data) % 2 == 0 and data[at::2].count(0) > len(data) // 4:
            return data.decode(encoding, "replace")
    return data.decode("utf-8", "replace")


def _as_markdown(request: Request, letter: Letter) -> str:
    """The request for a person: what to do first, then all that a model would be given."""
    title = "Your turn" if request.kind == "root" else "A question"
    how = (
        f"Write your reply into `{letter.reply.name}`, in this folder. It is read when the file has not"
        f" changed for two seconds, or at once when its last line is `{END_MARK}`."
    )
    parts = [f"# {title} ({request.kind})", how]
    if request.schema is not None:
        parts += [
            "The reply is one JSON value that fits this schema:",
            fence(str(dict(request.schema)), "json"),
        ]
    if request.system:
        parts += ["## The system prompt", fence(request.system, "text")]
    for number, message in enumerate(request.messages, start=1):
        who = "task or output" if message.role == "user" else "your earlier reply"
        parts += [f"## {number}. {who}", fence(message.text, "text")]
    return "\n\n".join(parts) + "\n"


@contextlib.asynccontextmanager
async def _woken_by(folder: Path, changed: asyncio.Event) -> AsyncIterator[None]:
    """Set ``changed`` when something happens in ``folder``, where the system can tell."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    loop = asyncio.get_running_loop()

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(changed.set)

    observer = Observer()
    observer.schedule(Handler(), str(folder))
    try:
        observer.start()
    except OSError:  # no watches left, or a file system without: looking now and then is enough
        yield
        return
    try:
        yield
    finally:
        observer.stop()
        await asyncio.to_thread(observer.join)
