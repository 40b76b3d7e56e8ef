"""``run``, ``ask``, ``resume``, ``fork``, ``verify`` and ``stream``, as a program calls them."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import loop_runner as lr
from loop_runner import api, audit
from loop_runner.verify import Gates
from tests.support.tasks import cell, ready, write_task

CITED = 'The answer is 42.\n\nSources:\n- notes.txt:1 "The answer is 42."'


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task", root=[ready("41"), ready("42")])


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_file_runs_to_a_verified_result(task):
    result = lr.run(task, run_dir="mine")
    assert (result.status, result.verified, result.answer, result.response) == ("verified", True, "42", "42")
    assert result.run.folder == Path("mine").absolute()
    assert isinstance(result.verdicts[0].verdict, lr.Accepted)
    assert result.usage.output_tokens > 0
    assert result.cost == 0
    assert result.spend.passes == 2
    assert result.proof is not None
    assert result.proof["gates"][0]["verdict"] == "accepted"
    assert result.raise_for_status() is result
    assert json.loads(json.dumps(result.to_dict()))["answer"] == "42"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.answer = "43"  # type: ignore[misc]


def test_an_unverified_run_is_a_value_and_an_exception_only_when_asked(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41")] * 2, budget={"passes": 2})
    result = lr.run(task, run_dir="mine")
    assert (result.status, result.verified, result.proof) == ("unverified", False, None)
    assert isinstance(result.verdicts[0].verdict, lr.Rejected)
    with pytest.raises(lr.NotVerifiedError, match=r"ended unverified: .*2 passes") as raised:
        result.raise_for_status()
    assert raised.value.exit_code == 3


def test_a_broken_gate_is_a_value(tmp_path):
    task = write_task(
        tmp_path / "task", root=[ready("42")], verifiers=[{"command": ["sh", "-c", "exit 127"]}]
    )
    assert lr.run(task, run_dir="mine").status in ("broken", "unverified")


def test_runs_without_a_folder_get_one_each_under_runs(task):
    folders = [lr.run(task).run.folder for _ in range(2)]
    assert [folder.relative_to(Path.cwd()) for folder in folders] == [
        Path("runs/scripted"),
        Path("runs/scripted-2"),
    ]


def test_a_finished_run_in_the_chosen_folder_is_left_alone(task):
    first = lr.run(task, run_dir="mine")
    with pytest.raises(lr.WorkspaceError, match="holds a finished run"):
        lr.run(task, run_dir="mine")
    assert first.run.answer == "42"


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"verifiers": []}, lr.ConfigError, "no verifiers"),
        ({"verifiers": [{"contians": "x"}]}, lr.VerifierError, "contians"),
        ({"verifiers": [len]}, lr.VerifierError, "len"),
        ({"inputs": ["missing.txt"]}, lr.ConfigError, "does not exist"),
        ({"bugdet": {}}, lr.ConfigError, "unknown key `bugdet`"),
        ({"budget": {"passes": 0}}, lr.ConfigError, "budget.passes"),
        ({"model": "script:missing.yaml"}, lr.LoopRunnerError, "missing.yaml"),
        ({"inputs": [b"bytes"]}, lr.ConfigError, "no name"),
        ({"inputs": {"empty.txt": ""}}, lr.ConfigError, "empty"),
        ({"inputs": [lr.data("x", "a.txt"), lr.data("y", "a.txt")]}, lr.ConfigError, "two inputs"),
        ({"inputs": {"a.json": object()}}, lr.ConfigError, "type object"),
        ({"output_type": 3}, lr.ConfigError, "no JSON Schema"),
    ],
)
def test_what_cannot_work_is_an_error_before_there_is_a_run(script, keys, error, words):
    given = {"inputs": {"n.txt": "42"}, "verifiers": [lr.contains("42")], "model": script(ready("42"))}
    with pytest.raises(error, match=words):
        lr.run(lr.Task("What?", **{**given, **keys}), run_dir="mine")
    assert not Path("mine").exists()


# ── ask ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_about_paths_and_globs_is_answered_with_citations(tmp_path, script):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/notes.txt").write_text("The answer is 42.\n")
    for inputs in (["src/"], "src", ["src/*.txt"], [Path("src")], {"path": "src"}):
        result = lr.ask("What is the answer?", inputs, model=script(ready(CITED)))
        assert result.status == "verified", result.verdicts
        (citation,) = result.citations
        assert (citation.name, citation.line, citation.ok) == ("notes.txt", 1, True)
    assert result.run.folder.name == "what-is-the-answer-5"


def test_a_question_takes_verifiers_and_a_budget(script):
    result = lr.ask(
        "What?",
        {"notes.txt": "The answer is 42.\n"},
        model=script(ready("41"), ready("41")),
        verify=[lr.any_of(lr.contains("42"), lr.regex("^4[3-9]$"))],
        budget=lr.Budget(passes=1),
    )
    assert (result.status, result.spend.passes) == ("unverified", 1)


# ── resume, fork, verify, open ──────────────────────────────────────────────────────────────────────


def test_a_run_out_of_budget_is_resumed_with_more(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    assert lr.run(task, run_dir="mine").status == "unverified"
    assert lr.open("mine").state == "unfinished"
    result = lr.resume("mine", budget={"passes": 2})
    assert result.status == "verified"
    assert lr.open("mine").state == "verified"
    assert lr.open("mine").proof == result.proof


def test_a_run_is_verified_again_also_in_a_clone(task, tmp_path):
    result = lr.run(task, run_dir="mine")
    subprocess.run(["git", "clone", "-q", "mine", "copy"], check=True, capture_output=True)
    for run in ("mine", "copy", result.run, tmp_path / "copy"):
        outcome = lr.verify(run)
        assert (outcome.status, outcome.is_accepted) == ("same", True)


def test_a_clone_is_resumed_only_when_it_is_trusted(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    lr.run(task, run_dir="mine")
    subprocess.run(["git", "clone", "-q", "mine", "copy"], check=True, capture_output=True)
    with pytest.raises(lr.WorkspaceError, match="not created here"):
        lr.resume("copy", budget={"passes": 2})
    assert lr.resume("copy", budget={"passes": 2}, trust=True).verified


def test_a_fork_goes_on_from_a_moment_with_another_prompt(task):
    lr.run(task, run_dir="mine")
    run = lr.fork("mine", "runs/other", at="1", prompt="Which number?")
    assert run.state == "unfinished"
    assert lr.resume(run).answer == "42"
    assert lr.open("mine").answer == "42"
    with pytest.raises(lr.ConfigError, match="names no moment"):
        lr.fork("mine", at="last week")


def test_a_run_that_is_not_there_is_an_error():
    for call in (lr.open, lr.resume, lr.verify, lr.fork):
        with pytest.raises(lr.ConfigError, match="there is no run 'nothing'"):
            call("nothing")


# ── looking at a run ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def two_passes(tmp_path_factory):
    """A run that was rejected once and then accepted."""
    folder = tmp_path_factory.mktemp("looked-at")
    task = write_task(folder / "task", root=[cell("x = 1"), ready("41"), ready("42")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOP_RUNNER_STATE", str(folder / "state"))
        patch.setenv("LOOP_RUNNER_CACHE", str(folder / "cache"))
        return lr.run(task, run_dir=folder / "run")


def test_the_log_has_an_entry_for_each_commit_and_why_a_pass_was_rejected(two_passes):
    entries = two_passes.run.log()
    places = [(entry.pass_number, entry.turn, entry.outcome) for entry in entries]
    assert places == [
        (0, 0, None), (1, 1, None), (1, 2, None), (1, 0, "rejected"), (2, 1, None), (2, 0, "accepted"),
    ]  # fmt: skip
    assert [bool(entry.reason) for entry in entries] == [False, False, False, True, False, False]
    assert two_passes.run.story[0] == "pass 2: accepted"


def test_a_moment_of_a_run_is_shown_by_its_name_also_when_it_is_opened(two_passes):
    run = two_passes.run
    assert run.show()["answer"] == "42"
    assert run.show("1")["verdict"]["decision"] == "block"
    assert lr.open(f"{run.folder}@1.2").show() == run.show("1.2")
    assert run.show("1.2")["answer"] == "41"
    with pytest.raises(lr.ConfigError, match="no moment of a run"):
        run.show("yesterday")
    with pytest.raises(lr.ConfigError, match="no pass 7"):
        run.show("7")


def test_two_moments_are_compared_and_what_they_cost_is_summed(two_passes):
    result = two_passes.run.diff("1", "head")
    assert [line[:3] for line in result.answer[-2:]] == ["-41", "+42"]
    costs = two_passes.run.costs()
    assert costs.total.requests == 3
    assert [line.requests for line in costs.by_pass.values()] == [2, 1]
    assert two_passes.run.costs("1").total.requests == 2


def test_the_result_has_the_verdict_and_the_next_commands(two_passes):
    assert (two_passes.pass_number, two_passes.verdict["decision"]) == (2, "allow")
    steps = two_passes.run.next_steps(two_passes)
    assert steps[0].startswith("loop-runner show")


def test_a_run_is_checked_replayed_and_bisected(two_passes):
    run = two_passes.run
    assert run.fsck().is_whole
    assert run.replay(trust=True).is_same
    tried: list[int] = []
    result = run.bisect(
        ["grep", "-q", "41", "answer.md"], on_step=lambda step: tried.append(step.pass_number)
    )
    assert (result.first.pass_number, sorted(tried)) == (2, [1, 2])


def test_a_run_is_taken_back_and_continued(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")])
    run = lr.run(task, run_dir="mine").run
    gone = run.rewind("1")
    assert (str(gone.to), str(gone.left), gone.name) == (
        "the end of pass 1",
        "the end of pass 2",
        "rewound/1",
    )
    assert run.state == "unfinished"
    assert lr.resume(run).answer == "42"


def test_the_error_that_ends_a_run_names_its_folder(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("x = 1")])  # has no second reply
    with pytest.raises(lr.ModelError) as caught:
        lr.run(task, run_dir="mine")
    assert caught.value.run == tmp_path / "mine"
    assert lr.open("mine").next_steps(caught.value)[0].startswith("loop-runner resume")


def test_a_task_is_checked_without_a_run(task, tmp_path):
    result = lr.Task.from_file(task).check()
    assert result.texts >= 0
    assert result.verifiers
    assert not Path("runs").exists()


def test_settings_are_keys_of_the_task_by_their_dotted_names(task):
    made = lr.Task.from_file(task, budget__passes=3, settings=["budget.turns=4", ("name", "other")])
    assert (made.budget.passes, made.budget.turns, made.name) == (3, 4, "other")
    with pytest.raises(lr.ConfigError, match="unknown key `pases`"):
        lr.Task.from_file(task, settings={"budget.pases": 3})


def test_a_run_without_a_committed_turn_starts_over_with_the_changed_task_file(tmp_path):
    task = write_task(tmp_path / "task", root=[])  # has no reply at all
    with pytest.raises(lr.ModelError):
        lr.run(task, run_dir="mine")
    write_task(tmp_path / "task", root=[ready("42")])
    heard: list[lr.Event] = []
    assert lr.resume("mine", retask=True, on_event=heard.append).verified
    assert any("starts over" in event.text for event in heard)


def test_a_changed_task_file_is_named_and_taken_when_that_is_asked(tmp_path):
    task = write_task(tmp_path / "task", root=[ready("41"), ready("42")], budget={"passes": 1})
    lr.run(task, run_dir="mine")
    task.write_text(task.read_text().replace("passes: 1", "passes: 2"))
    heard: list[lr.Event] = []
    assert lr.resume("mine", on_event=heard.append).status == "unverified"
    assert any("keeps the old task" in event.text for event in heard)
    assert lr.resume("mine", retask=True, on_event=heard.append).verified
    assert any(event.text == "the task has changed: budget" for event in heard)


def test_what_is_installed_here_can_be_listed(tmp_path):
    assert {entry.name for entry in lr.installed.providers()} >= {"anthropic", "local"}
    assert {entry.name for entry in lr.installed.local_models()} >= {"coder"}
    assert "task-file" in lr.installed.pages()
    assert lr.installed.schemas()["task.schema.json"]["title"] == "A task file of loop-runner"
    made = lr.installed.new_task(next(iter(lr.installed.task_types())), tmp_path / "new")
    assert "task.yaml" in made.files


# ── stream ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_gives_every_event_and_then_the_result(task):
    with lr.stream(task, run_dir="mine") as events:
        kinds = [event.kind for event in events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"
    assert kinds.count("pass_ended") == 2
    assert events.result.answer == "42"


def test_a_stream_that_is_left_early_stops_the_run_and_keeps_what_is_committed(tmp_path):
    task = write_task(tmp_path / "task", root=[cell("x = 1"), cell("import time; time.sleep(60)")])
    with lr.stream(task, run_dir="mine") as events:
        for event in events:
            if event.kind == "turn_committed":
                break
    assert events.result.status == "interrupted"
    assert events.result.spend.turns == 1


def test_a_listener_that_raises_does_not_end_the_run(task):
    def fail(event):
        raise RuntimeError(event.kind)

    assert lr.run(task, run_dir="mine", on_event=fail).verified


# ── the package ─────────────────────────────────────────────────────────────────────────────────────


def test_every_name_is_loaded_when_it_is_used_and_is_the_same_object_each_time():
    for name in lr.__all__:
        assert getattr(lr, name) is getattr(lr, name)
    assert set(lr.__all__) <= set(dir(lr))
    with pytest.raises(AttributeError):
        lr.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_folders_with_the_name_of_a_function_are_both(task):
    assert Gates.of([], Path())
    assert audit.__name__ == "loop_runner.audit"
    assert api.__name__ == "loop_runner.api"
    lr.run(task, run_dir="mine")
    assert lr.verify("mine").is_accepted
    assert sys.modules["loop_runner.verify"].Gates is Gates


def test_importing_the_package_loads_nothing_and_prints_nothing():
    code = (
        "import sys, time\nbefore = set(sys.modules)\nstarted = time.perf_counter()\nimport loop_runner\n"
        "seconds = time.perf_counter() - started\nprint(seconds, *sorted(set(sys.modules) - before))"
    )
    folder = Path(__file__).parents[2]
    argv = [sys.executable, "-c", code]
    runs = [subprocess.run(argv, capture_output=True, check=True, cwd=folder).stdout for _ in range(5)]
    loaded = runs[0].decode().split()[1:]
    assert min(float(run.split()[0]) for run in runs) < 0.04
    assert {name for name in loaded if name.startswith("loop_runner")} == {"loop_runner"}


def test_a_run_prints_nothing_and_leaves_the_process_as_it_was(task, capfd):
    import gc
    import signal

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    before = (os.getcwd(), gc.get_threshold(), handlers, dict(os.environ))
    during = []
    lr.run(task, run_dir="mine", on_event=lambda _: during.append((os.getcwd(), gc.get_threshold())))
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    assert (os.getcwd(), gc.get_threshold(), after, dict(os.environ)) == before
    assert set(during) == {before[:2]}
    assert capfd.readouterr() == ("", "")
