"""The trace: one JSON line for each event, whole lines whatever happened before."""

import json
import threading
from pathlib import Path

import pytest

from loop_runner.events import Event, Trace


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def written(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_one_line_and_reaches_the_listeners(path):
    heard: list[Event] = []
    trace = Trace(path, (heard.append,))
    event = Event("notice", "two\nlines \ud800", 2, 3, {"a": 1})
    trace.append(event)
    trace.close()
    trace.append(event)
    (line,) = written(path)
    assert {key: line[key] for key in line if key != "at"} == {
        "kind": "notice",
        "text": "two\nlines \ud800",
        "pass": 2,
        "turn": 3,
        "data": {"a": 1},
        "seq": 1,
    }
    assert heard == [event, event]


def test_a_line_that_was_left_torn_does_not_swallow_the_next_one(path):
    path.write_bytes(b'{"kind": "notice"}\n{"kind": "turn_st')
    trace = Trace(path)
    trace.append(Event("run_started"))
    trace.close()
    lines = path.read_text().splitlines()
    assert lines[1] == '{"kind": "turn_st'
    assert json.loads(lines[2])["kind"] == "run_started"


def test_events_of_many_threads_are_whole_lines(path):
    trace = Trace(path)

    def append(number):
        for _ in range(50):
            trace.append(Event("subcall_finished", "x" * 5000, number))

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    assert len(written(path)) == 400


def test_a_trace_that_cannot_be_written_does_not_stop_the_run():
    heard: list[Event] = []
    trace = Trace(Path("/dev/full"), (heard.append,))
    trace.append(Event("run_started"))
    trace.append(Event("run_ended"))
    trace.close()
    assert len(heard) == 2
