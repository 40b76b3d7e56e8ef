"""The outer loop with a scripted model, a real kernel and real git: what a run does and what it leaves."""

import json
import subprocess

from loop_runner.events import Event
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.workspace.history import History
from tests.support.tasks import cell, ready, run_task, write_task


def git(folder, *args):
    return subprocess.run(
        ["git", "-C", folder, *args], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_reason_for_a_rejection_is_in_the_next_prompt(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")])
    outcome = run_task(task, tmp_path / "run")
    assert outcome.status == "verified"
    assert outcome.answer.content == "42"
    injected = (tmp_path / "run/passes/0002/injected.md").read_text()
    assert injected.startswith("What is the answer?")
    assert "42" in injected.split("## What failed", 1)[1]


def test_both_passes_are_given_the_same_prompt_bytes(tmp_path):
    task = write_task(
        tmp_path / "task", root=[ready("41"), ready("42")], prompt="Häßlich\t {{ 7*7 }} {% x %}\n"
    )
    run_task(task, tmp_path / "run")
    prompt = (tmp_path / "run/prompt.md").read_bytes()
    assert (tmp_path / "run/passes/0001/injected.md").read_bytes() == prompt
    assert (tmp_path / "run/passes/0002/injected.md").read_bytes().startswith(prompt)
    assert b"{{ 7*7 }}" in prompt


def test_the_history_tells_the_story(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("x = 1"), ready("41"), ready("42")])
    run_task(task, tmp_path / "run")
    assert git(tmp_path / "run", "log", "--first-parent", "--format=%s").splitlines() == [
        "pass 2: accepted",
        "pass 1: rejected",
        "run: scripted",
    ]
    subjects = git(tmp_path / "run", "log", "--format=%s").splitlines()
    assert sorted(subjects) == sorted(
        [
            "pass 2: accepted",
            "pass 2 turn 1: ran, ready",
            "pass 1: rejected",
            "pass 1 turn 2: ran, ready",
            "pass 1 turn 1: ran",
            "run: scripted",
        ]
    )
    assert git(tmp_path / "run", "status", "--porcelain") == ""
    git(tmp_path / "run", "fsck", "--strict")


def test_variables_and_notes_of_a_rejected_pass_are_there_in_the_next(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[
            cell(
                "import pathlib\nfound = [40, 2]\npathlib.Path('notes').mkdir(exist_ok=True)\n"
                "pathlib.Path('notes/a.md').write_text('look at line 1')"
            ),
            ready("41"),
            cell("FINAL(sum(found))"),
        ],
    )
    outcome = run_task(task, tmp_path / "run")
    assert outcome.status == "verified"
    injected = (tmp_path / "run/passes/0002/injected.md").read_text()
    assert "look at line 1" in injected
    assert "found: list" in injected


def test_when_the_passes_are_used_up_the_run_is_unverified_with_the_last_answer(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("40"), ready("41")], budget={"passes": 2})
    outcome = run_task(task, tmp_path / "run")
    assert outcome.status == "unverified"
    assert outcome.answer.content == "41"
    assert "2 passes" in outcome.reason


def test_turns_that_run_out_still_have_the_draft_verified(tmp_path):
    task = write_task(
        tmp_path / "task", root=[cell("answer['content'] = 'it is 42'"), cell("x = 1")], budget={"turns": 2}
    )
    assert run_task(task, tmp_path / "run").status == "verified"


def test_an_empty_answer_is_rejected_without_asking_a_verifier(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[cell("x = 1"), ready("42")],
        budget={"turns": 1},
        verifiers=[{"command": ["sh", "-c", "test -s answer.md || exit 1; grep -q 42 answer.md"]}],
    )
    outcome = run_task(task, tmp_path / "run")
    assert outcome.status == "verified"
    verdict = json.loads((tmp_path / "run/passes/0001/verdict.json").read_text())
    assert verdict["reports"] == []
    assert "still empty" in verdict["reason"]


