"""A fork is a run of its own that starts from any point of another."""

import json

import pytest
import yaml

from loop_runner.workspace.workspace import Workspace
from tests.support.commands import loop_runner, started
from tests.support.git import assert_clean, git, subjects, tree
from tests.support.tasks import cell, ready, write_task


def json_of(*args, cwd, code=0):
    result = loop_runner(*args, "--json", cwd=cwd)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


def everything(folder):
    """Every file of a folder with its bytes, git's own included."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_fork_has_the_commits_up_to_there_and_one_that_says_where_it_came_from(place):
    run, new = place / "runs/scripted", place / "runs/other"
    before = everything(run)
    data = json_of("fork", "scripted@2.1", "other", cwd=place)
    assert everything(run) == before, "the source is left alone, byte for byte"
    turn = git(run, "log", "--format=%H", "--grep=^pass 2 turn 1")
    assert data["from"] == {"run": "runs/scripted", "commit": turn, "pass": 2, "turn": 1}
    assert git(new, "rev-parse", "HEAD^") == turn
    assert subjects(new) == [*subjects(run, turn), "fork: from pass 2 turn 1"]
    assert f"Loop-Forked-From: {turn} pass 2 turn 1" in git(new, "log", "-1", "--format=%B")
    assert json.loads((new / "forks.json").read_text())["forks"] == [
        {"changed": [], "commit": turn, "pass": 2, "turn": 1}
    ]
    assert (new / "workspace/notes/plan.md").read_text() == "count\ncount again\n"
    assert_clean(new)
    assert not list((new / ".git/objects").rglob("alternates")), "it shares nothing with the source"


def test_an_unchanged_fork_that_is_resumed_ends_with_the_tree_of_the_source(place):
    data = json_of("fork", "scripted@2.1", "other", "--run", "-q", cwd=place)
    assert (data["status"], data["answer"], data["turns"]) == ("verified", "42", 5)
    run, new = place / "runs/scripted", place / "runs/other"
    listed = {line.split("\t")[1]: line for line in git(run, "ls-tree", "-r", "HEAD").splitlines()}
    forked = {line.split("\t")[1]: line for line in git(new, "ls-tree", "-r", "HEAD").splitlines()}
    assert forked.pop("forks.json")
    # The proof names the tree that was verified, and ``forks.json`` is in it.
    assert forked.pop("proof.json") != listed.pop("proof.json")
    assert forked == listed


def test_another_model_goes_on_with_the_conversation_of_the_first(place):
    script = {"root": ["", "", "", ready("42 and more")]}
    (place / "task/other.yaml").write_text(yaml.safe_dump(script))
    data = json_of("fork", "scripted@2.1", "other", "--model", "script:other.yaml", cwd=place)
    assert data["changed"] == ["model", "sub_model"]
    outcome = json_of("resume", "other", "-q", cwd=place)
    assert (outcome["status"], outcome["answer"]) == ("verified", "42 and more")
    assert subjects(place / "runs/other")[-2:] == ["pass 2 turn 2: ran, ready", "pass 2: accepted"]
    assert yaml.safe_load((place / "runs/other/task.yaml").read_text())["model"] == "script:other.yaml"


def test_another_prompt_at_the_end_of_a_pass_is_what_the_next_pass_is_given(place):
    (place / "new.md").write_text("Name the answer once more.\n")
    json_of("fork", "scripted@1", "other", "--prompt", "new.md", cwd=place)
    assert json_of("resume", "other", "-q", cwd=place)["status"] == "verified"
    shown = (place / "runs/other/passes/0002/injected.md").read_text()
    assert shown.startswith("Name the answer once more.\n\n")
    assert "the answer does not contain '42'" in shown, "what failed is still said"
    assert (place / "runs/other/prompt.md").read_text() == "Name the answer once more.\n"
    assert (place / "runs/scripted/prompt.md").read_text() == "What is the answer?"


def test_another_prompt_in_the_middle_of_a_pass_ends_that_pass(place):
    (place / "new.md").write_text("Name the answer once more.\n")
    json_of("fork", "scripted@2.2", "other", "--prompt", "new.md", cwd=place)
    new = place / "runs/other"
    assert subjects(new, "--first-parent")[-1].startswith("fork: from pass 2 turn 2, with another prompt")
    assert_clean(new)
    assert json_of("status", "other", cwd=place)["runs"][0]["pass"] == 2
    assert json_of("resume", "other", "-q", cwd=place)["status"] == "verified"
    shown = (new / "passes/0003/injected.md").read_text()
    assert shown.startswith("Name the answer once more.\n\n")
    assert "the run was forked here and given another prompt" in shown


def test_an_accepted_pass_is_forked_only_to_ask_for_something_else(place):
    refused = loop_runner("fork", "scripted@3", "other", cwd=place)
    assert refused.returncode == 2
    assert "would have nothing to do" in refused.stderr
    assert not (place / "runs/other").exists()
    (place / "new.md").write_text("And now the next number: 43.\n")
    gates = "verifiers=[{contains: '43'}]"
    (place / "task/other.yaml").write_text(
        yaml.safe_dump({"root": [*[""] * 5, ready("42 again"), ready("43")]})
    )
    args = ("--prompt", "new.md", "--set", gates, "--model", "script:other.yaml", "--passes", "5")
    json_of("fork", "scripted@3", "other", *args, cwd=place)
    assert json_of("status", "other", cwd=place)["runs"][0]["state"] == "unfinished"
    assert json_of("resume", "other", "-q", cwd=place)["answer"] == "43"
    shown = (place / "runs/other/passes/0004/injected.md").read_text()
    assert "nothing failed: the answer was accepted under the task at that time" in shown
    assert "43" in (place / "runs/other/system.md").read_text(), "the gates that hold now are told"


def test_the_best_answer_of_a_fork_is_one_to_its_own_prompt(place):
    (place / "task/other.yaml").write_text(yaml.safe_dump({"root": [*[""] * 5, ready("not yet")]}))
    args = ("--set", "verifiers=[{contains: '43'}]", "--model", "script:other.yaml", "--passes", "4")
    data = json_of("fork", "scripted@3", "other", *args, "--run", "-q", cwd=place, code=3)
    assert (data["status"], data["answer"]) == ("unverified", "not yet")


def test_a_larger_budget_lets_a_fork_go_on_where_the_run_had_to_stop(place):
    write_task(place / "short", root=[ready("40"), ready("42")], budget={"passes": 1}, name="short")
    assert loop_runner("run", "short/task.yaml", "-q", cwd=place).returncode == 3
    data = json_of("fork", "short", "longer", "--passes", "2", "--run", "-q", cwd=place)
    assert (data["status"], data["passes"]) == ("verified", 2)


def test_a_fork_needs_no_lock_of_the_source(place):
    with Workspace.open(place / "runs/scripted"):
        json_of("fork", "scripted@1", "other", cwd=place)
    assert_clean(place / "runs/other")


def test_a_run_is_forked_while_it_goes_on(tmp_path):
    write_task(tmp_path / "task", root=[cell("import time\ntime.sleep(0.3)")] * 6 + [ready("42")])
    with started("run", "task/task.yaml", cwd=tmp_path) as running:
        running.wait_for_line("pass 1 turn 3: asking")
        json_of("fork", "scripted@1.2", "other", cwd=tmp_path)
        assert running.finish()[0] == 0
    assert json_of("resume", "other", "-q", cwd=tmp_path)["status"] == "verified"


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (("scripted@9", "new"), "3 of its passes have ended"),
        (("scripted@2.9", "new"), "has no point 2.9"),
        (("scripted@1", "scripted"), "holds a finished run"),
        (("scripted@1", "new", "--set", "inputs=[x]"), "a fork cannot change `inputs`"),
        (("scripted@1", "new", "--set", "budgets.passes=3"), "did you mean `budget`?"),
        (("scripted@1", "new", "--prompt", "no-such.md"), "cannot be read"),
        (("scripted@1", "new", "--model", "nobody:x"), "there is no provider 'nobody'"),
        (("nothing@1", "new"), "there is no run 'nothing' here"),
    ],
)
def test_what_cannot_be_forked_is_refused_and_nothing_is_made(place, args, output):
    result = loop_runner("fork", *args, cwd=place)
    assert result.returncode == 2
    assert output in result.stderr
    assert not (place / "runs/new").exists()


def test_a_fork_of_a_fork_remembers_both(place):
    json_of("fork", "scripted@2.1", "one", "--passes", "7", cwd=place)
    json_of("fork", "one@2.1", "two", "--passes", "8", cwd=place)
    forks = json.loads((place / "runs/two/forks.json").read_text())["forks"]
    assert [(fork["pass"], fork["turn"], fork["changed"]) for fork in forks] == [(2, 1, ["budget"])] * 2
    assert yaml.safe_load((place / "runs/two/task.yaml").read_text())["budget"]["passes"] == 8
    assert json_of("resume", "two", "-q", cwd=place)["status"] == "verified"


def test_a_folder_with_an_at_sign_is_a_folder(place):
    (place / "runs/scripted").rename(place / "runs/scripted@2")
    data = json_of("fork", "scripted@2@2.1", "other", cwd=place)
    assert data["from"]["turn"] == 1
    assert tree(place / "runs/other", "HEAD^") == tree(place / "runs/scripted@2", data["from"]["commit"])
