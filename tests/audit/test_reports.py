"""The reports: other tools read theirs here, and nothing that a model wrote gets out of its place."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import yaml

from loop_runner.audit import exchange, markup, reports
from loop_runner.audit.findings import Finding, Report
from loop_runner.audit.reports import About
from loop_runner.audit.rules import Rule
from tests.audit.conftest import SUB, wrong

HOSTILE = (
    "line\r\n::error::owned\x1b[31m </failure>]]><img src=x onerror=alert(1)> [a](http://evil) @everyone "
    "`code` | ##[add-mask]x %0A::stop \u202e www.evil.example \x00\ud800 #12"
)
RULES = (
    Rule("bare-except", "No bare except", "Say what.", "error"),
    Rule("odd:rule", "Odd, 100% odd", "-", "note"),
)
ABOUT = About(RULES, "1.0", run="runs/audit-1", model="script:x")


def finding(**changes):
    base = {"rule": "bare-except", "severity": "error", "file": "src/a b.py", "line": 3, "column": 5}
    return Finding(
        **{**base, "quote": "except:", "reason": "It is bare.", "fingerprint": "f" * 64, **changes}
    )


MIXED = Report(
    (
        finding(),
        finding(line=9, state="suppressed", excuse="a watchdog", fingerprint="a" * 64),
        finding(line=12, state="known", fingerprint="b" * 64),
        finding(
            rule="odd:rule",
            severity="note",
            quote=HOSTILE.split("\r", maxsplit=1)[0],
            reason=HOSTILE,
            fingerprint="c" * 64,
        ),
    ),
    files=2,
    candidates=5,
    judged=4,
    dropped=1,
    unjudged=({"rule": "odd:rule", "file": "src/c.py", "line": 1, "why": HOSTILE},),
    not_searched=({"file": "src/d.py", "why": "no Python"},),
    is_complete=False,
)

# The part of SARIF 2.1.0 that is used here, written down from the specification: nothing beside it is
# allowed, so that a key that SARIF does not have cannot slip in.
_TEXT = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string"}},
    "additionalProperties": False,
}
_ARTIFACT = {
    "type": "object",
    "required": ["uri"],
    "properties": {"uri": {"type": "string", "pattern": "^[^ \\\\]+$"}, "uriBaseId": {"type": "string"}},
    "additionalProperties": False,
}
_REGION = {
    "type": "object",
    "required": ["startLine"],
    "properties": {
        **{name: {"type": "integer", "minimum": 1} for name in ("startLine", "startColumn", "endColumn")},
        "snippet": _TEXT,
    },
    "additionalProperties": False,
}
_LOCATION = {
    "type": "object",
    "properties": {
        "physicalLocation": {
            "type": "object",
            "properties": {"artifactLocation": _ARTIFACT, "region": _REGION},
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "additionalProperties": False,
                "properties": {
                    "automationDetails": {
                        "type": "object",
                        "required": ["id"],
                        "properties": {"id": {"type": "string"}},
                        "additionalProperties": False,
                    },
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "additionalProperties": False,
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": {"type": "string"},
                                    "version": {"type": "string"},
                                    "semanticVersion": {"type": "string"},
                                    "informationUri": {"type": "string", "pattern": "^[a-z]+:"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "shortDescription": _TEXT,
                                                "fullDescription": _TEXT,
                                                "help": {
                                                    "type": "object",
                                                    "required": ["text"],
                                                    "properties": {
                                                        "text": {"type": "string"},
                                                        "markdown": {"type": "string"},
                                                    },
                                                    "additionalProperties": False,
                                                },
                                                "defaultConfiguration": {
                                                    "type": "object",
                                                    "properties": {"level": _LEVEL},
                                                    "additionalProperties": False,
                                                },
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],
                            "additionalProperties": False,
                            "properties": {
                                "executionSuccessful": {"type": "boolean"},
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["message"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "level": _LEVEL,
                                            "message": _TEXT,
                                            "locations": {"type": "array", "items": _LOCATION},
                                        },
                                    },
                                },
                            },
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": -1},
                                "level": _LEVEL,
                                "kind": {
                                    "enum": [
                                        *("notApplicable", "pass", "fail", "review", "open", "informational")
                                    ]
                                },
                                "message": _TEXT,
                                "locations": {"type": "array", "items": _LOCATION},
                                "partialFingerprints": {
                                    "type": "object",
                                    "additionalProperties": {"type": "string"},
                                },
                                "baselineState": {"enum": ["new", "unchanged", "updated", "absent"]},
                                "suppressions": {
                                    "type": "array",
                                    "items": {
                                        "type": "object",
                                        "required": ["kind"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "kind": {"enum": ["inSource", "external"]},
                                            "justification": {"type": "string"},
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


# ── SARIF ───────────────────────────────────────────────────────────────────────────────────────────


def test_sarif_fits_the_part_of_its_schema_that_is_used():
    log = json.loads(exchange.sarif(MIXED, ABOUT))
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    assert [item["level"] for item in run["results"]] == ["error", "error", "error", "note"]
    assert [item["baselineState"] for item in run["results"]] == ["new", "new", "unchanged", "new"]
    assert run["results"][1]["suppressions"][0]["justification"] == "a watchdog"
    assert run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "src/a%20b.py"
    assert not run["invocations"][0]["executionSuccessful"]


def test_sarif_fits_the_classes_that_are_made_of_the_official_schema():
    model = pytest.importorskip("pydantic_sarif.model", reason="it comes with the extra [dev]")
    whole = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema
    whole.model_validate_json(exchange.sarif(MIXED, ABOUT))
    broken = json.loads(exchange.sarif(MIXED, ABOUT))
    broken["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(ValueError, match="level"):
        whole.model_validate(broken)


def test_sarif_tools_reads_the_report_of_a_real_audit(project, tmp_path):
    ended = project.audit("src", "--output", f"sarif={tmp_path / 'out.sarif'}")
    assert ended.returncode == 1
    shown = sarif_tools("csv", "--output", tmp_path / "out.csv", tmp_path / "out.sarif")
    assert shown.returncode == 0, shown.stderr
    table = (tmp_path / "out.csv").read_text()
    assert "bare-except" in table
    assert "src/shop.py" in table
    summary = sarif_tools("summary", tmp_path / "out.sarif").stdout
    assert "error: 1" in summary
    assert "warning: 1" in summary
    assert sarif_tools("--check", "error", "summary", tmp_path / "out.sarif").returncode == 1


def sarif_tools(*args):
    pytest.importorskip("sarif", reason="sarif-tools comes with the extra [dev]")
    command = [sys.executable, "-W", "ignore", "-m", "sarif", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ── the others ──────────────────────────────────────────────────────────────────────────────────────


def test_junit_is_xml_with_a_case_for_each_rule_and_its_findings():
    (suite,) = ET.fromstring(exchange.junit(MIXED, ABOUT))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "1")
    failures = [case.findtext("failure", "") for case in suite]
    assert failures[0].splitlines() == ["src/a b.py:3: It is bare.", "    except:"]
    assert "</failure>]]><img" in failures[1]


def test_junit_has_a_failure_for_each_finding_with_its_file():
    result = (finding(), finding(line=8), finding(file="src/z.py"), finding(line=9, state="known"))
    report = Report(result, files=2, candidates=4, judged=4)
    (suite,) = ET.fromstring(exchange.junit(report, ABOUT))
    failed = [case for case in suite if case.find("failure") is not None]
    assert [(case.get("file"), case.get("line")) for case in failed] == [
        ("src/a b.py", "3"),
        ("src/a b.py", "8"),
        ("src/z.py", "3"),
    ]
    assert [case.get("name") for case in suite if case not in failed] == ["odd:rule"]
    assert (suite.get("tests"), suite.get("failures")) == ("4", "3")


def test_sarif_says_which_audit_it_is_and_helps_with_each_rule(project, tmp_path):
    from_action = {"GITHUB_SERVER_URL": "https://git.example", "GITHUB_ACTION_REPOSITORY": "o/loop-runner"}
    project.audit("src", "--output", f"sarif={tmp_path / 'x.sarif'}", env=from_action)
    (run,) = json.loads((tmp_path / "x.sarif").read_text())["runs"]
    assert run["automationDetails"]["id"] == "loop-runner-audit/rules.yaml/"
    driver = run["tool"]["driver"]
    assert driver["informationUri"] == "https://git.example/o/loop-runner"
    assert "loop-runner: ignore[bare-except]" in driver["rules"][0]["help"]["text"]


def test_gitlab_gets_the_new_findings_in_its_words():
    entries = json.loads(exchange.gitlab(MIXED, ABOUT))
    assert [(entry["check_name"], entry["severity"]) for entry in entries] == [
        *[("bare-except", "major"), ("odd:rule", "info")]
    ]
    assert entries[0]["location"] == {"path": "src/a b.py", "lines": {"begin": 3}}
    assert all(
        {"description", "check_name", "fingerprint", "severity", "location"} == set(entry)
        for entry in entries
    )


def test_a_workflow_command_is_one_line_whatever_a_model_wrote():
    first, second, rest = reports.github(MIXED, ABOUT).split("\n")
    assert rest == ""
    assert first == "::error file=src/a b.py,line=3,col=5,title=bare-except%3A No bare except::It is bare."
    assert second.startswith(
        "::notice file=src/a b.py,line=3,col=5,title=odd%3Arule%3A Odd%2C 100%25 odd::line ::error"
    )
    assert "%250A::stop" in second
    assert second.isprintable()


def test_markdown_shows_hostile_text_as_text():
    shown = reports.markdown(MIXED, ABOUT)
    assert "INCOMPLETE" in shown
    assert "<img" not in shown
    assert "](http:" not in shown
    assert "http://" not in shown
    assert "@everyone" not in shown
    assert not any(line.lstrip().startswith("::") for line in shown.splitlines())
    assert all(line.isprintable() for line in shown.splitlines())
    assert "##[" not in markup.for_runner(shown)


# ── places that are unsure ──────────────────────────────────────────────────────────────────────────

UNDECIDED = finding(line=21, reason=HOSTILE, fingerprint="d" * 64)
UNSURE = Report(
    files=2,
    candidates=5,
    judged=5,
    unsure=(UNDECIDED, finding(line=30, state="suppressed", excuse="seen", fingerprint="e" * 64)),
)


def test_an_unsure_place_is_in_every_report_and_a_finding_in_none():
    log = json.loads(exchange.sarif(UNSURE, ABOUT))
    jsonschema.Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    assert [(item["kind"], item["level"]) for item in run["results"]] == [("review", "none")] * 2
    assert run["results"][1]["suppressions"]
    (headline,) = run["invocations"][0]["toolExecutionNotifications"]
    assert headline["message"]["text"] == "UNSURE: no findings; unsure about 1 place"
    (suite,) = ET.fromstring(exchange.junit(UNSURE, ABOUT))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "0", "1")
    assert suite[0].get("line") == "21"
    assert suite[0].findall("skipped")[0].attrib["message"].startswith("unsure: No bare except: ")
    (entry,) = json.loads(exchange.gitlab(UNSURE, ABOUT))
    assert (entry["severity"], entry["location"]["lines"]["begin"]) == ("info", 21)
    assert entry["description"].startswith("unsure: ")
    assert entry["fingerprint"] != UNDECIDED.fingerprint
    (command,) = reports.github(UNSURE, ABOUT).splitlines()
    assert command.startswith("::notice file=src/a b.py,line=21,col=5,title=unsure%3A bare-except%3A")
    assert command.isprintable()
    body = reports.as_dict(UNSURE, ABOUT, 0)
    assert (body["status"], body["failing"], body["findings"]) == ("complete", 0, [])
    assert [(item["line"], item["state"]) for item in body["unsure"]] == [(21, "new"), (30, "suppressed")]
    shown = reports.markdown(UNSURE, ABOUT)
    assert "## Unsure" in shown
    assert "line 21, " in shown
    assert "src/a b.py:30" in shown
    assert "<img" not in shown
    assert "CLEAN" not in shown


def test_the_sarif_of_unsure_places_fits_the_official_schema():
    model = pytest.importorskip("pydantic_sarif.model", reason="it comes with the extra [dev]")
    whole = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema
    whole.model_validate_json(exchange.sarif(UNSURE, ABOUT))


@pytest.mark.parametrize("level", ["note", "warning", "error", "never"])
def test_unsure_places_never_count_for_fail_on(level):
    assert UNSURE.failing(level) == 0


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (Report(files=1), "CLEAN: no findings"),
        (Report(files=1, unsure=(UNDECIDED,)), "UNSURE: no findings; unsure about 1 place"),
        (
            Report(files=1, unsure=(UNDECIDED, finding(line=40))),
            "UNSURE: no findings; unsure about 2 places",
        ),
        (
            Report((finding(state="known"),), files=1, unsure=(UNDECIDED,)),
            "UNSURE: no new findings; 1 known; unsure about 1 place",
        ),
        (
            Report((finding(severity="note"),), files=1, unsure=(UNDECIDED,)),
            "UNSURE: 1 note, none at or over warning; unsure about 1 place",
        ),
        (
            Report((finding(),), files=1, unsure=(UNDECIDED,)),
            "FAILED: 1 error; 1 finding at or over warning; unsure about 1 place",
        ),
        (Report(files=1, unsure=(finding(state="suppressed"),)), "CLEAN: no findings"),
        (Report(files=1, unsure=(finding(state="known"),)), "CLEAN: no findings"),
        (
            Report(files=1, unsure=(UNDECIDED,), is_complete=False),
            "INCOMPLETE: no findings so far; unsure about 1 place; not every place was judged",
        ),
    ],
)
def test_the_headline_says_how_many_places_are_unsure(report, expected):
    assert reports.verdict(report, ABOUT) == expected


def test_the_sarif_of_a_clean_audit_has_no_headline():
    (run,) = json.loads(exchange.sarif(Report(files=1), ABOUT))["runs"]
    assert run["invocations"][0]["toolExecutionNotifications"] == []


@pytest.mark.parametrize("text", ["", "`", "a``b`", "```", " ", "x`"])
def test_a_code_span_ends_where_it_should(text):
    span = markup.code(text)
    ticks = span[: len(span) - len(span.lstrip("`"))]
    assert span.endswith(ticks)
    assert ticks not in span[len(ticks) : -len(ticks)]


def test_a_reply_full_of_tricks_goes_through_every_report(project, tmp_path):
    trick = "::error::x </failure> <script> ##[add-mask] %0A"
    sub = [
        {"match": r"rule: A bare except.*\n>1 +(\d+) \| +(except *:)", "reply": wrong("{1}", "{2}", trick)},
        SUB[2],
    ]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    kinds = ["sarif", "junit", "gitlab", "github", "summary", "markdown", "json"]
    outputs = [part for kind in kinds for part in ("--output", f"{kind}={tmp_path / kind}")]
    ended = project.audit("src", *outputs)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert all((tmp_path / kind).stat().st_size for kind in kinds)
    ET.fromstring((tmp_path / "junit").read_text())
    assert json.loads((tmp_path / "json").read_text())["version"] == 1
    assert "<script>" not in (tmp_path / "summary").read_text()


def test_the_summary_is_added_where_github_says(project, tmp_path):
    place = tmp_path / "summary.md"
    place.write_text("before\n")
    ended = project.audit(
        "src", "--output", "github", "--output", "summary", env={"GITHUB_STEP_SUMMARY": str(place)}
    )
    assert place.read_text().startswith("before\n# Audit\n")
    assert ended.stdout.splitlines()[1].startswith("::error file=src/shop.py,line=9,col=5,")
    without = project.audit("src", "--output", "summary", "--fail-on", "never")
    assert "GITHUB_STEP_SUMMARY is not set" in without.stderr


def test_a_report_that_cannot_be_written_is_told_and_costs_nothing_again(project):
    ended = project.audit("src", "--output", "sarif=/proc/no/such.sarif")
    assert ended.returncode == 4
    assert "not paid for again" in ended.stderr
    assert Path(project.folder / "runs").is_dir()