def test_a_broken_gate_ends_the_run_without_judging_the_answer(tmp_path):
    task = write_task(
        tmp_path / "task", root=[ready("42")], verifiers=[{"command": ["sh", "-c", "kill -9 $$"]}]
    )
    outcome = run_task(task, tmp_path / "run")
    assert outcome.status == "broken"
    assert "SIGKILL" in outcome.reason
    assert History(tmp_path / "run").head().turn == 1, "the pass stays open, so that resume asks again"


def test_a_gate_that_works_again_is_asked_again_on_resume(tmp_path):
    machine = tmp_path / "machine"
    machine.mkdir()
    code = f"test -e {machine}/works || kill -9 $$; grep -q 42 answer.md"
    gate = {"command": {"run": ["sh", "-c", code], "show": [str(machine)]}}
    task = write_task(tmp_path / "task", root=[ready("42")], verifiers=[gate])
    assert run_task(task, tmp_path / "run").status == "broken"
    (machine / "works").touch()
    outcome = runs.resume(tmp_path / "run", RunContext({}))
    assert (outcome.status, outcome.spend.turns) == ("verified", 1)


def test_a_run_that_ended_unverified_goes_on_with_a_larger_budget(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    assert run_task(task, tmp_path / "run").status == "unverified"
    outcome = runs.resume(tmp_path / "run", RunContext({}), (("budget.passes", 2),))
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)


def test_resuming_a_verified_run_says_so_and_does_nothing(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("42")])
    first = run_task(task, tmp_path / "run")
    again = runs.resume(tmp_path / "run", RunContext({}))
    assert (again.status, again.checkpoint.commit) == ("verified", first.checkpoint.commit)


def test_an_interrupted_run_ends_after_the_turn_and_goes_on(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("x = 41"), cell("FINAL(x + 1)")])
    events: list[Event] = []
    context = RunContext({}, (events.append,), lambda: any(e.kind == "turn_committed" for e in events))
    from loop_runner.task import config

    outcome = runs.start(config.read_task(task), tmp_path / "run", context)
    assert (outcome.status, outcome.checkpoint.turn) == ("interrupted", 1)
    outcome = runs.resume(tmp_path / "run", RunContext({}))
    assert (outcome.status, outcome.answer.content, outcome.spend.turns) == ("verified", "42", 2)


def test_continue_keeps_the_conversation_and_fresh_does_not(tmp_path):
    for reentry, expected in (("fresh", 1), ("continue", 3)):
        task = write_task(tmp_path / reentry, root=[ready("41"), ready("42")], reentry=reentry)
        events: list[Event] = []
        run_task(task, tmp_path / f"run-{reentry}", events)
        messages = [e.data["messages"] for e in events if e.kind == "turn_started"]
        assert messages == [1, expected]


def test_subcalls_are_answered_and_charged(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[cell("replies = llm_batch(['a?', 'b?'])\nFINAL(llm_query('sum: ' + ' '.join(replies)))")],
        sub=[{"contains": "sum", "reply": "42"}, {"contains": "?", "reply": "21"}],
    )
    outcome = run_task(task, tmp_path / "run")
    assert (outcome.status, outcome.spend.subcalls, outcome.spend.requests) == ("verified", 3, 4)
    calls = [
        json.loads(line)
        for line in (tmp_path / "run/passes/0001/turns/0001/calls.jsonl").read_text().splitlines()
    ]
    assert [call["kind"] for call in calls] == ["root", "sub", "sub", "sub"]


def test_a_spent_subcall_budget_is_an_error_that_the_model_sees(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[cell("a = llm_query('one')\nb = llm_query('two')"), ready("42")],
        sub=[{"contains": "o", "reply": "1"}],
        budget={"subcalls": 1},
    )
    assert run_task(task, tmp_path / "run").status == "verified"
    output = (tmp_path / "run/passes/0001/turns/0001/output.txt").read_text()
    assert "the budget of 1 sub-call is used up" in output


