"""What a new pass is shown of the passes before it, in whole runs with a scripted model."""

from typing import Any

import pytest

from loop_runner.loop import carried, stalling
from loop_runner.records import Variable
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import prompts
from loop_runner.task.profiles import LOCAL, STANDARD
from tests.support.tasks import cell, ready, run_task, write_task
from tests.task.test_prompts import REENTRY

UNSAVEABLE = "lines = open('data.txt', 'w')"  # nor is it recreated: its cell writes a file
NOTES = "import pathlib\npathlib.Path('notes').mkdir(exist_ok=True)\n"


def note(name, words):
    return f"pathlib.Path('notes/{name}').write_text({words})\n"


def section(shown, heading):
    """The text below a heading that begins with ``heading``."""
    return shown.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]


@pytest.fixture
def injected(tmp_path):
    """Runs a script and returns what its last pass was shown."""

    def run(*root, **keys):
        outcome = run_task(write_task(tmp_path / "task", root=root, **keys), tmp_path / "run")
        last = max((tmp_path / "run/passes").iterdir())
        assert outcome.checkpoint.pass_number == int(last.name)
        return (last / "injected.md").read_text()

    return run


# ── notes and files ─────────────────────────────────────────────────────────────────────────────────


def test_every_note_is_shown_whole_and_the_newest_comes_first(injected):
    cells = [
        cell(NOTES + "".join(note(f"{n}.md", f"'{n} ' + 'w' * 900 + ' end {n}'") for n in range(12))),
        cell(note("3.md", "'3 again, ' + 'w' * 900 + ' end 3'")),
    ]
    shown = injected(*cells, ready("41"), ready("42"))
    assert shown.index("## Your note notes/3.md") < shown.index("## Your note notes/0.md")
    for number in range(12):
        assert f" end {number}\n" in section(shown, f"Your note notes/{number}.md")
    assert "left out" not in section(shown, "Your note notes/0.md")


@pytest.mark.parametrize("last", ["a.md", "b.md", "c/d.md", "Ü.md", "with space.md"])
def test_the_note_that_was_written_last_comes_first_whatever_its_name(injected, last):
    first = NOTES + "pathlib.Path('notes/c').mkdir()\n" + "".join(note(n, "'old'") for n in ("0.md", "z.md"))
    shown = injected(cell(first), ready("40"), cell(note(last, "'new'")), ready("41"), ready("42"))
    notes = [line for line in shown.split("\n") if line.startswith("## Your note")]
    assert notes[0].strip("'").endswith(last)
    assert len(notes) == 3


def test_notes_that_do_not_fit_are_named(injected):
    code = NOTES + "".join(note(f"{n:02}.md", "'w' * 15_000") for n in range(12))
    shown = injected(cell(code), ready("41"), ready("42"))
    others = section(shown, "Notes that are too long to be shown here")
    whole = shown.count("w" * 15_000)
    assert 1 <= whole < 12
    assert others.count("notes/") == 12 - whole


def test_the_room_for_the_state_grows_with_the_window_of_a_large_model_only():
    rooms = [STANDARD.state_room(tokens) for tokens in (0, 32_000, 200_000, 1_000_000)]
    assert rooms == [24_000, 9_600, 60_000, 300_000]
    assert {LOCAL.state_room(tokens) for tokens in (0, 8_000, 200_000)} == {LOCAL.state_chars}


def test_a_note_that_is_no_text_is_listed_and_not_shown(injected):
    code = NOTES + "pathlib.Path('notes/data.bin').write_bytes(bytes(range(40)))\n" + note("a.md", "'seen'")
    shown = injected(cell(code), ready("41"), ready("42"))
    assert "## Your note notes/a.md" in shown
    assert "## Your note notes/data.bin" not in shown
    assert "notes/data.bin  40 bytes" in section(shown, "Your files")


def test_a_note_that_is_shown_whole_is_not_listed_again(injected):
    code = NOTES + note("a.md", "'seen'") + "pathlib.Path('part.csv').write_text('xy')"
    shown = injected(cell(code), ready("41"), ready("42"))
    assert "## Your note notes/a.md" in shown
    assert section(shown, "Your files").count("notes/a.md") == 0
    assert section(shown, "Files changed in the last pass").count("notes/a.md") == 0
    assert "part.csv" in section(shown, "Your files")
    assert "part.csv" in section(shown, "Files changed in the last pass")


