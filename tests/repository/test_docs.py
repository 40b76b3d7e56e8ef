"""The documents tell the truth: their commands are run, their output, help and keys are compared."""

import json
import re

import pytest

from tests.agents.conftest import agent_task, git
from tests.support import documents
from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, write_task

WITHOUT_JSON: tuple[list[str], ...] = (
    [],
    ["models"],
    ["hook"],
    ["hook", "stop"],
    ["hook", "serve"],
    ["serve"],
    ["mcp"],
    ["mcp", "install"],
    ["docs"],
    ["help"],
    ["watch"],
    ["completion"],
    ["config", "show"],
    ["config", "trust"],
    ["config", "test-notify"],
    ["clean"],
    ["config"],
    ["report"],
    ["fleet"],
    ["agent"],
    ["fleet", "ci"],
    ["fleet", "pause"],
    ["fleet", "resume"],
    ["fleet", "results"],
    ["fleet", "retry"],
    ["fleet", "stop"],
    ["fleet", "note"],
    ["fleet", "report"],
)
UNTRIED = {  # their own tests look at their objects
    *("models fetch", "clean", "note, pause, stop, budget, approve, reject"),
    "fleet run, fleet status, fleet plan, fleet workers",
}
STALE = "the document says something else than the program: run `make docs`"


def relative(path):
    return str(path.relative_to(documents.ROOT))


# ── what is run ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", documents.documents(), ids=relative)
def test_what_is_shown_is_what_happens(path):
    text = path.read_text(encoding="utf-8")
    assert documents.unknown_comments(text) == []
    assert documents.is_same(documents.refreshed(text), text), STALE


def test_every_example_with_a_script_shows_its_run():
    for task in documents.ROOT.glob("examples/*/task.yaml"):
        if "model: script:" in task.read_text() and task.parent.name != "web-research":  # it needs its server
            shown = (task.parent / "README.md").read_text()
            run = f"<!-- output of: loop-runner run {re.escape(relative(task))}( [|] tail -n [0-9]+)? -->"
            assert re.search(run, shown), f"{relative(task)}: its README does not show a run"


def test_a_command_that_fails_and_an_output_that_differs_are_found():
    with pytest.raises(AssertionError, match="no-such-command"):
        documents.refreshed("<!-- run -->\n```sh\nno-such-command\n```\n")
    text = "<!-- output of: echo 3 -->\n```text\n4\n```\n<!-- end -->\n"
    assert "```text\n3\n```" in documents.refreshed(text)
    assert not documents.is_same(documents.refreshed(text), text)
    assert documents.unknown_comments("<!-- runs -->\n```sh\nls\n```\n") == ["runs"]
    assert documents.unknown_comments("<!-- run -->\n\nls\n") != []


def test_files_exit_codes_and_the_order_of_commands_count():
    text = (
        "<!-- file: a.txt -->\n```\nhello\n```\n"
        "<!-- run: exit 3 -->\n```console\n$ cp a.txt b.txt\nwhat is printed\n$ exit 3\n```\n"
        "<!-- output of: cat b.txt -->\n```text\nhello\n```\n<!-- end -->\n"
    )
    assert documents.refreshed(text) == text


# ── the commands ────────────────────────────────────────────────────────────────────────────────────


def test_the_help_of_every_command_is_in_the_documents():
    shown, true = documents.COMMANDS.read_text(encoding="utf-8"), documents.commands_page()
    assert shown.split() == true.split(), STALE  # how lines are broken is the affair of the library's version


def test_every_command_has_an_example_and_every_one_with_output_has_json():
    for names in documents.command_names():
        (page,) = re.findall(
            rf"^## {' '.join(['loop-runner', *names])}\n\n```text\n(.*?)```",
            documents.commands_page(),
            re.DOTALL | re.MULTILINE,
        )
        assert "Example:" in page or not names
        assert "--json" in page or names in WITHOUT_JSON


# ── the keys of the task file ───────────────────────────────────────────────────────────────────────


def test_the_keys_of_the_task_file_are_those_that_the_code_takes():
    page = documents.TASK_FILE.read_text(encoding="utf-8")
    assert documents.with_lists_of_keys(page) == page, STALE


# ── the JSON objects ────────────────────────────────────────────────────────────────────────────────


