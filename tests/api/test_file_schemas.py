"""The JSON Schemas of task and rules files: what is committed is what the code reads."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from loop_runner.api import file_schemas
from loop_runner.audit.rules import read_rules
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.inputs import finding
from loop_runner.task import config
from loop_runner.verify import build, external_hook
from loop_runner.verify.built_in import KINDS
from tests.support.commands import clean_environment

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
TASK = {"name": "demo", "prompt": "What is it?", "verifiers": [{"contains": "42"}]}
RULE = {"id": "a", "title": "A"}


def validator(name):
    schema = json.loads((SCHEMAS / name).read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


TASKS, RULES = validator("task.schema.json"), validator("rules.schema.json")


def parse(data):
    """Everything that reads a part of a task file, without looking at what it names."""
    task = config.parse_task(yaml.safe_dump(data), label="task.yaml", base_dir=ROOT)
    build(task.verifiers, ROOT)
    external_hook.build(task.stop_hooks, ROOT)
    for spec in task.inputs:
        try:
            finding.root_of(spec, ROOT, ())
        except ConfigError as error:
            if "not written as expected" in error.message or "unknown key" in error.message:
                raise


def with_key(**changes):
    return {**TASK, **changes}


@pytest.mark.parametrize("name", ["task.schema.json", "rules.schema.json"])
def test_the_committed_schema_is_what_the_code_says(name):
    assert sorted(path.name for path in SCHEMAS.iterdir()) == sorted(file_schemas.schemas())
    committed = (SCHEMAS / name).read_text(encoding="utf-8")
    assert committed == file_schemas.text(file_schemas.schemas()[name]), "run `make docs`"


def yaml_files(pattern):
    return sorted(
        path
        for folder in ("examples", "tests", "bench")
        for path in (ROOT / folder).rglob(pattern)
        if ".venv" not in path.parts
    )


@pytest.mark.parametrize("path", yaml_files("*task*.yaml"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_task_file_of_the_repository_validates(path):
    TASKS.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", yaml_files("*rules*.yaml"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_rules_file_of_the_repository_validates(path):
    RULES.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert read_rules(path)


def test_there_are_files_to_validate():
    assert len(yaml_files("*task*.yaml")) >= 14
    assert len(yaml_files("*rules*.yaml")) >= 3


@pytest.mark.parametrize(
    "data",
    [
        TASK,
        with_key(prompt=None, prompt_file="README.md"),
        with_key(model=None, budget=None),
        with_key(budget={"wall": "90s", "passes": 3, "usd": 0.5, "tokens": None}),
        with_key(budget={"wall": 3600}),
        with_key(kernel={"memory": "4GB", "preload": "numpy", "require_tier": "A"}),
        with_key(kernel={"memory": 512}),
        with_key(history={"window": 3}),
        with_key(history="compact"),
        with_key(inputs="contract.txt"),
        with_key(inputs=["a.txt", {"path": "docs", "exclude": "*.min.js", "convert": False}]),
        with_key(inputs={"paths": [{"url": "https://example.org/x"}], "urls": True, "strict": False}),
        with_key(inputs={"git": ".", "revision": "v1", "paths": ["docs"]}),
        with_key(prices={"openai:mine": {"input": 0, "output": 0.8, "cache_read": 0.1}}),
        with_key(no_progress={"passes": 2, "then": [], "models": "a:b"}),
        with_key(sub_models="a:b", width=1024),
        with_key(verifiers="citations"),
        with_key(verifiers=["stable", {"agreement": None}, {"citations": 2, "weight": 0.5, "name": "c"}]),
        with_key(verifiers=[{"any": [{"contains": "x"}, {"all": [{"regex": r"\d"}]}], "name": "g"}]),
        with_key(verifiers=[{"command": "true"}, {"command": ["true", "a b"]}]),
        with_key(verifiers=[{"command": {"run": "true", "timeout_s": 5, "network": True, "show": "/x"}}]),
        with_key(verifiers=[{"python": "check.py:f", "evidence": "none", "says": "it must hold"}]),
        with_key(verifiers=[{"schema": "s.json"}, {"schema": {"type": "object"}}]),
        with_key(verifiers=[{"schema": {"schema": {"type": "object"}, "of": "out.json"}}]),
        with_key(
            verifiers=[{"judge": "rubric.md"}, {"judge": {"rubric": "r.md", "votes": 3, "threshold": 1}}]
        ),
        with_key(verifiers=[{"promise": "DONE"}, {"findings": {"rules": {"a": "note"}}}]),
        with_key(verifiers=[{"contains": {"text": "x", "ignore_case": True, "evidence": "message"}}]),
        with_key(session="command", agent={"command": ["true"], "skip": ".git", "timeout": "1h"}),
        with_key(session="hook", agent={"folder": "x"}),
        with_key(session="hook"),
        with_key(stop_hooks=["true", ["true", "x"], {"command": "true", "name": "n", "timeout_s": 3}]),
        {"name": "demo", "prompt": "What?", "type": "research"},
        {"name": "demo", "prompt": "What?", "type": "legal", "verifiers": []},
    ],
    ids=str,
)
def test_what_the_parser_takes_the_schema_takes(data):
    parse(data)
    TASKS.validate(data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"name": "demo", "prompt": "What?"},
        {"name": "demo", "prompt": "What?", "type": "custom", "verifiers": []},
        {"prompt": "What?", "verifiers": ["citations"]},
        {"name": "demo", "verifiers": ["citations"]},
        with_key(name=None),
        with_key(name="a b"),
        with_key(name="../up"),
        with_key(prompt=None),
        with_key(prompt="  "),
        with_key(prompt_file="p.md"),
        with_key(budgett={"passes": 3}),
        with_key(budget={"pases": 3}),
        with_key(budget=3),
        with_key(budget={"passes": 0}),
        with_key(budget={"passes": True}),
        with_key(budget={"passes": "3"}),
        with_key(budget={"wall": "soon"}),
        with_key(budget={"usd": 0}),
        with_key(budget={"subcalls": -1}),
        with_key(kernel={"memory": "lots"}),
        with_key(kernel={"memory": 0}),
        with_key(kernel={"require_tier": "D"}),
        with_key(kernel={"preload": "not a module"}),
        with_key(reentry="maybe"),
        with_key(on_regression="revert"),
        with_key(history="window"),
        with_key(history={"window": 0}),
        with_key(history={"window": 2, "turns": 2}),
        with_key(session="remote"),
        with_key(session="command"),
        with_key(session="command", agent={"folder": "x"}),
        with_key(agent={"command": ["true"]}),
        with_key(session="command", agent={"command": []}),
        with_key(session="command", agent={"command": "true"}),
        with_key(session="command", agent={"command": ["true"], "skip": ["a/b"]}),
        with_key(no_progress={"passes": 1}),
        with_key(no_progress={"then": ["give up"]}),
        with_key(type="reserch"),
        with_key(type=["legal"]),
        with_key(model=""),
        with_key(model=3),
        with_key(width=1025),
        with_key(child_width=257),
        with_key(sub_models=[3]),
        with_key(prices={"a:b": {"input": 1}}),
        with_key(prices={"a:b": {"input": 1, "output": -1}}),
        with_key(prices={"a:b": {"input": 1, "output": 1, "cached": 1}}),
        with_key(inputs=7),
        with_key(inputs=[7]),
        with_key(inputs={"paths": ["a"], "strict": "yes"}),
        with_key(inputs={"paths": ["a"], "stict": True}),
        with_key(inputs=[{"path": "a", "excludes": ["b"]}]),
        with_key(inputs=[{"path": "a", "convert": "no"}]),
        with_key(inputs=[{"url": "ftp://x"}]),
        with_key(inputs=[{"name": "x"}]),
        with_key(inputs=[{"git": ".", "path": "x"}]),
        with_key(verifiers=[7]),
        with_key(verifiers=["contains"]),
        with_key(verifiers=[{"contain": "x"}]),
        with_key(verifiers=[{"contains": 42}]),
        with_key(verifiers=[{"contains": "x", "regex": "y"}]),
        with_key(verifiers=[{"name": "x"}]),
        with_key(verifiers=[{"contains": "x", "weight": 0}]),
        with_key(verifiers=[{"contains": "x", "evidence": "some"}]),
        with_key(verifiers=[{"contains": "x", "says": ""}]),
        with_key(verifiers=[{"contains": {"text": "x", "case": True}}]),
        with_key(verifiers=[{"regex": {"pattern": "x", "part": "second_line"}}]),
        with_key(verifiers=[{"regex": {"pattern": "x", "timeout_s": 0}}]),
        with_key(verifiers=[{"citations": {"min": -1}}]),
        with_key(verifiers=[{"citations": {"none": "maybe"}}]),
        with_key(verifiers=[{"command": []}]),
        with_key(verifiers=[{"command": {"timeout_s": 3}}]),
        with_key(verifiers=[{"command": {"run": "true", "network": "yes"}}]),
        with_key(verifiers=[{"python": {"function": "f"}}]),
        with_key(verifiers=[{"judge": {"rubric": "r.md", "threshold": 2}}]),
        with_key(verifiers=[{"schema": {"of": "out.json"}}]),
        with_key(verifiers=[{"schema": {}}]),
        with_key(verifiers=[{"stable": {"passes": "2"}}]),
        with_key(verifiers=[{"findings": {"rules": {"a": "fatal"}}}]),
        with_key(verifiers=[{"all": []}]),
        with_key(verifiers=[{"any": {"contains": "x"}}]),
        with_key(verifiers=[{"all": [{"contains": 3}]}]),
        with_key(stop_hooks="true"),
        with_key(stop_hooks=[{"name": "x"}]),
        with_key(stop_hooks=[{"command": "true", "timeout": 3}]),
        with_key(stop_hooks=[{"command": "true", "writable": True}]),
        with_key(stop_hooks=[3]),
    ],
    ids=str,
)
def test_what_the_schema_refuses_the_parser_refuses_and_the_other_way_round(data):
    assert not TASKS.is_valid(data)
    with pytest.raises(LoopRunnerError):
        parse(data)


@pytest.mark.parametrize(
    "rule",
    [
        RULE,
        {"id": "a", "description": "What."},
        {**RULE, "files": "*.py", "regex": r"\bx\b", "severity": "note"},
        {**RULE, "ast": "bare-except", "wrong": ["a", "b"], "right": "c"},
        {**RULE, "ast": {"node": "Call", "where": {"func": "eval"}}},
        {**RULE, "ast": {"node": "Return", "where": {"value": None}}},
        {**RULE, "ast": {"node": "arg"}, "files": []},
    ],
    ids=str,
)
def test_a_rule_that_the_parser_takes_the_schema_takes(tmp_path, rule):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": [rule]}))
    assert read_rules(tmp_path / "rules.yaml")
    RULES.validate({"rules": [rule]})


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"rules": []},
        {"rules": RULE},
        {"rules": [RULE], "version": 1},
        *(
            {"rules": [rule]}
            for rule in (
                "a",
                {"id": "a"},
                {"title": "A"},
                {**RULE, "id": "no spaces"},
                {**RULE, "id": 3},
                {**RULE, "title": ""},
                {**RULE, "severity": "fatal"},
                {**RULE, "regx": "x"},
                {**RULE, "regex": ""},
                {**RULE, "regex": ["x"]},
                {**RULE, "regex": "x", "ast": "bare-except"},
                {**RULE, "ast": "bare-exept"},
                {**RULE, "ast": {"where": {}}},
                {**RULE, "ast": {"node": "Call", "were": {}}},
                {**RULE, "ast": {"node": "Call", "where": {"func": 3}}},
                {**RULE, "ast": {"node": ["Call"]}},
                {**RULE, "files": [""]},
                {**RULE, "wrong": [3]},
            )
        ),
    ],
    ids=str,
)
def test_a_rules_file_that_the_schema_refuses_the_parser_refuses(tmp_path, data):
    assert not RULES.is_valid(data)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError):
        read_rules(tmp_path / "rules.yaml")


def test_every_key_is_described_for_the_editor():
    for name, key in file_schemas.task()["properties"].items():
        assert key.get("description"), name
        for inner, value in key.get("properties", {}).items():
            assert value.get("description"), f"{name}.{inner}"
    rule = file_schemas.audit_rules()["properties"]["rules"]["items"]["properties"]
    assert [name for name, key in rule.items() if not key.get("description")] == []


def test_kinds_of_verifiers_of_other_packages_are_known_where_they_are_installed():
    data = with_key(verifiers=[{"sentiment": {"min": 1}}])
    assert not TASKS.is_valid(data)
    jsonschema.Draft7Validator(file_schemas.task(["sentiment"])).validate(data)


def test_the_bare_kinds_are_those_that_work_without_settings():
    for kind in KINDS:
        data = with_key(verifiers=[kind])
        try:
            parse(data)
        except LoopRunnerError:
            assert not TASKS.is_valid(data), kind
        else:
            TASKS.validate(data)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("task.schema.json", "task.schema.json"),
        ("docs/schemas/rules.schema.json", "rules.schema.json"),
        ("task.schema", "task.schema.json"),
    ],
)
def test_the_command_prints_a_schema(name, file, tmp_path):
    command = [sys.executable, "-m", "loop_runner", "docs"]
    run = {"cwd": tmp_path, "env": clean_environment({"PYTHONPATH": str(ROOT)}), "text": True, "timeout": 60}
    printed = subprocess.run([*command, name], capture_output=True, check=True, **run).stdout
    assert json.loads(printed) == json.loads((SCHEMAS / file).read_text())
    listed = subprocess.run(command, capture_output=True, check=True, **run).stdout
    assert file in listed
