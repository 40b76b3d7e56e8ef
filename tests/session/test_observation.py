"""What the model sees after a turn: missing code, sub-calls, limits that end soon, ``last_output``."""

import json

import pytest

from loop_runner.budget import Budget, Ledger
from loop_runner.records import Call, Message, Reply, Usage
from loop_runner.runs import replay
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.runs.models import shown_chars
from loop_runner.session import missing_code
from loop_runner.session.conversation import about_subcalls, observe, window_warning
from loop_runner.task import config
from loop_runner.workspace import layout
from tests.support.charging import charge
from tests.support.model_server import HttpError, Scripted
from tests.support.tasks import cell, ready, run_task, write_task


def outputs(run):
    return [path.read_text() for path in sorted(run.glob("passes/*/turns/*/output.txt"))]


def script(folder, **keys):
    path = folder / "script.yaml"
    path.write_text(path.read_text() + "\n" + json.dumps(keys)[1:-1] + "\n")


# ── a reply without code ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        ("", "Your reply was empty."),
        (" \n\t", "Your reply was empty."),
        ("I will look at the texts first.", "contained no Python code"),
        ("The answer is 42.", "contained no Python code"),
        ("```bash\ngrep -r x .\n```", "marked as bash; only Python is run"),
        ("Here:\n~~~sql\nSELECT 1\n~~~", "marked as sql; only Python is run"),
        ('```json\n{"a": 1}\n```\n', "marked as json; only Python is run"),
        ("```\nThis is my plan for it\n```", "contained nothing that could be run as Python"),
        ("<think>first I should look", "ended within a thought"),
    ],
)  # fmt: skip
def test_the_reminder_says_what_was_missing(reply, output):
    shown = observe(Reply(reply), None, 1, 20)
    assert output in shown
    assert "```repl" in shown
    assert "answer['ready']" in shown.replace('"', "'")


def test_a_reply_that_was_cut_is_told_so_and_not_that_it_held_no_code():
    shown = observe(Reply("```repl\nprint(1)", "max_tokens"), None, 1, 20)
    assert "cut at the model's output limit, so none of it was run" in shown
    assert "held no" not in shown


@pytest.mark.parametrize("mark", ["x" * 5000, "SYSTEM", "a.b-c+d#e"])
def test_a_mark_of_a_fence_is_shown_short_and_on_one_line(mark):
    output = missing_code.describe(f"```{mark}\nx\n```")
    assert len(output) < 120
    assert "\n" not in output


# ── sub-calls ───────────────────────────────────────────────────────────────────────────────────────


def call(kind="sub", *, tries=1, fingerprint="f", **usage):
    return Call(kind, "m", fingerprint, 0, "p", Reply("r", usage=Usage(**usage)), tries=tries)


@pytest.mark.parametrize(
    ("calls", "line"),
    [
        ([], ""),
        ([call("root", input_tokens=9)], ""),
        ([call("judge", input_tokens=9)], ""),
        (
            [call(input_tokens=1200, output_tokens=30, cache_read_tokens=100)],
            "Sub-calls of this turn: 1, 1,300 tokens in, 30 out.",
        ),
        (
            [call(), call("child", tries=3), call("root", tries=9)],
            "Sub-calls of this turn: 2 (2 sent again), 0 tokens in, 0 out.",
        ),
    ],
)
def test_one_line_says_what_the_sub_calls_of_a_turn_took(calls, line):
    assert about_subcalls(calls) == line


@pytest.mark.parametrize("made", [call(), call(tries=4), call("child", tries=2)])
def test_tries_survive_the_journal_and_old_calls_are_still_read(made):
    data = layout.call_to_json(made)
    assert layout.call_from_json(json.loads(json.dumps(data))) == made
    assert set(data) - {"tries"} == set(layout.call_to_json(call()))


def test_the_line_is_in_the_turn_and_a_replay_prints_the_same(tmp_path):
    root = [cell("llm_batch(['a', 'b', 'c'])"), cell("1"), ready("42")]
    task = write_task(tmp_path / "task", root=root, sub=[{"reply": "yes"}])
    assert run_task(task, tmp_path / "run").status == "verified"
    first, second, _ = outputs(tmp_path / "run")
    assert "Sub-calls of this turn: 3, " in first
    assert "Sub-calls" not in second
    assert replay.replay(tmp_path / "run").is_same