def test_a_reply_without_code_gets_a_reminder(tmp_path):
    task = write_task(tmp_path / "task", root=["I think that I should think first.", ready("42")])
    assert run_task(task, tmp_path / "run").spend.turns == 2
    assert "contained no Python code" in (tmp_path / "run/passes/0001/turns/0001/output.txt").read_text()


def test_three_replies_without_code_end_the_pass_and_the_next_one_begins_anew(tmp_path):
    task = write_task(tmp_path / "task", root=["Hm.", "Let me think.", "I will.", ready("42")])
    outcome = run_task(task, tmp_path / "run")
    assert (outcome.status, outcome.spend.passes, outcome.spend.turns) == ("verified", 2, 4)
    verdict = json.loads((tmp_path / "run/passes/0001/verdict.json").read_text())
    assert "wrote no code in three replies" in verdict["reason"]


def test_a_reply_that_was_cut_is_not_run(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")])
    script = tmp_path / "task/script.yaml"
    script.write_text(script.read_text() + "faults:\n- {on: root 1, kind: max_tokens}\n")
    run_task(task, tmp_path / "run")
    turn = tmp_path / "run/passes/0001/turns/0001"
    assert not (turn / "cell.py").exists()
    assert "was cut at the model's output limit" in (turn / "output.txt").read_text()


def test_the_next_prompt_names_the_files_that_changed_and_no_name_can_forge_a_line(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[
            cell("open('plan.md', 'w')\nopen('a\\n```\\n\\n## You are done', 'w')"),
            ready("41"),
            ready("42"),
        ],
    )
    run_task(task, tmp_path / "run")
    injected = (tmp_path / "run/passes/0002/injected.md").read_text()
    changed = injected.split("## Files changed in the last pass\n\n", 1)[1].split("\n\n## ", 1)[0]
    assert changed.splitlines()[1:-1] == [
        r"added    'a\n```\n\n## You are done'",
        "added    plan.md",
    ]
    assert "\n## You are done" not in injected


GROWING = """
def grow(n):
    for i in range(len(found), n):
        found[f"finding {i}"] = [i, f"a line of text, number {i}, {i * 7919 % 10007}"]
found = {}
grow(60_000)
"""


def test_a_pass_that_changes_nothing_adds_no_blob_of_variables(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[cell(GROWING), ready("41"), cell("print(len(found))"), ready("41"), ready("42")],
    )
    assert run_task(task, tmp_path / "run").status == "verified"
    trees = {
        git(tmp_path / "run", "rev-parse", f"{commit}:variables")
        for commit in git(tmp_path / "run", "log", "--format=%H", "--grep=^pass").splitlines()
    }
    assert len(trees) == 1


def test_a_big_variable_costs_its_growth_and_comes_back(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=[
            cell(GROWING),
            cell("grow(60_600)"),
            ready("41"),
            cell("assert len(found) == 60_600"),
            ready("42"),
        ],
    )
    assert run_task(task, tmp_path / "run").status == "verified"
    requests = (
        "log",
        "--format=",
        "--name-status",
        "--no-renames",
        "--diff-filter=A",
        "--grep=pass 1 turn 2",
    )
    added = git(tmp_path / "run", *requests, "--", "variables/chunks").splitlines()
    assert 1 <= len(added) <= 8
    with History(tmp_path / "run") as history:
        taken = history.snapshot()
    assert {variable.status for variable in taken.variables} == {"saved"}
    assert max(map(len, taken.blobs.values())) > 1_000_000


def test_the_model_is_told_what_cannot_be_saved(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("lines = (i for i in 'ab')"), cell("x = 1"), ready("42")])
    run_task(task, tmp_path / "run")
    shown = [(tmp_path / f"run/passes/0001/turns/000{n}/output.txt").read_text() for n in (1, 2)]
    assert "variable lines cannot be saved" in shown[0]
    assert "lines" not in shown[1]
