"""``check()``: the checks that cost nothing, before the answer is handed in."""

import json
import re

import pytest

from loop_runner.runs import replay
from tests.support.gates import built
from tests.support.tasks import cell, ready, run_task, write_task

NOTES = "The answer is 42.\nNothing else.\nThe price is 7 euros.\n"
INTEGER = {"schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}


def outputs(run):
    """What each turn printed, pass by pass."""
    return [path.read_text() for path in sorted(run.glob("passes/*/turns/*/output.txt"))]


@pytest.fixture
def checked(tmp_path):
    """What ``check()`` prints of an answer under some verifiers, and the words of the pass's rejection."""

    def run(content, verifiers, *, before="", **keys):
        root = [cell(f"{before}\nanswer['content'] = {content!r}\ncheck()"), ready(content)]
        task = write_task(
            tmp_path / "task", root=root, verifiers=verifiers, budget={"passes": 1, "turns": 2},
            texts={"notes.txt": NOTES}, **keys,
        )  # fmt: skip
        run_task(task, tmp_path / "run")
        verdict = tmp_path / "run/passes/0001/verdict.json"
        reason = json.loads(verdict.read_text()).get("reason", "") if verdict.exists() else "broken"
        return outputs(tmp_path / "run")[0], reason

    return run


@pytest.mark.parametrize(
    ("content", "verifier"),
    [
        ("It is 42.\n> notes.txt:2: The answer is 42.", {"citations": {"min": 1}}),
        ("It is 42.\n> notes.txt:1: The answer is 43.", {"citations": {"min": 1}}),
        ("It is 42.", {"citations": {"min": 2, "answer_in_quote": True}}),
        ('Two: {"n": 4} and {"n": 5}', {"schema": INTEGER}),
        ('{"n": "four"}', {"schema": INTEGER}),
        ("{}", {"schema": INTEGER}),
        ("forty-two", {"contains": "42"}),
        ("forty-two", {"regex": {"pattern": r"^\d+$", "part": "first_line"}}),
        ("It is done", {"promise": "ALL DONE"}),
        ("no report", {"findings": {"rules": {"r1": "error"}}}),
        ("forty-two", {"all": [{"contains": "42"}, {"regex": "euros"}]}),
        ("forty-two", {"any": [{"contains": "42"}, {"regex": "euros"}]}),
        ("\ud83d and \ud83d\ude00", {"regex": {"pattern": "^$"}}),
    ],
)
def test_a_check_prints_the_words_of_the_rejection_that_would_follow(checked, content, verifier):
    printed, reason = checked(content, [verifier])
    assert reason
    assert reason in printed


@pytest.mark.parametrize(
    ("content", "verifier"),
    [
        ("42\n> notes.txt:1: The answer is 42.", {"citations": {"min": 1, "answer_in_quote": True}}),
        ('```json\n{"n": 4}\n```', {"schema": INTEGER}),
        ("42", {"all": [{"contains": "42"}, {"regex": "4"}]}),
        ("7", {"any": [{"contains": "42"}, {"regex": "7"}]}),
        ("42 ALL DONE", {"promise": "ALL DONE"}),
    ],
)
def test_a_check_says_that_an_answer_would_be_accepted_only_if_it_is(checked, content, verifier):
    printed, reason = checked(content, [verifier])
    assert reason == ""
    assert "1 of 1 checks can run now and would accept this answer" in printed


def test_a_file_that_a_schema_asks_for_is_checked_as_it_is_in_the_same_cell(checked):
    verifier = {"schema": {**INTEGER, "of": "out.json"}}
    printed, reason = checked(
        "see out.json", [verifier], before="open('out.json', 'w').write('{\"n\": 1.5}')"
    )
    assert "out.json does not fit the schema" in reason
    assert reason in printed


@pytest.mark.parametrize("target", ["/etc/passwd", "../../task.yaml", "../.git/config"])
def test_a_check_follows_no_link_out_of_the_workspace(checked, target):
    before = f"import os\nos.symlink({target!r}, 'out.json')"
    printed, reason = checked("see out.json", [{"schema": {**INTEGER, "of": "out.json"}}], before=before)
    assert "there is no file out.json in the workspace" in printed
    assert reason in printed


def test_a_schema_from_a_file_is_checked_as_it_was_pinned(checked, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task/shape.json").write_text(json.dumps(INTEGER["schema"]))
    printed, reason = checked('{"n": "x"}', [{"schema": "shape.json"}])
    assert "expected" in reason
    assert reason in printed


def test_what_costs_something_is_named_and_not_made(checked, tmp_path):
    verifiers = [
        {"contains": "42"},
        {"command": ["python3", "-c", "print('the secret is 4711'); raise SystemExit(1)"], "name": "tests"},
        {"judge": "rubric.md", "name": "reviewer"},
        {"stable": {"passes": 2}},
        {"any": [{"contains": "42"}, {"command": ["true"]}], "name": "either"},
    ]
    (tmp_path / "task").mkdir()
    (tmp_path / "task/rubric.md").write_text("The answer is right.\n")
    printed, _ = checked("forty-two", verifiers)
    assert "0 of 1 checks passed" in printed
    assert "Not checked now, only when you set `ready`: tests, reviewer, stable, either." in printed
    assert "4711" not in printed


@pytest.mark.parametrize("evidence", ["none", "message"])
@pytest.mark.parametrize("place", ["inside", "beside", "in a group"])
def test_a_check_whose_evidence_is_limited_is_not_made_in_advance(checked, evidence, place):
    """Asked a hundred times, it would give away what it keeps to itself."""
    hidden = {
        "inside": {"contains": {"text": "4711", "evidence": evidence}, "name": "hidden"},
        "beside": {"contains": "4711", "evidence": evidence, "name": "hidden"},
        "in a group": {"all": [{"contains": "4711", "evidence": evidence, "name": "hidden"}]},
    }[place]
    printed, _ = checked("42 4711", [{"contains": "42"}, hidden])
    assert "1 of 2 checks can run now and would accept" in printed
    assert "when you set `ready`: " in printed
    wrong, _ = printed.split("Not checked")
    assert "4711" not in wrong


def test_a_check_counts_as_no_sub_call_and_stays_possible_when_none_is_left(tmp_path):
    root = [cell("answer['content'] = '41'\ncheck()\nprint(budget()['subcalls'])"), ready("42")]
    task = write_task(tmp_path / "task", root=root, budget={"subcalls": 0, "passes": 1})
    outcome = run_task(task, tmp_path / "run")
    assert outcome.status == "verified"
    assert outcome.spend.subcalls == 0
    assert "does not contain '42'" in outputs(tmp_path / "run")[0]


def test_checks_are_answered_ten_times_in_a_turn(tmp_path):
    guess = "for n in range(40):\n    answer['content'] = str(n)\n    check()"
    task = write_task(tmp_path / "task", root=[cell(guess), cell("check()"), ready("42")])
    run_task(task, tmp_path / "run")
    first, second, _ = outputs(tmp_path / "run")
    assert first.count("does not contain") == 10
    assert "LLMError: check() answers 10 times in a turn" in first
    assert "does not contain" in second


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ("answer['content'] = ''", "is empty: there is nothing to check yet"),
        ("answer['content'] = '  \\n'", "is empty: there is nothing to check"),
        ("answer['content'] = {'n': 42}", "1 of 1 checks can run now and would accept"),
        ("answer['content'] = 42", "1 of 1 checks can run now and would accept"),
        ("answer = 'It is 42'", "1 of 1 checks can run now and would accept"),
        ("answer['content'] = {1, 2}", "TypeError: answer['content'] is not a text"),
        ("answer = None", "is empty: there is nothing to check"),
    ],
)
def test_a_check_reads_the_answer_as_handing_it_in_would(tmp_path, answer, output):
    task = write_task(tmp_path / "task", root=[cell(f"{answer}\ncheck()"), ready("42")])
    run_task(task, tmp_path / "run")
    assert output in outputs(tmp_path / "run")[0]


