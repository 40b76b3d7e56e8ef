"""Which candidates share a question, what it shows, and how the judgements of a reply are matched to them."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.audit import plan as plans
from loop_runner.audit.rules import Rule
from loop_runner.inputs import load
from loop_runner.kernel.inside import audit, candidates, grouping
from loop_runner.kernel.inside.lm_client import LLMError
from loop_runner.workspace.history import History
from tests.audit.conftest import RULES, SUB, judged

LIMITS = {"window_lines": 150, "context_lines": 5}
BODY = "    try:\n        go()\n    except:\n        pass\n"


def groups(text, name="a.py", pattern="except"):
    spans, _ = candidates.spans({"regex": pattern, "ast": {}}, name, text, 150)
    return grouping.grouped(LIMITS, name, text, spans)


def indented(text, depth=1):
    return "".join(f"{'    ' * depth}{line}\n" for line in text.splitlines())


WHOLE = {
    "a function": f"x = 1\n\n\ndef f():\n{BODY * 3}",
    "a coroutine": f"x = 1\n\n\nasync def f():\n{BODY * 3}",
    "a decorated function": f"\n\n\n@one(\n    2,\n)\n@two\ndef f():\n{BODY * 3}",
    "a method": f"class A:\n    x = 1\n\n    def f(self):\n{indented(BODY * 3)}",
    "a function with one inside": f"def f():\n{BODY}\n    def g():\n{indented(BODY * 2)}",
    "a function on CRLF lines": f"def f():\n{BODY * 3}".replace("\n", "\r\n"),
    "a function of a stub": f"def f():\n{BODY * 3}",
}


@pytest.mark.parametrize("case", WHOLE)
def test_all_candidates_of_a_function_share_a_question_that_shows_all_of_it(case):
    text = WHOLE[case]
    ((shown, spans),) = groups(text, "a.pyi" if "stub" in case else "a.py")
    assert len(spans) == 3
    lines = candidates.lines_of(text)
    first = next(at for at, line in enumerate(lines, 1) if line.lstrip().startswith(("@", "def", "async")))
    assert shown[0] <= first
    assert shown[1] == len(lines)


def test_candidates_of_different_functions_are_in_different_questions():
    text = f"def f():\n{BODY * 2}\ndef g():\n{BODY * 3}\nclass A:\n    def f(self):\n{indented(BODY)}"
    assert [len(spans) for _, spans in groups(text)] == [2, 3, 1]


def far(*lines, total=400):
    return "".join(f"except {at}\n" if at in lines else f"line {at}\n" for at in range(1, total + 1))


@pytest.mark.parametrize("name", ["a.js", "a.txt", "Makefile", "broken.py"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((50,), [((45, 55), [50])]),
        ((50, 52), [((45, 57), [50, 52])]),
        ((50, 60), [((45, 65), [50, 60])]),
        ((50, 61), [((45, 55), [50]), ((56, 66), [61])]),
        ((1, 400), [((1, 6), [1]), ((395, 400), [400])]),
        (tuple(range(10, 60, 10)), [((5, 55), [10, 20, 30, 40, 50])]),
    ],
)
def test_candidates_outside_of_functions_are_grouped_when_their_windows_overlap(name, lines, expected):
    result = groups(far(*lines), name)
    assert [(shown, [span[0] for span in spans]) for shown, spans in result] == expected


def test_candidates_between_functions_are_not_judged_with_them():
    text = f"def f():\n{BODY}\nexcepted = 1\n\n\ndef g():\n{BODY}"
    assert [spans for _, spans in groups(text)] == [[(4, 4)], [(7, 7)], [(13, 13)]]


def test_a_function_that_is_too_long_is_shown_in_parts():
    text = "def f():\n" + "".join(
        f"    except_{at} = 1\n" if at % 40 == 0 else f"    x{at} = 1\n" for at in range(2, 601)
    )
    result = groups(text)
    assert [span for _, spans in result for span in spans] == [(at, at) for at in range(40, 601, 40)]
    assert all(shown[1] - shown[0] + 1 == 150 for shown, _ in result)
    assert len(result) < 15


def test_a_short_function_in_one_that_is_too_long_is_shown_as_a_whole():
    filler = "".join(f"    x{at} = 1\n" for at in range(200))
    text = f"def f():\n{filler}    def g():\n{indented(BODY * 4)}{filler}"
    ((shown, spans),) = groups(text)
    assert len(spans) == 4
    assert shown == (200, 222), "the function, and five lines around each candidate"


def test_a_question_has_at_most_fifty_candidates():
    text = "def f():\n" + "    except_ = 1\n" * 120
    assert [len(spans) for _, spans in groups(text)] == [50, 50, 20]


@given(
    st.lists(st.tuples(st.integers(1, 600), st.integers(0, 30)), max_size=60),
    st.lists(st.tuples(st.integers(1, 500), st.integers(1, 300)), max_size=5),
)
def test_every_candidate_is_in_exactly_one_question_that_shows_it(starts, functions):
    lines = ["x = 1"] * 640
    for first, length in functions:
        if all(line == "x = 1" for line in lines[first - 1 : first + length]):
            lines[first - 1 : first + length] = ["def f():", *["    x = 1"] * length]
    text = "\n".join(lines)
    spans = sorted({(first, min(first + more, 640)) for first, more in starts})
    result = grouping.grouped(LIMITS, "a.py", text, spans)
    assert sorted(span for _, own in result for span in own) == spans
    for shown, own in result:
        assert all(shown[0] <= first and last <= shown[1] for first, last in own)
        assert 1 <= shown[0] <= shown[1] <= len(candidates.lines_of(text))


def test_a_line_of_several_candidates_has_all_their_numbers():
    shown = grouping.passage(["a", "b", "c", "d"], (1, 4), [(1, 3), (2, 2)], is_whole=False)
    assert shown.splitlines() == [">1   1 | a", ">1,2 2 | b", ">1   3 | c", "     4 | d"]


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────

CODE = f"def f():\n{BODY * 3}"  # candidates: lines 4, 8 and 12


class Conversation:
    """The program of an audit without its run: asks, and keeps what a test replies."""

    def __init__(self, tmp_path, rule=None):
        (tmp_path / "a.py").write_text(CODE)
        rule = rule or Rule("bare", "No bare except", "Name what it catches.", "error", regex="except")
        made = plans.make([rule], load(["a.py"], tmp_path), "m", tmp_path)
        self.plan, self.context = json.loads(json.dumps(made.body)), {"a.py": CODE}
        self.results, self.judged, self.requests, self.turns = audit.find(self.plan, self.context), {}, [], 0

    def waiting(self):
        return audit.waiting(self.plan, self.results, self.judged, self.context)

    def reply(self, *replies):
        """Reply to the questions that wait, one reply for each."""
        batch = self.waiting()
        assert len(batch) == len(replies), [text for _, text, _ in batch]
        self.requests += [key for key, _, _ in batch]
        self.turns += 1
        audit.keep(self.plan, self.judged, batch, replies, self.context, self.turns)

    def report(self):
        assert self.waiting() == []
        return json.loads(audit.report(self.plan, self.results, self.judged, self.context))


def judgement(candidate, verdict="right", *, line=None, quote="except:", reason="It has no type."):
    at = 4 * candidate if line is None else line
    return {"candidate": candidate, "line": at, "quote": quote, "reason": reason, "verdict": verdict}


def reply(*judgements):
    return {"judgements": list(judgements)}


@pytest.fixture
def talk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Conversation(tmp_path)


def lines_of(items):
    return [item["line"] for item in items]


def test_one_reply_judges_every_candidate_of_a_function(talk):
    ((_, text, _),) = talk.waiting()
    assert [line for line in text.splitlines() if line.startswith(">")] == [
        ">1  4 |     except:",
        ">2  8 |     except:",
        ">3 12 |     except:",
    ]
    talk.reply(reply(judgement(3, "wrong"), judgement(1), judgement(2, "unsure")))
    report = talk.report()
    assert (lines_of(report["findings"]), lines_of(report["unsure"])) == ([12], [8])
    assert (report["candidates"], report["judged"], report["dropped"]) == (3, 3, 0)


LEFT_OUT = {
    "left out": [],
    "of an unknown number": [judgement(7)],
    "of number 0": [judgement(0)],
    "of a negative number": [judgement(-1)],
    "about another line": [judgement(2, "wrong", line=2, quote="try:")],
    "denied": [judgement(2, "wrong", reason="The line is right.")],
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_candidate_without_a_judgement_is_asked_about_alone(talk, case):
    talk.reply(reply(judgement(1), judgement(3), *LEFT_OUT[case]))
    ((_, text, _),) = talk.waiting()
    assert [line for line in text.splitlines() if line.startswith(">")] == [">1  8 |     except:"]
    assert " 4 |     except:" in text, "the whole function is shown"
    talk.reply(reply(judgement(1, "wrong", line=8)))
    assert lines_of(talk.report()["findings"]) == [8]


def test_a_judgement_of_an_unknown_candidate_is_dropped_and_counted(talk):
    talk.reply(reply(*(judgement(number) for number in (1, 2, 3)), judgement(9, "wrong", line=4)))
    report = talk.report()
    assert (report["findings"], report["dropped"]) == ([], 1)


def test_a_reply_that_failed_is_followed_by_questions_about_each_candidate(talk):
    talk.reply(LLMError("the reply does not fit the schema"))
    talk.reply(*(reply(judgement(1, "wrong", line=line)) for line in (4, 8, 12)))
    assert lines_of(talk.report()["findings"]) == [4, 8, 12]


def test_a_new_pass_asks_only_about_what_was_not_judged(talk):
    talk.reply(LLMError("cut"))
    talk.reply(reply(judgement(1, line=4)), LLMError("cut"), reply(judgement(1, line=12)))
    assert lines_of(talk.report()["unjudged"]) == [8]
    audit.again(talk.judged)
    talk.reply(reply(judgement(1, "unsure", line=8)))
    report = talk.report()
    assert (lines_of(report["unsure"]), report["unjudged"]) == ([8], [])
    assert talk.requests.count(talk.requests[-1]) == 2, "the question that failed, and no other"
    assert len(set(talk.requests)) == len(talk.requests) - 1


def test_what_was_judged_is_not_asked_again_by_a_later_audit(talk, tmp_path):
    talk.reply(reply(judgement(1), judgement(3, "wrong")))
    talk.reply(reply(judgement(1, "wrong", line=8)))
    expected = talk.report()
    later = Conversation(tmp_path)
    for path in sorted((tmp_path / "judged").iterdir()):
        later.judged.update(json.loads(path.read_text()))
    assert later.report() == expected


@pytest.mark.parametrize(
    ("first", "findings", "unsure"),
    [
        ([judgement(1, "wrong"), judgement(1, "unsure")], [4], []),
        ([judgement(1), judgement(1, "unsure")], [], [4]),
        ([judgement(1, "unsure"), judgement(1, "unsure", reason="Again.")], [], [4]),
        ([judgement(1, "unsure", quote="not on the line")], [], [4]),
        ([judgement(1, "unsure", quote="")], [], [4]),
        ([judgement(1, "unsure", reason="The line is right.")], [], [4]),
        ([judgement(1, "unsure", line=99)], [], [4]),
    ],
)
def test_an_unsure_judgement_is_never_lost_and_never_a_finding(talk, first, findings, unsure):
    talk.reply(reply(*first, judgement(2), judgement(3)))
    report = talk.report()
    assert (lines_of(report["findings"]), lines_of(report["unsure"])) == (findings, unsure)
    assert all(item["quote"] in "    except:" and item["quote"] for item in report["unsure"])


def test_windows_of_a_file_without_a_pre_filter_are_unsure_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talk = Conversation(tmp_path, Rule("r", "A rule", "It."))
    batch = talk.waiting()
    items = audit.schema(talk.plan, batch)["properties"]["judgements"]
    assert ("minItems" in items, "candidate" in items["items"]["properties"]) == (False, False)
    talk.reply(reply({"line": 8, "quote": "except:", "reason": "Perhaps.", "verdict": "unsure"}))
    assert lines_of(talk.report()["unsure"]) == [8]


def test_a_plan_of_another_version_is_refused_in_plain_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="start the audit again"):
        audit.read_plan()


# ── the command ─────────────────────────────────────────────────────────────────────────────────────


def sub_calls(project):
    fingerprints = []
    for run in project.runs():
        with History(run) as history:
            fingerprints += [call.fingerprint for call in history.calls() if call.kind == "sub"]
    return fingerprints


ALL = json.dumps(reply(judgement(1, "wrong"), judgement(2, "wrong"), judgement(3, "unsure")))


@pytest.fixture
def three(project):
    project.write("src/shop.py", CODE)
    project.write("rules.yaml", yaml.safe_dump({"rules": RULES["rules"][:1]}))
    project.write("script.yaml", yaml.safe_dump({"sub": [{"reply": ALL}]}))
    return project


def test_an_audit_pays_for_one_question_for_each_function(three):
    report = three.report()
    assert (lines_of(report["findings"]), lines_of(report["unsure"])) == ([4, 8], [12])
    assert (report["candidates"], report["judged"], len(sub_calls(three))) == (3, 3, 1)


def test_an_audit_that_stops_between_a_group_and_its_rest_pays_for_nothing_twice(three):
    """The script judges the last `except:` that it is shown, so the two before it are asked about alone."""
    three.write("script.yaml", yaml.safe_dump({"sub": SUB}))
    stopped = three.report("src", "--set", "budget.subcalls=2")
    assert (stopped["status"], lines_of(stopped["unjudged"])) == ("incomplete", [8])
    assert lines_of(three.report()["findings"]) == [4, 8, 12]
    requests = sub_calls(three)
    assert len(requests) == len(set(requests)) == 3
    assert lines_of(three.report()["findings"]) == [4, 8, 12]
    assert len(sub_calls(three)) == 3


@pytest.mark.parametrize("setting", ["budget.subcalls=1", "budget.subcalls=2", "budget.tokens=800"])
def test_an_audit_whose_budget_is_spent_ends_after_that_pass(three, setting):
    three.write("script.yaml", yaml.safe_dump({"sub": SUB}))
    ended = three.audit("src", "--set", setting, "-v")
    assert ended.returncode == 3, ended.stderr
    assert "budget" in ended.stdout
    assert "passes" not in ended.stdout
    assert "ended the same" not in ended.stderr
    (run,) = three.runs()
    with History(run) as history:
        assert history.head().pass_number == 1


def test_what_no_model_answers_is_still_asked_in_three_passes(three):
    three.write("script.yaml", yaml.safe_dump({"sub": [{"reply": "not JSON"}]}))
    assert three.audit("src").returncode == 3
    (run,) = three.runs()
    with History(run) as history:
        assert history.head().pass_number == 3


@pytest.fixture
def unsure(three):
    three.write("src/shop.py", f"def f():\n{BODY}")
    item = judged(4, "except:", "It depends.", verdict="unsure")
    three.write("script.yaml", yaml.safe_dump({"sub": [{"reply": item}]}))
    return three


@pytest.mark.parametrize("level", ["error", "warning", "note", "never"])
def test_an_unsure_place_fails_no_audit_and_is_never_called_clean(unsure, level):
    ended = unsure.audit("src", "--fail-on", level)
    assert ended.returncode == 0
    assert "CLEAN" not in ended.stdout
    assert "UNSURE: no findings; unsure about 1 place" in ended.stdout
    assert "src/shop.py, line 4" in ended.stdout


def test_a_comment_or_the_baseline_settles_an_unsure_place(unsure):
    text = f"def f():\n{BODY}".replace("except:", "except:  # loop-runner: ignore[bare-except] fine")
    entries = unsure.report()["unsure"]
    known = {"format": 1, "findings": [{key: entries[0][key] for key in ("fingerprint", "rule", "file")}]}
    unsure.write("known.json", json.dumps(known))
    report = unsure.report("src", "--baseline", "known.json")
    assert ([item["state"] for item in report["unsure"]], report["baseline_gone"]) == (["known"], 0)
    assert report["verdict"].startswith("CLEAN")
    unsure.audit("src", "--baseline", "known.json", "--write-baseline")
    kept = json.loads((unsure.folder / "known.json").read_text())["findings"]
    assert [item["fingerprint"] for item in kept] == [entries[0]["fingerprint"]], "it may still exist"
    unsure.write("src/shop.py", text)
    report = unsure.report()
    assert ([item["state"] for item in report["unsure"]], report["unsure"][0]["excuse"]) == (
        ["suppressed"],
        "fine",
    )
    assert report["verdict"].startswith("CLEAN")


def test_an_unsure_place_is_not_written_into_a_new_baseline(unsure):
    assert unsure.audit("src", "--baseline", "new.json", "--write-baseline").returncode == 0
    assert json.loads((unsure.folder / "new.json").read_text())["findings"] == []


def test_the_status_of_the_run_names_unsure_places(unsure):
    from tests.support.commands import loop_runner

    unsure.audit()
    (run,) = unsure.runs()
    assert "unsure about 1 place" in loop_runner("status", run, cwd=unsure.folder).stdout
