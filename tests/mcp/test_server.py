"""The server as the SDK's own client sees it: in memory, over stdio and over HTTP, with and without tasks."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, EmptyResult, Request, RequestParams, Result
from pydantic import Field

import loop_runner as lr
from loop_runner.mcp import starting
from loop_runner.mcp.server import server
from loop_runner.mcp.tasks import TASKS
from tests.support.service import write_models

pytestmark = pytest.mark.slow
TOOLS = {"start_run", "run_status", "run_result", "steer_run", "stop_run", "estimate", "list_runs"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with task files, which is the current one."""
    for name, value in write_models(tmp_path / "tasks").items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for status in lr.list_runs(tmp_path / "runs") if (tmp_path / "runs").is_dir() else ():
        starting.stop(lr.open(status.folder))


def with_client(work, **keys):
    """Run ``work`` with a client of a server in this process."""

    async def main():
        async with Client(server(Path("runs")), **keys) as client:
            return await work(client)

    return asyncio.run(main())


async def call(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def ended(client, run):
    for _ in range(600):
        result = await call(client, "run_status", run=run)
        if result["state"] not in ("running", "queued"):
            return result
        await asyncio.sleep(0.2)
    raise AssertionError(result)


def test_seven_tools_have_schemas_and_hints():
    async def work(client):
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in with_client(work)}
    assert set(tools) == TOOLS
    assert all(tool.output_schema and tool.annotations and tool.description for tool in tools.values())
    assert tools["start_run"].annotations.idempotent_hint
    assert {name for name in TOOLS if tools[name].annotations.read_only_hint} == {
        *("run_status", "run_result", "estimate", "list_runs")
    }


def test_a_run_is_started_waited_for_and_read(place):
    async def work(client):
        result = await call(client, "start_run", task="tasks/quoted/task.yaml")
        run = result["run"]
        result = await ended(client, run)
        parts = {
            part: (await call(client, "run_result", run=run, part=part))["text"]
            for part in ("answer", "citations", "verdicts", "log")
        }
        short = await call(client, "run_result", run=run, max_chars=8)
        texts = {
            name: (await client.read_resource(f"loop-runner://runs/{run}/{name}")).contents[0].text
            for name in ("answer", "verdicts", "log", "proof", "diff/0..1")
        }
        return result, parts, short, texts, await call(client, "list_runs", state="verified")

    outcome, parts, short, texts, listed = with_client(work)
    assert (outcome["state"], outcome["verified"]) == ("verified", True)
    assert "run_result" in outcome["next"]
    assert parts["answer"].startswith("The port is 8080.")
    assert json.loads(parts["citations"])[0]["ok"]
    assert json.loads(parts["verdicts"])[0]["verdict"] == "accepted"
    assert "run_ended" in parts["log"]
    assert (short["text"], short["dropped_chars"] > 0, short["verified"]) == ("The port", True, True)
    assert texts["answer"] == parts["answer"]
    assert json.loads(texts["proof"])["gates"]
    assert "+The port is 8080." in texts["diff/0..1"]
    assert [run["run"] for run in listed["runs"]] == [outcome["run"]]


def test_the_same_arguments_find_the_live_run_and_a_client_that_leaves_does_not_end_it(place):
    async def start(client):
        return await call(client, "start_run", task="tasks/slow/task.yaml", wait_s=0)

    first, second = with_client(start), with_client(start)
    assert first["run"] == second["run"]
    assert second["state"] in ("queued", "running")

    async def steer(client):
        for _ in range(300):
            if (await call(client, "run_status", run=first["run"]))["turn"]:
                break
            await asyncio.sleep(0.2)
        await call(client, "steer_run", run=first["run"], note="look at line 2")
        await asyncio.sleep(2)
        await call(client, "stop_run", run=first["run"])
        return await ended(client, first["run"])

    assert with_client(steer)["state"] == "interrupted"
    kinds = {event.kind for event in lr.open(place / "runs" / first["run"]).events()}
    assert "operator" in kinds


def test_a_call_that_is_cancelled_leaves_its_run_alone(place):
    async def work(client):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await client.call_tool("start_run", {"task": "tasks/slow/task.yaml"})
        listed = await call(client, "list_runs")
        return [run["state"] for run in listed["runs"]]

    assert with_client(work) in (["running"], ["queued"])


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("run_status", {"run": "nothing"}, "there is no run"),
        ("run_status", {"run": "../tasks"}, "there is no run"),
        ("run_status", {"run": ""}, "there is no run"),
        ("run_result", {"run": "nothing", "part": "secrets"}, "part"),
        ("start_run", {}, "no question and no task"),
        ("start_run", {"task": "missing.yaml"}, "missing.yaml"),
        ("start_run", {"question": "Which?", "inputs": ["missing.txt"], "model": "script:x"}, "missing.txt"),
        ("start_run", {"question": "Which?", "inputs": ["."], "verify": ["nothing"]}, "nothing"),
        ("start_run", {"question": "Which?", "inputs": ["."], "wait_s": 1000}, "wait_s"),
        ("steer_run", {"run": "nothing", "note": ""}, "note"),
        ("estimate", {"inputs": []}, "inputs"),
    ],
)
def test_a_wrong_call_is_an_error_that_names_what_to_do(place, tool, arguments, words):
    async def work(client):
        return await client.call_tool(tool, arguments)

    result = with_client(work)
    assert result.is_error
    assert words in result.content[0].text
    assert not list(place.glob("runs/*/.git"))


