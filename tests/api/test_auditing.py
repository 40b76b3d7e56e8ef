"""``lr.audit``: files judged by rules, with a result that a program reads."""

import json
from pathlib import Path

import pytest
import yaml

import loop_runner as lr

JUDGEMENT = '{"candidate": {1}, "line": {2}, "quote": "8080", "reason": "A port.", "verdict": "wrong"}'
RULE = {"id": "no-port", "description": "The notes name no port.", "regex": "port"}


@pytest.fixture(autouse=True)
def files():
    Path("notes.txt").write_text("The port is 8080.\nThe host is db.\n")
    script = {"sub": [{"match": r">(\d+)[\d,]* +(\d+) \| ", "reply": f'{{"judgements": [{JUDGEMENT}]}}'}]}
    Path("judge.yaml").write_text(yaml.safe_dump(script))
    Path("rules.yaml").write_text(yaml.safe_dump({"rules": [RULE]}))


def audit(**options):
    return lr.audit("notes.txt", **{"rules": [RULE], "model": "script:judge.yaml", **options})


def test_a_finding_at_the_level_fails_and_one_below_it_does_not():
    failed = audit()
    assert (failed.status, failed.exit_code, failed.passed) == ("failed", 1, False)
    (finding,) = failed.findings
    assert (finding.rule, finding.file, finding.line, finding.quote) == ("no-port", "notes.txt", 1, "8080")
    assert (failed.new_findings, failed.unsure, failed.reason) == ((finding,), (), "")
    assert failed.verdict.startswith("FAILED: 1 warning")
    with pytest.raises(lr.NotVerifiedError, match="the audit ended failed: FAILED: 1 warning"):
        failed.raise_for_status()
    passed = audit(fail_on="error")  # the run of the first call has every judgement
    assert (passed.status, passed.exit_code, passed.raise_for_status()) == ("passed", 0, passed)
    assert passed.run.folder == failed.run.folder


def test_a_rules_file_and_the_same_rules_as_values_find_the_same():
    assert audit(rules="rules.yaml").findings == audit(rules=Path("rules.yaml")).findings == audit().findings


def test_reports_are_written_and_are_the_texts_of_the_result():
    result = audit(reports={"sarif": "a.sarif", "json": Path("a.json"), "markdown": "a.md"})
    assert Path("a.sarif").read_text() == result.text("sarif")
    assert Path("a.md").read_text() == result.text("markdown") == result.text()
    assert json.loads(Path("a.json").read_text()) == {"version": 1, **result.to_dict()}
    result.write("junit", "a.xml")
    assert "no-port" in Path("a.xml").read_text()


def test_a_baseline_makes_findings_known():
    written = audit(baseline="known.json", write_baseline=True)
    assert written.notes[0].startswith("wrote known.json: 1 entry")
    later = audit(baseline="known.json")
    assert later.passed
    assert [finding.state for finding in later.findings] == ["known"]
    assert later.new_findings == ()


def test_events_arrive_and_a_stop_that_is_asked_meanwhile_interrupts():
    heard: list[lr.Event] = []
    stop = lr.Stop()

    def hear(event: lr.Event) -> None:
        heard.append(event)
        if event.kind == "turn_started":
            stop.ask()

    interrupted = audit(stop=stop, on_event=hear, reports={"json": "a.json"})
    assert (interrupted.status, interrupted.exit_code) == ("interrupted", 130)
    assert not Path("a.json").exists()
    assert heard[-1].kind == "run_ended"
    assert audit().status == "failed"


def test_nothing_to_judge_is_a_passed_audit_without_a_run():
    result = audit(rules=[{**RULE, "files": "*.py"}])
    assert (result.status, result.findings, result.run) == ("passed", (), None)
    assert "no rule is about 1 file" in result.reason


def test_an_audit_without_a_key_is_an_error_with_a_result_or_passes_if_that_is_wanted(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(lr.types.NoKeyError, match="no model") as caught:
        audit(model=None, reports={"json": "a.json"})
    assert caught.value.result.status == "incomplete"
    assert json.loads(Path("a.json").read_text())["exit_code"] == 2
    assert audit(model=None, skip_without_key=True).passed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rules": "missing.yaml"}, "no rules file missing.yaml"),
        ({"rules": []}, "at least one"),
        ({"rules": [{**RULE, "regexp": "x"}]}, "'regexp'"),
        ({"rules": [{**RULE, "regex": object()}]}, "no plain values"),
        ({"rules": [RULE, RULE]}, "`no-port` is taken"),
        ({"fail_on": "grave"}, "no severity"),
        ({"reports": {"srif": "x"}}, "no kind of report 'srif'"),
        ({"write_baseline": True}, "baseline"),
        ({"baseline": "missing.json"}, "missing.json"),
        ({"model": "script:missing.yaml"}, "missing.yaml"),
        ({"budget__pases": 3}, "`pases`|budget.pases"),
        ({"changed_since": "main"}, "no git repository"),
    ],
)
def test_what_cannot_work_is_an_error(options, words):
    with pytest.raises(lr.ConfigError, match=words):
        audit(**options)


def test_paths_that_do_not_exist_are_an_error():
    with pytest.raises(lr.ConfigError, match=r"nothing\.txt"):
        lr.audit(["nothing.txt"], rules=[RULE], model="script:judge.yaml")
