"""Every reply is logged before it is used, charged once, and found again when a turn is run again."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop_runner.errors import EnvironmentFault, ModelError
from loop_runner.model.client import ModelClient
from loop_runner.model.registry import client_for
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Call, Message, Reply, Request
from tests.support.call_log import MemoryBatchLog, MemoryLog
from tests.support.model_server import ModelServer


class Echo:
    """A client that answers with the prompt and a number; ``fail`` says which of its requests fail."""

    def __init__(self, delay_s: float = 0.0, fail: Callable[[int], bool] = lambda _: False) -> None:
        self.requests_sent = 0
        self.most_at_once = 0
        self.is_closed = False
        self._at_once = 0
        self._delay_s = delay_s
        self._fail = fail

    async def complete(self, request: Request) -> Reply:
        self.requests_sent += 1
        number = self.requests_sent
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self._delay_s)
        finally:
            self._at_once -= 1
        if self._fail(number):
            raise ModelError(f"request {number} was refused")
        return Reply(f"{request.messages[-1].text} #{number}")

    async def close(self) -> None:
        self.is_closed = True


def sub(text: str, model: str = "echo:x") -> Request:
    return Request(model, (Message("user", text),), kind="sub")


@contextmanager
def switchboard(echo: Echo, log: MemoryLog, **options: object) -> Iterator[Switchboard]:
    with Switchboard(lambda _: echo, log=log, **options) as board:  # type: ignore[arg-type]
        yield board


def test_a_reply_is_in_the_log_before_it_is_returned() -> None:
    log = MemoryLog(seconds=0.05)
    with switchboard(Echo(), log) as board:
        reply = board.ask(sub("a"))
        assert [(call.reply, call.prompt, call.occurrence) for call in log.calls] == [(reply, "a", 0)]


def test_a_root_request_leaves_its_prompt_out_of_the_log() -> None:
    log = MemoryLog()
    with switchboard(Echo(), log) as board:
        board.ask(Request("echo:x", (Message("user", "a long transcript"),)))
    assert (log.calls[0].prompt, log.calls[0].kind, log.calls[0].model) == ("", "root", "echo:x")


def test_a_turn_that_is_run_again_asks_nobody_twice_not_even_for_identical_prompts() -> None:
    log, echo = MemoryLog(), Echo()
    shown: list[bool] = []
    prompts = ["a", "b", "a", "a"]
    with switchboard(echo, log) as board:
        board.start_turn()
        first = [board.ask(sub(prompt)).text for prompt in prompts]
    with switchboard(echo, log, on_call=lambda _, replayed: shown.append(replayed)) as board:
        board.start_turn()
        assert [board.ask(sub(prompt)).text for prompt in prompts] == first
        assert echo.requests_sent == 4
        assert board.ask(sub("a")).text == "a #5"
    assert shown == [True] * 4 + [False]


def test_the_next_turn_counts_from_the_beginning() -> None:
    log, echo = MemoryLog(), Echo()
    with switchboard(echo, log) as board:
        board.ask(sub("a"))
        log.calls.clear()  # as the commit of the turn does
        board.start_turn()
        board.ask(sub("a"))
    assert [call.occurrence for call in log.calls] == [0]


def test_a_failed_request_leaves_no_gap_that_a_run_without_the_failure_would_pay_for() -> None:
    log, echo = MemoryLog(), Echo(fail=lambda number: number == 1)
    with switchboard(echo, log) as board:
        with pytest.raises(ModelError, match="request 1 was refused"):
            board.ask(sub("a"))
        assert board.ask(sub("a")).text == "a #2"
    assert [call.occurrence for call in log.calls] == [0]


def test_every_call_is_told_once_and_after_it_is_logged() -> None:
    log = MemoryLog()
    shown: list[tuple[Call, bool, int]] = []
    with switchboard(
        Echo(), log, on_call=lambda call, replayed: shown.append((call, replayed, len(log.calls)))
    ) as b:
        b.ask(sub("a"))
        b.ask(sub("b"))
    assert shown == [(log.calls[0], False, 1), (log.calls[1], False, 2)]


def test_calls_that_end_together_share_a_flush() -> None:
    log = MemoryBatchLog(seconds=0.03)

    async def many(board: Switchboard) -> list[Reply]:
        return await asyncio.gather(*(board.complete(sub(str(n))) for n in range(100)))

    with switchboard(Echo(), log, width=100) as board:
        replies = asyncio.run_coroutine_threadsafe(many(board), board.loop).result()
    assert sorted(call.reply.text for call in log.calls) == sorted(reply.text for reply in replies)
    assert log.flushes <= 3


def test_a_slow_log_does_not_hold_up_other_requests() -> None:
    log = MemoryLog(seconds=0.05)
    with switchboard(Echo(), log) as board:
        board.ask(sub("a"))
    assert log.threads == {"call-log_0"}


def test_no_more_than_the_width_are_out_at_once() -> None:
    echo = Echo(delay_s=0.01)

    async def many(board: Switchboard) -> None:
        await asyncio.gather(*(board.complete(sub(str(n))) for n in range(20)))

    with switchboard(echo, MemoryBatchLog(), width=4) as board:
        asyncio.run_coroutine_threadsafe(many(board), board.loop).result()
    assert echo.most_at_once == 4


def test_threads_ask_side_by_side() -> None:
    echo, log = Echo(delay_s=0.1), MemoryBatchLog()
    with switchboard(echo, log) as board:
        threads = [threading.Thread(target=board.ask, args=(sub(str(n)),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert echo.most_at_once == 8
    assert len(log.calls) == 8


def test_a_log_that_fails_fails_the_request() -> None:
    class Full(MemoryLog):
        def append(self, call: Call) -> None:
            raise OSError(28, "No space left on device")

    with switchboard(Echo(), Full()) as board, pytest.raises(OSError, match="No space left"):
        board.ask(sub("a"))


def test_a_paid_reply_is_logged_and_told_although_nobody_waits_for_it_any_more() -> None:
    log, echo = MemoryLog(seconds=0.1), Echo()
    shown: list[bool] = []

    async def impatient(board: Switchboard) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(board.complete(sub("a")), 0.03)

    with switchboard(echo, log, on_call=lambda _, replayed: shown.append(replayed)) as board:
        asyncio.run_coroutine_threadsafe(impatient(board), board.loop).result()
        deadline = time.monotonic() + 5
        while not shown and time.monotonic() < deadline:
            time.sleep(0.01)
        assert board.ask(sub("a")).text == "a #1"
    assert (echo.requests_sent, shown, len(log.calls)) == (1, [False], 1)


def test_ctrl_c_ends_the_wait_at_once() -> None:
    with switchboard(Echo(delay_s=30), MemoryLog()) as board:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            board.ask(sub("a"))
    assert time.monotonic() - started < 5


def test_close_ends_the_thread_the_clients_and_what_is_out() -> None:
    echo = Echo(delay_s=30)
    board = Switchboard(lambda _: echo, log=MemoryLog())
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            board.ask(sub("a"))
        except BaseException as error:  # noqa: BLE001 - what it is, is the question
            outcome.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while echo.requests_sent == 0:
        time.sleep(0.01)
    board.close()
    board.close()
    waiting.join(5)
    assert outcome
    assert echo.is_closed
    assert "switchboard" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ModelError, match="switchboard is closed"):
        board.ask(sub("b"))


def test_asking_from_its_own_thread_is_refused_instead_of_hanging() -> None:
    async def wrong(board: Switchboard) -> None:
        board.ask(sub("a"))

    with switchboard(Echo(), MemoryLog()) as board, pytest.raises(RuntimeError, match="await complete"):
        asyncio.run_coroutine_threadsafe(wrong(board), board.loop).result()


def test_each_model_id_gets_one_client() -> None:
    opened: list[str] = []

    def open_client(model: str) -> Echo:
        opened.append(model)
        return Echo()

    with Switchboard(open_client, log=MemoryLog()) as board:
        for model in ("echo:a", "echo:b", "echo:a"):
            board.ask(sub("x", model))
    assert opened == ["echo:a", "echo:b"]


def test_a_real_client_is_asked_from_many_threads_and_closed_without_a_trace(
    model_server: ModelServer, tmp_path: Path
) -> None:
    model_server.answer_with(lambda received: received.last_user_text)
    log, heard = MemoryBatchLog(), []

    def ask(board: Switchboard, text: str) -> None:
        heard.append(board.ask(sub(text, "anthropic:m")).text)

    def open_client(model: str) -> ModelClient:
        return client_for(model, base_dir=tmp_path, env=model_server.env)

    with Switchboard(open_client, log=log) as board:
        threads = [threading.Thread(target=ask, args=(board, str(n))) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(heard) == [str(n) for n in range(6)]
    assert len(model_server.requests) == len(log.calls) == 6


class MarkingLog(MemoryLog):
    """Notes what is sent; ``full`` is what it then fails with."""

    def __init__(self) -> None:
        super().__init__()
        self.out: list[str] = []
        self.full: Exception | None = None

    def sent(self, fingerprint: str, occurrence: int) -> None:
        if self.full is not None:
            raise self.full
        self.out.append(f"+{occurrence}")

    def not_billed(self, fingerprint: str, occurrence: int) -> None:
        self.out.append(f"-{occurrence}")


def test_a_request_is_marked_before_it_is_sent_and_unmarked_when_it_is_refused() -> None:
    log, echo = MarkingLog(), Echo(fail=lambda number: number == 2)
    with switchboard(echo, log) as board:
        board.ask(sub("a"))
        with pytest.raises(ModelError):
            board.ask(sub("b"))
    assert log.out == ["+0", "+0", "-0"]


def test_what_cannot_be_marked_is_not_sent_and_nothing_is_sent_after_it() -> None:
    log, echo = MarkingLog(), Echo()
    log.full = EnvironmentFault("the disk is full")
    with switchboard(echo, log) as board:
        for text in "ab":
            with pytest.raises(EnvironmentFault, match="the disk is full"):
                board.ask(sub(text))
            log.full = None
        with pytest.raises(EnvironmentFault):
            board.raise_fault()
    assert echo.requests_sent == 0


def test_a_providers_refusal_is_no_fault_of_ours() -> None:
    with switchboard(Echo(fail=lambda _: True), MarkingLog()) as board:
        with pytest.raises(ModelError):
            board.ask(sub("a"))
        board.raise_fault()
