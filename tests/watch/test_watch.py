"""``watch``: the list and the page of a run, driven by textual's own pilot."""

import asyncio
import json
import shutil
import subprocess

import pytest

import loop_runner as lr
from loop_runner.runs import trace_file
from loop_runner.runs.view import PassView
from loop_runner.workspace import control_files
from tests.support.tasks import cell, ready, run_task, write_task

pytest.importorskip("textual")

from textual.widgets import DataTable, Static

from loop_runner.watch import parts
from loop_runner.watch.run_page import RunPage
from loop_runner.watch.screens import _COLUMNS as TITLES
from loop_runner.watch.screens import WatchApp, fitted

ESCAPES = "\x1b[31mred\x1b]0;owned\x07 [bold]no markup[/bold]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of three runs: one verified in two passes, one without a verified answer, one clone."""
    folder = tmp_path_factory.mktemp("watch")
    code = cell(f"found = [1, 2, 3]\nprint({ESCAPES!r}, llm_query('how many?'))")
    task = write_task(
        folder / "task",
        root=[code, ready("41"), ready(f'42 {ESCAPES}\n\nSources:\n- notes.txt:1 "The answer is 42."')],
        sub=[{"reply": "42"}],
        budget={"passes": 5, "turns": 9},
    )
    run_task(task, folder / "runs" / "story")
    short = write_task(folder / "short", root=[ready("41")], budget={"passes": 1}, name="short")
    run_task(short, folder / "runs" / "short")
    subprocess.run(["git", "clone", "-q", "story", "copy"], cwd=folder / "runs", check=True)
    return folder / "runs"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOP_RUNNER_CACHE", str(tmp_path / "cache"))


def shown(app, name):
    return str(app.screen.query_one(name, Static).render())


def drive(app, steps, size=(80, 24)):
    """Run ``steps(pilot)`` in ``app`` on a terminal of this size."""

    async def main():
        async with app.run_test(size=size) as pilot:
            await steps(pilot)

    asyncio.run(main())


async def until(pilot, condition):
    for _ in range(200):
        if condition():
            return
        await pilot.pause(0.05)
    raise AssertionError("waited in vain")


def test_the_list_has_every_run_and_opens_the_page_of_one_and_comes_back(runs):
    app = WatchApp(runs)

    async def steps(pilot):
        table = app.screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 3)
        names = {str(table.get_row_at(row)[0]) for row in range(3)}
        assert names == {"story", "short", "copy"}
        assert "3 runs" in shown(app, "#title")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunPage))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, RunPage))

    drive(app, steps)


@pytest.mark.parametrize("size", [(80, 24), (140, 40), (40, 12)])
def test_the_page_shows_verdicts_budget_code_variables_and_citations_without_escapes(runs, size):
    app = WatchApp(runs, lr.Run(runs / "story"))

    async def steps(pilot):
        await until(pilot, lambda: "✗✓" in shown(app, "#strip"))
        await until(pilot, lambda: "found = [1, 2, 3]" in shown(app, "#now-text") or app.screen._view.cell)  # type: ignore[attr-defined]
        assert "story" in shown(app, "#head")
        assert "verified" in shown(app, "#head")
        assert "2 of 5" in shown(app, "#budget")
        assert "pass 1: rejected" in shown(app, "#passes-text")
        await until(pilot, lambda: "found" in shown(app, "#variables-text"))
        assert "list" in shown(app, "#variables-text")
        await until(pilot, lambda: "The answer is 42." in shown(app, "#answer-text"))
        assert "notes.txt:1" in shown(app, "#answer-text")
        page = "".join(shown(app, f"#{name}-text") for name in RunPage.TABS)
        assert not set("\x1b\x07") & set(page)
        assert "[bold]no markup[/bold]" in page
        await pilot.resize_terminal(60, 20)
        await pilot.pause(0.1)
        await pilot.press("question_mark")
        assert "note for the model" in shown(app, "#says")

    drive(app, steps, size)


def test_a_clone_and_a_folder_that_cannot_be_written_have_a_page_from_their_history(runs):
    app = WatchApp(runs, lr.Run(runs / "copy"))

    async def steps(pilot):
        await until(pilot, lambda: "✗✓" in shown(app, "#strip"))
        assert "verified" in shown(app, "#head")
        await until(pilot, lambda: "42" in shown(app, "#answer-text"))

    drive(app, steps)


