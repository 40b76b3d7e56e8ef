"""``codex-cli:MODEL``: one reply of the user's logged-in Codex, read-only and without its tools.

Owns the options and what the lines of ``codex exec --json`` mean. Of the user's ``config.toml`` only what
leads to the provider is used. ``codex-cli:default`` asks the model that the client chooses.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import TryAgain, reported_usage
from loop_runner.model.providers import client_program, logins, one_message
from loop_runner.model.providers.client_program import Ended, Lines
from loop_runner.records import Reply, Request, Usage
from loop_runner.text import one_line

_SYSTEM_FILE = "system.md"
_OPTIONS = (
    *("exec", "--json", "--sandbox", "read-only", "--skip-git-repo-check", "--ephemeral", "--color", "never"),
    *("--ignore-user-config", "--ignore-rules"),
)
_FEATURES = (
    *("apps", "browser_use", "code_mode_host", "computer_use", "daemon_auto_start", "goals", "hooks"),
    *("image_generation", "memories", "multi_agent", "plugins", "remote_plugin", "shell_tool", "sleep_tool"),
    *("tool_suggest", "unified_exec", "view_image"),
)
_SETTINGS: Mapping[str, object] = {
    "model_instructions_file": _SYSTEM_FILE,
    "project_doc_max_bytes": 0,
    "web_search": "disabled",
    "include_permissions_instructions": False,
    "include_environment_context": False,
    "include_apps_instructions": False,
    "skills.include_instructions": False,
    **{f"features.{name}": False for name in _FEATURES},
}
# What of the user's settings decides where requests go, with which login and with how much thought.
_KEPT = (
    *("chatgpt_base_url", "cli_auth_credentials_store", "forced_login_method", "model_provider"),
    *("model_reasoning_effort", "model_verbosity", "openai_base_url", "service_tier"),
)
_SECRET = ("experimental_bearer_token", "http_headers")  # they would be seen in the list of processes
_NO_RETRIES = {"request_max_retries": 0, "stream_max_retries": 0}
_STATUS = re.compile(r"\bstatus:? (\d{3})\b")
_ACCOUNT = re.compile(r"usage limit|out of credits|quota exceeded|spend cap|not logged in", re.IGNORECASE)
_SLOW_DOWN = re.compile(r"too many requests|rate limit|high demand|at capacity", re.IGNORECASE)
_MAY_PASS = re.compile(
    r"stream disconnected|error sending|timed? ?out|connection|reconnecting", re.IGNORECASE
)
_TOO_LONG = re.compile(r"context window|context_length_exceeded", re.IGNORECASE)


class CodexCliClient:
    """Starts the client once for each request. Several run at a time."""

    width = client_program.WIDTH

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self._label, self._model = f"codex-cli:{name}", () if name == "default" else ("-m", name)
        self._program = client_program.path_of("codex", env, "install Codex")
        self._settings = tuple(_as_options({**_SETTINGS, **_kept(env)}))
        self._env = env

    async def complete(self, request: Request) -> Reply:
        """The reply. Raises ``TryAgain`` for what may pass, ``ModelError`` for what will not."""
        message = one_message.of(request)
        ended = await client_program.run(
            (self._program, *_OPTIONS, *self._settings, *self._model, "-"),
            env=client_program.environment(self._env, {}),
            stdin="\n\n".join(message.parts),
            files={_SYSTEM_FILE: message.system},
            label=self._label,
            is_last=_is_last,
        )
        return self._reply(ended)

    async def close(self) -> None:
        """Nothing is left open: a cancelled request ends its process."""

    def _reply(self, ended: Ended) -> Reply:
        last = ended.events[-1] if ended.events else {}
        if last.get("type") == "turn.completed":
            return Reply(_text(ended.events), usage=_usage(last.get("usage")))
        if last.get("type") != "turn.failed":
            raise self._without_end(ended)
        fault = _message(last.get("error"))
        if _TOO_LONG.search(fault):
            return Reply("", "model_context_window_exceeded")
        raise self._refused(fault)

    def _without_end(self, ended: Ended) -> ModelError:
        message = f"{self._label}: the client gave no reply: {ended.last_error()}"
        if ended.exit_code is None or ended.exit_code < 0 or ended.events:
            return TryAgain(message, reason="the client gave no reply", paid=bool(ended.events))
        return ModelError(message, hint="update Codex: npm install -g @openai/codex")

    def _refused(self, fault: str) -> ModelError:
        message = f"{self._label}: {one_line(fault, 300)}"
        status = int(match[1]) if (match := _STATUS.search(fault)) else 0
        if _ACCOUNT.search(fault) or status in (401, 402, 403):
            hint = (
                "log in (`codex login`), or wait until the account's limit is reset; then: loop-runner resume"
            )
            return ModelError(message, hint=hint, ends_run=True)
        if status == 429 or _SLOW_DOWN.search(fault):
            return TryAgain(message, reason="rate limit", is_throttle=True)
        if status >= 500 or status in (408, 409) or _MAY_PASS.search(fault):
            return TryAgain(message, reason="the client could not ask its provider")
        return ModelError(
            message, hint="check the name of the model; `codex-cli:default` is the client's own"
        )


def _is_last(event: Mapping[str, Any]) -> bool:
    return event.get("type") in ("turn.completed", "turn.failed")


def _text(events: Lines) -> str:
    items = [event.get("item") for event in events if event.get("type") == "item.completed"]
    written = [item for item in items if isinstance(item, dict) and item.get("type") == "agent_message"]
    return "\n\n".join(item["text"] for item in written if isinstance(item.get("text"), str))


def _message(error: object) -> str:
    """The text of an error; a refusal of the provider is JSON inside it."""
    text = str(error.get("message", "")) if isinstance(error, dict) else ""
    try:
        inner = json.loads(text)["error"]["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return text or "it names no reason"
    return str(inner)


def _usage(given: object) -> Usage:
    """Codex counts what the cache read and wrote as a part of the input."""
    usage = given if isinstance(given, dict) else {}
    read, written = usage.get("cached_input_tokens"), usage.get("cache_write_input_tokens")
    result = reported_usage(usage.get("input_tokens"), usage.get("output_tokens"), read, written)
    rest = result.input_tokens - max(result.cache_read_tokens, 0) - max(result.cache_write_tokens, 0)
    return Usage(
        max(rest, min(result.input_tokens, 0)),
        result.output_tokens,
        result.cache_read_tokens,
        result.cache_write_tokens,
    )


# ── the user's settings ─────────────────────────────────────────────────────────────────────────────


def _kept(env: Mapping[str, str]) -> dict[str, object]:
    """What leads to the user's provider. Raises ``ConfigError`` when it has secrets that would be shown."""
    path = logins.codex_home(env) / "config.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read: {one_line(str(error), 200)}",
            why="it says which provider Codex asks",
            hint="correct the file: codex reads it, too",
        ) from error
    kept: dict[str, object] = {name: given[name] for name in _KEPT if name in given}
    name = given.get("model_provider")
    providers = given.get("model_providers")
    if isinstance(name, str) and isinstance(providers, dict) and isinstance(providers.get(name), dict):
        if secret := next((key for key in _SECRET if key in providers[name]), None):
            raise ConfigError(
                f"{path}: {secret} of the provider {name!r} cannot be used here",
                why="it would be visible in the list of processes",
                hint="name the environment variable that holds it: env_key, or env_http_headers",
            )
        kept["model_providers"] = {name: {**providers[name], **_NO_RETRIES}}
    return kept


def _as_options(settings: Mapping[str, object]) -> Iterator[str]:
    for name, value in settings.items():
        yield from ("-c", f"{name}={_toml(value)}")


def _toml(value: object) -> str:
    """A value as TOML writes it in one line. JSON's texts, numbers and truth values are TOML's, too."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, default=str)
