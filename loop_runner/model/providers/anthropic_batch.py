"""``anthropic-batch:NAME``: Anthropic's Message Batches, for many sub-calls that may wait: half the price.

Owns the gathering of requests into a batch, the file that says which batch was asked for what
(``.git/loop-runner/batches/``, on disk and in git before the batch is made and again with its id before it is
looked at), and the polling. A run that was killed, or a clone of it, looks at the same batch again; one that
was killed before the id was on disk looks for its batch among the newest ones by the names of its requests.
Relies on ``anthropic_client``.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner.errors import ModelError
from loop_runner.model.client import Setting, TryAgain
from loop_runner.model.providers.anthropic_client import AnthropicClient, explain, read_message
from loop_runner.records import Reply, Request
from loop_runner.text import one_line, plural

if TYPE_CHECKING:
    import anthropic

_MOST = 10_000  # requests in one batch; the API takes 100,000 of them and 256 MB
_QUIET_S = 1.0  # without a further request, before a batch is made
_FIRST_POLL_S = 2.0
_LONGEST_POLL_S = 60.0
_CLOCK_SKEW_S = 300.0
# A batch that was made is not always shown at once, nor its results whole: what it holds is paid for.
_PATIENCE_S = 600.0
_APPEARS_S = 60.0  # after which a batch that is not in the list was not made


@dataclass(frozen=True, slots=True)
class Record:
    """One batch, as its file says: ``keys[i]`` is the request whose name in the batch is ``tag-i``."""

    path: Path
    after: str  # the commit at which the turn began that asked
    tag: str
    keys: tuple[str, ...]
    made_at: float  # Unix time
    id: str = ""  # "" until the API has told it

    def to_json(self) -> bytes:
        """The file's bytes."""
        data = {
            "after": self.after,
            "tag": self.tag,
            "keys": self.keys,
            "made_at": self.made_at,
            "id": self.id,
        }
        return json.dumps(data).encode() + b"\n"


