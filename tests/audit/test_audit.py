"""``loop-runner audit`` as a person and a CI job run it: what it finds, what it costs, how it ends."""

import json
import signal
import subprocess

import pytest
import yaml

from loop_runner.workspace.history import History
from tests.audit.conftest import RULES, SHOP, SUB, judged, wrong
from tests.support.commands import loop_runner, started
from tests.support.git import git as plain_git


def findings_of(report, state="new"):
    return [
        (item["rule"], item["file"], item["line"]) for item in report["findings"] if item["state"] == state
    ]


def git(folder, *args):
    plain_git(folder, "-c", "user.name=u", "-c", "user.email=u@example.org", *args)


BOTH = [("mutable-default", "src/shop.py", 1), ("bare-except", "src/shop.py", 9)]


def sub_calls(folder):
    with History(folder) as history:
        return history.spend().subcalls


# ── what is found ───────────────────────────────────────────────────────────────────────────────────


def test_an_audit_finds_what_is_wrong_and_leaves_what_is_right(project):
    ended = project.audit("src", "--json")
    report = json.loads(ended.stdout)
    assert (ended.returncode, findings_of(report)) == (1, BOTH)
    assert (report["candidates"], report["judged"], report["dropped"]) == (4, 4, 0)
    assert report["findings"][1] | {"fingerprint": ""} == {
        "rule": "bare-except",
        "severity": "error",
        "file": "src/shop.py",
        "line": 9,
        "column": 5,
        "quote": "except:",
        "reason": "It has no type.",
        "fingerprint": "",
        "state": "new",
        "excuse": "",
    }


def test_an_audit_is_a_run_like_any_other(project):
    project.audit()
    (run,) = project.runs()
    with History(run) as history:
        assert history.head().outcome == "accepted"
    for command in (
        ["verify", run],
        ["cost", run],
        ["log", run],
        ["status", run],
        ["fsck", run],
        ["replay", run],
    ):
        assert project_command(project, *command).returncode == 0


def project_command(project, *args):
    from tests.support.commands import loop_runner

    return loop_runner(*args, cwd=project.folder)


@pytest.mark.parametrize(("level", "code"), [("error", 1), ("warning", 1), ("note", 1), ("never", 0)])
def test_fail_on_decides_which_findings_fail(project, level, code):
    assert project.audit("src", "--fail-on", level).returncode == code


def test_a_warning_alone_does_not_fail_on_error(project):
    project.write("src/shop.py", "def add(item, basket=[]): ...\n")
    assert project.audit("src", "--fail-on", "error").returncode == 0
    assert project.audit("src").returncode == 1


def test_a_finding_about_a_line_that_was_not_asked_about_is_dropped_and_counted(project):
    aside = wrong("1", "def add", "not asked")
    sub = [{"match": r"rule: A bare except.*>1 +(\d+) \|", "reply": aside}, SUB[2]]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    report = project.report()
    assert (findings_of(report), report["dropped"], report["status"]) == ([], 2, "complete")


@pytest.mark.parametrize("quote", ["os.system", "", "def   add(item,  basket=[])", "\u201cadd\u201d \u2014"])
def test_no_finding_is_lost_because_of_its_quote(project, quote):
    sub = [{"match": r">1 +(9) \|", "reply": wrong("{1}", quote, "made up")}, SUB[2]]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    report = project.report()
    (finding,) = report["findings"]
    assert (finding["line"], finding["quoted_by"], report["dropped"]) == (9, "audit", 0)
    assert finding["quote"]
    assert finding["quote"] in (project.folder / finding["file"]).read_text()


SECOND = "An earlier reply to this judged"
RIGHT = judged(9, "", "", verdict="right")


@pytest.mark.parametrize(
    ("second", "quote", "marked"),
    [
        (wrong("{1}", "except:", "no type"), "except:", None),
        (wrong("{1}", "except", "no type"), "except", None),
        (wrong("{1}", "except  :", "no type"), "except:", "audit"),
        (wrong("{1}", "", "no type"), "except:", "audit"),
        (wrong("2", "basket", "another line"), "except:", "audit"),
        (RIGHT, "except:", "audit"),
        ("no JSON", "except:", "audit"),
        (wrong("{1}", "except:", "The line is right."), "except:", "audit"),
    ],
    ids=["exact", "a part", "blanks", "empty", "elsewhere", "right", "no JSON", "denied"],
)
def test_a_finding_with_a_wrong_quote_is_asked_about_once_more_and_never_lost(project, second, quote, marked):
    first = wrong("{1}", "except\u2009:", "made up")
    sub = [
        {"match": rf"(?s)rule: A bare except.*>1 +(9) \|.*{SECOND}.*- line 9: ", "reply": second},
        {"match": r"(?s)rule: A bare except.*>1 +(9) \|", "reply": first},
        SUB[2],
    ]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    report = project.report()
    (finding,) = report["findings"]
    assert (finding["line"], finding["quote"], finding.get("quoted_by")) == (9, quote, marked)
    assert (report["status"], report["dropped"], report["unjudged"]) == ("complete", 0, [])
    (run,) = project.runs()
    requests = 2 if second == "no JSON" else 1  # a reply that does not fit its schema is asked for again
    assert sub_calls(run) == report["candidates"] + requests, "one second question, whatever its reply"
    before = sub_calls(run)
    assert project.report()["findings"] == [finding]
    assert sub_calls(run) == before
    replayed = loop_runner("replay", run, cwd=project.folder)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_quotes_that_are_on_their_lines_are_not_asked_about_again(project):
    report = project.report()
    (run,) = project.runs()
    assert sub_calls(run) == report["candidates"]


