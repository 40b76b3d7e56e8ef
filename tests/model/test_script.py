"""``script:FILE`` plays what the file says and names the line of what it cannot read."""

import asyncio
import re
from pathlib import Path
from textwrap import dedent

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.limiter import Limiter
from loop_runner.model.providers.script import ScriptClient, read_script
from loop_runner.records import Message, Reply, Request, RequestKind, Usage


def client(folder: Path, text: str) -> ScriptClient:
    path = folder / "replies.yaml"
    path.write_text(dedent(text), encoding="utf-8")
    return ScriptClient(read_script(path))


def ask(player: ScriptClient, text: str = "hello", *, kind: RequestKind = "root", ordinal: int = 0) -> Reply:
    request = Request("script:x", (Message("user", text),), kind=kind, ordinal=ordinal)
    return asyncio.run(player.complete(request))


def test_root_replies_are_chosen_by_ordinal_so_that_a_resumed_run_gets_the_same(tmp_path: Path) -> None:
    player = client(tmp_path, "root: [first, second, third]")
    assert [ask(player, ordinal=n).text for n in (2, 0, 1)] == ["third", "first", "second"]


def test_a_used_up_script_says_how_many_replies_there_are(tmp_path: Path) -> None:
    player = client(tmp_path, "root: [first, second]")
    with pytest.raises(ModelError, match="has 2 root replies and was asked for reply number 3"):
        ask(player, ordinal=2)


def test_the_first_rule_that_fits_answers_a_sub_call(tmp_path: Path) -> None:
    player = client(
        tmp_path,
        r"""
        sub:
          - contains: "a+b"
            reply: literally
          - match: "box (\\d+) is (\\w+)"
            reply: "{2} {1} {3}"
          - reply: anything
        judge:
          - reply: "yes"
        """,
    )
    assert ask(player, "what is a+b?", kind="sub").text == "literally"
    assert ask(player, "box 7 is {1}green", kind="sub").text == "anything"
    assert ask(player, "box 7 is green", kind="sub").text == "green 7 {3}"
    assert ask(player, "box 7 is green", kind="judge").text == "yes"


def test_a_sub_call_that_no_rule_fits_is_an_error_that_shows_the_prompt(tmp_path: Path) -> None:
    player = client(tmp_path, "sub: [{contains: x, reply: y}]")
    with pytest.raises(ModelError, match=r"no rule under `sub:` in replies\.yaml fits the prompt: 'hello'"):
        ask(player, kind="sub")


def test_usage_is_estimated_from_lengths_unless_the_file_gives_it(tmp_path: Path) -> None:
    assert ask(client(tmp_path, "root: [abcdefgh]"), "x" * 40).usage == Usage(10, 2)
    player = client(tmp_path, "root: [a]\nusage: {input_tokens: 7, cache_read_tokens: 3}")
    assert ask(player).usage == Usage(7, 0, 3, 0)


def test_faults_happen_where_the_file_says(tmp_path: Path) -> None:
    player = client(
        tmp_path,
        """
        root: [one, two, "0123456789", four]
        sub: [{reply: ok}]
        faults:
          - {on: root 1, kind: refusal}
          - {on: root 2, kind: error}
          - {on: root 3, kind: max_tokens}
          - {on: sub 2, kind: overloaded}
        """,
    )
    assert ask(player, ordinal=0).stop_reason == "refusal"
    with pytest.raises(ModelError, match="error, as scripted for root request 2"):
        ask(player, ordinal=1)
    cut = ask(player, ordinal=2)
    assert (cut.text, cut.stop_reason) == ("01234", "max_tokens")
    assert ask(player, ordinal=3).text == "four"
    assert ask(player, kind="sub").text == "ok"
    with pytest.raises(ModelError, match="overloaded"):
        ask(player, kind="sub")


def test_a_hanging_request_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    player = client(tmp_path, "root: [x]\nfaults: [{on: root 1, kind: hang}]")

    async def wait() -> None:
        request = Request("script:x", (Message("user", "x"),))
        await asyncio.wait_for(player.complete(request), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())


def test_latency_is_waited(tmp_path: Path) -> None:
    player = client(tmp_path, "root: [x]\nlatency_s: 0.05")

    async def timed() -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await player.complete(Request("script:x", (Message("user", "x"),)))
        return loop.time() - started

    assert asyncio.run(timed()) >= 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root: [a]\nsubs: []", "line 2: unknown key `subs`\n  what to do: did you mean `sub`"),
        ("root: a", "line 1: expected a list"),
        ("root:\n  - {a: b}", "line 2: expected a text"),
        ("sub:\n  - reply: a\n  - contains: b", "line 3: a rule without `reply`"),
        ("sub:\n  - {reply: a, match: b, contains: c}", "line 2: a rule with both"),
        ("sub:\n  - reply: a\n    match: '('", "line 3: not a regular expression"),
        ("latency_s: soon", "line 1: expected a number, not 'soon'"),
        ("latency_s: -1", "line 1: expected a number from 0 up"),
        ("faults:\n  - {on: root, kind: error}", "line 2: `on` takes a kind and a number"),
        ("faults:\n  - {on: root 1, kind: fire}", "line 2: unknown fault 'fire'"),
        ("root: [", "line 1: not valid YAML"),
        ("- a", "line 1: expected a mapping of root"),
        ("", "line 1: expected a mapping of root"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client(tmp_path, text)
    assert message in str(caught.value)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no script file"):
        read_script(tmp_path / "nowhere.yaml")


def test_the_examples_in_the_documentation_can_be_read_and_say_what_the_text_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "script-models.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    player = client(tmp_path, blocks[0])
    assert "41" in ask(player, ordinal=0).text
    assert ask(player, "How many boxes are on shelf 6?", kind="sub").text == "6 times 7 is 42: 42 boxes"
    assert client(tmp_path, blocks[2])


def test_a_scripted_throttle_is_waited_out_and_a_full_window_is_a_reply(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "sub: [{reply: fine}]\nfaults: [{on: sub 1, kind: throttled}, {on: sub 2, kind: window}]\n"
    )
    request = Request("script:s.yaml", (Message("user", "x"),), kind="sub")

    async def run() -> list[Reply]:
        client = ScriptClient(read_script(tmp_path / "s.yaml"))
        limiter = Limiter("script", 4)
        replies = [await limiter.run(lambda: client.complete(request)) for _ in range(3)]
        assert limiter.retries == 1
        return replies

    first, second, third = asyncio.run(run())
    assert (first.text, third.text) == ("fine", "fine")
    assert second.stop_reason == "model_context_window_exceeded"
