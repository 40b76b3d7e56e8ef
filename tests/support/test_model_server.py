"""The test server is believed by the real SDK, so what it says about clients counts."""

import anthropic
import httpx2
import pytest

from tests.support.model_server import HttpError, ModelServer, Received, Scripted


def sdk(server: ModelServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0)


def ask(server: ModelServer, text: str = "hello") -> anthropic.types.Message:
    with sdk(server) as client:
        return client.messages.create(
            model="m", max_tokens=10, system="be brief", messages=[{"role": "user", "content": text}]
        )


def test_the_sdk_reads_its_replies_in_order_and_every_request_is_kept() -> None:
    with ModelServer() as server:
        server.will_reply("one", Scripted("two", "max_tokens", cache_read_tokens=9))
        assert ask(server).content[0].text == "one"  # type: ignore[union-attr]
        second = ask(server, "again")
        assert (second.stop_reason, second.usage.cache_read_input_tokens) == ("max_tokens", 9)
        received = server.requests[1]
    assert (received.first_user_text, received.system, received.path) == ("again", "be brief", "/v1/messages")
    assert b'"again"' in received.raw


def test_the_sdk_reads_its_streams() -> None:
    text = "A reply that is longer than one event, with ünïcode, so that it comes in pieces. " * 3
    with ModelServer() as server, sdk(server) as client:
        server.will_reply(Scripted(text, "refusal", output_tokens=77))
        with client.messages.stream(
            model="m", max_tokens=10, messages=[{"role": "user", "content": "x"}]
        ) as stream:
            pieces = list(stream.text_stream)
            message = stream.get_final_message()
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert (message.stop_reason, message.usage.output_tokens) == ("refusal", 77)


def test_errors_are_the_ones_that_the_sdk_knows() -> None:
    with ModelServer() as server:
        server.will_reply(HttpError(529, "overloaded_error", "busy"))
        with pytest.raises(anthropic.APIStatusError) as caught:
            ask(server)
    assert (caught.value.status_code, caught.value.type, caught.value.request_id) == (
        529,
        "overloaded_error",
        "req_test",
    )


def test_a_request_without_a_scripted_reply_fails() -> None:
    with ModelServer() as server, pytest.raises(anthropic.BadRequestError, match="no reply left"):
        ask(server)


def test_a_function_may_answer() -> None:
    def answer(received: Received) -> str:
        return received.last_user_text.upper()

    with ModelServer() as server:
        server.answer_with(answer)
        assert ask(server).content[0].text == "HELLO"  # type: ignore[union-attr]


def test_will_run_wraps_each_cell_in_a_fence() -> None:
    with ModelServer() as server:
        server.will_run("print(1)")
        assert ask(server).content[0].text.endswith("```repl\nprint(1)\n```")  # type: ignore[union-attr]


def test_chat_completions_play_the_same_script() -> None:
    with ModelServer() as server:
        server.will_reply(Scripted("hi", "max_tokens", input_tokens=3, cache_read_tokens=4))
        body = {
            "model": "m",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        }
        answer = httpx2.post(f"{server.openai_url}/chat/completions", json=body).json()
        assert (server.requests[0].system, server.requests[0].first_user_text) == ("s", "u")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["prompt_tokens"] == 7


def test_closing_cuts_what_is_still_open() -> None:
    with ModelServer() as server, httpx2.Client() as client:
        server.will_reply("x")
        client.post(f"{server.url}/v1/messages", json={"model": "m", "messages": []})
        server.close()
        with pytest.raises(httpx2.TransportError):
            client.post(f"{server.url}/v1/messages", json={"model": "m", "messages": []})
