"""The report of a run: what it shows, what it escapes, and what it is when a folder is damaged."""

import hashlib
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import pytest
import yaml
from click.testing import CliRunner

import loop_runner as lr
from loop_runner import inputs
from loop_runner.cli import main_group
from loop_runner.records import Accepted, Allow, Answer, Block, Rejected, VerifierReport
from loop_runner.report import all_runs, chart, html, page
from loop_runner.verify.verdicts import decision_as_json
from loop_runner.workspace import layout
from loop_runner.workspace.control_files import ControlRequest, to_json
from loop_runner.workspace.workspace import Workspace
from tests import report_proof
from tests.support.git import git
from tests.support.turns import call, turn

TEXT = "".join(f"line {number} of the text\n" for number in range(1, 21)) + "The port is 8080.\nEnd.\n"
ANSWER = "8080\n\n> notes.txt:21: The port is 8080.\n"
ATTACKS = (
    "<script>alert(1)</script>",
    "</pre></details><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% for x in y %}",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "<style>*{display:none}</style>",
    "]]><!-- --><base href=//evil>",
    "\x1b[2J\x07\u202egnp.exe\u2066",
)


def verdict(number, decision):
    return {f"{layout.pass_folder(number)}/verdict.json": layout.to_json(decision_as_json(decision))}


def proof(number, *, accepted):
    return {"proof.json": layout.to_json({"format": 1, "pass": number, "turn": 1})} if accepted else {}


def requests(number, attack):
    """What the operator asked before the turn, at the end of its pass, and after that."""
    folder = layout.pass_folder(number)
    note = ControlRequest("note", text=f"look at the annexes {attack}")
    budget = ControlRequest("budget", limits={"passes": {"add": 5}})
    decided = ControlRequest("approve", by=f"A. Lee {attack}", at="Friday")
    prompt = ControlRequest("prompt", text=f"Which port now? {attack}")
    turn = {f"{layout.turn_folder(number, 1)}/control.json": [(note, ""), (budget, f"too late {attack}")]}
    end = {f"{folder}/control.json": [(decided, "")], f"{folder}/next/control.json": [(prompt, "")]}
    return [
        {path: layout.to_json({"requests": to_json(rows)}) for path, rows in files.items()}
        for files in (turn, end)
    ]


def make_run(folder, *, answers, text=TEXT, attack="", task=None, accepted=True):
    """A run folder in which each of ``answers`` was handed in by a pass; the last one was accepted."""
    folder.mkdir(parents=True)
    source = folder / "notes.txt"
    source.write_text(text)
    texts = inputs.load([str(source)], folder)
    given = {"name": "port", "prompt": f"Which port? {attack}", "verifiers": ["citations"], **(task or {})}
    files = {"task.yaml": yaml.safe_dump(given).encode(), "prompt.md": given["prompt"].encode()}
    files["inputs.json"] = inputs.to_json(texts).encode()
    run = folder / "run"
    with Workspace.create(run, name="port", files=files) as workspace:
        for number, answer in enumerate(answers, 1):
            (workspace.model_folder / "notes").mkdir(exist_ok=True)
            (workspace.model_folder / "notes" / "plan.md").write_text(f"plan {number} {attack}\n")
            made = turn(
                number,
                1,
                code=f"x = {number}  # {attack}",
                reply=f"I look. {attack}",
                output=f"saw {attack}\n",
                answer=Answer(answer, is_ready=True),
                calls=(
                    call(f"root {number}"),
                    call(f"sub {number} {attack}", kind="sub", text=attack or "yes"),
                ),
            )
            before_turn, at_end = requests(number, attack)
            workspace.commit_turn(made, before_turn)
            is_last = number == len(answers) and accepted
            decision = (
                Allow((VerifierReport("citations", Accepted(f"found {attack}", statement="1 quotation")),))
                if is_last
                else Block(
                    f"nothing is cited {attack}",
                    (VerifierReport(f"citations {attack}", Rejected(f"nothing is cited {attack}", attack)),),
                    0.25,
                )
            )
            files = verdict(number, decision) | proof(number, accepted=is_last) | at_end
            workspace.commit_pass(number, "accepted" if is_last else "rejected", files=files)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("report") / "scene", answers=["no idea", ANSWER])


@pytest.fixture(scope="module")
def shown(run):
    return page.render(lr.open(run).record())