def test_a_run_whose_files_are_all_shown_has_no_list_of_files(injected):
    shown = injected(cell(NOTES + note("a.md", "'seen'")), ready("41"), ready("42"))
    assert "## Your note notes/a.md" in shown
    assert "## Your files" not in shown
    assert "## Files changed" not in shown


@pytest.mark.parametrize("count", [1, 12])
def test_notes_that_are_cut_or_not_shown_stay_in_the_list_of_files(injected, count):
    code = NOTES + "".join(note(f"{n:02}.md", "'w' * 70_000") for n in range(count))
    files = section(injected(cell(code), ready("41"), ready("42")), "Your files")
    assert files.count("70,000 bytes") == count


def test_every_file_is_listed_with_its_size(injected):
    code = (
        NOTES
        + "for n in range(60):\n    pathlib.Path(f'part{n}.csv').write_text('x' * n)\n"
        + note("a", "'é'")
    )
    files = section(injected(cell(code), ready("41"), ready("42")), "Your files")
    assert "part1.csv  1 byte\n" in files
    assert "part59.csv  59 bytes\n" in files
    assert "notes/a " not in files  # it is shown whole
    assert files.count("byte") == 60


def test_thousands_of_files_are_listed_by_folder(injected):
    code = (
        "import pathlib\nfor k in 'ab':\n    pathlib.Path(k).mkdir()\n"
        "    for n in range(600):\n        pathlib.Path(k, f'{n}.csv').write_text('xy')"
    )
    files = section(injected(cell(code), ready("41"), ready("42")), "Your files")
    assert "600 files in a, 1,200 bytes" in files
    assert "600 files in b, 1,200 bytes" in files


# ── turns and history ───────────────────────────────────────────────────────────────────────────────


def test_each_turn_of_the_last_pass_has_one_line(injected):
    cells = [
        cell("import json\n# Count the words.\nprint('x' * 500)"),
        cell("total = 1\n1 / 0"),
        "I think about it.",
        ready("41"),
    ]
    shown = injected(*cells, ready("42"))
    lines = section(shown, "The turns of pass 1").split("```")[1].strip().split("\n")
    assert lines == [
        "turn 1: printed 500 characters; # Count the words.",
        "turn 2: raised ZeroDivisionError: division by zero; 1 / 0",
        "turn 3: no code in the reply",
        "turn 4: printed nothing; answer['content'] = '41'",
    ]


@pytest.mark.parametrize(
    ("code", "purpose"),
    [
        ("import re\nLIMIT = 40\nhits = find_all('x')\nprint(hits)", "hits = find_all('x')"),
        (
            "NAMES = ('a', 'b')\nrows, seen = [], set()\nfor n in NAMES:\n    rows += [n]",
            "for n in NAMES:\n    rows += [n]",
        ),
        ("import re\nword = re.compile('x')\ncounts = Counter()\nprint(len(context))", "print(len(context))"),
        ("x: int = 3\nanswer['content'] = 'It is 3'", "answer['content'] = 'It is 3'"),
        ("import json\ndef cut(text):\n    return text[:9]\n", "def cut(text):\n    return text[:9]"),
        ("# imports\nimport re\n# Count the words.\nprint(1)", "# Count the words."),
        ("# --- setup ---\nN = 3\nprint(N)", "print(N)"),
        ("# -*- coding: utf-8 -*-\nprint(1)", "print(1)"),
        ("\"What it is for.\"\nLIMIT = 1\nlabel({}, 'q', 'ab')", "label({}, 'q', 'ab')"),
        ("import os\nimport re", "import os"),
        ("import re\nLIMIT = 1", "LIMIT = 1"),
        ("import re\nthis is no Python(", "this is no Python("),
        ("\u00e9 = 1; print(\u00e9)", "print(\u00e9)"),
        ("", ""),
    ],
)
def test_the_line_of_a_turn_shows_what_the_cell_does_and_no_preparation(code, purpose):
    assert carried._purpose(code) == purpose


def test_the_lines_of_many_turns_fit_and_say_which_are_left_out(injected):
    cells = [cell(f"{'long_name' * 40} = {n}") for n in range(60)]
    shown = injected(*cells, ready("41"), ready("42"), budget={"turns": 70})
    lines = section(shown, "The turns of pass 1").split("```")[1].strip().split("\n")
    assert lines[0].startswith("turns 1 to ")
    assert lines[-1].startswith("turn 61: ")
    assert max(map(len, lines)) <= 80


def test_the_history_has_the_answer_and_the_reason_of_each_pass(injected):
    shown = injected(ready("40"), cell("x = 1"), ready("41\nbecause"), ready("42"), budget={"turns": 1})
    history = section(shown, "History")
    assert "pass 1: answered '40'. Failed: contains '42': the answer does not contain '42'" in history
    assert "pass 2: answered '40'." in history
    assert "pass 3: answered '41 because'." in history


