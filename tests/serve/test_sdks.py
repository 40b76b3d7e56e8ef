"""The official SDKs, as installed: sync, async and streaming, and what each ending looks like to them."""

import asyncio
import json

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.support.service import CITED, TEXT

pytestmark = pytest.mark.slow
ASK = [{"role": "user", "content": "Which port?"}]
WITH_FILE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Which port?"},
            {"type": "file", "file": {"filename": "notes.txt", "file_data": "VGhlIHBvcnQgaXMgODA4MC4K"}},
        ],
    }
]


@pytest.fixture(scope="module")
def client(service):
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.token, timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def claude(service):
    with anthropic.Anthropic(base_url=service.url, api_key=service.token, timeout=90) as claude:
        yield claude


# ── chat completions ────────────────────────────────────────────────────────────────────────────────


def test_the_models_are_the_task_files_and_ask(client):
    names = {model.id for model in client.models.list()}
    assert {"ask", "good", "wrong"} <= names
    assert any(name.startswith("ask:script:") for name in names)
    assert client.models.retrieve("good").id == "good"


def test_a_document_in_a_message_is_quoted_in_a_verified_answer(client):
    raw = client.chat.completions.with_raw_response.create(model="ask", messages=WITH_FILE)
    answer = raw.parse()
    assert answer.choices[0].message.content == CITED
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0
    assert raw.headers["x-loop-runner-status"] == "verified"
    assert raw.headers["x-loop-runner-run"] == answer.id
    assert len(raw.headers["x-loop-runner-commit"]) == 40
    assert answer.loop_runner["citations"][0]["ok"]
    assert answer.loop_runner["verdicts"][0]["verdict"] == "accepted"


def test_a_stream_has_progress_then_the_answer_then_the_usage(client):
    stream = client.chat.completions.create(
        model="good", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "It is 42."
    assert any("asking the model" in getattr(delta, "reasoning_content", "") for delta in deltas)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.prompt_tokens > 0


def test_an_unverified_answer_ends_with_length(client):
    answer = client.chat.completions.create(model="wrong", messages=ASK)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("It is 41.", "length")
    assert answer.loop_runner["verified"] is False


def test_a_broken_gate_is_an_error_and_starts_one_run_however_often_it_is_retried(client, service):
    before = service.metric("loop_runner_processes_started_total")
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="broken", messages=ASK)
    assert raised.value.status_code == 502
    assert raised.value.code == "gate_broken"
    assert raised.value.response.headers["x-loop-runner-status"] == "broken"
    assert service.metric("loop_runner_processes_started_total") == before + 1


def test_a_broken_gate_is_an_error_in_a_stream_too(client):
    messages = [{"role": "user", "content": "Streamed?"}]
    with pytest.raises(openai.APIError, match="could not be run"):
        list(client.chat.completions.create(model="broken", messages=messages, stream=True))


def test_a_provider_that_fails_is_an_error(client):
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="empty", messages=ASK)
    assert raised.value.code == "run_failed"


class Port(BaseModel):
    port: int


def test_a_response_format_is_a_gate(client):
    answer = client.chat.completions.parse(model="data", messages=ASK, response_format=Port)
    assert answer.choices[0].message.parsed == Port(port=8080)
    assert len(answer.loop_runner["verdicts"]) == 2


def test_several_answers_come_side_by_side_to_an_async_client(service):
    async def main():
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.token) as client:
            requests = [
                client.chat.completions.create(model="good", messages=[{"role": "user", "content": text}])
                for text in ("One?", "Two?")
            ]
            return await asyncio.gather(*requests)

    answers = asyncio.run(main())
    assert [answer.choices[0].finish_reason for answer in answers] == ["stop", "stop"]
    assert answers[0].id != answers[1].id


# ── responses ───────────────────────────────────────────────────────────────────────────────────────


def test_a_response_stream_has_numbers_without_gaps_and_can_be_continued_anywhere(client):
    events = list(client.responses.create(model="good", input="Streamed?", stream=True))
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    done = events[-1].response
    assert done.output_text == "It is 42."
    assert {item.type for item in done.output} == {"reasoning", "code_interpreter_call", "message"}
    rest = list(client.responses.retrieve(done.id, stream=True, starting_after=4))
    assert [event.sequence_number for event in rest] == numbers[5:]
    assert [event.type for event in rest] == [event.type for event in events[5:]]
    assert client.responses.retrieve(done.id).output == done.output


