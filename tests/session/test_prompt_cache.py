"""What is sent again is sent with the same bytes, over turns and passes, so that a provider can keep it."""

import json
from itertools import pairwise

import pytest

from loop_runner.events import Event
from loop_runner.loop import carried
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.model_server import Scripted
from tests.support.tasks import cell, ready, run_task, write_task

LOOK = cell("print('x' * 5000)")


@pytest.fixture
def play(tmp_path, model_server):
    """Run a task whose root model plays ``replies``; gives the requests as they were sent."""

    def run(replies, **keys):
        model_server.will_reply(*replies)
        keys = {"model": "anthropic:claude-test", "budget": {"turns": 12, "passes": 9}, **keys}
        task = write_task(tmp_path / "task", root=[], **keys)
        env = {**model_server.env, "OPENAI_BASE_URL": model_server.openai_url}
        context = RunContext(env, (events.append,))
        assert runs.start(config.read_task(task), tmp_path / "run", context).status == "verified"
        return model_server.prompts

    events: list[Event] = []
    run.events = events  # type: ignore[attr-defined]
    return run


def blocks(request):
    """The blocks of a request in the order in which a provider's cache sees them, and which are marked."""
    body = request.body
    result = [*body.get("tools", ()), *body["system"]]
    result += [block for message in body["messages"] for block in message["content"]]
    plain = [json.dumps({**block, "cache_control": None}, sort_keys=True) for block in result]
    marked = [at for at, block in enumerate(result) if "cache_control" in block]
    return plain, [*marked, len(plain) - 1] if "cache_control" in body else marked


def cached(requests):
    """For each request how many blocks it shares with an earlier one up to a mark of that one."""
    stored: list[list[str]] = []
    hits = []
    for request in requests:
        plain, marks = blocks(request)
        hits.append(max((len(item) for item in stored if plain[: len(item)] == item), default=0))
        stored += [plain[: mark + 1] for mark in marks]
    return hits


@pytest.mark.parametrize("code_as", ["fence", "tool"])
def test_each_turn_reads_the_whole_request_before_it_from_the_cache(play, code_as):
    requests = play([LOOK, LOOK, LOOK, ready("42")], code_as=code_as)
    lengths = [len(blocks(request)[0]) for request in requests]
    assert cached(requests) == [0, *lengths[:-1]]
    for before, after in pairwise(requests):
        prefix = json.dumps(before.body["messages"], ensure_ascii=False, separators=(",", ":"))[:-1]
        assert prefix.encode() in after.raw


def test_each_pass_reads_system_prompt_and_task_from_the_cache_and_writes_them_once(play):
    requests = play([LOOK, ready("1"), LOOK, ready("2"), LOOK, ready("42")])
    assert cached(requests)[2] == 2, "system and prompt"
    assert cached(requests)[4] == 2
    assert len({json.dumps(request.body["system"]) for request in requests}) == 1
    first_blocks = {json.dumps(request.body["messages"][0]["content"][0]) for request in requests}
    assert len(first_blocks) == 1


def test_no_request_has_more_marks_than_the_api_takes(play):
    for request in play([LOOK, ready("1"), ready("42")], code_as="tool"):
        assert len(blocks(request)[1]) <= 4


def test_a_window_reads_all_but_what_it_cut_from_the_cache(play):
    requests = play([LOOK] * 7 + [ready("42")], history={"window": 3})
    lengths = [len(blocks(request)[0]) for request in requests]
    missed = [at for at, hit in enumerate(cached(requests)) if at and hit < lengths[at - 1]]
    assert missed == [6], "with six turns done, the first three are cut, once"
    assert cached(requests)[6] == 2, "system and prompt stay"


def test_a_summary_leaves_system_and_prompt_as_they_were_and_is_asked_for_with_all_the_rest(
    play, model_server
):
    """The window of a model that nobody knows is 32,768 tokens; seven outputs fill seven tenths of it."""

    def answer(request):
        if "Write no code now" in request.last_user_text:
            return "SUMMARY: it is 42"
        return ready("42") if len(request.messages) == 5 and summed_up(request) else cell("print('y' * 7900)")

    def summed_up(request):
        return "SUMMARY" in request.messages[1][1]

    model_server.answer_with(answer)
    requests = play([], model="openai:small", history="compact")
    sent = next(at for at, item in enumerate(requests) if "Write no code now" in item.last_user_text)
    before, asking, after, last = requests[sent - 1 :]
    assert len({request.system for request in requests}) == 1
    assert asking.messages[: len(before.messages)] == before.messages, "from a warm cache"
    assert after.messages[0] == before.messages[0]
    assert after.messages[1] == ("assistant", "SUMMARY: it is 42")
    assert [role for role, _ in after.messages] == ["user", "assistant", "user"]
    assert last.messages[:3] == after.messages, "warm again"


def test_the_log_tells_how_much_came_from_the_cache(play):
    play(
        [
            Scripted(LOOK, input_tokens=100, cache_write_tokens=900),
            Scripted(ready("42"), input_tokens=100, cache_read_tokens=900),
        ]
    )
    ended = next(event for event in play.events if event.kind == "pass_ended")
    assert ended.data["cache"] == {"read": 900, "written": 900, "not_cached": 200, "hit_rate": 0.45}


def test_what_a_pass_is_told_does_not_grow_with_the_number_of_passes(tmp_path):
    note = "open('notes/a.md', 'a').write('n' * 9000)" if False else "x = 'n' * 9000; print(x)"
    replies = [
        cell(f"{note}\nanswer['content'] = 'wrong {n}' * 3000; answer['ready'] = True") for n in range(30)
    ]
    task = write_task(tmp_path / "task", root=[*replies, ready("42")], budget={"passes": 31, "turns": 2})
    assert run_task(task, tmp_path / "run").status == "verified"
    sizes = [len(path.read_bytes()) for path in sorted((tmp_path / "run/passes").glob("*/injected.md"))]
    assert len(sizes) == 31
    assert max(sizes) < 24_000 + 3000, "the share of the state, and the headings"
    settled = sizes[carried.MAX_HISTORY + 14 :]
    assert max(settled) - min(settled) < 800, "lists end, numbers get longer"


def test_a_tool_call_runs_as_the_turns_code_and_the_next_turn_answers_it(play):
    first, second = play([Scripted("I look.", code="print('seen: 4' + '2')"), ready("42")], code_as="tool")
    assert first.body["tools"][0]["name"] == "repl"
    assert "with the tool `repl`" in first.system
    assert [block["type"] for block in second.body["messages"][1]["content"]] == ["text", "tool_use"]
    (result,) = second.body["messages"][2]["content"]
    assert result["type"] == "tool_result"
    assert "seen: 42" in result["content"][0]["text"]


@pytest.mark.parametrize(
    ("history", "output", "not_said"),
    [
        ("full", "", "This conversation is kept short"),
        ({"window": 3}, "before the last 3 (at times up to 5) are cut", "asked for a summary"),
        ("compact", "asked for a summary", "are cut to their beginning"),
    ],
)
def test_the_model_is_told_what_its_conversation_keeps_and_nothing_else(play, history, output, not_said):
    (request,) = play([ready("42")], history=history)
    assert output in " ".join(request.system.split())
    assert not_said not in " ".join(request.system.split())