def test_a_pass_without_an_answer_is_in_the_history_as_such(injected):
    shown = injected(cell("x = 1"), ready("42"), budget={"turns": 1})
    assert "pass 1: gave no answer. the turns were used up" in section(shown, "History")


# ── what to do ──────────────────────────────────────────────────────────────────────────────────────


def test_the_first_rejection_asks_for_a_repair_and_the_second_for_something_different(injected, tmp_path):
    shown = injected(ready("40"), ready("41"), ready("42"))
    first = (tmp_path / "run/passes/0002/injected.md").read_text()
    for item in (first, shown):
        assert "Keep what passed, fix what failed." in item
    assert "different" not in first
    course = section(shown, "Before you continue")
    notices = (
        "The last 2 passes gave different answers, and the same checks rejected them. Do something different"
    )
    assert notices in course
    assert "pass 1: answered '40'.\npass 2: answered '41'." in course


@pytest.mark.parametrize(("answers", "is_same"), [(("41", "41"), True), (("40", "41", "41"), False)])
def test_only_equal_answers_are_reported_as_the_same(injected, answers, is_same):
    course = section(injected(*map(ready, answers), ready("42")), "Before you continue")
    assert ("passes gave the same answer" in course) is is_same
    assert ("passes gave different answers" in course) is not is_same


@pytest.mark.parametrize("template", ["reentry", "reentry.agent", "reentry.local"])
@pytest.mark.parametrize("is_same", [True, False])
def test_every_message_says_whether_the_answers_differed(template, is_same):
    values = {**REENTRY, "tried": ["pass 1: x", "pass 2: y"], "is_same_answer": is_same}
    shown = prompts.render(template, **values)
    assert ("the same answer" in shown or "the same message" in shown or "were the same" in shown) is is_same


def test_another_failure_is_no_reason_to_do_something_different(injected):
    gates = [{"contains": "42"}, {"contains": "source"}]
    assert "different" not in injected(ready("42"), ready("source 41"), ready("42 source"), verifiers=gates)


def block(*reports, reason="0 of 1 checks passed."):
    kinds = [
        {"verifier": name, "verdict": "rejected", "reason": why, "evidence": shown, "record": record}
        for name, why, shown, record in reports
    ]
    return {"decision": "block", "reason": reason, "reports": kinds}


SAME: dict[str, Any] = {
    "the same words": (("c", "no 42", "", {}), ("c", "no 42", "", {})),
    "another number": (("c", "got 41, not 42", "", {}), ("c", "got 4,000, not 42", "", {})),
    "the answer is quoted": (("c", "got 'Rome'", "> Rome", {}), ("c", "got 'Oslo'", "> Oslo", {})),
    "a time in the output": (("c", "exit 1", "in 0.12 s", {}), ("c", "exit 1", "in 11.3 s", {})),
    "the words of a juror": (("j", "too long", "", {"votes": []}), ("j", "unclear", "", {"votes": []})),
}
OTHER: dict[str, Any] = {
    "another check": (("a", "no", "", {}), ("b", "no", "", {})),
    "another reason": (("c", "no JSON", "", {}), ("c", "no key", "", {})),
    "another test fails": (("c", "exit 1", "test_add failed", {}), ("c", "exit 1", "test_sub failed", {})),
}


@pytest.mark.parametrize("case", SAME)
def test_two_passes_that_fail_in_one_way_have_the_same_problem(case):
    first, second = SAME[case]
    assert stalling.problem(block(first), "Rome") == stalling.problem(block(second), "Oslo")


@pytest.mark.parametrize("case", OTHER)
def test_two_passes_that_fail_in_two_ways_have_different_problems(case):
    first, second = OTHER[case]
    assert stalling.problem(block(first), "Rome") != stalling.problem(block(second), "Oslo")


def test_the_number_of_passes_left_is_the_one_that_budget_returns(injected):
    shown = injected(
        ready("40"), cell("print(budget()['passes'])"), ready("41"), ready("42"), budget={"passes": 9}
    )
    assert "Remaining: 6 passes after this one." in shown


# ── variables ───────────────────────────────────────────────────────────────────────────────────────


def test_modules_and_imports_are_no_variables_of_the_model(injected):
    code = "import json, re as regex\nfrom math import sqrt\nfrom collections import Counter\nfound = [1]"
    variables = section(injected(cell(code), ready("41"), ready("42")), "Variables that are still available")
    assert "found: list, [1]" in variables
    for name in ("json", "regex", "sqrt", "Counter"):
        assert name not in variables


