"""Five clients, told apart by their payloads; answers that each of them takes."""

import json
from typing import Any

import pytest

from loop_runner.agents import protocol
from loop_runner.agents.protocol import ALLOW, PORTABLE_KEYS, Decision

PAYLOADS: dict[str, dict[str, Any]] = {
    "claude": {
        "session_id": "s1",
        "transcript_path": "/t.jsonl",
        "cwd": "/work",
        "prompt_id": "p",
        "permission_mode": "default",
        "hook_event_name": "Stop",
        "stop_hook_active": False,
        "last_assistant_message": "done",
        "background_tasks": [],
    },
    "codex": {
        "session_id": "s1",
        "turn_id": "t",
        "transcript_path": None,
        "cwd": "/work",
        "hook_event_name": "Stop",
        "model": "m",
        "permission_mode": "default",
        "stop_hook_active": True,
        "last_assistant_message": None,
    },
    "gemini": {
        "session_id": "s1",
        "cwd": "/work",
        "hook_event_name": "AfterAgent",
        "prompt": "p",
        "prompt_response": "done",
        "stop_hook_active": False,
    },
    "cursor": {"conversation_id": "s1", "hook_event_name": "stop", "status": "completed", "loop_count": 2},
    "copilot": {
        "sessionId": "s1",
        "timestamp": 1,
        "cwd": "C:\\work",
        "transcriptPath": "",
        "stopReason": "end_turn",
    },
}


def read(payload):
    event = protocol.read(payload)
    assert event is not None
    return event


def encoded(data, prefix=b""):
    return prefix + json.dumps(data).encode()


@pytest.mark.parametrize("client", protocol.CLIENTS)
def test_a_client_is_known_by_its_payload(client):
    event = read(encoded(PAYLOADS[client]))
    assert (event.client, event.kind, event.session_id) == (client, "stop", "s1")


def test_a_byte_order_mark_and_the_other_dialect_of_copilot_are_read():
    assert read(encoded(PAYLOADS["cursor"], b"\xef\xbb\xbf")).is_continuing
    other = {"session_id": "s1", "timestamp": 1, "cwd": "/", "stop_reason": "end_turn"}
    assert read(encoded(other)).client == "copilot"


def test_the_last_message_comes_from_the_payload_and_may_be_missing():
    assert read(encoded(PAYLOADS["claude"])).last_message == "done"
    assert read(encoded(PAYLOADS["gemini"])).last_message == "done"
    assert read(encoded(PAYLOADS["codex"])).last_message is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b"{}",
        b'"Stop"',
        b"\xff\xfe\x00",
        b'{"hook_event_name": 3}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_payload_is_no_event(payload):
    assert protocol.read(payload) is None


def test_a_part_of_a_session_and_a_stop_by_the_person_are_never_blocked():
    sub = {**PAYLOADS["claude"], "hook_event_name": "SubagentStop", "agent_id": "a"}
    assert read(encoded(sub)).kind == "other"
    aborted = {**PAYLOADS["cursor"], "status": "aborted"}
    assert read(encoded(aborted)).kind == "other"


@pytest.mark.parametrize("client", protocol.CLIENTS)
def test_an_answer_is_what_the_client_reads(client):
    assert protocol.write(client, ALLOW) == {}
    blocked = protocol.write(client, Decision("go on", "a notice"))
    assert "go on" in blocked.values()
    if client in ("claude", "codex"):
        assert set(blocked) <= set(PORTABLE_KEYS), "Codex ends the turn for any other key"
        assert "continue" not in blocked, "next to a block it ends the turn"
    assert all(protocol.write(client, Decision("")).values()), "Codex ends the turn for an empty reason"
