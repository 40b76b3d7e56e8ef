"""The OpenAI-compatible endpoint that the calls, retrieval and the other packages share.

``local:NAME`` starts a process of its own with the model file and the settings that loop-runner uses;
``openai:NAME`` takes OPENAI_BASE_URL and OPENAI_API_KEY, ``anthropic:NAME`` the address that is compatible.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

import loop_runner as lr

LOCAL_WINDOW = 8192  # tokens, as loop-runner serves its local models
OTHER_WINDOW = 32_768
MAX_OUTPUT_TOKENS = 512
_SERVER = (sys.executable, "-m", "evals.local_endpoint")


class EndpointError(Exception):
    """There is no endpoint for the model, or a request failed; the message says why."""


class TooLongError(EndpointError):
    """The prompt does not fit into the window."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The text of a reply and its tokens."""

    text: str
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers. ``url`` ends in ``/v1``; ``window`` is in tokens."""

    url: str
    key: str
    model: str
    window: int = OTHER_WINDOW

    def complete(self, prompt: str, timeout_s: float) -> Reply:
        """One request. Raises ``TooLongError`` or ``EndpointError``."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": MAX_OUTPUT_TOKENS,
            "temperature": 0,
        }
        headers = {"authorization": f"Bearer {self.key}"}
        try:
            response = httpx2.post(
                f"{self.url}/chat/completions", json=body, headers=headers, timeout=timeout_s
            )
        except httpx2.HTTPError as error:
            raise EndpointError(f"{type(error).__name__}: {error}") from error
        if response.status_code in (400, 413) and _is_too_long(response.text):
            raise TooLongError(response.text[:200])
        if response.status_code != 200:
            raise EndpointError(f"HTTP {response.status_code}: {response.text[:200]}")
        return _reply(response.json())


def _is_too_long(text: str) -> bool:
    return any(word in text for word in ("context", "too long", "maximum", "exceed"))


def _reply(data: dict[str, Any]) -> Reply:
    usage = data.get("usage") or {}
    text = data["choices"][0]["message"].get("content") or ""
    return Reply(text, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))


@contextmanager
def serving(model: str, window: int | None = None) -> Iterator[Endpoint]:
    """The endpoint of a model id such as ``local:coder``, for as long as it is needed."""
    provider, _, name = model.partition(":")
    if provider == "local":
        with _local(name, window or LOCAL_WINDOW) as endpoint:
            yield endpoint
    elif provider == "openai":
        url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
        yield Endpoint(url, os.environ.get("OPENAI_API_KEY", "none"), name, window or OTHER_WINDOW)
    elif provider == "anthropic":
        url = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com").rstrip("/") + "/v1"
        yield Endpoint(url, os.environ.get("ANTHROPIC_API_KEY", ""), name, window or OTHER_WINDOW)
    else:
        raise EndpointError(f"{model}: only local:, openai: and anthropic: models have an endpoint")


@contextmanager
def _local(name: str, window: int) -> Iterator[Endpoint]:
    path = next((entry.path for entry in lr.installed.local_models() if entry.name == name), None)
    if path is None or not path.is_file():
        raise EndpointError(f"local:{name} is not fetched; run: loop-runner models fetch {name}")
    settings = {"path": str(path), "window": window, "key": secrets.token_hex(16)}
    process = subprocess.Popen(_SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise EndpointError(f"the process with local:{name} did not start (exit code {process.wait()})")
        yield Endpoint(f"{json.loads(line)['url']}/v1", str(settings["key"]), name, window)
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()