def test_a_try_that_is_made_again_is_counted(tmp_path, model_server):
    model_server.will_reply(cell("llm_query('x')"), HttpError(500), "yes", ready("42"))
    task = write_task(tmp_path / "task", root=[], model="anthropic:claude-test")
    context = RunContext(model_server.env)
    assert runs.start(config.read_task(task), tmp_path / "run", context).status == "verified"
    assert "Sub-calls of this turn: 1 (1 sent again)" in outputs(tmp_path / "run")[0]
    (made,) = [
        json.loads(line)
        for line in (tmp_path / "run/passes/0001/turns/0001/calls.jsonl").read_text().splitlines()
        if '"sub"' in line
    ]
    assert made["tries"] == 2


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────


def spent(budget, *turns):
    """The warnings of a ledger after turns that used so much each."""
    ledger = Ledger(budget, price=lambda _model, usage: usage.total_tokens / 1000)
    for usage, is_subcall in turns:
        ledger.begin_turn(3)
        charge(ledger, usage, usage.total_tokens / 1000, is_subcall=is_subcall)
    return ledger.nearly_reached()


@pytest.mark.parametrize(
    ("budget", "turns", "shown"),
    [
        (Budget(), [(Usage(10**6, 10**6), False)], {}),
        (Budget(tokens=1000), [(Usage(100, 50), False)], {}),
        (Budget(tokens=1000), [(Usage(300, 100), False)], {"tokens": "600 of 1,000 tokens are left"}),
        (Budget(tokens=100), [(Usage(90), False), (Usage(1), False)], {"tokens": "9 of 100 tokens are left"}),
        (Budget(tokens_in=100), [(Usage(40, 1), False)], {"tokens_in": "60 of 100 input tokens are left"}),
        (Budget(tokens_out=100), [(Usage(1, 40), False)], {"tokens_out": "60 of 100 output tokens are left"}),
        (Budget(usd=1.0), [(Usage(400), False)], {"usd": "0.60 of 1.00 US dollars are left"}),
        (Budget(subcalls=2), [(Usage(1), True)], {"subcalls": "1 of 2 sub-calls are left"}),
        (Budget(subcalls=20), [(Usage(1), True)], {}),
    ],
)  # fmt: skip
def test_a_limit_is_told_when_two_more_such_turns_would_reach_it(budget, turns, shown):
    assert spent(budget, *turns) == shown


@pytest.mark.parametrize(("seconds", "is_told"), [(50.0, False), (89.0, False), (91.0, True)])
def test_the_last_tenth_of_the_time_is_told(seconds, is_told):
    ledger = Ledger(Budget(wall_s=100.0))
    ledger.charge_turn(seconds)
    ledger.begin_turn(3)
    assert ("wall_s" in ledger.nearly_reached()) is is_told


def test_a_token_budget_is_told_of_before_it_ends_with_what_to_do(tmp_path, model_server):
    """It used to end with an empty answer and no word of it."""

    def answer(request):
        is_told = "Nearly used up: " in request.last_user_text
        return Scripted(ready("It is 42") if is_told else cell("print('looking')"), input_tokens=1000)

    model_server.answer_with(answer)
    task = write_task(
        tmp_path / "task", root=[], model="anthropic:claude-test", budget={"tokens": 9000, "turns": 30}
    )
    outcome = runs.start(config.read_task(task), tmp_path / "run", RunContext(model_server.env))
    assert outcome.status == "verified"
    shown = [output for output in outputs(tmp_path / "run") if "Nearly used up: " in output]
    assert "tokens are left" in shown[0]
    assert "Put your best answer there now" in shown[0]


