"""Every version can use the run folders of format 1 that the version which defined the format made.

``tests/data/format1`` holds the runs as git bundles. ``tests/format1.py`` made them, and they are never made
again. These tests stay forever, so they do not depend on wording: texts that the runner writes may change,
and a replay then names the first of them.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import format1
from tests.support.commands import loop_runner
from tests.support.git import assert_clean, git

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data" / "format1"
NAMES = sorted(path.stem for path in DATA.glob("*.bundle"))
FINISHED = ("agent", "audit", "children", "direct", "forked", "gates", "plain", "session")
AGENTS = tuple(name for name in NAMES if name.startswith("agent"))
STATES = {
    **dict.fromkeys(FINISHED, "verified"),
    **dict.fromkeys(
        ("agent-limit", "children-limit", "direct-limit", "gates-limit", "session-limit"), "unverified"
    ),
}
# The runs in which a model reads nothing but frozen texts, so that every request must be found in the record.
FROZEN = ("forked", "plain")
# Files with texts of the runner, whose wording a later version may change.
OWN_WORDS = re.compile(r"(^variables/.*|/(output\.txt|injected\.md|(turn|pass|verdict)\.json))$")


@dataclass(frozen=True)
class Received:
    """A run folder as another person receives it: a clone, and the task's files at another place."""

    name: str
    folder: Path
    task: Path

    def command(self, command, *args, code=0):
        """The object that ``loop-runner COMMAND FOLDER ARGS --json`` prints."""
        ended = loop_runner(command, self.folder, *args, "--json", cwd=self.folder.parent)
        assert ended.returncode in ([code] if isinstance(code, int) else code), ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return json.loads(ended.stdout)

    def resume(self, *args, code=0):
        """Resume the run with the task's files where they lie now, and passes enough."""
        moved = ["--inputs", self.task, "--set", f"task_dir={self.task}"]
        if self.name in AGENTS:
            command = json.dumps([sys.executable, str(self.task / "agent.py"), "{hook_url}"])
            moved = ["--set", f"task_dir={self.task}", "--set", f"agent.command={command}"]
        return self.command("resume", "-q", "--trust", "--set", "budget.passes=6", *moved, *args, code=code)

    def turns(self):
        """The moments of the run that a turn or pass made, as ``show`` names them."""
        text = git(self.folder, "log", "--format=%s")
        return [
            f"{number}.{turn}" for number, turn in re.findall(r"^pass (\d+) turn (\d+):", text, re.MULTILINE)
        ]

    def variables(self, at="HEAD"):
        """The rows of the manifest of a commit, by name."""
        manifest = json.loads(git(self.folder, "show", f"{at}:variables/manifest.json"))
        return {row["name"]: row for row in manifest["variables"]}


@pytest.fixture
def received(tmp_path):
    """Unpacks a stored run into ``tmp_path``."""

    def unpack(name):
        folder = tmp_path / ("audit-project/runs" if name.startswith("audit") else "runs")
        folder.mkdir(parents=True)
        git(folder, "clone", "-q", "-n", "-b", "main", DATA / f"{name}.bundle", name)
        # A model's .gitattributes must not decide which bytes are checked out.
        (folder / name / ".git/info/attributes").write_text("* -text\n")
        git(folder / name, "checkout", "-q", "main")
        git(folder / name, "fetch", "-q", "origin", "refs/loop-runner/*:refs/loop-runner/*")
        private = DATA / f"{name}.private.tar.gz"
        if private.exists():
            (folder / name / ".git/loop-runner").mkdir()
            with tarfile.open(private) as tar:
                tar.extractall(folder / name / ".git/loop-runner", filter="data")
        task = folder.parent / "task"
        shutil.copytree(DATA / "tasks" / format1.RECIPES[name].task, task)
        return Received(name, folder / name, task)

    return unpack


def test_there_is_a_stored_run_for_each_recipe():
    assert set(NAMES) == set(format1.RECIPES)


# ── opened and shown ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_run_is_opened_and_its_state_shown(received, name):
    run = received(name)
    (row,) = run.command("status")["runs"]
    assert row["state"] == STATES.get(name, "unfinished")
    run.command("fsck")
    assert_clean(run.folder)


@pytest.mark.parametrize("name", NAMES)
def test_every_turn_of_a_stored_run_is_shown(received, name):
    run = received(name)
    for command in ("log", "cost", "show"):
        assert run.command(command)
    for moment in run.turns():
        shown = loop_runner("show", f"{run.folder}@{moment}", cwd=run.folder.parent)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.strip()


# ── verified ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", FINISHED)
def test_a_stored_run_that_was_accepted_is_verified_again(received, name):
    run = received(name)
    assert run.command("verify", "--task-dir", run.task)["status"] == "same"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in FINISHED])
def test_a_stored_run_that_was_not_accepted_is_not_verified(received, name):
    run = received(name)
    run.command("verify", "--task-dir", run.task, code=(2, 3))