@pytest.mark.parametrize(
    "verifiers",
    [
        [{"contains": "42"}],
        [{"contains": "42"}, "citations"],
        [{"all": [{"contains": "42"}, {"regex": "4."}]}],
        [{"schema": {"type": "integer"}}, {"command": ["true"]}],
        [{"command": ["true"]}],
    ],
)
def test_a_check_of_an_empty_answer_lists_every_requirement_of_the_system_prompt(tmp_path, verifiers):
    root = [cell("check()"), ready("> notes.txt:1: The answer is 42.")]
    task = write_task(tmp_path / "task", root=root, verifiers=verifiers, budget={"passes": 1})
    run_task(task, tmp_path / "run")
    printed = outputs(tmp_path / "run")[0]
    requests = [gate.described() for gate in built(verifiers, tmp_path / "task")]
    assert "there is nothing to check yet" in printed
    assert [line[2:] for line in printed.split("\n") if line.startswith("- ")] == requests


@pytest.mark.parametrize("inside", ["hidden", {"text": "4711", "evidence": "none"}])
def test_a_check_of_an_empty_answer_gives_away_no_more_than_the_system_prompt(tmp_path, inside):
    verifier = {"contains": "4711", "evidence": "none"} if inside == "hidden" else {"contains": inside}
    task = write_task(
        tmp_path / "task", root=[cell("check()"), ready("4711")], verifiers=[verifier], budget={"passes": 1}
    )
    run_task(task, tmp_path / "run")
    (requests,) = [gate.described() for gate in built([verifier], tmp_path / "task")]
    assert requests in outputs(tmp_path / "run")[0]


def test_a_check_in_a_child_session_says_that_there_is_none(tmp_path):
    child = [cell("try:\n    check()\nexcept LLMError as e:\n    FINAL(str(e))")]
    task = write_task(tmp_path / "task", root=[cell("print(rlm_query('q', 'text'))"), ready("42")])
    script = tmp_path / "task/script.yaml"
    script.write_text(script.read_text() + "\n" + json.dumps({"child": [{"replies": child}]})[1:-1])
    run_task(task, tmp_path / "run")
    assert "no program checks the answer here" in outputs(tmp_path / "run")[0]


def test_a_replay_prints_the_same_checks(tmp_path):
    wrong = "> notes.txt:2: The answer is 42."
    root = [cell(f"answer['content'] = {wrong!r}\ncheck()"), ready(wrong.replace(":2:", ":1:"))]
    task = write_task(tmp_path / "task", root=root, verifiers=["citations"])
    assert run_task(task, tmp_path / "run").status == "verified"
    again = replay.replay(tmp_path / "run")
    assert again.is_same, again


def test_what_a_check_prints_fits_into_what_a_cell_shows(tmp_path):
    quotes = "\n".join(f"> notes.txt:{n}: {'no such line ' * 40}" for n in range(60))
    task = write_task(
        tmp_path / "task",
        root=[
            cell(f"answer['content'] = {quotes!r}\ncheck()"),
            ready("42\n> notes.txt:1: The answer is 42."),
        ],
        verifiers=["citations", {"contains": "42"}, *({"contains": "x" * 3000} for _ in range(4))],
        budget={"passes": 1},
        kernel={"max_output_chars": 3000},
    )
    run_task(task, tmp_path / "run")
    printed = outputs(tmp_path / "run")[0]
    assert "the whole text is in the variable last_output" not in printed
    assert re.search(r"… \d+ more: ", printed)