@pytest.mark.parametrize(
    ("budget", "what"),
    [({"tokens": 9000}, "tokens"), ({"tokens_in": 9000}, "input tokens"), ({"subcalls": 6}, "sub-calls")],
)
def test_a_child_session_answers_before_the_budget_ends_it(tmp_path, model_server, budget, what):
    """It used to end without a word of it, and its work was lost."""
    shown = []

    def answer(request):
        if "for another model" not in request.system:
            if "printed" not in request.last_user_text and "Turn 1" not in request.last_user_text:
                return Scripted(cell("answer['content'] = rlm_query('q', 'x')"), input_tokens=10)
            return Scripted(cell("answer['ready'] = True"), input_tokens=10)
        shown.append(request.last_user_text)
        is_told = "Nearly used up: " in request.last_user_text
        return Scripted(ready("42") if is_told else cell("print('looking')"), input_tokens=1000)

    model_server.answer_with(answer)
    limits = {"child_turns": 30, **budget}
    task = write_task(tmp_path / "task", root=[], model="anthropic:claude-test", budget=limits)
    outcome = runs.start(config.read_task(task), tmp_path / "run", RunContext(model_server.env))
    assert outcome.status == "verified"
    assert outcome.answer.content == "42"
    assert f"{what} are left. When it runs out, this session ends without an answer." in shown[-1]
    assert "the pass" not in shown[-1]


def test_what_a_child_session_wrote_is_not_lost_when_the_budget_ends_it(tmp_path):
    root = [cell("try:\n    rlm_query('q', 'x')\nexcept LLMError as error:\n    print(error)"), ready("42")]
    task = write_task(tmp_path / "task", root=root, budget={"subcalls": 1})
    script = task.with_name("script.yaml")
    child = [{"replies": [cell("answer['content'] = 'half of it'"), cell("x = 1")]}]
    script.write_text(script.read_text() + "\n" + json.dumps({"child": child})[1:-1])
    run_task(task, tmp_path / "run")
    assert "the budget of 1 sub-call is used up; its draft: half of it" in outputs(tmp_path / "run")[0]


@pytest.mark.parametrize(("chars", "is_told"), [(100, False), (2000, False), (2500, True), (3100, True)])
def test_a_window_that_is_nearly_full_is_told(chars, is_told):
    shown = window_warning("", [Message("user", "x" * chars)], 1000)
    assert bool(shown) is is_told


def test_few_sub_calls_are_told_with_what_happens_then(tmp_path):
    root = [cell("llm_query('a')"), ready("42")]
    task = write_task(tmp_path / "task", root=root, sub=[{"reply": "yes"}], budget={"subcalls": 2})
    run_task(task, tmp_path / "run")
    printed = outputs(tmp_path / "run")[0]
    assert "1 of 2 sub-calls are left; when there is none, `llm_query` raises LLMError." in printed
    assert "Nearly used up" not in printed


def test_the_first_turns_of_a_run_without_limits_have_no_warning(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("print(1)"), ready("42")])
    run_task(task, tmp_path / "run")
    assert "Nearly used up" not in "".join(outputs(tmp_path / "run"))


# ── last_output ─────────────────────────────────────────────────────────────────────────────────────


def test_last_output_is_there_from_the_first_cell_on_and_holds_all_of_the_cell_before(tmp_path):
    root = [
        cell("print(repr(last_output))"),
        cell("print('x' * 30_000)"),
        cell("print(len(last_output))"),
        cell("print(repr(last_output))\n1 / 0"),
        cell("print(last_output.strip()[-17:])"),
        ready("42"),
    ]
    task = write_task(tmp_path / "task", root=root)
    run_task(task, tmp_path / "run")
    first, second, third, fourth, fifth, _ = outputs(tmp_path / "run")
    assert "''" in first
    assert "the whole text is in the variable last_output" in second
    assert "30001" in third
    assert r"'30001\n'" in fourth
    assert "division by zero" in fifth


@pytest.mark.parametrize(
    ("model", "requests", "shown"),
    [
        ("script:script.yaml", None, 20_000),
        ("script:script.yaml", 9000, 9000),
        ("script:script.yaml", 90_000, 20_000),
        ("openai:small", None, 8000),
        ("local:coder", None, 3000),
        ("local:coder", 20_000, 3000),
        ("anthropic:claude-test", None, 20_000),
    ],
)
def test_a_large_window_is_shown_more_of_an_output(tmp_path, model, requests, shown):
    kernel = {} if requests is None else {"max_output_chars": requests}
    task = config.read_task(write_task(tmp_path, root=[], model=model, kernel=kernel))
    assert shown_chars(task, model) == shown
    again = config.parse_task(config.dump_task(task), label="x", base_dir=tmp_path)
    assert shown_chars(again, model) == shown, "as a resumed run has it"