class Parsed(HTMLParser):
    """Elements of a page that load, run or lead somewhere, and its ids."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.ids, self.links = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name == "href"]


def text_of(source):
    return unescape(re.sub(r"<[^>]+>", "", source))


# ── what it shows ───────────────────────────────────────────────────────────────────────────────────


def test_a_citation_opens_five_lines_of_context_with_the_quotation_marked(shown):
    lines = [f"line {number} of the text" for number in range(16, 21)]
    (excerpt,) = re.findall(r'<pre class="excerpt">(.*?)</pre>', shown, re.DOTALL)
    assert all(line in excerpt for line in lines)
    assert "line 15 of the text" not in excerpt
    assert "<mark>The port is 8080.</mark>" in excerpt


@pytest.mark.parametrize(
    "part",
    [
        "Which port?",  # the prompt
        "loop-runner verify ",  # how the proof is checked
        "nothing is cited",  # why a pass was rejected
        "1 quotation",  # what an accepted one was checked for
        "+> notes.txt:21: The port is 8080.",  # the answer's difference
        "notes/plan.md",
        "x = 1",  # the code of a turn
        "saw ",  # its output
        "sub 1",  # its sub-call
        "words 1",  # a variable
        "script:x",  # the model that was paid
        "0.0000 USD",
    ],
)
def test_the_page_contains(shown, part):
    assert part in text_of(shown)


@pytest.mark.parametrize(
    "words",
    [
        "Operator: note\nlook at the annexes",
        "Operator: budget passes +5 not done too late",
        "Operator: approve, by A. Lee, Friday",
        "Operator: prompt\nWhich port now?",
    ],
)
def test_what_the_operator_asked_is_shown_where_the_run_took_it(shown, words):
    flat = re.sub(r"\s+", " ", text_of(shown.replace("<pre>", "\n")))
    assert flat.count(re.sub(r"\s+", " ", words)) == 2  # in each of the two passes


def test_the_page_is_one_file_that_loads_nothing(shown):
    parsed = Parsed(shown)
    loading = {"img", "link", "iframe", "object", "embed", "video", "audio", "form", "base"}
    assert not [tag for tag, _ in parsed.elements if tag in loading]
    assert not [attrs for _, attrs in parsed.elements if {"src", "style", "srcset"} & attrs.keys()]
    assert all(link.startswith("#") for link in parsed.links)


def test_every_link_leads_to_a_part_of_the_page_and_no_id_is_used_twice(shown):
    parsed = Parsed(shown)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(shown):
    import base64

    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', unescape(shown))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", shown, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_same_run_gives_the_same_bytes(run, shown):
    assert page.render(lr.open(run).record()) == shown


def test_the_main_parts_need_no_script(shown):
    hidden = [attrs for _, attrs in Parsed(shown).elements if "hidden" in attrs]
    assert hidden == [{"class": "tools", "hidden": None}]  # buttons that only a script serves


def test_an_unverified_run_is_not_shown_as_verified(tmp_path):
    made = make_run(tmp_path / "scene", answers=["no idea", ANSWER], accepted=False)
    result = page.render(lr.open(made).record())
    assert "not verified" in result
    assert "no proof" in text_of(result)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ('{"total": 3}', '<span class="nt">&#34;total&#34;</span>'),
        ("", "There is no answer yet."),
        ("# Title\n\n- one\n```\ncode\n```", '<div class="heading"># Title</div>'),
        ("> nothing.txt:3: not there", "Not found"),
        ("> notes.txt:99: not there", "Not found"),
    ],
)
def test_any_kind_of_answer_is_shown(tmp_path, answer, part):
    made = make_run(tmp_path / "scene", answers=[answer], accepted=False)
    assert part in page.render(lr.open(made).record())


def test_an_input_that_has_changed_is_not_shown_as_the_cited_one(tmp_path):
    made = make_run(tmp_path / "scene", answers=[ANSWER])
    (tmp_path / "scene" / "notes.txt").write_text("A secret of this machine.\n" * 30)
    result = page.render(lr.open(made).record())
    assert "secret of this machine" not in result
    assert "cannot be shown" in result


def audit_answer(**changes):
    finding = {"rule": "no-port", "severity": "error", "file": "notes.txt", "line": 21}
    finding |= {"quote": "The port is 8080.", "reason": "It names a port.", **changes}
    return layout.to_json(
        {"findings": [finding], "files": 1, "candidates": 1, "judged": 1, "dropped": 0}
        | {"unjudged": [], "not_searched": []}
    ).decode()


def test_the_findings_of_an_audit_are_listed_by_rule_and_by_file_with_the_code_around(tmp_path):
    task = {"verifiers": [{"findings": {"rules": {"no-port": "error"}}}]}
    made = make_run(tmp_path / "scene", answers=[audit_answer()], task=task)
    result = page.render(lr.open(made).record())
    assert '<a href="#finding-1">21</a>' in result
    assert "<mark>The port is 8080.</mark>" in result
    assert "line 16 of the text" in result
    assert "It names a port." in result


@pytest.mark.parametrize("changes", [{"file": "gone.txt"}, {"line": 999}, {"line": "x"}, {"severity": "<b>"}])
def test_a_finding_that_fits_no_input_does_not_end_the_report(tmp_path, changes):
    task = {"verifiers": [{"findings": {"rules": {"no-port": "error"}}}]}
    made = make_run(tmp_path / "scene", answers=[audit_answer(**changes)], task=task)
    assert "<h1>port</h1>" in page.render(lr.open(made).record())


# ── what others wrote ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The page of a run in which everything that others write is an attack."""
    attack = " ".join(ATTACKS)
    answer = f"{attack}\n> notes.txt:1: {attack}\n> {attack}:1: x"
    folder = tmp_path_factory.mktemp("attacked") / "scene"
    made = make_run(folder, answers=[attack, answer], text=f"{attack}\n", attack=attack)
    return page.render(lr.open(made).record())


