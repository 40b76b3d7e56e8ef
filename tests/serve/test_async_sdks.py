"""The asynchronous clients of the official SDKs: several streams at once, and a stream that is left."""

import asyncio
from typing import Any

import anthropic
import openai
import pytest

pytestmark = pytest.mark.slow


def clients(service):
    """Both clients, each a context manager of its own."""
    client: Any = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.token, timeout=90)
    return client, anthropic.AsyncAnthropic(base_url=service.url, api_key=service.token, timeout=90)


def question(text):
    return [{"role": "user", "content": text}]


async def of_chat(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await client.chat.completions.create(model="good", messages=question("Async chat?"), **options)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return text, [reason for reason in reasons if reason], chunks[-1].usage.total_tokens > 0


async def of_responses(client):
    stream = await client.responses.create(model="good", input="Async response?", stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events[-1].response.output_text, events[-1].type


async def of_messages(client, model="good"):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    async with client.messages.stream(
        model=model, max_tokens=2000, messages=question("Async message?"), thinking=thinking
    ) as stream:
        kinds = {event.type async for event in stream}
        message = await stream.get_final_message()
    return message.content[-1].text, message.stop_reason, "thinking" in kinds


def test_three_streams_of_both_sdks_come_side_by_side(service):
    async def main():
        client, claude = clients(service)
        async with client, claude:
            return await asyncio.gather(of_chat(client), of_responses(client), of_messages(claude))

    chat, response, message = asyncio.run(main())
    assert chat == ("It is 42.", ["stop"], True)
    assert response == ("It is 42.", "response.completed")
    assert message == ("It is 42.", "end_turn", True)


def test_an_unverified_run_and_a_broken_gate_look_the_same_to_the_async_client(service):
    async def main():
        _, claude = clients(service)
        async with claude:
            unverified = await of_messages(claude, "wrong")
            with pytest.raises(anthropic.APIStatusError, match="a verifier could not be run"):
                await of_messages(claude, "broken")
            return unverified

    text, reason, _ = asyncio.run(main())
    assert (text, reason) == ("It is 41.", "max_tokens")


def test_a_stream_that_is_left_leaves_the_run_and_is_taken_up_again(service):
    async def main():
        client, _ = clients(service)
        async with client:
            stream = await client.chat.completions.create(
                model="slow",
                messages=question("Left?"),
                stream=True,
                extra_headers={"idempotency-key": "left"},
            )
            first = await anext(aiter(stream))
            await stream.close()
            state = service.state(first.id.removeprefix("chatcmpl-"))
            again = await client.chat.completions.create(
                model="slow",
                messages=question("Left?"),
                stream=True,
                extra_headers={"idempotency-key": "left"},
            )
            chunks = [chunk async for chunk in again]
            return first.id, state, chunks

    run_id, state, chunks = asyncio.run(main())
    assert state in ("queued", "running")
    assert {chunk.id for chunk in chunks} == {run_id}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "It is 42."
