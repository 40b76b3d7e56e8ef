"""``make test-integrations``: the real packages use ``loop_runner.integrations``.

    python -m tests.integration_packages

Builds an environment in .cache/integrations with PydanticAI, Inspect and this package, and runs each check
there with a model that replies from a script. Prints a line for each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.service import CITED, TEXT
from tests.support.tasks import ready, write_task

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".cache" / "integrations"
PYTHON = FOLDER / "bin" / "python"
PACKAGES = ("pydantic-ai-slim", "inspect-ai", "-e", str(ROOT))

PYDANTIC_AI = """
import asyncio, importlib.metadata, os, pathlib
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from loop_runner.integrations.pydantic_ai import create_toolset, rlm_tool

MODEL, NOTES = os.environ["MODEL"], os.environ["NOTES"]
returned = []

def acting(*calls):
    # A model that makes these calls, one a turn; a callable gets what came back so far.
    def act(messages, info):
        parts = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        returned[:] = [part.content for part in parts]
        if len(parts) == len(calls):
            return ModelResponse(parts=[TextPart("done")])
        name, arguments = calls[len(parts)]
        given = arguments(returned) if callable(arguments) else arguments
        return ModelResponse(parts=[ToolCallPart(name, given)])
    return FunctionModel(act)

tool = rlm_tool([NOTES], model=MODEL)
agent = Agent(acting(("ask_documents", {"question": "Which port?"})), tools=[tool])
assert agent.run_sync("go").output == "done"
(answer,) = returned
assert answer["verified"] and "8080" in answer["answer"], answer
assert answer["citations"][0]["quote"] == "The port is 8080.", answer

toolset = create_toolset("agent-runs", inputs=[NOTES], model=MODEL)
last = lambda seen: {"run": seen[0]["run"]}
calls = [
    ("start_run", {"question": "Which port is it?"}),
    ("run_result", lambda seen: {**last(seen), "wait_seconds": 90}),
    ("run_status", last),
]
agent = Agent(acting(*calls), toolsets=[toolset])
assert agent.run_sync("go").output == "done"
started, result, status = returned
assert result["verified"] and "8080" in result["answer"], result
assert (status["state"], status["verified"]) == ("verified", True), status
assert pathlib.Path("agent-runs", started["run"], "proof.json").is_file()

async def refused():
    tools = {tool.name: tool.function for tool in toolset.tools.values()}
    for run in ("../agent-runs", "no-such-run", "", "a/b", "." ):
        for name in ("run_status", "run_result", "stop_run"):
            try:
                await tools[name](run)
            except ModelRetry as error:
                assert "no such run" in error.message
            else:
                raise AssertionError((name, run))

asyncio.run(refused())
print(importlib.metadata.version("pydantic-ai-slim"))
"""
INSPECT_AI = """
import importlib.metadata, os
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from loop_runner.integrations.inspect_ai import rlm_solver

text = open(os.environ["NOTES"]).read()
samples = [
    Sample(input="Which port?", target="8080", id="one", metadata={"context": {"notes.txt": text}}),
    Sample(input="Which host?", target="9999", id="../two", metadata={"context": {"notes.txt": text}}),
]
solver = rlm_solver(model=os.environ["MODEL"], runs_dir="eval-runs")
task = Task(samples, solver=solver, scorer=includes())
(log,) = eval(task, model="mockllm/model", display="none", log_dir="logs")
assert log.status == "success", log.error
first, second = sorted(log.samples, key=lambda sample: sample.id, reverse=True)
assert (first.scores["includes"].value, second.scores["includes"].value) == ("C", "I"), log.samples
about = first.metadata["loop_runner"]
assert about["verified"] and about["status"] == "verified", about
assert len(os.listdir("eval-runs")) == 2, os.listdir("eval-runs")
print(importlib.metadata.version("inspect-ai"))
"""
CHECKS = {"pydantic-ai": PYDANTIC_AI, "inspect-ai": INSPECT_AI}


def install() -> None:
    """Build the environment, unless it is there."""
    if not (FOLDER / "done").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--allow-existing", str(FOLDER)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(PYTHON), *PACKAGES], check=True)
        (FOLDER / "done").touch()


def main() -> int:
    install()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_task(folder / "task", root=[ready(CITED)] * 9, texts={"notes.txt": TEXT})
        env = {**os.environ, "HOME": name, "MODEL": f"script:{folder / 'task/script.yaml'}"}
        env |= {"NOTES": str(folder / "task/notes.txt"), "LOOP_RUNNER_CACHE": str(folder / "cache")}
        for package, code in CHECKS.items():
            done = subprocess.run(
                [PYTHON, "-c", code],
                cwd=name,
                env=env,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            failed += done.returncode != 0
            print(
                package, done.stdout.strip() if not done.returncode else f"FAILED\n{done.stderr}", flush=True
            )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
