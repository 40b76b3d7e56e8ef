"""Programs as tools: arguments in their places, no shell, caps, and the environment that is named."""

import asyncio

import pytest

from loop_runner.errors import ConfigError
from loop_runner.tools.command_lines import CommandCaller
from loop_runner.tools.entries import read_entries
from loop_runner.tools.preparing import specs
from loop_runner.tools.python_process import ToolDiedError, ToolRaisedError

PATH = {"PATH": "/usr/bin:/bin"}


def called(folder, arguments, env=None, **entry):
    """What a command tool gives for ``arguments``."""
    parameters = entry.pop("parameters", {name: {"type": "string"} for name in arguments})
    given = {"command": {"name": "tool", "parameters": parameters, **entry}}
    (spec,) = specs(read_entries([given]), folder, {**PATH, **(env or {})}, {})
    seen = {**PATH, **(env or {})}
    return asyncio.run(CommandCaller(folder, {"tool": seen}).call(spec, arguments))


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "two words",
        "$(id) `id` ; rm -rf /",
        "'quote\" \\",
        "line\nbreak",
        "*",
        "{other}",
        "-n",
        "ünï",
    ],
)
def test_a_value_stays_one_argument_whatever_it_holds(value, tmp_path):
    run = ["python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", "{q}", "a={q}=b"]
    assert called(tmp_path, {"q": value}, run=run, json=True) == [value, f"a={value}=b"]


def test_placeholders_in_double_braces_and_other_braces_stay_as_they_are(tmp_path):
    assert called(tmp_path, {"q": "x"}, run=["printf", "%s", "{{q}} {q} {} {1}"]) == "{q} x {} {1}"


def test_values_that_are_no_texts_are_given_as_json(tmp_path):
    run = ["printf", "%s|%s", "{n}", "{rows}"]
    parameters = {"n": {"type": "integer"}, "rows": {"type": "array"}}
    assert called(tmp_path, {"n": 3, "rows": [1, "b"]}, run=run, parameters=parameters) == '3|[1, "b"]'


def test_a_parameter_can_be_the_standard_input(tmp_path):
    assert called(tmp_path, {"text": "b\na\n"}, run=["sort"], stdin="text") == "a\nb\n"


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (["sh", "-c", "echo lost >&2; exit 3"], ToolRaisedError, "exit code 3: lost"),
        (["sh", "-c", "kill -9 $$"], ToolDiedError, "signal 9"),
        (["no-such-program"], ToolRaisedError, "there is no program no-such-program"),
        (["sh", "-c", "yes"], ToolRaisedError, "printed more than"),
        (["sh", "-c", "sleep 60 & wait"], TimeoutError, ""),
        (["setsid", "sh", "-c", "sleep 20"], TimeoutError, ""),
        (["sh", "-c", "setsid sleep 20 & echo lost >&2; yes"], ToolRaisedError, "printed more than"),
    ],
)
def test_a_program_that_does_not_end_well_gives_an_error_that_says_how(run, error, message, tmp_path):
    with pytest.raises(error) as result:
        called(tmp_path, {}, run=run, timeout_s=2)
    assert message in str(result.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "a", "run": ["echo", "{q}"]}, "uses {q}, which is no parameter"),
        ({"name": "a", "run": "echo"}, "needs `run`, a list"),
        ({"name": "a b", "run": ["echo"]}, "cannot be the name of a function"),
        ({"name": "class", "run": ["echo"]}, "cannot be the name of a function"),
        ({"name": "a", "run": ["echo"], "shell": True}, "has no key `shell`"),
        ({"name": "a", "run": ["echo"], "parameters": {"q": "string"}}, "takes a JSON Schema"),
        ({"name": "a", "run": ["echo"], "env": ["A=b"]}, "names of environment variables"),
    ],
)
def test_an_entry_that_cannot_be_called_is_refused(entry, message):
    with pytest.raises(ConfigError) as error:
        read_entries([{"command": entry}])
    assert message in str(error.value)