def test_rules_without_a_pre_filter_judge_whole_files_in_windows(project):
    project.write(
        "rules.yaml", yaml.safe_dump({"rules": [{"id": "todo", "title": "A todo", "files": "*.txt"}]})
    )
    lines = [f"line {number}" for number in range(1, 401)]
    lines[299] = "TODO: mend"
    project.write("src/notes.txt", "\n".join(lines))
    reply = wrong("{1}", "TODO: mend", "open", candidate=None)
    sub = [{"match": r"> +(\d+) \| TODO", "reply": reply}, {"reply": '{"judgements": []}'}]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    report = project.report()
    assert findings_of(report) == [("todo", "src/notes.txt", 300)]
    assert report["candidates"] == 3


def test_a_file_that_no_parser_reads_is_named_and_the_rest_is_audited(project):
    project.write("src/old.py", "print 'no Python 3'\n")
    project.write("src/deep.py", "x = " + "(" * 5000 + ")" * 5000 + "\n")
    report = project.report()
    assert findings_of(report) == BOTH
    assert [item["file"] for item in report["not_searched"]] == ["src/deep.py", "src/old.py"]


# ── what is known, excused or unchanged ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line",
    [
        "    except:  # loop-runner: ignore[bare-except] it is an old one",
        "    # loop-runner: ignore[other, bare-except] it is an old one\n    except:",
        "    except: /* loop-runner: ignore[bare-except] it is an old one */",
    ],
)
def test_a_comment_suppresses_a_finding_with_its_reason(project, line):
    text = SHOP.replace("    except:", line).replace("except: /*", "except: # /*")
    project.write("src/shop.py", text)
    report = project.report()
    assert [item[0] for item in findings_of(report)] == ["mutable-default"]
    (excused,) = [item for item in report["findings"] if item["state"] == "suppressed"]
    assert excused["excuse"] == "it is an old one"


def test_a_comment_for_another_rule_suppresses_nothing(project):
    project.write("src/shop.py", SHOP.replace("except:", "except:  # loop-runner: ignore[mutable-default] x"))
    assert len(findings_of(project.report())) == 2


def test_only_findings_that_the_baseline_does_not_hold_fail(project):
    wrote = project.audit("src", "--baseline", "known.json", "--write-baseline")
    assert wrote.returncode == 0, wrote.stderr
    assert project.audit("src", "--baseline", "known.json").returncode == 0
    moved = "import os\n\n\n" + SHOP.lstrip("\n") + "\n\ndef more(item, basket=[]): ...\n"
    project.write("src/shop.py", moved)
    ended = project.audit("src", "--baseline", "known.json", "--json")
    report = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert findings_of(report) == [("mutable-default", "src/shop.py", 23)]
    assert findings_of(report, "known") == [
        ("mutable-default", "src/shop.py", 4),
        ("bare-except", "src/shop.py", 12),
    ]


def test_what_a_baseline_holds_and_nobody_finds_any_more_is_counted(project):
    project.audit("src", "--baseline", "known.json", "--write-baseline")
    project.write("src/shop.py", "def add(item, basket=[]):\n    basket.append(item)\n")
    assert project.report("src", "--baseline", "known.json")["baseline_gone"] == 1


def test_a_missing_baseline_is_said_before_anything_is_paid(project):
    ended = project.audit("src", "--baseline", "none.json")
    assert (ended.returncode, project.runs()) == (2, [])
    assert "--write-baseline" in ended.stderr


def test_changed_since_audits_what_differs_from_where_the_branch_began(project):
    folder = project.folder
    for name in ("one.py", "two.py", "three.py"):
        project.write(f"src/{name}", SHOP)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    git(folder, "checkout", "-qb", "work")
    project.write("src/one.py", SHOP + "\n# committed\n")
    git(folder, "commit", "-qam", "one")
    project.write("src/two.py", SHOP + "\n# not committed\n")
    project.write("src/new.py", SHOP)
    before = subprocess.run(
        ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
    )
    report = project.report("src", "--changed-since", "main")
    assert {file for _, file, _ in findings_of(report)} == {"src/one.py", "src/two.py", "src/new.py"}
    assert report["unchanged_files"] == 2
    after = subprocess.run(
        ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert after.stdout.replace("?? runs/\n", "") == before.stdout


def test_nothing_changed_is_a_clean_audit_without_a_run(project):
    git(project.folder, "init", "-q")
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "begin")
    ended = project.audit("src", "--changed-since", "HEAD")
    assert (ended.returncode, project.runs()) == (0, [])