def test_what_a_model_or_an_input_wrote_is_text_wherever_it_is_shown(attacked, shown):
    result, parsed = attacked, Parsed(attacked)
    assert {tag for tag, _ in parsed.elements} <= {tag for tag, _ in Parsed(shown).elements}
    assert [tag for tag, _ in parsed.elements].count("script") == 1
    assert not [name for _, attrs in parsed.elements for name in attrs if name.startswith("on")]
    assert all(link.startswith("#") for link in parsed.links)
    assert "\x1b" not in result
    assert "\u202e" not in result
    assert "{{ 7 * 7 }}{% for x in y %}" in result
    assert "\\u202egnp.exe" in result


# ── folders that are not as they were ───────────────────────────────────────────────────────────────


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def remove_object(folder, path):
    """Lose the object at ``path`` of HEAD, which is in a pack: all objects are made loose first."""
    name = git(folder, "rev-parse", f"HEAD:{path}")
    for number, pack in enumerate(sorted((folder / ".git/objects/pack").glob("*.pack"))):
        moved = folder / ".git" / str(number)
        pack.rename(moved)
        for beside in pack.parent.glob(f"{pack.stem}.*"):
            beside.unlink()
        with moved.open("rb") as file:
            subprocess.run(["git", "-C", str(folder), "unpack-objects", "-q"], stdin=file, check=True)
        moved.unlink()
    (folder / ".git/objects" / name[:2] / name[2:]).unlink()


@pytest.mark.parametrize(
    "path",
    [
        "passes/0001/verdict.json",
        "passes/0001/turns/0001/output.txt",
        "passes/0002/turns/0001/calls.jsonl",
        "variables/manifest.json",
        "inputs.json",
        "prompt.md",
        "task.yaml",
        "answer.md",
        "passes",
    ],
)
def test_a_damaged_folder_has_a_report_that_says_what_is_missing(copy, path):
    remove_object(copy, path)
    result = page.render(lr.open(copy).record())
    assert "Missing from this report" in result
    assert "loop-runner fsck" in result


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"decision": 3}', b"\xff", b"null", b'{"reports": 7}'])
def test_a_verdict_that_no_runner_wrote_does_not_end_the_report(tmp_path, content):
    made = make_run(tmp_path / "scene", answers=["no idea"], accepted=False)
    file = made / "passes/0001/verdict.json"
    file.write_bytes(content)
    git(made, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "x")
    assert "Pass 1" in page.render(lr.open(made).record())


def test_a_clone_has_the_same_answer_and_history(run, tmp_path):
    git(tmp_path, "clone", "-q", run, tmp_path / "clone")
    record = lr.open(tmp_path / "clone").record()
    assert [entry.outcome for entry in record.passes] == ["rejected", "accepted"]
    assert record.faults == ()


def test_reading_a_run_changes_nothing_in_its_folder(copy):
    def seen():
        return {path: path.stat().st_mtime_ns for path in sorted(copy.rglob("*"))}

    before = seen()
    page.render(lr.open(copy).record())
    assert seen() == before


# ── the command ─────────────────────────────────────────────────────────────────────────────────────