def test_a_background_response_answers_at_once_and_is_fetched_later(client, service):
    response = client.responses.create(
        model="wrong", input="Later?", background=True, metadata={"ticket": "7"}, instructions="Be short."
    )
    assert response.status in ("queued", "in_progress")
    service.wait(response.id)
    response = client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("incomplete", "It is 41.")
    assert response.incomplete_details.reason == "max_output_tokens"
    assert (response.metadata, response.instructions) == ({"ticket": "7"}, "Be short.")
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    assert not (service.runs / response.id).exists()


def test_a_cancelled_response_keeps_its_commits(client, service):
    response = client.responses.create(model="slow", input="Cancelled?", background=True)
    service.wait(response.id, "running")
    next(
        event
        for event, _ in [(kind, data) for kind, data in stream_until(service, response.id, "turn_committed")]
    )
    client.responses.cancel(response.id)
    service.wait(response.id, "cancelled")
    assert client.responses.retrieve(response.id).status == "cancelled"
    assert service.get(f"/v1/runs/{response.id}")["loop_runner"]["commit"]


def stream_until(service, run_id, kind):
    from tests.support.service import parsed

    with service.http.stream("GET", f"/v1/runs/{run_id}/events") as response:
        for result in parsed(response.iter_lines()):
            if result[0] == kind:
                yield result
                return


def test_a_follow_up_forks_the_run_with_the_new_question(client, service):
    first = client.responses.create(model="good", input="First?")
    second = client.responses.create(model="good", input="And the other?", previous_response_id=first.id)
    assert (second.status, second.previous_response_id) == ("completed", first.id)
    assert second.id != first.id
    log = (service.runs / second.id / "prompt.md").read_text()
    assert "And the other?" in log


# ── files ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_is_an_input_and_is_kept_once(client, service):
    first = client.files.create(file=("notes.txt", TEXT.encode()), purpose="user_data")
    again = client.files.create(file=("notes.txt", TEXT.encode()), purpose="user_data")
    assert first.id != again.id
    assert len([path for path in (service.runs / ".serve/files").iterdir() if any(path.iterdir())]) == 1
    parts = [{"type": "input_text", "text": "Which port?"}, {"type": "input_file", "file_id": first.id}]
    response = client.responses.create(model="ask", input=[{"role": "user", "content": parts}])
    assert (response.status, response.output_text) == ("completed", CITED)
    assert client.files.content(first.id).read() == TEXT.encode()
    assert {item.id for item in client.files.list()} >= {first.id, again.id}
    client.files.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(first.id)
    assert client.files.content(again.id).read() == TEXT.encode()


# ── Anthropic ───────────────────────────────────────────────────────────────────────────────────────


def test_a_message_with_a_document_is_answered(claude):
    source = {"type": "text", "media_type": "text/plain", "data": TEXT}
    content = [
        {"type": "document", "title": "notes.txt", "source": source},
        {"type": "text", "text": "Which port?"},
    ]
    message = claude.messages.create(
        model="ask", max_tokens=1000, messages=[{"role": "user", "content": content}], system="Be short."
    )
    assert (message.content[0].text, message.stop_reason) == (CITED, "end_turn")
    assert message.usage.output_tokens > 0


def test_a_message_streams_its_progress_as_thinking(claude):
    with claude.messages.stream(
        model="good", max_tokens=9000, messages=ASK, thinking={"type": "enabled", "budget_tokens": 2000}
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_message()
    assert {"thinking", "content_block_delta", "message_stop"} <= kinds
    assert "asking the model" in message.content[0].thinking
    assert (message.content[1].text, message.stop_reason) == ("It is 42.", "end_turn")


def test_an_unverified_message_ends_with_max_tokens(claude):
    with claude.messages.stream(model="wrong", max_tokens=1000, messages=ASK) as stream:
        message = stream.get_final_message()
    assert (message.content[0].text, message.stop_reason) == ("It is 41.", "max_tokens")


def test_a_broken_gate_is_an_error_of_the_messages_api(claude):
    with pytest.raises(anthropic.InternalServerError) as raised:
        claude.messages.create(model="broken", max_tokens=1000, messages=ASK)
    assert "gate_broken" in str(raised.value.body)


def test_tokens_are_estimated(claude):
    assert claude.messages.count_tokens(model="ask", messages=ASK).input_tokens == 3


def test_an_unknown_model_is_not_found(claude, client):
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude-9", max_tokens=10, messages=ASK)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=ASK)


def test_what_a_run_reports_is_json_of_the_same_verdict_everywhere(client, service):
    answer = client.chat.completions.create(
        model="good", messages=ASK, extra_headers={"Idempotency-Key": "x"}
    )
    result = service.get(f"/v1/runs/{answer.id}")
    assert result["loop_runner"] == json.loads(json.dumps(answer.loop_runner))
