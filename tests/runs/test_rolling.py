"""The limit on what all runs of a user spend in a day, over processes and crashes."""

import json
import os
import subprocess
import sys
import threading

import pytest

from loop_runner.budget import Budget, BudgetSpentError, Ledger
from loop_runner.errors import WorkspaceError
from loop_runner.records import Call, Message, Reply, Request, Usage
from loop_runner.runs import rolling
from loop_runner.runs.rolling import DailyLimit

SPENDER = """
import sys
from pathlib import Path
from loop_runner.runs.rolling import DailyLimit
limit = DailyLimit(Path(sys.argv[1]), 1.0)
count = 0
while limit.admits(0.01, 0.0):
    limit.settle(0.01, 0.0)
    count += 1
print(count)
"""


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


def request():
    return Request("openai:x", (Message("user", "x"),), max_output_tokens=10)


def call(usd):
    return Call("root", "openai:x", "f", 0, "", Reply("", usage=Usage(1, 1)), usd=usd)


def ledger(limit):
    return Ledger(Budget(), price=lambda _model, _usage: 0.4, shared=limit)


@pytest.mark.slow
def test_two_processes_together_stay_within_the_limit(tmp_path):
    argv = [sys.executable, "-c", SPENDER, str(tmp_path)]
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate()[0]) for process in processes]
    assert 100 <= sum(counts) <= 101  # a hundred cents; each run may be over by one request
    assert DailyLimit(tmp_path, 1.0).spent() == pytest.approx(sum(counts) / 100)


def test_a_run_sends_nothing_once_others_have_spent_the_limit(tmp_path):
    DailyLimit(tmp_path, 1.0).settle(1.0, 0.0)
    mine = ledger(DailyLimit(tmp_path, 1.0))
    with pytest.raises(BudgetSpentError, match="1 US dollars per day"):
        mine.reserve(request())
    assert mine.reached_within_pass() == "1 US dollars per day for all runs"


def test_what_is_charged_counts_for_the_next_run(tmp_path):
    first = ledger(DailyLimit(tmp_path, 1.0))
    hold = first.reserve(request())
    first.settle(hold, call(0.75))
    assert DailyLimit(tmp_path, 1.0).spent() == 0.75


def test_requests_at_the_same_time_wait_rather_than_overrun(tmp_path):
    mine = ledger(DailyLimit(tmp_path, 1.0))
    holds = [mine.reserve(request()) for _ in range(3)]
    assert [hold is not None for hold in holds] == [True, True, False]
    mine.settle(holds[0], call(0.1))
    assert mine.reserve(request()) is not None


def test_what_another_run_has_set_aside_counts(tmp_path):
    other = ledger(DailyLimit(tmp_path, 0.4))
    hold = other.reserve(request())
    with pytest.raises(BudgetSpentError):
        ledger(DailyLimit(tmp_path, 0.4)).reserve(request())
    other.settle(hold, None)  # no reply, no bill
    assert ledger(DailyLimit(tmp_path, 0.4)).reserve(request()) is not None


def test_a_day_later_it_no_longer_counts(tmp_path):
    clock = Clock()
    limit = DailyLimit(tmp_path, 1.0, clock=clock)
    limit.settle(1.0, 0.0)
    clock.now += 23 * 3600
    assert limit.is_reached()
    clock.now += 3700
    assert not limit.is_reached()


def test_what_a_killed_process_had_out_counts_as_spent(tmp_path):
    code = SPENDER.partition("count")[0] + "limit.admits(0.3, 0.0)\nimport os; os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    limit = DailyLimit(tmp_path, 1.0)
    assert limit.spent() == pytest.approx(0.3)
    limit.settle(0.1, 0.0)
    assert DailyLimit(tmp_path, 1.0).spent() == pytest.approx(0.4)


def test_threads_of_one_run_lose_nothing(tmp_path):
    limit = DailyLimit(tmp_path, 100.0)
    threads = [threading.Thread(target=lambda: limit.settle(0.5, 0.0)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit.spent() == pytest.approx(4.0)


@pytest.mark.parametrize("content", ["", "[]", '{"spent": 3}', '{"spent": {"x": 1}, "held": {}}', "{"])
def test_a_file_that_cannot_be_counted_lets_nothing_through(tmp_path, content):
    (tmp_path / rolling.NAME).write_text(content)
    with pytest.raises(WorkspaceError) as caught:
        DailyLimit(tmp_path, 1.0).admits(0.1, 0.0)
    assert caught.value.exit_code == 4


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError):
        DailyLimit(tmp_path / "file", 1.0).spent()


def test_the_file_holds_no_more_than_a_day(tmp_path):
    clock = Clock()
    limit = DailyLimit(tmp_path, 1e9, clock=clock)
    for _ in range(60):
        limit.settle(0.01, 0.0)
        clock.now += 3600
    assert len(json.loads((tmp_path / rolling.NAME).read_text())["spent"]) <= 26


def test_a_run_without_the_limit_writes_nothing(tmp_path):
    mine = Ledger(Budget())
    hold = mine.reserve(request())
    assert hold is not None
    mine.settle(hold, call(0.1))
    assert os.listdir(tmp_path) == []
