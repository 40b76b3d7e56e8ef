"""The task file: what is read, what is refused and where the message points."""

from dataclasses import fields
from pathlib import Path

import pytest

from loop_runner.budget import Budget
from loop_runner.errors import ConfigError
from loop_runner.keys import keys_of
from loop_runner.task import config
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.task.task import AgentSettings, NoProgress, Task

MINIMAL = """\
name: demo
prompt: What is it?
verifiers:
  - contains: "42"
"""


def parse(source, **kwargs):
    return config.parse_task(source, label="task.yaml", base_dir=Path("/base"), **kwargs)


def test_a_minimal_task_gets_the_documented_defaults():
    task = parse(MINIMAL)
    assert (task.name, task.prompt, task.reentry) == ("demo", "What is it?", "fresh")
    assert task.budget == Budget(passes=10, turns=20)
    assert task.base_dir == Path("/base")


def test_an_unknown_key_names_its_line_and_the_nearest_key():
    with pytest.raises(ConfigError) as caught:
        parse(MINIMAL + "budgett:\n  passes: 3\n")
    assert "task.yaml, line 5: unknown key `budgett`" in str(caught.value)
    assert "did you mean `budget`?" in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unknown_key_inside_a_section_names_its_line():
    with pytest.raises(ConfigError, match=r"line 7: unknown key `pases`"):
        parse(MINIMAL + "budget:\n  turns: 4\n  pases: 3\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("budget: {passes: 0}", "`budget.passes` takes an integer >= 1, not 0"),
        ("budget: {passes: yes}", "`budget.passes` takes an integer >= 1, not true"),
        ("budget: {wall: soon}", "`budget.wall` takes a duration such as 90s, 30m, 2h"),
        ("kernel: {memory: lots}", "`kernel.memory` takes a size such as 512MB or 4GB"),
        ("reentry: maybe", "`reentry` takes fresh or continue, not 'maybe'"),
        ("budget: 3", "`budget` takes a mapping of passes"),
        ("inputs: 7", "`inputs` takes a list of texts or of mappings"),
        ("model: ''", "`model` takes a text that is not empty"),
    ],
)
def test_a_wrong_value_says_what_is_expected_and_where(line, expected):
    with pytest.raises(ConfigError) as caught:
        parse(MINIMAL + line + "\n")
    assert "task.yaml, line 5" in str(caught.value)
    assert expected in str(caught.value)


def test_broken_yaml_names_the_line():
    with pytest.raises(ConfigError, match=r"task.yaml, line 2: not valid YAML"):
        parse("name: demo\nprompt: ]\n")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b"])
def test_a_name_that_could_leave_the_runs_folder_is_refused(name):
    with pytest.raises(ConfigError, match="it names the run folder"):
        parse(MINIMAL.replace("demo", f'"{name}"'))


def test_a_task_without_verifiers_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="nothing could ever be verified"):
        parse("name: demo\nprompt: What?\n")


def test_prompt_and_prompt_file_exclude_each_other():
    with pytest.raises(ConfigError, match="has both `prompt` and `prompt_file`"):
        parse(MINIMAL + "prompt_file: p.md\n")
    with pytest.raises(ConfigError, match="has neither"):
        parse("name: demo\nverifiers: [{contains: x}]\n")


def test_a_prompt_file_is_read_beside_the_task_file(tmp_path):
    (tmp_path / "p.md").write_text("From a file.\n")
    (tmp_path / "task.yaml").write_text("name: demo\nprompt_file: p.md\nverifiers: [{contains: x}]\n")
    assert config.read_task(tmp_path / "task.yaml").prompt == "From a file.\n"


def test_a_missing_task_file_says_what_to_do_instead(tmp_path):
    with pytest.raises(ConfigError, match="ask without a file"):
        config.read_task(tmp_path / "none.yaml")


def test_overrides_win_over_the_file_and_are_checked_like_it():
    task = parse(MINIMAL, overrides=[("budget.passes", 3), ("kernel.memory", "512MB")])
    assert (task.budget.passes, task.kernel.memory_mb) == (3, 512)
    with pytest.raises(ConfigError, match=r"task.yaml, the setting budget.pases: unknown key"):
        parse(MINIMAL, overrides=[("budget.pases", 3)])


def test_override_values_are_yaml():
    assert config.parse_override("budget.passes=3") == ("budget.passes", 3)
    assert config.parse_override("inputs=[a, b]") == ("inputs", ["a", "b"])
    with pytest.raises(ConfigError, match="is not KEY=VALUE"):
        config.parse_override("budget.passes")


def test_a_frozen_task_reads_back_to_the_same_task():
    source = MINIMAL + (
        "inputs: [a.txt, {path: b, exclude: [c]}]\nmodel: script:s.yaml\nbudget: {wall: 2h, usd: 1.5}\n"
        "kernel: {timeout_s: 5, memory: 1GB}\nreentry: continue\n"
    )
    task = parse(source)
    again = config.parse_task(config.dump_task(task), label="frozen", base_dir=Path("/elsewhere"))
    assert again == task


@pytest.mark.parametrize(
    ("value", "mode", "turns"),
    [("full", "full", 0), ("compact", "compact", 0), ("{window: 4}", "window", 4)],
)
def test_a_history_is_read_and_survives_the_freezing(value, mode, turns, tmp_path):
    source = f"name: t\nprompt: p\nverifiers: [contains: x]\nhistory: {value}\nsession: auto\ncode_as: tool\n"
    task = config.parse_task(source, label="t", base_dir=tmp_path)
    assert (task.history.mode, task.history.turns) == (mode, turns)
    assert config.parse_task(config.dump_task(task), label="t", base_dir=tmp_path) == task


@pytest.mark.parametrize("value", ["window", "{window: 0}", "{window: true}", "{window: 3, more: 1}", "3"])
def test_a_history_that_is_none_is_refused(value, tmp_path):
    source = f"name: t\nprompt: p\nverifiers: [contains: x]\nhistory: {value}\n"
    with pytest.raises(ConfigError, match="`history` takes full, compact, or"):
        config.parse_task(source, label="t", base_dir=tmp_path)


@pytest.mark.parametrize(
    "keys",
    [
        "session: hook\nagent: {skip: []}",
        "session: command\nagent: {command: [a, b], timeout: 90s, skip: x}",
        "prices: {m: {input: 1, output: 2, cache_read: 0}}",
        "no_progress: {passes: 2, then: [], models: [other]}",
        "kernel: {preload: [], require_tier: C, python: /usr/bin/python3}",
        "inputs: {paths: [a, {path: b}], strict: true, urls: true}",
        "stop_hooks: [[a, b], {command: [c]}]",
        "prompts: none",
        "sub_models: [a, b]\nwidth: 7\nchild_width: 3\non_regression: rollback",
    ],
)
def test_every_part_of_a_task_reads_back_to_the_same(keys):
    task = parse(f"name: t\nprompt: p\nverifiers: [contains: x]\n{keys}\n")
    assert config.parse_task(config.dump_task(task), label="frozen", base_dir=Path("/elsewhere")) == task


@pytest.mark.parametrize("part", [Task, Budget, NoProgress, KernelSettings, AgentSettings])
def test_a_setting_is_set_by_one_key_that_is_described(part):
    keys = keys_of(part)
    by_field = [key.field for key in keys.values()]
    # `inputs` sets the first; no key the others, which are read from the file or given by a program.
    others = {"input_settings", "file", "file_sha256", "overrides", "data", "functions", "tool_functions"}
    assert sorted(by_field) == sorted({item.name for item in fields(part)} - others)
    assert all(key.meaning for name, key in keys.items() if name != "task_dir")