def test_an_estimate_counts_and_starts_nothing(place):
    async def work(client):
        return await call(client, "estimate", inputs=["tasks/good", "nothing"])

    result = with_client(work)
    assert (result["files"], result["skipped"]) == (3, ["nothing"])
    assert not (place / "runs").exists()


def test_the_prompts_name_the_tools():
    async def work(client):
        names = [prompt.name for prompt in (await client.list_prompts()).prompts]
        result = await client.get_prompt("research-these-files", {"question": "Which port?"})
        return names, result.messages[0].content.text

    names, text = with_client(work)
    assert names == ["audit-this-repo", "research-these-files"]
    assert "Which port?" in text
    assert "start_run" in text


# ── tasks ───────────────────────────────────────────────────────────────────────────────────────────


class Task(Result):
    result_type: Literal["task", "complete"] = Field("task", alias="resultType")
    task_id: str = Field(alias="taskId")
    status: str
    result: dict[str, Any] | None = None


class Started(Task):
    result_type: Literal["task"] = Field("task", alias="resultType")


class ById(RequestParams):
    task_id: str = Field(alias="taskId")


class AboutTask(Request[ById, str]):
    name_param = "taskId"


class Polls(ClientExtension):
    """A client's side of the extension: it polls until the task has ended."""

    identifier = TASKS

    def __init__(self):
        self.seen = []

    def claims(self):
        return [ResultClaim(result_type="task", model=Started, resolve=self.resolve)]

    async def resolve(self, started, context):
        result: Task = started
        while result.status == "working":
            self.seen.append(result.status)
            await asyncio.sleep(0.3)
            result = await about(context.session, "tasks/get", started.task_id)
        self.seen.append(result.status)
        return CallToolResult(**(result.result or {"content": [], "isError": True}))


async def about(session, method, task_id):
    request = AboutTask(method=method, params=ById(taskId=task_id))
    return await session.send_request(request, Task if method == "tasks/get" else EmptyResult)


def test_a_client_that_declares_tasks_gets_a_task_over_the_run_folder(place):
    polls = Polls()

    async def work(client):
        return await call(client, "start_run", task="tasks/good/task.yaml")

    result = with_client(work, extensions=[polls])
    assert result["verified"] is True
    assert polls.seen[0] == "working"
    assert polls.seen[-1] == "completed"
    assert (place / "runs" / result["run"] / ".git").exists()


def test_a_task_is_cancelled_as_a_run_is_stopped(place):
    async def work(client):
        result = await client.session.call_tool(
            "start_run", {"task": "tasks/slow/task.yaml"}, allow_claimed=True
        )
        await about(client.session, "tasks/cancel", result.task_id)
        outcome = result
        for _ in range(300):
            outcome = await about(client.session, "tasks/get", result.task_id)
            if outcome.status != "working":
                break
            await asyncio.sleep(0.2)
        with pytest.raises(MCPError, match="there is no run"):
            await about(client.session, "tasks/get", "nothing")
        return outcome.status

    assert with_client(work, extensions=[Polls()]) == "cancelled"


def test_the_methods_of_tasks_are_for_clients_that_declare_them(place):
    async def work(client):
        with pytest.raises(MCPError) as raised:
            await about(client.session, "tasks/get", "nothing")
        return raised.value

    assert with_client(work).code == -32021


# ── other transports ────────────────────────────────────────────────────────────────────────────────


def test_over_stdio_the_runs_outlive_the_server(place):
    command = StdioServerParameters(command=sys.executable, args=["-m", "loop_runner", "mcp"], cwd=str(place))

    async def main():
        async with Client(command, mode="legacy") as client:
            return await call(client, "start_run", task="tasks/slow/task.yaml", wait_s=1)

    result = asyncio.run(main())
    status = lr.open(place / "runs" / result["run"]).status()
    assert status.is_active, status


@contextmanager
def over_http(place):
    with socket.create_server(("127.0.0.1", 0)) as plug:
        port = plug.getsockname()[1]
    command = [sys.executable, "-m", "loop_runner", "mcp", "--http", str(port)]
    child = subprocess.Popen(command, cwd=place, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as plug:
                if plug.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        child.terminate()
        child.wait(20)


def test_over_http_a_tool_answers(place):
    async def main(url):
        async with Client(url) as client:
            return await call(client, "estimate", inputs=["tasks/good"])

    with over_http(place) as url:
        assert asyncio.run(main(url))["files"] == 3