def test_a_variable_that_still_exists_is_not_called_lost(injected):
    shown = injected(cell(UNSAVEABLE), ready("41"), cell("print(lines.write('a'))"), ready("42"))
    unsaved = section(shown, "Variables that cannot be saved: they last only until the kernel restarts")
    assert "lines: TextIOWrapper" in unsaved
    assert "lost" not in shown


def test_a_loss_is_reported_once_and_when_it_happens(tmp_path):
    cells = [
        cell(f"{UNSAVEABLE}\nkept = 1"),
        ready("40"),
        cell("print(kept)"),
        ready("41"),
        ready("42"),
    ]
    task = write_task(tmp_path / "task", root=cells, budget={"passes": 1})
    assert run_task(task, tmp_path / "run").status == "unverified"
    runs.resume(tmp_path / "run", RunContext({}), (("budget.passes", 2),))
    runs.resume(tmp_path / "run", RunContext({}), (("budget.passes", 3),))
    outputs = [path.read_text() for path in sorted((tmp_path / "run/passes").rglob("output.txt"))]
    assert [("lines" in output, "lines is gone" in output) for output in outputs] == [
        (True, False),
        (False, False),
        (True, True),
        (False, False),
        (False, False),
    ]
    assert "lines" not in section((tmp_path / "run/passes/0003/injected.md").read_text(), "Variables")


@pytest.mark.parametrize("death", ["import os; os._exit(3)", "import os; os.kill(os.getpid(), 11)"])
def test_a_kernel_that_dies_reports_each_loss_once(tmp_path, death):
    cells = [cell(UNSAVEABLE), cell(death), cell(death), cell("x = 1"), ready("42")]
    run_task(write_task(tmp_path / "task", root=cells), tmp_path / "run")
    outputs = [path.read_text() for path in sorted((tmp_path / "run/passes").rglob("output.txt"))]
    assert "lost variables: lines" in outputs[1]
    assert outputs[1].count("lines") == 1
    assert all("lines" not in output for output in outputs[2:])


def test_what_is_gone_is_in_no_list():
    gone = Variable("a", "?", 0, "", "lost", "why")
    assert carried.kept([gone], 1000) == carried.unsaved([gone], 1000) == ""


# ── small models and agents ─────────────────────────────────────────────────────────────────────────

LOCAL_REENTRY = {**REENTRY, "draft": "41"}


@pytest.mark.parametrize("kind", ["custom", "extract", "ask"])
def test_the_message_to_a_small_model_is_short_and_claims_nothing_about_the_search(kind):
    shown = prompts.Templates(kind).render("reentry.local", **LOCAL_REENTRY)
    assert "Keep what passed, fix what failed." in shown
    assert "Your last answer to this was rejected. The checker says:" in shown
    for claim in ("wrong lines", "different", "the search showed", "may have shown"):
        assert claim not in shown
    assert len(shown) < 500


@pytest.mark.parametrize("kind", ["custom", "extract"])
def test_a_small_model_that_gave_no_answer_is_not_shown_that_one_was_rejected(kind):
    shown = prompts.Templates(kind).render("reentry.local", **{**LOCAL_REENTRY, "draft": ""})
    assert "Your last try gave no answer:" in shown
    assert "rejected" not in shown
    assert "search_text" not in shown, "nothing says that the search was at fault"
    assert str(REENTRY["turns"]) in shown


@pytest.mark.parametrize("kind", ["custom", "extract"])
def test_a_small_model_is_asked_for_something_different_after_the_second_failure(kind):
    tried = ["pass 1: answered '40'.", "pass 2: answered '41'."]
    shown = prompts.Templates(kind).render("reentry.local", **{**LOCAL_REENTRY, "tried": tried})
    assert "Do something different this time." in shown
    assert "40" in shown


def test_after_a_fork_of_an_accepted_pass_nothing_is_said_to_have_failed():
    shown = prompts.render("reentry", **{**REENTRY, "was_accepted": True, "draft": "42"})
    assert "## How pass 1 ended" in shown
    assert "## The answer that was accepted" in shown
    assert "not accepted" not in shown


def test_after_a_fork_with_another_prompt_the_task_is_called_new():
    shown = prompts.render("reentry", **{**REENTRY, "is_new_task": True})
    assert "The task above is new; earlier passes had another one." in shown
    assert "unchanged" not in shown
