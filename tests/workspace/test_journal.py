"""The journal: what it promised to keep is there, whatever happened to the file's end."""

import os
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_runner.records import Reply, Usage
from loop_runner.workspace.journal import HEADER, Journal, record, records
from tests.support.turns import call

AFTER = "a" * 40


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def open_journal(path, after=AFTER):
    return Journal(path, after, folder=path.parent)


def calls_in(path, after=AFTER):
    journal = open_journal(path, after)
    try:
        return journal.calls()
    finally:
        journal.close()


def write(path, *calls, after=AFTER):
    journal = open_journal(path, after)
    journal.append_many(calls)
    journal.close()


def test_a_call_is_found_by_what_was_asked_and_how_often(path):
    journal = open_journal(path)
    journal.append(call("same", 0, text="first"))
    journal.append(call("same", 1, text="second"))
    assert journal.find(call("same").fingerprint, 1).reply.text == "second"
    assert journal.find(call("same").fingerprint, 2) is None
    assert journal.find(call("other").fingerprint, 0) is None
    journal.close()


def test_calls_are_read_again_in_the_order_in_which_they_were_written(path):
    written = [call(f"{index}", text="\ud83d \u2028 \x00 ü" * index) for index in range(5)]
    write(path, *written)
    assert calls_in(path) == tuple(written)


def test_append_returns_after_the_bytes_are_in_the_file(path):
    journal = open_journal(path)
    journal.append(call("paid"))
    assert [result for _, result, _ in records(path.read_bytes())] == [call("paid")]
    journal.close()


@pytest.mark.parametrize("lost", range(1, 400, 7))
def test_a_torn_end_costs_the_last_record_only(path, lost):
    write(path, call("whole"))
    size = path.stat().st_size
    write(path, call("torn"))
    whole = path.stat().st_size
    if whole - lost <= size:
        pytest.skip("would cut into the record before")
    os.truncate(path, whole - lost)
    assert calls_in(path) == (call("whole"),)
    write(path, call("next"))
    assert calls_in(path) == (call("whole"), call("next"))


def test_a_record_of_zeroes_as_a_power_cut_leaves_it_is_dropped(path):
    write(path, call("whole"))
    with path.open("ab") as file:
        file.write(bytes(500))
    journal = open_journal(path)
    assert (journal.calls(), journal.dropped_bytes) == ((call("whole"),), 500)
    journal.close()


def test_what_follows_a_damaged_record_is_kept(path):
    write(path, call("first"), call("second"), call("third"))
    data = bytearray(path.read_bytes())
    middle = data.find(record(call("second"), AFTER))
    data[middle + 40] ^= 1
    path.write_bytes(data)
    assert calls_in(path) == (call("first"), call("third"))


def test_records_of_turns_that_are_committed_are_ignored(path):
    write(path, call("committed"))
    assert calls_in(path, after="b" * 40) == ()
    assert calls_in(path) == (), "they are gone for good"


def test_moving_on_empties_the_file_but_for_calls_that_came_in_meanwhile(path):
    journal = open_journal(path)
    journal.append(call("in the commit"))
    journal.append(call("too late for it"))
    journal.move_on("b" * 40, {(call("in the commit").fingerprint, 0)})
    assert journal.calls() == (call("too late for it"),)
    journal.append(call("after"))
    journal.close()
    assert calls_in(path, after="b" * 40) == (call("too late for it"), call("after"))


def test_an_empty_or_foreign_file_is_an_empty_journal(path):
    for content in (b"", b"loop", b"something else\n" * 10):
        path.write_bytes(content)
        assert calls_in(path) == ()
        assert path.read_bytes() == HEADER


def test_many_threads_append_without_losing_a_call(path):
    journal = open_journal(path)

    def append_ten(number):
        for index in range(10):
            journal.append(call(f"{number} {index}"))

    threads = [threading.Thread(target=append_ten, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    expected = {call(f"{number} {index}") for number in range(5) for index in range(10)}
    assert set(calls_in(path)) == expected


def test_many_calls_cost_one_flush(path, monkeypatch):
    journal = open_journal(path)
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    journal.append_many([call(f"{index}", kind="sub") for index in range(100)])
    assert len(flushed) == 1
    journal.close()


texts = st.text(st.characters(), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.integers(0, 10**6)), max_size=5), st.data())
def test_any_calls_survive_any_cut(tmp_path_factory, values, data):
    path = tmp_path_factory.mktemp("journal") / "journal"
    written = []
    for index, (prompt, text, tokens) in enumerate(values):
        made = call(prompt, index, kind="sub", text=text)
        written.append(replace(made, reply=Reply(text, usage=Usage(tokens))))
    ends = [len(HEADER)]
    for item in written:
        write(path, item)
        ends.append(path.stat().st_size)
    if not path.exists():
        return
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(path, cut)
    whole = sum(end <= cut for end in ends[1:])
    assert calls_in(path) == tuple(written[:whole])
