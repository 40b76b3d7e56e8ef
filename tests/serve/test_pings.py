"""A stream that is silent between two events: the clients read on after each ping."""

from typing import Any

import openai
import pytest

from loop_runner.serve.service_settings import Settings
from loop_runner.serve.streams import PING, frame
from tests.support.service import in_thread, write_models


def test_a_ping_behind_a_numbered_event_is_no_event_for_the_sdk():
    decoder = openai._streaming.SSEDecoder()
    stream = frame({"a": 1}, number=1) + PING + PING + frame({"b": 2}, number=2) + PING
    assert [event.json() for event in decoder.iter_bytes(iter([stream]))] == [{"a": 1}, {"b": 2}]
    pieces = [frame({"a": 1}, number=1), PING, PING, frame({"b": 2}, number=2), PING]
    assert [event.json() for event in decoder.iter_bytes(iter(pieces))] == [{"a": 1}, {"b": 2}]


@pytest.mark.slow
def test_a_run_that_is_silent_for_long_is_streamed_to_its_end(tmp_path, monkeypatch):
    for name, value in write_models(tmp_path / "tasks").items():
        monkeypatch.setenv(name, value)
    settings = Settings(runs=tmp_path / "runs", tasks=tmp_path / "tasks", port=0, ping_s=0.05)
    with in_thread(settings) as service:
        client: Any = openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.token, timeout=90)
        events = list(client.responses.create(model="good", input="Silent?", stream=True))
        question = [{"role": "user", "content": "Silent chat?"}]
        chunks = list(client.chat.completions.create(model="good", messages=question, stream=True))
        client.close()
    assert events[-1].response.output_text == "It is 42."
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "It is 42."
