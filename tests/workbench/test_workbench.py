"""The nine tasks end verified, with the right answers, stable prefixes and nothing paid for twice."""

import json
from dataclasses import replace

import pytest

from tests.support.model_server import Received
from tests.workbench import figures
from tests.workbench.playing import Exchange, Recording, play
from tests.workbench.tasks import TASKS

pytestmark = pytest.mark.timeout(300)  # whichever test is first to ask plays the task


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The recording of a task by its name, played when it is first asked for."""
    known = {}

    def recording(name):
        if name not in known:
            known[name] = play(TASKS[name], tmp_path_factory.mktemp(name), "sample")
        return known[name]

    return recording


@pytest.mark.parametrize("name", TASKS)
def test_a_task_of_the_workbench_ends_verified_with_a_stable_prefix_and_nothing_paid_twice(played, name):
    recording = played(name)
    assert recording.outcome["status"] == "verified", recording.outcome.get("reason", recording.stderr)
    assert figures.faults(recording) == []
    assert len(recording.roots) == len({root.request.raw for root in recording.roots})


def test_the_run_that_is_killed_dies_each_time_and_pays_for_each_letter_once(played):
    recording = played("kills")
    assert recording.kills == len(TASKS["kills"].kills)
    assert figures.figures(recording).sub_calls == 40
    unanswered = [item for item in recording.exchanges if item.reply is None]
    assert {item.kind for item in unanswered} == {"root", "sub"}
    answered = {item.request.raw for item in recording.exchanges if item.reply is not None}
    assert all(item.request.raw in answered for item in unanswered), "they are sent again, word for word"


@pytest.mark.parametrize("name", ["reentry", "kills"])
def test_a_task_whose_first_answers_are_rejected_takes_the_passes_that_it_must(played, name):
    assert len(played(name).passes) == TASKS[name].passes


@pytest.mark.parametrize("name", [name for name in TASKS if TASKS[name].passes == 1])
def test_no_pass_is_lost_where_check_can_find_the_fault_or_there_is_none(played, name):
    assert len(played(name).passes) == 1


def test_a_later_pass_is_shown_the_reason_the_notes_and_the_variables_of_the_ones_before(played):
    _, second, third = (group[0].request.first_user_text for group in played("reentry").passes)
    assert "5 of 5 lines are missing or wrong" in second
    assert "Read rules.txt" in second
    assert "orders" in second, "a variable"
    assert "00-north.md" in second, "a note"
    assert "5 of 5 lines are missing or wrong" in third


@pytest.mark.parametrize("name", TASKS)
def test_inputs_and_key_are_the_same_every_time(tmp_path, name):
    keys, texts = [], []
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        keys.append(TASKS[name].make(tmp_path / number, "sample"))
        paths = sorted(path for path in (tmp_path / number).rglob("*") if path.is_file())
        texts.append([path.read_bytes() for path in paths])
    assert keys[0] == keys[1]
    assert texts[0] == texts[1]
    assert any(keys[0].values())


# ── the properties notice what they are for ─────────────────────────────────────────────────────────


def exchange(messages, reply="r", system="s"):
    """A root request with these texts, user first, and its reply."""
    roles = ("user", "assistant")
    sent = [
        {"role": roles[at % 2], "content": [{"type": "text", "text": text}]}
        for at, text in enumerate(messages)
    ]
    body = {"system": [{"type": "text", "text": system}], "messages": sent}
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Exchange("root", Received("/v1/messages", {}, raw, body), reply)


def faults(*exchanges):
    return figures.faults(Recording(TASKS["logs"], {}, list(exchanges), 0, 0.0, ""))


def test_a_conversation_that_only_grows_has_no_faults():
    grown = exchange(["task", "r", "out"]), exchange(["task", "r", "out", "r", "more"])
    assert faults(exchange(["task"]), *grown) == []


@pytest.mark.parametrize(
    ("exchanges", "fault"),
    [
        ([exchange(["task"]), exchange(["Task", "r", "out"])], "pass 1, turn 2: the request does not begin"),
        (
            [exchange(["task"]), exchange(["task", "x", "out"])],
            "pass 1, turn 2: it does not continue the reply",
        ),
        (
            [exchange(["task"]), exchange(["task", "r", "a", "b", "c"])],
            "pass 1, turn 2: it does not continue",
        ),
        ([exchange(["task"]), exchange(["task", "r", "out"], system="t")], "the system prompt changed"),
        ([exchange(["task"]), exchange(["tusk"])], "the first block of the first message changed"),
        ([exchange(["task one"]), exchange(["task two"])], "pass 2 does not begin with the first message"),
        ([exchange(["task"]), exchange(["task"])], "1 replies were paid for twice"),
    ],
)
def test_a_fault_of_requests_is_named(exchanges, fault):
    assert any(result.startswith(fault) for result in faults(*exchanges)), faults(*exchanges)


def test_a_request_that_got_no_reply_may_be_sent_again():
    assert faults(replace(exchange(["task"]), reply=None), exchange(["task"])) == []


# ── the table ───────────────────────────────────────────────────────────────────────────────────────


def test_figures_count_every_message_of_every_request_and_only_later_passes_as_re_entry():
    requests = [
        exchange(["a" * 40], "b" * 8),
        exchange(["a" * 40, "b" * 8, "c" * 4]),
        exchange(["a" * 80]),
    ]
    result = figures.figures(Recording(TASKS["logs"], {}, requests, 0, 0.0, ""))
    assert (result.system, result.first, result.reentry) == (1, 10, 20)
    assert (result.sent, result.turns, result.passes) == (11 + 14 + 21, 3, 2)


def test_the_table_shows_both_figures_where_both_are_known():
    now = {"logs": figures.Figures(10, 20, 0, 300, 4, 1, 0, 0)}
    before = {"logs": dict.fromkeys(figures._COLUMNS, 5000)}
    assert "| logs | 5,000 → 10 | 5,000 → 20 | 5,000 → 0 | 5,000 → 300 |" in figures.table(now, before)
    assert "| logs | 10 | 20 | 0 | 300 | 4 | 1 | 0 | 0 |" in figures.table(now, {})
