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
from loop_runner.model.anthropic_client import AnthropicClient, explain, read_message
from loop_runner.model.client import Setting, TryAgain
from loop_runner.records import Reply, Request
from loop_runner.text import one_line

if TYPE_CHECKING:
    import anthropic

_MOST = 10_000  # requests in one batch; the API takes 100,000 of them and 256 MB
_QUIET_S = 1.0  # without a further request, before a batch is made
_FIRST_POLL_S = 2.0
_LONGEST_POLL_S = 60.0
_CLOCK_SKEW_S = 300.0
_NOT_YET_S = 600.0  # a batch that was just made may be unknown to a server that did not make it
_RESULT_TRIES = 8


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


class AnthropicBatchClient:
    """Answers when the batch has ended that a request went into. Times in seconds."""

    width = 100_000  # requests wait here for their batch, not at the gate

    takes_up = True  # a batch that a killed run left open is looked at again, not made anew

    def __init__(
        self,
        name: str,
        setting: Setting,
        *,
        quiet_s: float = _QUIET_S,
        first_poll_s: float = _FIRST_POLL_S,
    ) -> None:
        self._name = name
        self._setting = setting
        self._quiet_s = quiet_s
        self._first_poll_s = first_poll_s
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
            asked = [
                {"custom_id": f"{record.tag}-{at}", "params": self._inner.arguments(request)}
                for at, (_, request) in enumerate(gathered)
            ]
            self._keep(record)
            record = await self._create(sdk, record, asked)
            await self._watch(sdk, record)
        except ModelError as error:
            self._give_up(record, error)
        except Exception as error:  # noqa: BLE001 - a border: whoever waits must hear of a full disk, too
            self._fail(record, error)

    async def _create(
        self, sdk: anthropic.AsyncAnthropic, record: Record, asked: list[dict[str, Any]]
    ) -> Record:
        import anthropic

        try:
            batch_id = (await sdk.messages.batches.create(requests=asked)).id  # type: ignore[arg-type]
        except anthropic.APIStatusError as error:
            raise explain(error, self._name) from error  # refused: there is no batch
        except anthropic.AnthropicError as error:
            # The answer was lost on the way, and perhaps not the request.
            try:
                found = await self._find(sdk, record)
            except ModelError as unknown:
                unknown.ends_run = True  # there may be a batch: its record is kept
                raise
            if found is None:
                raise explain(error, self._name) from error
            batch_id = found
        return self._with_id(record, batch_id, "was made")

    async def _go_on(self, record: Record) -> None:
        """Look again at a batch of a process that ended."""
        try:
            sdk = await self._inner.open()
            if not record.id:
                record = await self._found_again(sdk, record)
            else:
                self._setting.tell(f"batch {record.id} of {len(record.keys)} requests is looked at again")
            await self._watch(sdk, record)
        except ModelError as error:
            self._give_up(record, error)
        except Exception as error:  # noqa: BLE001 - a border: whoever waits must hear of a full disk, too
            self._fail(record, error)

    async def _found_again(self, sdk: anthropic.AsyncAnthropic, record: Record) -> Record:
        found = await self._find(sdk, record)
        if found is None:
            raise TryAgain(
                f"anthropic-batch:{self._name}: the batch was not made before the run was killed",
                reason="the batch was not made",
                asked_pause_s=0.0,
            )
        return self._with_id(record, found, "was found again")

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
        import anthropic

        pause, since = self._first_poll_s, time.monotonic()
        while True:
            try:
                if (await sdk.messages.batches.retrieve(batch_id)).processing_status == "ended":
                    return
            except anthropic.AnthropicError as error:
                # The batch is being worked on and will be paid for: the network may take its time.
                self._refuse_lasting(error, since)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, max(_LONGEST_POLL_S, self._first_poll_s))

    def _refuse_lasting(self, error: Exception, since: float) -> None:
        """Raise ``error`` as ours if waiting cannot help; a 404 may pass at first (SDK issue 1432)."""
        import anthropic
        import httpx2

        if isinstance(error, httpx2.TransportError | ValueError):
            return  # cut in the middle
        if isinstance(error, anthropic.NotFoundError) and time.monotonic() - since < _NOT_YET_S:
            return
        assert isinstance(error, anthropic.AnthropicError)
        explained = explain(error, self._name)
        if not isinstance(explained, TryAgain):
            raise explained from error

    async def _results(self, sdk: anthropic.AsyncAnthropic, batch_id: str, count: int) -> dict[str, Any]:
        """The results of all ``count`` requests, by name; fetched again while lines are missing or cut."""
        import anthropic
        import httpx2

        found: dict[str, Any] = {}
        since, pause = time.monotonic(), self._first_poll_s
        for _ in range(_RESULT_TRIES):
            try:
                async for line in await sdk.messages.batches.results(batch_id):
                    found[line.custom_id] = line.result
            except (anthropic.AnthropicError, httpx2.TransportError, ValueError) as error:
                self._refuse_lasting(error, since)
            if len(found) >= count:
                return found
            await asyncio.sleep(pause)
            pause = min(pause * 2, max(_LONGEST_POLL_S, self._first_poll_s))
        raise ModelError(
            f"anthropic-batch:{self._name}: {len(found)} of {count} results of {batch_id} could be read",
            why="the others are paid for: the batch is looked at again when this run is resumed",
            hint="continue with: loop-runner resume RUN",
            ends_run=True,
        )

    async def _find(self, sdk: anthropic.AsyncAnthropic, record: Record) -> str | None:
        """The batch of ``record``, whose id never reached the disk, by the names of its requests."""
        since = record.made_at - _CLOCK_SKEW_S
        page = await self._newest(sdk)
        for batch in page:
            counts = batch.request_counts
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if batch.created_at.timestamp() < since or total != len(record.keys):
                continue
            await self._wait_for_end(sdk, batch.id)  # its names can be read at its end only
            if f"{record.tag}-0" in await self._results(sdk, batch.id, total):
                return str(batch.id)
        return None

    async def _newest(self, sdk: anthropic.AsyncAnthropic) -> list[Any]:
        import anthropic

        try:
            return list((await sdk.messages.batches.list(limit=100)).data)
        except anthropic.AnthropicError as error:
            raise explain(error, self._name) from error

    def _outcome(self, result: Any) -> Reply | ModelError:
        """What became of one request."""
        kind = "missing" if result is None else result.type
        if kind == "succeeded":
            return read_message(result.message)
        if kind != "errored":
            return TryAgain(
                f"anthropic-batch:{self._name}: the request was {kind} before the batch got to it",
                reason=f"{kind} in the batch",
                asked_pause_s=0.0,
            )
        error = result.error.error
        said = f"anthropic-batch:{self._name}: {error.type}: {one_line(error.message, 300)}"
        if error.type == "invalid_request_error":
            if "prompt is too long" in error.message.lower():
                return Reply("", "model_context_window_exceeded", model=self._name)
            return ModelError(said)
        return TryAgain(said, reason=f"{error.type} in the batch")

    # ── the file ────────────────────────────────────────────────────────────────────────────────────

    def _record(self, keys: Sequence[str]) -> Record:
        tag = secrets.token_hex(8)
        folder = self._folder or Path()
        return Record(folder / f"{tag}.json", self._position or "", tag, tuple(keys), time.time())

    def _with_id(self, record: Record, batch_id: str, what: str) -> Record:
        record = replace(record, id=batch_id)
        self._keep(record)
        self._setting.tell(
            f"batch {batch_id} of {len(record.keys)} requests {what}; it may take up to a day,"
            " and a run that is stopped takes it up again"
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

    def _give_up(self, record: Record, error: ModelError) -> None:
        """Tell those who wait. The record stays while its batch may hold replies that are paid for."""
        if record.id or error.ends_run:
            error.ends_run = True  # or the same would be asked for, and paid for, in another batch
        else:
            self._drop(record)
        self._fail(record, error)

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