def read_record(path: Path) -> Record | None:
    """The record in ``path``; None for a file that is no record."""
    try:
        data = json.loads(path.read_bytes())
        return Record(path, data["after"], data["tag"], tuple(data["keys"]), data["made_at"], data["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


class _NotMade(Exception):  # noqa: N818 - a fact, and its reason is what is raised
    """There is no batch, so nothing of it is paid for."""

    def __init__(self, reason: ModelError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Patience:
    """So many seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether they have passed."""
        return time.monotonic() > self._end


def _is_missing(error: Exception) -> bool:
    return getattr(error, "status_code", 0) == 404


class AnthropicBatchClient:
    """Answers when the batch has ended that a request went into. Times in seconds."""

    takes_images = True
    width = 100_000  # requests wait here for their batch, not at the gate

    takes_up = True  # a batch that a killed run left open is looked at again, not made anew

    def __init__(
        self,
        name: str,
        setting: Setting,
        *,
        quiet_s: float = _QUIET_S,
        first_poll_s: float = _FIRST_POLL_S,
        patience_s: float = _PATIENCE_S,
        appears_s: float = _APPEARS_S,
    ) -> None:
        self._name = name
        self._setting = setting
        self._quiet_s = quiet_s
        self._first_poll_s = first_poll_s
        self._patience_s = patience_s
        self._appears_s = appears_s
        self._inner = AnthropicClient(name, setting.env)
        self._folder = None if setting.private_dir is None else setting.private_dir / "batches"
        self._position: str | None = None
        self._known: dict[str, asyncio.Future[Reply]] = {}
        self._gathered: list[tuple[str, Request]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def complete(self, request: Request) -> Reply:
        """The reply from a batch. Raises ``TryAgain`` when the batch did not get to it."""
        self._take_up()
        key = f"{request.fingerprint()}:{request.occurrence}"
        if key not in self._known:
            self._known[key] = _future()
            self._gathered.append((key, request))
            self._wait_for_more()
        try:
            return await asyncio.shield(self._known[key])
        except ModelError:
            self._known.pop(key, None)  # who asks again goes into the next batch
            raise

    async def close(self) -> None:
        """Stop looking. The batches go on; the next process looks at them again."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inner.close()

    # ── gathering ───────────────────────────────────────────────────────────────────────────────────

    def _take_up(self) -> None:
        """At the first request after a commit: know the batches that were asked for since that commit."""
        position = self._setting.position()
        if position == self._position:
            return
        self._position = position
        self._known = {}
        files = (
            sorted(self._folder.glob("*.json")) if self._folder is not None and self._folder.is_dir() else []
        )
        for record in filter(None, map(read_record, files)):
            if record.after != position:
                self._drop(record)  # its replies are in a commit
                continue
            self._known |= {key: _future() for key in record.keys}
            self._start(self._go_on(record))

    def _wait_for_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if len(self._gathered) >= _MOST:
            self._flush()
        else:
            self._timer = asyncio.get_running_loop().call_later(self._quiet_s, self._flush)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered and not self._setting.should_stop():
            self._start(self._submit(gathered))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── one batch ───────────────────────────────────────────────────────────────────────────────────

    async def _submit(self, gathered: Sequence[tuple[str, Request]]) -> None:
        record = self._record([key for key, _ in gathered])
        try:
            sdk = await self._inner.open()
            requests = [
                {"custom_id": f"{record.tag}-{at}", "params": self._inner.arguments(request)}
                for at, (_, request) in enumerate(gathered)
            ]
            self._keep(record)
            record = await self._create(sdk, record, requests)
            await self._watch(sdk, record)
        except _NotMade as error:
            self._drop(record)
            self._fail(record, error.reason)
        except Exception as error:  # noqa: BLE001 - a border: whoever waits must hear of a full disk, too
            self._fail(record, self._awaited(error))

    async def _create(
        self, sdk: anthropic.AsyncAnthropic, record: Record, requests: list[dict[str, Any]]
    ) -> Record:
        import anthropic

        try:
            batch_id = (await sdk.messages.batches.create(requests=requests)).id  # type: ignore[arg-type]
        except anthropic.AnthropicError as error:
            explained = explain(error, self._name)
            if isinstance(error, anthropic.APIStatusError) and error.status_code < 500:
                raise _NotMade(explained) from error  # refused
            # The answer was lost on the way, and perhaps not the request.
            existing_id = await self._find(sdk, record)
            if existing_id is None:
                raise _NotMade(explained) from error
            batch_id = existing_id
        return self._with_id(record, batch_id, "was made")

    async def _go_on(self, record: Record) -> None:
        """Look again at a batch of a process that ended."""
        try:
            sdk = await self._inner.open()
            if not record.id:
                record = await self._found_again(sdk, record)
            else:
                self._setting.tell(
                    f"batch {record.id} of {plural(len(record.keys), 'request')} is polled again"
                )
            await self._watch(sdk, record)
        except _NotMade as error:
            self._drop(record)
            self._fail(record, error.reason)
        except Exception as error:  # noqa: BLE001 - a border: whoever waits must hear of a full disk, too
            self._fail(record, self._awaited(error))

    async def _found_again(self, sdk: anthropic.AsyncAnthropic, record: Record) -> Record:
        existing_id = await self._find(sdk, record)
        if existing_id is None:
            raise _NotMade(
                TryAgain(
                    f"anthropic-batch:{self._name}: the batch was not made before the run was killed",
                    reason="the batch was not made",
                    asked_pause_s=0.0,
                )
            )
        return self._with_id(record, existing_id, "was found again")

    async def _watch(self, sdk: anthropic.AsyncAnthropic, record: Record) -> None:
        """Wait for the end of the batch and hand on its results."""
        await self._wait_for_end(sdk, record.id)
        results = await self._results(sdk, record.id, len(record.keys))
        for at, key in enumerate(record.keys):
            waiting = self._known.get(key)
            if waiting is None or waiting.done():
                continue
            outcome = self._outcome(results.get(f"{record.tag}-{at}"))
            if isinstance(outcome, Reply):
                waiting.set_result(outcome)
            else:
                waiting.set_exception(outcome)

    async def _wait_for_end(self, sdk: anthropic.AsyncAnthropic, batch_id: str) -> None:
        """Return when the batch has ended; the network may take its time, as the batch is paid for."""
        pause = self._first_poll_s
        patience = _Patience(self._patience_s)
        while True:
            try:
                if (await sdk.messages.batches.retrieve(batch_id)).processing_status == "ended":
                    return
                patience = _Patience(self._patience_s)
            except Exception as error:  # noqa: BLE001 - all that can be wrong with an answer
                self._passing(error, patience if _is_missing(error) else None)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, max(_LONGEST_POLL_S, self._first_poll_s))

    async def _results(self, sdk: anthropic.AsyncAnthropic, batch_id: str, count: int) -> dict[str, Any]:
        """By name; fetched again until there are ``count``, or until patience ends: then what there is."""
        results: dict[str, Any] = {}
        patience = _Patience(self._patience_s)
        while True:
            try:
                async for line in await sdk.messages.batches.results(batch_id):
                    results[line.custom_id] = line.result
            except Exception as error:  # noqa: BLE001 - a broken line is not an error of the SDK's
                if not (results and patience.is_over):
                    self._passing(error, patience)
            if len(results) >= count or patience.is_over:
                return results
            await asyncio.sleep(self._first_poll_s)

    def _passing(self, error: Exception, patience: _Patience | None) -> None:
        """Raise what ``error`` means, unless it may pass and ``patience`` is left (None: without end)."""
        import anthropic

        if isinstance(error, anthropic.AnthropicError) and not _is_missing(error):
            explained = explain(error, self._name)
        else:
            message = f"anthropic-batch:{self._name}: {one_line(f'{type(error).__name__}: {error}', 300)}"
            explained = TryAgain(message, reason="the batch could not be read")
        if not isinstance(explained, TryAgain) or (patience is not None and patience.is_over):
            raise explained from error

    def _awaited(self, error: Exception) -> Exception:
        """``error`` for those whose replies the batch may hold: nobody may ask for them anew."""
        if not isinstance(error, ModelError):
            return error
        return ModelError(
            error.message,
            why="the batch may hold replies that are paid for, so no request is sent again",
            hint=error.hint or "poll the batch again with: loop-runner resume",
            paid=True,
            ends_run=True,
        )

    async def _find(self, sdk: anthropic.AsyncAnthropic, record: Record) -> str | None:
        """The batch of ``record``, whose id never reached the disk, by the names of its requests.

        None when it was not made: it is not in the list, although it had the time to appear there.
        """
        while True:
            is_late = time.time() > record.made_at + self._appears_s
            for batch in await self._newest(sdk):
                if self._may_be(batch, record):
                    await self._wait_for_end(sdk, batch.id)  # its names can be read at its end only
                    results = await self._results(sdk, batch.id, len(record.keys))
                    if any(name.startswith(f"{record.tag}-") for name in results):
                        return str(batch.id)
            if is_late:
                return None
            await asyncio.sleep(self._first_poll_s)

    @staticmethod
    def _may_be(batch: Any, record: Record) -> bool:
        counts = batch.request_counts
        total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
        is_new = batch.created_at.timestamp() >= record.made_at - _CLOCK_SKEW_S
        return bool(is_new and total == len(record.keys))

    async def _newest(self, sdk: anthropic.AsyncAnthropic) -> list[Any]:
        patience = _Patience(self._patience_s)
        while True:
            try:
                return list((await sdk.messages.batches.list(limit=100)).data)
            except Exception as error:  # noqa: BLE001 - all that can be wrong with an answer
                self._passing(error, patience)
            await asyncio.sleep(self._first_poll_s)

    def _outcome(self, result: Any) -> Reply | ModelError:
        """What became of one request."""
        if result is None:
            return ModelError(
                f"anthropic-batch:{self._name}: the results of the batch lack this request",
                why="it may have been answered, and would then be paid for",
                hint="poll again later with: loop-runner resume",
                paid=True,
                ends_run=True,
            )
        kind = result.type
        if kind == "succeeded":
            return read_message(result.message)
        if kind != "errored":
            return TryAgain(
                f"anthropic-batch:{self._name}: the request was {kind} before the batch got to it",
                reason=f"{kind} in the batch",
                asked_pause_s=0.0,
            )
        error = result.error.error
        message = f"anthropic-batch:{self._name}: {error.type}: {one_line(error.message, 300)}"
        if error.type == "invalid_request_error":
            if "prompt is too long" in error.message.lower():
                return Reply("", "model_context_window_exceeded", model=self._name)
            return ModelError(message)
        return TryAgain(message, reason=f"{error.type} in the batch")

    # ── the file ────────────────────────────────────────────────────────────────────────────────────

    def _record(self, keys: Sequence[str]) -> Record:
        tag = secrets.token_hex(8)
        folder = self._folder or Path()
        return Record(folder / f"{tag}.json", self._position or "", tag, tuple(keys), time.time())

    def _with_id(self, record: Record, batch_id: str, what: str) -> Record:
        record = replace(record, id=batch_id)
        self._keep(record)
        self._setting.tell(
            f"batch {batch_id} of {plural(len(record.keys), 'request')} {what}; it may take up to a day,"
            " and a stopped run picks it up again"
        )
        return record

    def _keep(self, record: Record) -> None:
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
            self._setting.write(record.path, record.to_json())
            self._setting.keep(record.tag, record.to_json())

    def _drop(self, record: Record) -> None:
        if self._folder is not None:
            record.path.unlink(missing_ok=True)
            self._setting.forget(record.tag)

    def _fail(self, record: Record, error: Exception) -> None:
        for key in record.keys:
            waiting = self._known.get(key)
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)


def _future() -> asyncio.Future[Reply]:
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    # Looked at, so that asyncio does not warn of an error that nobody waited for.
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return future
