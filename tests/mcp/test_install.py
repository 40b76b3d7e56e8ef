"""``mcp install``: the entry in each client's configuration."""

import json
import tomllib

import pytest

from loop_runner.errors import ConfigError
from loop_runner.mcp.install import CLIENTS, entry_for

ARGUMENTS = ["mcp", "--runs", "/runs"]


def change(client, tmp_path):
    return entry_for(client, "/bin/loop-runner", ARGUMENTS, tmp_path, {"HOME": str(tmp_path)})


def entry(client, text):
    if client == "codex":
        return tomllib.loads(text)["mcp_servers"]["loop-runner"]
    return json.loads(text)["servers" if client == "vscode" else "mcpServers"]["loop-runner"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_new_file_has_the_entry_and_a_second_time_changes_nothing(client, tmp_path):
    made = change(client, tmp_path)
    assert made.is_needed
    assert not made.path.exists(), "nothing is written before it is asked for"
    made.write()
    result = entry(client, made.path.read_text())
    assert (result["command"], result["args"]) == ("/bin/loop-runner", ARGUMENTS)
    assert not change(client, tmp_path).is_needed
    assert change(client, tmp_path).diff() == ""


@pytest.mark.parametrize("client", CLIENTS)
def test_what_was_there_stays(client, tmp_path):
    made = change(client, tmp_path)
    made.path.parent.mkdir(parents=True, exist_ok=True)
    before = (
        'model = "m" # mine\n' if client == "codex" else '{"mcpServers": {"a": {}}, "servers": {"b": {}}}'
    )
    made.path.write_text(before)
    made.path.chmod(0o600)
    change(client, tmp_path).write()
    text = made.path.read_text()
    assert entry(client, text)["command"] == "/bin/loop-runner"
    assert made.path.stat().st_mode & 0o777 == 0o600
    if client == "codex":
        assert text.startswith(before)
    else:
        assert (json.loads(text)["mcpServers"]["a"], json.loads(text)["servers"]["b"]) == ({}, {})


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("before", ["{", "[1]", "\x00", '{"mcpServers": 3, "servers": 3}', "a = ["])
def test_a_file_that_is_not_understood_is_left_alone_and_the_entry_is_shown(client, before, tmp_path):
    made = change(client, tmp_path)
    made.path.parent.mkdir(parents=True, exist_ok=True)
    made.path.write_text(before)
    if client == "codex" and before == "[1]":
        return  # a table called 1: TOML
    with pytest.raises(ConfigError, match="left alone") as raised:
        change(client, tmp_path)
    assert "loop-runner" in raised.value.hint
    assert made.path.read_text() == before


def test_another_entry_of_the_name_is_not_overwritten_in_toml(tmp_path):
    made = change("codex", tmp_path)
    made.path.parent.mkdir()
    made.path.write_text('[mcp_servers.loop-runner]\ncommand = "other"\n')
    with pytest.raises(ConfigError, match="another entry"):
        change("codex", tmp_path)
