"""``make test-service-clients``: the clients of other programs, as the registry has them, use the service.

    python -m tests.service_clients

Builds an environment in .cache/service-clients with llm, LangChain, pydantic-ai and DSPy, which our own
environment does not hold, and runs each client there against a service on loopback. Prints a line for each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from loop_runner.serve.service_settings import Settings
from tests.support.service import ALICE, in_thread, write_models

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".cache" / "service-clients"
PACKAGES = ("llm", "langchain-openai", "pydantic-ai-slim[openai]", "dspy")
PYTHON = FOLDER / "venv" / "bin" / "python"

LANGCHAIN = """
import asyncio, importlib.metadata, os
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="good", base_url=os.environ["URL"] + "/v1", api_key=os.environ["TOKEN"])
answer = model.invoke("LangChain?")
assert (answer.content, answer.response_metadata["finish_reason"]) == ("It is 42.", "stop"), answer
assert answer.usage_metadata["total_tokens"] > 0

async def main():
    return [chunk async for chunk in model.astream("LangChain, streamed?")]

chunks = asyncio.run(main())
assert "".join(chunk.content for chunk in chunks) == "It is 42.", chunks
unverified = ChatOpenAI(model="wrong", base_url=os.environ["URL"] + "/v1", api_key=os.environ["TOKEN"])
assert unverified.invoke("LangChain?").response_metadata["finish_reason"] == "length"
print(importlib.metadata.version("langchain-openai"))
"""
PYDANTIC_AI = """
import importlib.metadata, os
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

class Port(BaseModel):
    port: int

provider = OpenAIProvider(base_url=os.environ["URL"] + "/v1", api_key=os.environ["TOKEN"])
result = Agent(OpenAIChatModel("good", provider=provider)).run_sync("pydantic-ai?")
assert result.output == "It is 42.", result.output
typed = Agent(OpenAIChatModel("data", provider=provider), output_type=NativeOutput(Port))
assert typed.run_sync("pydantic-ai, typed?").output == Port(port=8080)
print(importlib.metadata.version("pydantic-ai-slim"))
"""
DSPY = """
import importlib.metadata, os
import dspy
lm = dspy.LM("openai/good", api_base=os.environ["URL"] + "/v1", api_key=os.environ["TOKEN"], cache=False)
assert lm("DSPy?") == ["It is 42."], lm("DSPy?")
print(importlib.metadata.version("dspy"))
"""
LLM = """
import importlib.metadata, os, pathlib, subprocess, sys
folder = pathlib.Path(os.environ["LLM_USER_PATH"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "extra-openai-models.yaml").write_text(
    f"- model_id: good\\n  model_name: good\\n  api_base: {os.environ['URL']}/v1\\n  api_key_name: service\\n"
)
(folder / "keys.json").write_text('{"service": "%s"}' % os.environ["TOKEN"])
for options in ([], ["--no-stream"]):
    command = [sys.executable, "-m", "llm", "-m", "good", *options, f"llm {options}?"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "It is 42.", done
print(importlib.metadata.version("llm"))
"""
CLIENTS = {"llm": LLM, "LangChain ChatOpenAI": LANGCHAIN, "pydantic-ai": PYDANTIC_AI, "dspy.LM": DSPY}


def install() -> None:
    """Build the environment, unless it is there."""
    if not PYTHON.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", str(FOLDER / "venv")], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(PYTHON), *PACKAGES], check=True)


def main() -> int:
    install()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(write_models(folder / "tasks"))
        with in_thread(Settings(runs=folder / "runs", tasks=folder / "tasks", port=0)) as service:
            env = {**os.environ, "URL": service.url, "TOKEN": ALICE, "LLM_USER_PATH": str(folder / "llm")}
            env |= {"HOME": name, "OPENAI_API_KEY": "", "DSPY_CACHEDIR": str(folder / "dspy")}
            for client, code in CLIENTS.items():
                done = subprocess.run(
                    [PYTHON, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False
                )
                failed += done.returncode != 0
                print(
                    client,
                    done.stdout.strip() if not done.returncode else f"FAILED\n{done.stderr}",
                    flush=True,
                )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
