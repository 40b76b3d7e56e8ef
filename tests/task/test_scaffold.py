"""``loop-runner init``: folders that run as they are, and nothing that was there is touched."""

import json

import pytest

from loop_runner.errors import ConfigError
from loop_runner.task import config, scaffold
from loop_runner.task.task_types import TYPES
from tests.support.commands import loop_runner

NAMES = [item.name for item in scaffold.offered()]


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_what_init_writes_runs_as_it_is_without_a_model(name, tmp_path):
    made = loop_runner("init", name, "my task!", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "my task!"
    assert {"task.yaml", "README.md", "rehearsal.yaml"} < tree(folder)
    assert "rehearsal.yaml" in made.stdout
    task = config.read_task(folder / "task.yaml")
    assert (task.type, task.name) == (name, "my-task")
    assert "TASK_NAME" not in "".join((folder / item).read_text() for item in tree(folder))
    ran = loop_runner("run", folder / "task.yaml", "--model", "script:rehearsal.yaml", "--json", cwd=tmp_path)
    data = json.loads(ran.stdout)
    assert data["status"] == "verified", data
    system = (tmp_path / data["run"] / "system.md").read_text()
    own = TYPES[name].name != "custom"
    assert ("Look first: what is in `context`" not in system) == own, "the type's own way to work is told"


def test_a_file_that_is_there_is_never_written_over_and_nothing_else_is_written(tmp_path):
    folder = tmp_path / "review"
    folder.mkdir()
    (folder / "task.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"task\.yaml would be overwritten"):
        scaffold.create("legal", folder)
    assert tree(folder) == {"task.yaml"}
    assert (folder / "task.yaml").read_text() == "mine"


def test_a_folder_with_other_files_is_added_to(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    written = scaffold.create("legal", tmp_path)
    assert tree(tmp_path) == {"notes.txt", *written.files}


@pytest.mark.parametrize("make", ["link", "file"])
def test_a_link_or_a_file_in_the_way_is_refused(tmp_path, make):
    if make == "link":
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "task.yaml").symlink_to(tmp_path / "gone")
    else:
        (tmp_path / "f").write_text("mine")
    with pytest.raises(ConfigError, match="overwritten" if make == "link" else "is a file"):
        scaffold.create("legal", tmp_path / "f")
    assert not (tmp_path / "gone").exists()


def test_an_unknown_type_is_named_with_the_nearest_and_ask_has_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="did you mean legal"):
        scaffold.create("legall", tmp_path / "x")
    with pytest.raises(ConfigError, match="known: research"):
        scaffold.create("ask", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_list_has_every_type_with_a_line_about_it(tmp_path):
    shown = loop_runner("init", "--list", cwd=tmp_path).stdout
    assert all(f"{item.name:<9} {item.about}" in shown for item in scaffold.offered())
    assert loop_runner("init", cwd=tmp_path).returncode == 2


# ── what a type stands for in a task file ───────────────────────────────────────────────────────────


def task_of(text, tmp_path):
    return config.parse_task(f"name: t\nprompt: p\n{text}", label="task.yaml", base_dir=tmp_path)


@pytest.mark.parametrize("name", [name for name, item in TYPES.items() if item.verifiers])
def test_a_task_without_gates_has_those_of_its_type_and_a_run_freezes_them(name, tmp_path):
    task = task_of(f"type: {name}", tmp_path)
    assert task.verifiers == TYPES[name].verifiers
    again = config.parse_task(config.dump_task(task), label="task.yaml", base_dir=tmp_path)
    assert again == task


def test_a_tasks_own_gates_win_over_those_of_its_type(tmp_path):
    assert task_of("type: legal\nverifiers: [{contains: x}]", tmp_path).verifiers == ({"contains": "x"},)


def test_a_custom_task_has_no_gates_to_fall_back_on(tmp_path):
    with pytest.raises(ConfigError, match="no verifiers"):
        task_of("type: custom", tmp_path)


def test_a_misspelt_type_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean legal"):
        task_of("type: leagl", tmp_path)


# ── a project's own prompts in a run ────────────────────────────────────────────────────────────────


def test_a_run_that_goes_on_is_told_what_its_project_said_when_it_began(tmp_path):
    scaffold.create("custom", tmp_path / "p")
    (tmp_path / "p" / "prompts").mkdir()
    own = tmp_path / "p" / "prompts" / "reentry.md.j2"
    own.write_text("Once more, please. It said: {{ feedback }}")
    script = ["```repl\nanswer['content'] = 'a: 1'\nanswer['ready'] = True\n```"] * 3
    (tmp_path / "p" / "rehearsal.yaml").write_text(json.dumps({"root": script}))
    run = ["run", "p/task.yaml", "--model", "script:rehearsal.yaml", "--passes", "1", "--json"]
    assert json.loads(loop_runner(*run, cwd=tmp_path).stdout)["status"] == "unverified"
    own.write_text("Something else.")
    loop_runner("resume", "runs/p", "--passes", "2", cwd=tmp_path)
    folder = tmp_path / "runs" / "p"
    assert "Once more, please. It said: " in (folder / "passes/0002/injected.md").read_text()
    forked = loop_runner("fork", "runs/p@1", "runs/q", "--set", "prompt=Again", cwd=tmp_path)
    assert forked.returncode == 0, forked.stderr
    loop_runner("resume", "runs/q", "--passes", "2", cwd=tmp_path)
    assert "Once more, please." in (tmp_path / "runs/q/passes/0002/injected.md").read_text()
    replayed = loop_runner("replay", "runs/p", "--json", cwd=tmp_path)
    assert json.loads(replayed.stdout)["status"] == "same", replayed.stdout


def test_a_template_that_cannot_work_stops_the_run_before_it_has_a_folder(tmp_path):
    scaffold.create("custom", tmp_path / "p")
    (tmp_path / "p" / "prompts").mkdir()
    (tmp_path / "p" / "prompts" / "work.md.j2").write_text("{{ nothing_of_the_kind }}")
    ran = loop_runner("run", "p/task.yaml", "--model", "script:rehearsal.yaml", cwd=tmp_path)
    assert ran.returncode == 2
    assert "it uses `nothing_of_the_kind`, which is not available to it" in ran.stderr
    assert not (tmp_path / "runs").exists()
    without = ["run", "p/task.yaml", "--model", "script:rehearsal.yaml", "--set", "prompts=none"]
    assert loop_runner(*without, cwd=tmp_path).returncode == 0
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "mail.md.j2").write_text("of another program")
    (tmp_path / "ask.yaml").write_text("root: []")
    requests = loop_runner("ask", "How many?", "p/inputs", "--model", "script:ask.yaml", cwd=tmp_path)
    assert "mail.md.j2" not in requests.stderr


def test_the_starter_of_an_audit_is_an_audit_too_and_asks_in_the_projects_words(tmp_path):
    scaffold.create("audit", tmp_path)
    (tmp_path / "prompts").mkdir()
    question = tmp_path / "prompts" / "audit_question.md.j2"
    question.write_text("{{ rule.title }}: {{ rule.description }}")
    judgement = {"candidate": 1, "line": 4, "quote": "basket=[]", "reason": "Shared.", "verdict": "wrong"}
    rule = {"match": "HOUSE RULE No mutable default", "reply": json.dumps({"judgements": [judgement]})}
    (tmp_path / "judge.yaml").write_text(json.dumps({"sub": [rule]}))
    audit = ["audit", "code", "--rules", "rules.yaml", "--model", "script:judge.yaml", "--json"]
    refused = loop_runner(*audit, cwd=tmp_path)
    assert refused.returncode == 2
    assert "must show `file` and then `passage`" in refused.stdout + refused.stderr
    question.write_text("HOUSE RULE {{ rule.title }}: {{ rule.description }}\n{{ file }}\n{{ passage }}")
    result = loop_runner(*audit, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert [item["line"] for item in json.loads(result.stdout)["findings"]] == [4]