def test_what_happens_in_a_run_is_on_its_page_soon(runs, tmp_path):
    run = lr.Run(runs / "short")
    app = WatchApp(runs, run)
    line = {
        "kind": "notice",
        "text": "something new",
        "seq": 10**6,
        "at": 1.0,
        "pass": 0,
        "turn": 0,
        "data": {},
    }

    async def steps(pilot):
        await pilot.pause(0.2)
        with trace_file.path_in(run.folder).open("a") as file:
            file.write(json.dumps(line) + "\n")
        await until(pilot, lambda: "something new" in shown(app, "#notes-text"))

    drive(app, steps)


def test_a_folder_without_runs_says_how_to_start_one(tmp_path):
    app = WatchApp(tmp_path / "nothing")

    async def steps(pilot):
        await until(pilot, lambda: "loop-runner run TASK.yaml" in shown(app, "#title"))

    drive(app, steps)


def test_without_colour_the_marks_still_say_how_passes_ended(runs, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    line = parts.strip(lr.Run(runs / "story").passes, 80)
    assert "✗✓" in line.plain


@pytest.mark.parametrize(
    ("before", "mark"),
    [({}, " "), ({"found": 1}, "*"), ({"other": 1}, "+")],
    ids=["first", "changed", "new"],
)
def test_a_variable_has_a_mark_for_what_the_last_turn_did_to_it(runs, before, mark):
    variable = next(item for item in lr.Run(runs / "story").variables if item.name == "found")
    assert parts.variables_part([variable], before).plain.startswith(mark)
    assert parts.variables_part([variable], {"found": variable}).plain.startswith(" ")


def test_a_strip_of_a_thousand_passes_fits_the_terminal():
    passes = [PassView(number, "rejected") for number in range(1000)]
    assert len(parts.strip(passes, 80).plain) <= 80


def requests_of(folder):
    return [request.kind for request in control_files.waiting(folder / ".git" / "loop-runner")]


@pytest.mark.slow
def test_the_keys_leave_a_note_pause_and_stop_and_each_says_what_comes_of_it(runs, tmp_path):
    shutil.copytree(runs / "short", tmp_path / "short")
    app = WatchApp(tmp_path, lr.open(tmp_path / "short"))

    async def steps(pilot):
        await until(pilot, lambda: isinstance(app.screen, RunPage))
        await pilot.press("n", *"stop", "escape")  # dropped: the letters were for the field
        assert requests_of(tmp_path / "short") == []
        await pilot.press("n", *"a note", "enter")
        await until(pilot, lambda: "note: no process runs it" in shown(app, "#says"))
        await pilot.press("n", "space", "enter")
        assert requests_of(tmp_path / "short") == ["note"]
        await pilot.press("p")
        await until(pilot, lambda: "pause: no process runs it" in shown(app, "#says"))
        await pilot.press("p")
        await until(pilot, lambda: "asked to pause already" in shown(app, "#says"))
        await pilot.press("s")
        await until(pilot, lambda: "stop: no process runs it" in shown(app, "#says"))
        await pilot.press("a")
        await until(pilot, lambda: "does not wait for a person" in shown(app, "#says"))

    drive(app, steps)
    assert requests_of(tmp_path / "short") == ["note", "pause", "stop"]
    note, *_ = control_files.waiting(tmp_path / "short" / ".git" / "loop-runner")
    assert note.text == "a note"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("name", ["a", "contract-review-of-the-year-2024-with-all-annexes", "名前" * 12])
def test_a_line_of_the_list_is_as_wide_as_the_terminal_at_most(width, name):
    what = "asking the model for 12 s, and what else it does takes more than one line to say " * 3
    rows = [
        [parts.safe(value) for value in (name, "running", "12.34", "3 min", "0.0312", what)],
        [parts.safe(value) for value in ("b", "interrupted", "2", "", "?", "")],
    ]
    lines = fitted(rows, width)
    used = [max(len(title), *(row[number].cell_len for row in lines)) for number, title in enumerate(TITLES)]
    assert sum(used) + 2 * len(used) <= max(width, 70)
    assert lines[0][-1].plain.endswith("…")
    assert lines[0][1].plain == "running", "a state is never cut"


def test_the_list_says_which_key_opens_a_run_and_needs_no_scrolling_sideways(runs):
    app = WatchApp(runs)

    async def steps(pilot):
        table = app.screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 3)
        assert ("enter", "open") in {
            (binding.binding.key, binding.binding.description)
            for binding in app.screen.active_bindings.values()
            if binding.binding.show
        }
        for size in ((80, 24), (140, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: table.virtual_size.width <= table.size.width)

    drive(app, steps)
