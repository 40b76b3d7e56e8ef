"""MCP servers as tools: real ones of the SDK on both transports, and those that misbehave."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loop_runner.errors import ConfigError
from loop_runner.runs import replay, start
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.tools.entries import read_entries
from loop_runner.tools.mcp_servers import McpCaller
from loop_runner.tools.preparing import for_programs, specs
from loop_runner.tools.python_process import ToolDiedError, ToolRaisedError
from tests.support.tasks import cell, write_task
from tests.tools.test_python_tools import output

pytest.importorskip("mcp")
SERVER = str(Path(__file__).with_name("mcp_server.py"))
ENV = {"PATH": os.environ["PATH"]}


class Servers:
    """The tools of one entry, called without a run."""

    def __init__(self, folder, **target):
        (self.entry,) = read_entries([{"mcp": {"name": "srv", **target}}])
        env = for_programs([self.entry], ENV)
        self.specs = {spec.name: spec for spec in specs([self.entry], folder, ENV, {})}
        self.caller = McpCaller(folder, {"srv": (self.entry.target, env)})

    async def calls(self, *given):
        """The result or the error of each call, one after another."""
        result = []
        for name, arguments in given:
            try:
                result.append(await self.caller.call(self.specs[f"srv.{name}"], arguments))
            except (ToolDiedError, ToolRaisedError, TimeoutError) as error:
                result.append(error)
        await self.caller.close()
        return result


def stdio(how):
    return {"command": [sys.executable, SERVER, how]}


@pytest.mark.slow
def test_a_server_of_the_sdk_is_called_from_the_repl_and_a_replay_starts_none(tmp_path):
    code = """
print(srv.add(2, b=3), srv.get_text('a'), tool_batch(srv.add, [1, (1, 4)]))
try:
    srv.fail()
except ToolError as error:
    print(error)
kept = srv.get_text
FINAL('42')
"""
    entry = {"mcp": {"name": "srv", **stdio("good"), "env": ["CALLS"]}}
    task = write_task(tmp_path / "task", root=[cell(code)], tools=[entry])
    env = {**ENV, "CALLS": str(tmp_path / "calls")}
    start.start(config.read_task(task), tmp_path / "run", RunContext(env))
    assert "5 text of a [2, 5]" in output(tmp_path / "run")
    assert "`srv.fail` failed: Error executing tool fail" in output(tmp_path / "run")
    assert "- `srv.get_text(name: str)`: A text." in (tmp_path / "run/system.md").read_text()
    assert replay.replay(tmp_path / "run").is_same
    assert (tmp_path / "calls").read_text() == "a\n"


@pytest.mark.slow
def test_a_server_on_streamable_http_is_called(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, SERVER, "good", str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        servers = Servers(tmp_path, url=f"http://127.0.0.1:{port}/mcp", only=["add"])
        assert list(servers.specs) == ["srv.add"]
        assert asyncio.run(servers.calls(("add", {"a": 2, "b": 5}))) == [7]
    finally:
        server.kill()
        server.wait()


def wait_for_port(port):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("hang", TimeoutError, ""),
        ("die", ToolDiedError, "exit code 3); it printed last: cannot go on"),
        ("huge", ToolDiedError, "it sent a message of more than"),
        ("flood", ToolDiedError, "without an answer, and was ended"),
        ("shape", ToolRaisedError, "its answer is not what the protocol"),
    ],
)
def test_a_server_that_misbehaves_costs_one_call_and_is_started_again(how, kind, message, tmp_path):
    servers = Servers(tmp_path, **stdio(how), timeout_s=20 if how != "hang" else 2)
    first, second = asyncio.run(servers.calls(("act", {}), ("lie", {})))
    assert type(first) is kind, first
    assert message in str(first)
    assert isinstance(second, ToolRaisedError)
    assert "schema" in str(second)


@pytest.mark.slow
def test_a_server_that_prints_to_its_protocol_is_understood_all_the_same(tmp_path):
    servers = Servers(tmp_path, **stdio("noise"))
    assert asyncio.run(servers.calls(("act", {}))) == ["after the noise"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"command": ["no-such-program"]}, "it could not be started"),
        ({"command": ["sh", "-c", "echo lost >&2; exit 4"]}, "exit code 4"),
        ({**stdio("noise"), "only": ["missing"]}, "it has no tool 'missing'"),
        ({"url": "http://127.0.0.1:1/mcp"}, "the MCP server `srv`"),
    ],
)
def test_a_server_that_does_not_start_is_refused_before_a_run_begins(target, message, tmp_path):
    with pytest.raises(ConfigError) as error:
        specs(read_entries([{"mcp": {"name": "srv", **target}}]), tmp_path, ENV, {})
    assert message in str(error.value)
