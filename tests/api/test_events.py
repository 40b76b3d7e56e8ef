"""Events of a run: one class for each kind, numbered without gaps."""

import dataclasses
import json
import typing
from pathlib import Path

import pytest

import loop_runner as lr
from loop_runner import events as trace
from loop_runner.api import typed_events
from tests.support import library
from tests.support.tasks import cell, ready, write_task


def test_every_kind_of_the_trace_has_a_class():
    assert set(typed_events.KINDS) == set(typing.get_args(trace.EventKind))
    for made in typed_events.KINDS.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            made().seq = 3  # type: ignore[misc]


def test_the_page_is_what_the_code_says():
    assert library.EVENTS.read_text(encoding="utf-8") == library.events_page()


def test_numbers_have_no_gap_over_a_resume_and_are_those_of_the_file(tmp_path):
    code = cell("print(llm_query('how many?'))")
    task = write_task(
        tmp_path / "task", root=[code, ready("41"), ready("42")], sub=[{"reply": "42"}], budget={"passes": 1}
    )
    heard: list[lr.Event] = []
    lr.run(task, run_dir="mine", on_event=heard.append)
    lr.resume("mine", budget={"passes": 2}, on_event=heard.append)
    assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
    lines = [json.loads(line) for line in Path("mine/.git/loop-runner/events.jsonl").read_text().splitlines()]
    assert [(line["seq"], line["kind"]) for line in lines] == [(item.seq, item.kind) for item in heard]
    ends = [event.outcome for event in heard if isinstance(event, typed_events.PassEnded)]
    assert ends == ["rejected", "accepted"]
    (reply,) = [event.reply for event in heard if isinstance(event, typed_events.SubcallFinished)]
    assert reply == "42"
    assert (
        json.loads(json.dumps([event.to_dict() for event in heard], default=dict))[0]["kind"] == "run_started"
    )


@pytest.mark.parametrize(
    ("before", "seq"),
    [
        (b"", 1),
        (b'{"kind": "notice"}\n{"kind": "notice"}\n', 3),
        (b'{"kind": "notice", "seq": 7}\n', 8),
        (b'{"kind": "notice", "seq": 7}\n{"kind": "turn_st', 8),
        (b'{"kind": "notice", "seq": "x"}\nnull\n', 1),
    ],
)
def test_numbers_continue_a_file_of_an_older_version_and_a_torn_one(tmp_path, before, seq):
    path = tmp_path / "events.jsonl"
    path.write_bytes(before)
    heard: list[trace.Event] = []
    made = trace.Trace(path, (heard.append,))
    made.append(trace.Event("notice"))
    made.close()
    assert heard[0].seq == seq
    assert json.loads(path.read_bytes().splitlines()[-1])["seq"] == seq