def command(*args, exit_code=0):
    result = CliRunner().invoke(main_group, ["report", *map(str, args)])
    assert result.exit_code == exit_code, result.output or result.exception
    return result.output


def test_the_command_writes_one_file(run, tmp_path, shown):
    target = tmp_path / "new" / "run.html"
    assert str(target) in command(run, "-o", target)
    assert target.read_text() == shown
    assert [path.name for path in target.parent.iterdir()] == ["run.html"]


def test_a_folder_of_runs_gets_an_index_with_a_page_for_each(run, tmp_path):
    for name in ("first", "second <b>", "index"):
        shutil.copytree(run, tmp_path / "runs" / name)
    shutil.copytree(run, tmp_path / "runs" / "broken")
    shutil.rmtree(tmp_path / "runs" / "broken" / ".git" / "objects")
    command(tmp_path / "runs", "-o", tmp_path / "out")
    index = (tmp_path / "out" / "index.html").read_text()
    links = Parsed(index).links
    assert sorted(links) == ["runs/first.html", "runs/index.html", "runs/second%20%3Cb%3E.html"]
    assert (tmp_path / "out/runs/second <b>.html").is_file()
    assert "unreadable" in index
    assert "<b>" not in index


@pytest.mark.parametrize("place", ["run.html", "workspace/run.html", "new/run.html"])
def test_no_report_is_written_into_a_run_folder(copy, place):
    with pytest.raises(lr.ConfigError, match="is in the run folder"):
        CliRunner().invoke(main_group, ["report", str(copy), "-o", str(copy / place)], catch_exceptions=False)
    assert not (copy / place).exists()


def test_a_folder_of_runs_without_a_place_for_the_pages_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "runs" / "first")
    with pytest.raises(lr.ConfigError, match="need a folder"):
        CliRunner().invoke(main_group, ["report", str(tmp_path / "runs")], catch_exceptions=False)


def test_a_name_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(lr.ConfigError, match="no run"):
        CliRunner().invoke(main_group, ["report", str(tmp_path / "none")], catch_exceptions=False)


# ── its size ────────────────────────────────────────────────────────────────────────────────────────


def test_a_long_run_is_shortened_from_its_middle_and_every_pass_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_FULL_BYTES", 20_000)
    monkeypatch.setattr(page, "_SHORT_BYTES", 40_000)
    folder = report_proof.make_run(tmp_path / "long", 12, turns=2)
    result = page.render(lr.open(folder).record())
    assert re.findall(r'id="pass-(\d+)"', result) == [str(number) for number in range(12, 0, -1)]
    assert len(result.encode()) < 120_000
    assert "some passes are shortened" in result
    assert 'id="turn-12-1"' in result
    assert 'id="turn-1-1"' in result
    assert 'id="turn-5-1"' not in result


@pytest.mark.parametrize(
    "scores", [[0.0, 1.0], [None, 0.5, None], [float("nan"), 0.1], [float("inf")] * 3, [2, 3]]
)
def test_a_chart_has_only_numbers_that_are_in_it(scores):
    passes = [lr.RecordedPass(number, score=score) for number, score in enumerate(scores, 1)]
    for panel in chart.panels(passes):
        numbers = re.findall(r'(?:points|cx|cy)="([^"]+)"', panel.svg)
        values = [float(value) for text in numbers for value in re.split("[ ,]", text)]
        assert all(0 <= value <= 720 for value in values)


def test_the_texts_of_code_are_the_same_with_and_without_colour():
    source = "def f(x):\n    '''<b>'''\n    return x + 1  # & more\n\nclass A: pass\n"
    assert unescape(re.sub(r"<[^>]+>", "", html.code(source))) == source.rstrip("\n")


def test_the_heading_of_a_column_of_numbers_is_above_them(tmp_path):
    run = make_run(tmp_path / "verified", answers=["no idea", ANSWER])
    shutil.copytree(run, tmp_path / "runs" / "verified")
    all_runs.write(tmp_path / "runs", tmp_path / "out")
    for page_file in ("index.html", "runs/verified.html"):
        text = (tmp_path / "out" / page_file).read_text()
        tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
        assert tables
        for table in tables:
            head, row = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)[:2]
            headings = re.findall(r"<th scope=.col.([^>]*)>", head)
            cells = re.findall(r"<(?:td|th)\b([^>]*)>", row)
            assert [heading.endswith('"number"') for heading in headings] == [
                cell.endswith('"number"') for cell in cells
            ]
