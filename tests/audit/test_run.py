"""``audit.run.run``, as a program calls it: plain values in, a record out, nothing printed."""

import json
from pathlib import Path

import pytest

from loop_runner.audit import outputs
from loop_runner.audit.run import NoKeyError, run
from loop_runner.errors import ConfigError

MODEL = "script:script.yaml"


@pytest.fixture
def env(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return {"LOOP_RUNNER_STATE": str(project.folder.parent / "state")}


def audit(env, **options):
    return run([Path("src")], Path("rules.yaml"), env, **{"model": MODEL, **options})


def test_a_program_gets_what_the_command_prints(project, env, capsys):
    result = audit(env)
    assert (result.exit_code, result.notes, result.is_interrupted) == (1, (), False)
    assert {finding.rule for finding in result.report.findings} == {"bare-except", "mutable-default"}
    result = audit(env)  # the command finds a complete run, as this call does
    assert project.audit("src", "--output", "json").stdout == outputs.text_of(
        "json", result.report, result.about, result.exit_code
    )
    assert capsys.readouterr() == ("", "")


def test_the_second_call_takes_the_run_of_the_first(project, env):
    first, second = audit(env), audit(env)
    assert first.about.run == second.about.run
    assert first.report == second.report
    assert len(project.runs()) == 1


def test_a_written_baseline_is_a_note_and_makes_the_findings_known(project, env, capsys):
    result = audit(env, baseline_file=Path("known.json"), write_baseline=True)
    assert result.exit_code == 0
    assert result.notes == (
        "wrote known.json: 2 entries (2 added, 0 removed, 0 kept that this audit did not look for)",
    )
    assert {finding.state for finding in result.report.findings} == {"known"}
    assert len(json.loads((project.folder / "known.json").read_text())["findings"]) == 2
    assert capsys.readouterr() == ("", "")


def test_an_audit_that_a_listener_stops_says_that_it_can_be_continued(project, env):
    from contextlib import nullcontext

    from loop_runner.runs.context import RunContext

    stopped = audit(env, open_context=lambda _folder: nullcontext(RunContext(env, (), lambda: True)))
    assert (stopped.exit_code, stopped.is_interrupted) == (130, True)
    assert "interrupted" in stopped.notes[0]
    assert audit(env).exit_code == 1


def test_files_that_no_rule_is_about_cost_nothing(project, env):
    project.write("text/a.txt", "hello\n")
    result = run([Path("text")], Path("rules.yaml"), env, model=MODEL)
    assert (result.exit_code, result.about.run) == (0, "")
    assert result.about.reason.startswith("no rule is about 1 file")


def test_without_a_key_the_error_holds_the_result_that_can_be_reported(project, env):
    with pytest.raises(NoKeyError) as caught:
        audit(env, model=None)
    assert caught.value.result.exit_code == caught.value.exit_code == 2
    assert caught.value.result.about.lacks_key
    assert not caught.value.result.report.is_complete
    skipped = audit(env, model=None, skip_without_key=True)
    assert (skipped.exit_code, skipped.about.lacks_key, project.runs()) == (0, True, [])


@pytest.mark.parametrize(
    "options",
    [
        {"write_baseline": True},
        {"baseline_file": Path("missing.json")},
        {"settings": [("no_such_key", 1)]},
        {"model": "script:missing.yaml"},
        {"changed_since": "no-such-revision"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_cannot_work_is_an_error_before_a_run_folder_is_made(project, env, options):
    with pytest.raises(ConfigError):
        audit(env, **options)
    assert project.runs() == []