def test_a_revision_that_is_not_there_is_a_mistake_with_a_hint(project):
    git(project.folder, "init", "-q")
    ended = project.audit("src", "--changed-since", "--upload-pack=evil")
    assert ended.returncode == 2
    assert "fetch-depth" in ended.stderr


# ── what is paid ────────────────────────────────────────────────────────────────────────────────────


def test_the_same_audit_again_asks_nobody(project):
    first = project.report()
    project.write("script.yaml", yaml.safe_dump({"sub": []}))
    assert project.report()["findings"] == first["findings"]
    assert len(project.runs()) == 1


def test_after_a_change_only_new_questions_are_asked(project):
    for number in range(5):
        project.write(f"src/more{number}.py", SHOP)
    project.report()
    project.write("src/more3.py", SHOP + "\n\ndef another(basket=[]): ...\n")
    report = project.report()
    assert len(findings_of(report)) == 13
    new = max(project.runs(), key=lambda path: path.stat().st_mtime)
    assert [sub_calls(run) for run in project.runs() if run != new] == [24]
    assert 1 <= sub_calls(new) <= 3  # the new place, and those whose surroundings changed


def test_an_audit_that_is_killed_goes_on_and_pays_for_nothing_twice(project):
    for number in range(10):
        project.write(f"src/more{number}.py", SHOP)
    project.write("script.yaml", yaml.safe_dump({"sub": SUB, "latency_s": 0.4}))
    options = ["--rules", "rules.yaml", "--model", "script:script.yaml", "--set", "width=4"]
    with started("audit", "src", *options, "-v", cwd=project.folder) as command:
        command.wait_for_line("sub-call 12")
        command.signal(signal.SIGKILL)
        command.finish()
    report = project.report("src", "--set", "width=4")
    assert len(findings_of(report)) == 22
    (run,) = project.runs()
    with History(run) as history:
        requests = [call.fingerprint for call in history.calls() if call.kind == "sub"]
    assert len(requests) == len(set(requests)) == 44


def test_what_no_model_answered_is_asked_again_and_then_said(project):
    sub = [{**SUB[2], "contains": "mutable"}, {"reply": "not JSON"}]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    ended = project.audit("src", "--json")
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["status"]) == (3, "incomplete")
    assert [item["line"] for item in report["unjudged"]] == [9, 16]
    project.write("script.yaml", yaml.safe_dump({"sub": SUB}))
    assert [item["status"] for item in [project.report()]] == ["complete"]
    assert len(project.runs()) == 1


def test_a_spent_budget_leaves_the_audit_incomplete(project):
    ended = project.audit("src", "--set", "budget.subcalls=2")
    assert ended.returncode == 3
    assert "INCOMPLETE" in ended.stdout
    assert project.audit("src", "--set", "budget.subcalls=100").returncode == 1


def test_a_pattern_that_takes_for_ever_ends_the_audit_and_says_so(project):
    rules = [{**RULES["rules"][0], "regex": r"(\w+\s?)+\["}]
    project.write("rules.yaml", yaml.safe_dump({"rules": rules}))
    project.write("src/shop.py", "a" * 60 + "!\n")
    ended = project.audit("src", "--set", "kernel.timeout_s=1", "--set", "kernel.grace_s=0.2")
    assert ended.returncode == 4
    assert "narrow `files:`" in ended.stderr


def test_a_project_may_ask_in_its_own_words(project):
    project.write("prompts/audit_question.md.j2", "{{ rule.title }}: {{ file }}\n{{ passage }}\n")
    sub = [
        {"match": r"A bare except: src/shop.py\n.*>1 +(9) \|", "reply": wrong("{1}", "except:", "bare")},
        SUB[2],
    ]
    project.write("script.yaml", yaml.safe_dump({"sub": sub}))
    assert findings_of(project.report()) == BOTH[1:]
    project.write("prompts/audit_question.md.j2", "{{ rule.title }}: {{ file }}")
    ended = project.audit()
    assert ended.returncode == 2
    assert "`passage`" in ended.stderr
    assert project.audit("src", "--set", "prompts=none").returncode == 0


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"severity": "fatal"}, "note or warning or error"),
        ({"regx": "x"}, "regex"),
        ({"regex": "("}, "regular expression"),
        ({"regex": "x", "ast": "bare-except"}, "one pre-filter"),
        ({"ast": "bare-exept", "regex": None}, "bare-except"),
        ({"ast": {"node": "Cal"}, "regex": None}, "Call"),
        ({"ast": {"node": "Call", "where": {"fun": "x"}}, "regex": None}, "func"),
        ({"id": "no spaces"}, "letters, digits"),
    ],
)
def test_a_mistake_in_the_rules_is_named_with_its_line(project, change, output):
    rule = {key: value for key, value in {**RULES["rules"][0], **change}.items() if value is not None}
    project.write("rules.yaml", yaml.safe_dump({"rules": [rule]}))
    ended = project.audit()
    assert (ended.returncode, project.runs()) == (2, [])
    assert output in ended.stderr
    assert "rules.yaml, line 2" in ended.stderr


def test_an_output_that_is_not_known_is_refused_first(project):
    ended = project.audit("src", "--output", "sarf=x")
    assert (ended.returncode, project.runs()) == (2, [])
