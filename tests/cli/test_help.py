"""Help, documentation and the words for wrong use."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from loop_runner.cli import group, main_group
from loop_runner.errors import ConfigError
from loop_runner.task import config
from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task


def output_of(*args, exit_code=0):
    result = CliRunner().invoke(main_group, list(args))
    assert result.exit_code == exit_code, result.output
    return result.output


def test_every_command_is_in_one_group_of_the_help():
    grouped = [name for names in group._GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(group._COMMANDS)


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_printed(flag):
    assert output_of(flag).startswith("loop-runner")


@pytest.mark.parametrize("words", [["resume"], ["models", "fetch"], ["hook", "start"], []])
def test_help_of_a_command_is_that_commands_own(words):
    own = output_of(*words, "--help").split("Usage: ")[1]
    assert (
        output_of("help", *words).split(" ", 2)[2].split()
        == own.replace("main-group", "loop-runner").split(" ", 1)[1].split()
    )


def test_help_of_an_unknown_command_is_wrong_usage():
    assert "No such command 'nope'" in output_of("help", "nope", exit_code=2)


def test_ls_is_status(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_of("ls") == output_of("status")


@pytest.mark.parametrize("name", ["task-file", "task-file.md", "docs/task-file.md"])
def test_docs_prints_a_page_by_any_of_its_names(name):
    assert "budget" in output_of("docs", name)


def test_docs_lists_every_page_that_messages_name():
    import re
    from pathlib import Path

    package = Path(config.__file__).parents[1]
    named = {
        match
        for path in package.rglob("*.py")
        for match in re.findall(r"docs/([\w-]+)\.md", path.read_text())
    }
    listed = output_of("docs")
    assert named
    assert all(name in listed for name in named)


def test_docs_names_the_nearest_page():
    with pytest.raises(ConfigError) as caught:
        CliRunner().invoke(main_group, ["docs", "task-fil"], catch_exceptions=False)
    assert "loop-runner docs task-file" in caught.value.hint


# ── mistakes in a task file ─────────────────────────────────────────────────────────────────────────

TASK = "name: t\nprompt: What?\nverifiers: [{contains: x}]\n"


def refusal(source, overrides=(), tmp_path="/"):
    with pytest.raises(ConfigError) as caught:
        config.parse_task(source, label="task.yaml", base_dir=tmp_path, overrides=overrides)
    return str(caught.value)


def test_several_faults_of_a_file_are_reported_at_once_each_with_its_line():
    text = refusal(TASK + "budgt: 3\nwidth: many\nbudget:\n  passes: no\n  trns: 4\n")
    for part in (
        "line 4: unknown key `budgt`",
        "line 5: `width`",
        "line 7: `budget.passes`",
        "line 8: unknown",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("line", "override"),
    [
        ("width: 4", ("width", "many")),
        ("budget: {passes: 3}", ("budget.passes", "three")),
        ("budget:\n  passes: 3", ("budget", "three")),
        ("kernel: {memory: 1GB}", ("kernel.memory", "lots")),
    ],
)
def test_a_mistake_of_a_flag_is_not_blamed_on_a_line_of_the_file(line, override):
    text = refusal(TASK + line + "\n", [override])
    assert f"the setting {override[0]}" in text
    assert ", line" not in text


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("model: yes", ["not true", "YAML reads yes, on and true so"]),
        ("prompts: off", ["not false", "no, off and false"]),
        ("type: 2024-03-09", ["not 2024-03-09", "as a date"]),
        ("sub_model: 2024-03-09T10:00:00Z", ["as a date"]),
        ("width: {a: true}", ["not {a: true}"]),
        ("budget: {usd: yes}", ["not true"]),
    ],
)
def test_values_are_shown_as_the_file_has_them(line, parts):
    text = refusal(TASK + line + "\n")
    assert "datetime" not in text
    assert "True" not in text
    for part in parts:
        assert part in text


def test_a_key_that_is_near_to_none_gets_no_suggestion():
    assert "did you mean" not in refusal(TASK + "colour: red\n")


def test_a_folder_given_as_a_task_file_names_what_was_probably_meant(tmp_path):
    folder = tmp_path / "a task"
    folder.mkdir()
    result = loop_runner("run", folder, cwd=tmp_path)
    assert (result.returncode, "loop-runner ask 'QUESTION'" in result.stderr) == (2, True)
    (folder / "task.yaml").write_text(TASK)
    assert f"did you mean '{folder}/task.yaml'?" in loop_runner("run", folder, cwd=tmp_path).stderr
    (folder / ".git/loop-runner").mkdir(parents=True)
    assert f"loop-runner resume '{folder}'" in loop_runner("check", folder, cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["notes.txt", "What is it?"], "loop-runner ask 'What is it?' notes.txt"),
        (["What", "is", "it?", "notes.txt"], "loop-runner ask 'What is it?' notes.txt"),
        (["What", "is", "it?"], "loop-runner ask 'What is it?' PATH"),
    ],
)
def test_a_question_in_the_wrong_place_or_without_quotes_gets_the_right_command(
    tmp_path, monkeypatch, args, command
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("It is 42.\n")
    assert command in output_of("ask", *args, exit_code=2)


# ── folders of questions, paths with spaces, evidence ───────────────────────────────────────────────


def test_the_same_question_about_another_file_gets_another_folder(tmp_path):
    (tmp_path / "script.yaml").write_text("root: []\n")
    write_task(tmp_path / "task", root=[ready("41")])
    script = f"script:{tmp_path / 'task/script.yaml'}"
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name}: it is 42.\n")
    for name, folder in (("a.txt", "runs/how-much"), ("b.txt", "runs/how-much-2")):
        result = loop_runner("ask", "How much?", name, "--passes", "1", "--model", script, cwd=tmp_path)
        assert (result.returncode, f"run folder: {folder}\n" in result.stderr) == (3, True), result.stderr
    again = loop_runner("ask", "How much?", "a.txt", "--model", script, cwd=tmp_path)
    assert (again.returncode, "loop-runner resume runs/how-much`" in again.stderr) == (2, True)


def test_evidence_of_several_lines_keeps_them(tmp_path):
    code = "def check(s):\n    return 'first fault\\nsecond fault\\nthird fault'\n"
    task = write_task(
        tmp_path / "task", root=[ready("42")], verifiers=[{"python": "check.py"}], budget={"passes": 1}
    )
    (tmp_path / "task/check.py").write_text(code)
    result = loop_runner("run", task, cwd=tmp_path)
    assert "first fault second fault" not in result.stderr + result.stdout
    for line in ("second fault", "third fault"):
        assert any(item.strip() == line for item in result.stderr.splitlines())
        assert any(item.strip() == line for item in result.stdout.splitlines())


def test_doctor_without_a_model_ends_with_4(tmp_path):
    from tests.support.commands import clean_environment

    env = {key: value for key, value in clean_environment().items() if not key.endswith(("_KEY", "_TOKEN"))}
    env["LOOP_RUNNER_CACHE"] = str(tmp_path)
    code = (
        "from loop_runner.cli import doctor\n"
        "print([check.is_ok for check in doctor._models() if check.name == 'default'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[False]"


def test_no_command_is_missing_from_the_lazy_group():
    context = click.Context(main_group)
    assert all(main_group.get_command(context, name) for name in main_group.list_commands(context))