# ── replayed ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AGENTS])
def test_a_stored_run_is_replayed_from_its_recorded_replies(received, name):
    run = received(name)
    data = run.command("replay", "--trust", "--inputs", run.task, code=(0, 3))
    first = data["first_difference"] or {"paths": []}
    paths = {item["path"] for item in [*first["paths"], *data["differences"]]}
    others = data["missing"] or data["reworded"]  # an answer can quote what the runner's words were
    words = re.compile(f"{OWN_WORDS.pattern}|^answer[.](md|json)$") if others else OWN_WORDS
    assert {path for path in paths if not words.search(path)} == set()
    assert data["turns"] >= 1 or not list(run.turns()), "the first prompt of a run is frozen"
    assert name not in FROZEN or not data["missing"]
    assert data["status"] != "stopped" or {item["kind"] for item in data["missing"]} - {"root", "summary"}


@pytest.mark.parametrize("name", AGENTS)
def test_a_replay_of_an_agents_run_is_refused_with_the_reason(received, name):
    run = received(name)
    refused = loop_runner("replay", run.folder, "--trust", cwd=run.folder.parent)
    assert refused.returncode == 2
    assert "session: command" in refused.stderr


# ── resumed ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_run_is_resumed_to_an_accepted_answer(received, name):
    run = received(name)
    data = run.resume()
    assert data["status"] == "verified"
    assert_clean(run.folder)
    assert run.command("verify", "--task-dir", run.task)["status"] == "same"


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("killed")])
def test_a_reply_that_only_the_journal_holds_is_not_asked_for_again(received, name):
    run = received(name)
    journal = (DATA / f"{name}.private.tar.gz").exists()
    before = run.command("status")["runs"][0]
    assert (before["uncommitted"]["usage"]["requests"] > 0) == journal


# ── variables, and what committed cells and pickles name ────────────────────────────────────────────

SAVED = (
    *("small", "words", "alias", "nested", "cycle", "names", "größe", "large", "pinned", "pinned_text"),
    *(
        "hits",
        "hit",
        "passage",
        "pattern_hits",
        "matches",
        "parts",
        "contents",
        "table",
        "lines",
        "citation",
        "left",
    ),
    *("Finding", "Color", "Point", "times", "up", "finding", "red", "point", "one", "several", "structured"),
    *("failure", "audit", "turn", "last"),
)
LOST = ("lock", "stubborn", "written")
NOT_SAVED = ("squares", "more")  # generators, with the status "replay"


def test_the_stored_runs_hold_every_status_that_format_1_has(received):
    run = received("session")
    rows = run.variables()
    assert {row["status"] for row in rows.values()} == {"saved", "replay", "lost"}
    assert {rows[name]["status"] for name in SAVED} == {"saved"}
    assert {rows[name]["status"] for name in LOST} == {"lost"}
    assert {rows[name]["status"] for name in NOT_SAVED} == {"replay"}
    assert rows["words"]["blob"] == rows["alias"]["blob"] == rows["nested"]["blob"]
    large = rows["large"]["blob"]
    assert json.loads((run.folder / f"variables/blobs/{large}.json").read_text())["chunks"]


@pytest.mark.parametrize(
    "name",
    ["session-limit", "session-killed", "session-killed-at-the-gate", "session-rewound", "forked-limit"],
)
def test_the_variables_of_a_stored_run_are_restored_and_the_others_reported(received, name):
    run = received(name)
    run.resume()
    output = (run.folder / "passes/0003/turns/0001/output.txt").read_text()
    assert "True Finding(number=1, seen=['one', 'two']) Color.RED Point(x=1, y=2) 2 3 2 " in output
    assert "PastTurn True True ['a', 'b', 'c'] 7 loop_runner.kernel.audit" in output
    rows = run.variables()
    assert {rows[name]["status"] for name in SAVED} == {"saved"}
    assert {rows[name]["status"] for name in (*LOST, *NOT_SAVED)} <= {"replay", "lost"}


# ── audits ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_audit_takes_over_the_stored_run_of_the_same_rules_and_files(received):
    run = received("audit")
    (run.task / "runs").mkdir()
    subject = git(run.folder, "log", "--reverse", "--format=%s").splitlines()[0]
    run.folder.rename(run.task / "runs" / subject.removeprefix("run: "))
    options = [
        "--rules",
        "rules.yaml",
        "--model",
        "script:script.yaml",
        "--runs",
        "runs",
        "-q",
        "--json",
        "--trust",
    ]
    ended = loop_runner("audit", "src", *options, "--output", "sarif=found.sarif", cwd=run.task)
    assert ended.returncode == 1, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["status"], len(report["findings"])) == ("complete", 1)
    assert len([path for path in (run.task / "runs").iterdir() if path.is_dir()]) == 1
    assert json.loads((run.task / "found.sarif").read_text())["runs"][0]["results"]


# ── the data ────────────────────────────────────────────────────────────────────────────────────────


def test_the_stored_runs_are_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_run_names_no_folder_of_the_machine_that_made_it(received, name):
    command = ("git", "log", "--all", "-p", "--diff-merges=first-parent", "--format=%an %ae %B")
    history = subprocess.run(command, cwd=received(name).folder, capture_output=True, check=True).stdout
    assert set(re.findall(rb"(?<![\w.-])/(?:home|root|work|Users|opt)/\S*", history)) == set()