def described():
    """Heading of docs/json.md to the keys under it."""
    text = (documents.ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {
        section.partition("\n")[0]: {
            key
            for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
            for key in re.findall(r"`(.+?)`", row)
        }
        for section in sections
    }


def keys_of(data, prefix=""):
    """Every key of an object, those inside it included: ``runs[].cost.usd``."""
    for key, value in data.items():
        path = f"{prefix}{key}"
        yield path
        if isinstance(value, dict):
            yield from keys_of(value, f"{path}.")
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    yield from keys_of(item, f"{path}[].")


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Heading to the real objects that it is about."""
    folder = tmp_path_factory.mktemp("json")
    code = cell("found = llm_query('how many?')\nprint(found)\nopen('plan.md', 'w').write('count')")
    task = write_task(folder / "task", root=[code, ready("41"), ready("42")], sub=[{"reply": "42"}])

    def output_of(*args):
        return [json.loads(loop_runner(*args, "--json", cwd=folder).stdout)]

    repository = folder / "repository"
    agent = agent_task(repository / "task", [{"files": {"a.txt": "1", "b.log": "2"}, "say": "42"}])
    (repository / ".gitignore").write_text("*.log\n")
    git(folder, "init", "-q", "repository")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "begin")
    loop_runner("run", agent, cwd=folder)
    held = {"LOOP_RUNNER_STATE": str(folder / "state")}
    start = ["hook", "start", task, "--session", "s1", "--run-dir", "runs/held", "--json"]
    hooked = json.loads(loop_runner(*start, cwd=folder, env=held).stdout)
    cancelled = json.loads(loop_runner("hook", "cancel", "runs/held", "--json", cwd=folder, env=held).stdout)

    followed = {"run, ask, resume": output_of("run", task)}
    events = loop_runner("log", "scripted", "--follow", "--json", cwd=folder).stdout
    bisected = loop_runner("bisect", "--json", "--first-good", "scripted", "--", "true", cwd=folder)
    rules = {"rules": [{"id": "no-answer", "title": "No answer", "regex": "answer"}]}
    (folder / "rules.yaml").write_text(json.dumps(rules))
    judgement = {"candidate": 1, "line": 1, "quote": "The answer", "reason": "it is one", "verdict": "wrong"}
    reply = json.dumps({"judgements": [judgement]})
    (folder / "judge.yaml").write_text(json.dumps({"sub": [{"reply": reply}]}))
    audited = [
        "audit",
        folder / "task" / "notes.txt",
        "--rules",
        "rules.yaml",
        "--model",
        "script:judge.yaml",
    ]
    return followed | {
        "audit": output_of(*audited),
        "init": output_of("init", "legal", "review"),
        "init --list": output_of("init", "--list"),
        "show RUN@PASS.TURN": output_of("show", "scripted@1.1"),
        "diff": output_of("diff", "scripted", "0", "2"),
        "fork": output_of("fork", "scripted@1.1", "forked"),
        "rewind": output_of("rewind", "forked", "0"),
        "bisect": [json.loads(bisected.stdout)],
        "replay": output_of("replay", "scripted"),
        "cost": output_of("cost", "scripted"),
        "An error": output_of("show", "nothing"),
        "status, ls, runs": output_of("status"),
        "check": output_of("check", task),
        "log": output_of("log", "scripted"),
        "log --follow": [json.loads(line) for line in events.splitlines()],
        "show": output_of("show", "scripted"),
        "show PASS": output_of("show", "scripted", "1") + output_of("show", "scripted", "2"),
        "fsck": output_of("fsck", "scripted"),
        "verify": output_of("verify", "scripted"),
        "models list": output_of("models", "list"),
        "doctor": output_of("doctor"),
        "export": output_of("export", "mend"),
        "hook install, hook uninstall": output_of("hook", "install", "claude", "--project", folder)
        + output_of("hook", "uninstall", "claude", "--project", folder),
        "hook start": [hooked],
        "hook cancel": [cancelled],
    }


@pytest.mark.parametrize("heading", sorted(set(described()) - UNTRIED))
def test_every_key_of_an_object_is_described_and_every_described_one_is_there(objects, heading):
    documented = described()[heading]
    real = {key for data in objects[heading] for key in keys_of(data)}
    assert all(data["version"] == 1 for data in objects[heading])
    assert documented - real == set(), "described and not there"
    parents = {key[:at] for key in documented for at in range(len(key)) if key[at] in ".["}
    # Below a key that is described as a whole, nothing needs to be.
    whole = documented - parents
    hidden = {key for key in real if any(key.startswith((f"{item}.", f"{item}[")) for item in whole)}
    assert real - documented - parents - hidden == {"version"}, "there and not described"


def test_every_command_with_json_has_a_section():
    words = {word for heading in described() for word in re.findall(r"[a-z]+", heading)}
    for names in documents.command_names():
        assert set(names) <= words or names in WITHOUT_JSON, names


# ── what is promised ────────────────────────────────────────────────────────────────────────────────


def test_every_claim_names_a_test_that_exists():
    page = (documents.ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    claims = re.split(r"^- ", page.partition("\n## Ways out")[0], flags=re.MULTILINE)[1:]
    assert len(claims) > 40
    for claim in claims:
        named = re.findall(r"`(tests/[a-z_/]+\.py)::([A-Za-z_]+)`", claim)
        assert named, f"no test is named: {claim}"
        for path, name in named:
            source = (documents.ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(def {name}\(|{name} = )", source, re.MULTILINE), f"{path} has no {name}"
