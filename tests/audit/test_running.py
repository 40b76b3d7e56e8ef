"""What is around the judgements: settings for one call, keys, suppressions, folders, progress."""

import json
import shlex
import subprocess

import pytest
import yaml

from loop_runner.audit import findings
from loop_runner.inputs import load
from tests.audit.conftest import RULES, SHOP, SUB
from tests.support.commands import loop_runner
from tests.support.git import git
from tests.support.tasks import cell, ready, write_task

ENOUGH = ("budget.subcalls=2", "budget.subcalls=1", "width=1", "kernel.timeout_s=60", "budget.tokens=1")


@pytest.mark.parametrize("setting", ENOUGH)
def test_a_setting_holds_for_one_call_only(project, setting):
    project.audit("src", "--set", setting)
    (run,) = project.runs()
    key, _, value = setting.partition("=")
    task = yaml.safe_load((run / "task.yaml").read_text())
    for part in key.split("."):
        task = task.get(part, {}) if isinstance(task, dict) else {}
    assert str(task) != value
    assert project.report("src")["status"] == "complete"
    assert len(project.runs()) == 1


@pytest.mark.parametrize("limit", ["budget.subcalls=2", "budget.subcalls=1"])
def test_the_headline_names_the_limit_that_was_reached(project, limit):
    verdict = project.report("src", "--set", limit)["verdict"]
    assert verdict.startswith("INCOMPLETE")
    assert f"the budget of {limit[-1]} sub-call" in verdict
    assert "passes" not in verdict


@pytest.mark.parametrize(
    ("comment", "why"),
    [
        ("loop-runner: ignore", "names no rule"),
        ("loop-runner: ignore bare-except", "names no rule"),
        ("loop-runner: ignore[]", "names no rule"),
        ("loop-runner:ignore an old one", "names no rule"),
        ("loop-runner: ignore[bare-exept] old", "did you mean 'bare-except'"),
        ("loop-runner: ignore[bare-except, other] old", "no rule 'other'"),
    ],
)
def test_a_suppression_that_suppresses_nothing_is_reported(tmp_path, comment, why):
    (tmp_path / "a.py").write_text(f"x = 1\n# {comment}\n")
    (idle,) = findings.idle_suppressions(load(["."], tmp_path), ["bare-except"])
    assert (idle["file"], idle["line"]) == ("a.py", 2)
    assert why in idle["why"]


@pytest.mark.parametrize(
    "comment", ["loop-runner: ignore[bare-except] old", "loop-runner: ignored", "ignore[bare-except]"]
)
def test_a_suppression_that_names_a_rule_is_not_reported(tmp_path, comment):
    (tmp_path / "a.py").write_text(f"# {comment}\n")
    assert findings.idle_suppressions(load(["."], tmp_path), ["bare-except"]) == ()


def test_suppressions_without_effect_are_in_every_report(project):
    project.write("src/shop.py", SHOP.replace("except:", "except:  # loop-runner: ignore"))
    ended = project.audit("src", "--output", "markdown", "--output", "sarif=x.sarif")
    assert "## Suppressions without effect" in ended.stdout
    assert "suppression without effect" in (project.folder / "x.sarif").read_text()
    assert project.report("src")["idle_suppressions"][0]["line"] == 9


def test_runs_are_at_the_top_of_the_repository_and_ignored_there(project):
    git(project.folder, "init", "-q")
    options = ["--rules", "../rules.yaml", "--model", "script:script.yaml", "--quiet"]
    ended = loop_runner("audit", "shop.py", *options, cwd=project.folder / "src")
    assert ended.returncode == 1, ended.stderr
    assert not (project.folder / "src" / "runs").exists()
    assert (project.folder / "runs" / ".gitignore").is_file()
    command = ["git", "status", "--porcelain", "--", "runs"]
    shown = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
    assert shown.stdout == ""
    assert project.report("src")["judged"] == 4
    assert len([path for path in project.runs() if path.is_dir()]) == 1, "from the top it is the same audit"


def test_replies_of_an_earlier_version_are_found_where_it_put_them(project):
    git(project.folder, "init", "-q")
    options = ["--rules", "../rules.yaml", "--model", "script:script.yaml", "--quiet"]
    loop_runner("audit", "shop.py", *options, "--runs", "runs", cwd=project.folder / "src")
    project.write("script.yaml", yaml.safe_dump({"sub": []}))
    ended = loop_runner("audit", "shop.py", *options, "--json", cwd=project.folder / "src")
    assert len(json.loads(ended.stdout)["findings"]) == 2


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────


def without_key(project, *options, env=None):
    command = ["audit", "src", "--rules", "rules.yaml", "--output", "sarif=x.sarif", *options]
    return loop_runner(*command, cwd=project.folder, env=env)


NAMED = [(), ("--model", "anthropic:a-model"), ("--model", "openai:a-model")]


