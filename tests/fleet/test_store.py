"""Both kinds of store: one worker gets each job, and money is never promised twice."""

import errno
import json
import os
import threading

import pytest

from loop_runner import ConfigError, EnvironmentFault
from loop_runner.fleet import folder_store
from loop_runner.fleet.git_store import GitStore
from loop_runner.fleet.states import JobState, Money
from loop_runner.fleet.stores import Extra, Identity, LostError, OverBudgetError, UnreachableError, open_store
from tests.support.git import git

pytestmark = pytest.mark.slow

FLEET = Identity("contracts", "aa")


@pytest.fixture(params=["folder", "git"])
def place(request, tmp_path):
    """Opens the store as another worker does each time."""
    if request.param == "git":
        git(tmp_path, "init", "-q", "--bare", "store")
    count = iter(range(100))

    def opened(identity=FLEET):
        store = open_store("store", tmp_path, tmp_path / f"cache{next(count)}")
        store.begin(identity)
        return store

    return opened


def test_of_two_workers_that_take_a_job_one_gets_it(place):
    first, second = place(), place()
    first.swap("job", None, JobState(status="running", worker="first"))
    with pytest.raises(LostError):
        second.swap("job", None, JobState(status="running", worker="second"))
    assert second.states()["job"].state.worker == "first"


def test_many_workers_at_once_take_each_job_once(place):
    stores, taken = [place() for _ in range(4)], []

    def take(store):
        for number in range(6):
            try:
                store.swap(f"job{number}", None, JobState(status="running", reserved_usd=1.0))
            except LostError:
                continue
            taken.append(number)

    threads = [threading.Thread(target=take, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(6))
    assert place().money() == Money(0.0, 6.0)


def test_a_worker_that_lost_its_lease_changes_nothing_more(place):
    store = place()
    old = store.swap("job", None, JobState(status="running", worker="first"))
    new = store.swap("job", old, JobState(status="running", worker="second"))
    with pytest.raises(LostError):
        store.swap("job", old, JobState(status="verified"), Extra(result=b"of the first"))
    assert store.states()["job"] == new
    assert store.results() == {}


def test_money_is_reserved_settled_and_never_promised_twice(place):
    store, other = place(), place()
    item = store.swap("one", None, JobState(status="running", reserved_usd=5.0), Extra(limit_usd=8.0))
    with pytest.raises(OverBudgetError):
        other.swap("two", None, JobState(status="running", reserved_usd=5.0), Extra(limit_usd=8.0))
    store.swap("one", item, JobState(status="verified", spent_usd=1.5))
    other.swap("two", None, JobState(status="running", reserved_usd=5.0), Extra(limit_usd=8.0))
    assert store.money() == Money(1.5, 5.0)


def test_results_are_kept_with_the_state_that_ends_a_job(place):
    store = place()
    store.swap("a.b", None, JobState(status="verified"), Extra(result=b'{"x": 1}'))
    assert place().results() == {"a.b": b'{"x": 1}'}


@pytest.mark.parametrize(
    ("identity", "words"),
    [(Identity("other", "aa"), "not of 'other'"), (Identity("contracts", "bb"), "has changed")],
)
def test_a_store_of_another_fleet_or_of_a_changed_task_is_refused(place, identity, words):
    place()
    with pytest.raises(ConfigError, match=words):
        place(identity)


def test_a_folder_with_other_files_is_no_store(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        open_store("store", tmp_path, tmp_path / "cache").begin(FLEET)
    assert (tmp_path / "store/mine.txt").read_text() == "mine"


@pytest.mark.parametrize("address", ["file:///nowhere/at/all.git", "git+file:///nowhere.git"])
def test_a_store_that_cannot_be_reached_is_said_to_be_so(tmp_path, address):
    with pytest.raises(EnvironmentFault, match="cannot be reached"):
        open_store(address, tmp_path, tmp_path / "cache").begin(FLEET)


def test_a_change_that_a_kill_broke_off_is_completed_by_the_next_worker(tmp_path, monkeypatch):
    store = open_store("store", tmp_path, tmp_path / "cache")
    store.begin(FLEET)
    written = []
    real = folder_store._replace

    def dies_after(path, data):
        written.append(path.name)
        if path.name == "job.json":
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(folder_store, "_replace", dies_after)
    with pytest.raises(KeyboardInterrupt):
        store.swap("job", None, JobState(status="running", reserved_usd=2.0))
    monkeypatch.setattr(folder_store, "_replace", real)
    assert "pending.json" in written
    assert store.money() == Money(0.0, 2.0)
    assert store.states()["job"].state.status == "running"


def test_a_change_whose_answer_was_lost_on_the_way_is_known_to_be_made(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "--bare", "store")
    store = GitStore(str(tmp_path / "store"), tmp_path / "cache")
    store.begin(FLEET)
    push, answers = store._push, []

    def loses_the_first_answer(*given):
        answers.append(push(*given))
        return answers[-1] and len(answers) > 1

    monkeypatch.setattr(store, "_push", loses_the_first_answer)
    kept = store.swap("job", None, JobState(status="running", worker="w", reserved_usd=1.0))
    store.swap("job", kept, JobState(status="verified", spent_usd=0.5))
    assert answers == [True, True]
    assert store.money() == Money(0.5, 0.0)


def test_a_repository_that_takes_no_changes_is_not_taken_for_a_busy_one(tmp_path):
    git(tmp_path, "init", "-q", "--bare", "store")
    store = open_store("store", tmp_path, tmp_path / "cache")
    store.begin(FLEET)
    hook = tmp_path / "store/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(EnvironmentFault, match="takes no changes"):
        store.swap("job", None, JobState(status="running"))
    assert dict(store.states()) == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_named_and_leaves_states_and_money_as_they_were(tmp_path, monkeypatch, number):
    store = open_store("store", tmp_path, tmp_path / "cache")
    store.begin(FLEET)
    kept = store.swap("job", None, JobState(status="running", reserved_usd=2.0))
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")}

    def is_full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", is_full)
    with pytest.raises(EnvironmentFault, match=os.strerror(number)) as fault:
        store.swap("job", kept, JobState(status="verified", spent_usd=1.0))
    assert not isinstance(fault.value, UnreachableError)  # a worker would wait for it
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.json")} == before
    store.swap("job", kept, JobState(status="verified", spent_usd=1.0))
    assert store.money() == Money(1.0, 0.0)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"status": 3}', '{"spent_usd": -1}', '{"beat": "x"}', '{"crashes": 7}', "[" * 5000],
)
def test_a_state_that_cannot_be_read_is_named_with_what_to_do(tmp_path, content):
    store = open_store("store", tmp_path, tmp_path / "cache")
    store.begin(FLEET)
    (tmp_path / "store/jobs/odd.json").write_text(content)
    with pytest.raises(EnvironmentFault, match="odd"):
        store.states()


def test_a_state_comes_back_as_it_was_written():
    state = JobState(
        *("running", "d", "w", 3, 60.0, 1.5, 0.25, 100, 2, 7, 1, ("a", "b"), "why", "c0"),
        is_paused=True,
        is_stopped=True,
        notes=("one", "two"),
    )
    assert JobState.from_json(state.to_json()) == state
    assert json.loads(state.to_json())["crashes"] == ["a", "b"]