@pytest.mark.parametrize("named", NAMED, ids=["default", "anthropic", "openai"])
@pytest.mark.parametrize(("choice", "code"), [((), 2), (("--on-missing-key", "skip"), 0)])
def test_a_missing_key_is_reported_in_sarif_and_never_looks_clean(project, named, choice, code):
    ended = without_key(project, *named, *choice)
    assert (ended.returncode, project.runs()) == (code, []), ended.stderr
    (run,) = json.loads((project.folder / "x.sarif").read_text())["runs"]
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    assert run["results"] == []
    texts = [item["message"]["text"] for item in invocation["toolExecutionNotifications"]]
    assert any("key" in text for text in texts)
    assert "CLEAN" not in ended.stdout


def test_without_a_key_the_local_model_is_not_taken_unless_it_is_named(project, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    ended = without_key(project, env={"LOOP_RUNNER_MODELS": str(models)})
    assert ended.returncode == 2
    assert "name a model, for example local:coder" in ended.stderr


def test_an_unknown_model_is_no_missing_key(project):
    ended = without_key(project, "--model", "script:no.yaml", "--on-missing-key", "skip")
    assert ended.returncode == 2
    assert not (project.folder / "x.sarif").exists()


# ── the screen ──────────────────────────────────────────────────────────────────────────────────────


def test_the_screen_shows_no_internals(project):
    sub = [{**SUB[2], "contains": "mutable"}, {"reply": "not JSON"}]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    project.write("rules.yaml", yaml.safe_dump(RULES))
    options = ["--rules", "rules.yaml", "--model", "script:script.yaml"]
    ended = loop_runner("audit", "src", *options, cwd=project.folder)
    assert ended.returncode == 3
    assert "judge: script:script.yaml" in ended.stderr
    for internal in ("the model says it is ready", "format", "{", "turn", "the prompt is sent again"):
        assert internal not in ended.stderr


# ── status ──────────────────────────────────────────────────────────────────────────────────────────


def status(project):
    (run,) = project.runs()
    shown = loop_runner("status", f"runs/{run.name}", cwd=project.folder)
    data = loop_runner("status", f"runs/{run.name}", "--json", cwd=project.folder)
    assert (shown.returncode, data.returncode) == (0, 0), shown.stderr + data.stderr
    return json.loads(data.stdout)["runs"][0], shown.stdout


def test_status_of_an_audit_that_failed_names_its_findings(project):
    assert project.audit("src").returncode == 1
    entry, shown = status(project)
    assert entry["state"] == "verified"
    assert entry["reason"] == "an audit with 2 findings: the findings are verified, not the files"
    assert '"format"' not in shown, "its answer is a report for programs"
    assert entry["reason"] in shown
    assert entry["next"][0].startswith("loop-runner show runs/")


def test_status_of_a_clean_audit_says_that_it_found_nothing(project):
    project.write("src/shop.py", "def add(item, basket=()):\n    return basket\n")
    assert project.audit("src").returncode == 0
    entry, _ = status(project)
    assert (entry["state"], entry["reason"]) == ("verified", "an audit that found nothing")


def test_status_of_an_audit_that_a_limit_ended_is_no_verified_one_and_next_finishes_it(project):
    assert project.audit("src", "--set", "budget.subcalls=1").returncode == 3
    entry, shown = status(project)
    assert entry["state"] == "unverified"
    assert entry["reason"] == "the budget of 1 sub-call is used up"
    assert entry["reason"] in shown
    command = shlex.split(entry["next"][0])[1:]
    assert loop_runner(*command, cwd=project.folder).returncode == 0
    assert status(project)[0]["state"] == "verified"


@pytest.mark.parametrize(("result", "version"), [(1, "an earlier version"), (3, "another version")])
@pytest.mark.parametrize("command", [["resume"], ["replay"], ["fork", "copy"]])
def test_an_unfinished_audit_of_another_version_says_what_to_do(project, command, result, version):
    run = unfinished_of_format(project, result)
    before = git(run, "rev-parse", "HEAD")
    ended = loop_runner(command[0], run, *command[1:], cwd=project.folder)
    assert ended.returncode == 2, ended.stderr
    assert f"an unfinished audit of {version} of loop-runner (plan format {result})" in ended.stderr
    assert "run the same `loop-runner audit PATH... --rules FILE` again" in ended.stderr
    assert git(run, "rev-parse", "HEAD") == before
    assert not (project.folder / "runs/copy").exists()


def test_a_plan_that_a_model_wrote_stops_no_other_run(tmp_path):
    code = "open('plan.json', 'w').write('{\"format\": 1}')"
    task = write_task(tmp_path / "task", root=[cell(code), ready("42")], budget={"passes": 1, "turns": 1})
    assert loop_runner("run", task, cwd=tmp_path).returncode == 3
    assert loop_runner("resume", "scripted", "--passes", "2", cwd=tmp_path).returncode == 0


def unfinished_of_format(project, number):
    """The run folder of an audit that a limit ended, with a plan of format ``number``."""
    assert project.audit("src", "--set", "budget.subcalls=1").returncode == 3
    (run,) = project.runs()
    file = run / "workspace/plan.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": number}))
    git(run, "-c", "user.name=A Person", "-c", "user.email=person@localhost", "commit", "-qam", "older")
    return run
