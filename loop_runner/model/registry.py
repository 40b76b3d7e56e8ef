"""From a model id (``provider:name``) to a client, and from an environment to a default model.

Owns the provider table. Relies on ``catalog`` for every name of a model. Clients are imported when they are
asked for; making one checks what can be checked without a request and starts nothing.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from loop_runner import plugins
from loop_runner.errors import ConfigError
from loop_runner.model import catalog
from loop_runner.model.catalog import Facts, Provider
from loop_runner.model.client import ModelClient, Setting

Maker = Callable[[str, Setting], ModelClient]
"""Makes the client for a model's name; what an entry point of ``loop_runner.providers`` is."""


def client_for(
    model_id: str, *, base_dir: Path, env: Mapping[str, str] | None = None, setting: Setting | None = None
) -> ModelClient:
    """The client for ``model_id``; a path in it is relative to ``base_dir``.

    ``env`` holds keys and addresses (None: the process's own); ``setting`` says it all and more.
    Raises ``ConfigError`` for an unknown id or a missing key, ``ModelError`` for a local model that is not
    there. Nothing is started or sent.
    """
    provider, name = split(model_id)
    make = _MAKERS.get(provider) or plugins.load(plugins.PROVIDERS, provider)
    return make(name, setting or Setting(base_dir, os.environ if env is None else env))


def check(model_id: str, *, base_dir: Path, env: Mapping[str, str] | None = None) -> None:
    """Raise what ``client_for`` would raise, so that a run can refuse before it creates anything."""
    client_for(model_id, base_dir=base_dir, env=env)


def split(model_id: str) -> tuple[str, str]:
    """``"local:coder"`` → ``("local", "coder")``. Raises ``ConfigError`` that names the nearest provider."""
    provider, colon, name = model_id.partition(":")
    if not colon or not name:
        raise ConfigError(
            f"{model_id!r} is not a model id",
            why="a model id is PROVIDER:NAME, so that the provider is never guessed",
            hint=_suggestion(model_id.rstrip(":")),
        )
    if provider not in _MAKERS and provider not in plugins.find(plugins.PROVIDERS):
        known = (*_MAKERS, *plugins.find(plugins.PROVIDERS))
        near = difflib.get_close_matches(provider, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}:{name}?" if near else f"providers: {', '.join(known)}"
        raise ConfigError(
            f"there is no provider {provider!r} (in the model id {model_id!r})",
            why="the provider decides which API is called, and how",
            hint=hint,
        )
    return provider, name


def default_model(env: Mapping[str, str]) -> str:
    """The root model when nobody names one: by a key in ``env``, else the local one, else a user's client."""
    if with_key := default_with_key(env):
        return with_key
    from loop_runner.model.providers import fetch, logins

    local = catalog.load().providers["local"].root
    if fetch.is_fetched(local, fetch.models_dir(env)):
        return f"local:{local}"
    if client := logins.provider(env):
        return f"{client}:{_entry(client).root}"
    raise ConfigError(
        "no model: none is named, no key is set, no local model is fetched, and no client is logged in",
        why="a run needs a model",
        hint=f"export ANTHROPIC_API_KEY=..., or run: loop-runner models fetch {local}; "
        "or log in with Claude Code or Codex",
    )


def default_sub_model(root_model: str) -> str:
    """The sub-model that goes with ``root_model``: its provider's cheaper one, else the same model."""
    provider, name = split(root_model)
    entry = _entry(provider)
    return f"{provider}:{entry.sub}" if entry.sub and entry.is_family(name) else root_model


def lacks_key(model_id: str, env: Mapping[str, str]) -> bool:
    """Whether the provider of ``model_id`` takes a key and ``env`` has none: the cause of a refused check."""
    keys = _entry(split(model_id)[0]).keys
    return bool(keys) and not any(env.get(key) for key in keys)


def default_with_key(env: Mapping[str, str]) -> str | None:
    """The root model of the provider whose key is in ``env``; None without one."""
    known = catalog.load().providers.values()
    usable = (
        provider
        for provider in known
        if provider.root and any(env.get(key, "").strip() for key in provider.keys)
    )
    return next((f"{provider.name}:{provider.root}" for provider in usable), None)


def facts(model_id: str) -> Facts:
    """Window, reply size and prompt profile of ``model_id``."""
    provider, name = split(model_id)
    return _entry(provider).facts_of(name)


def _entry(provider: str) -> Provider:
    """What is known of ``provider``; a careful guess for one that another package adds."""
    return catalog.load().providers.get(provider) or catalog.unknown(provider)


def profile_name(model_id: str) -> str:
    """The prompt profile ("standard" or "local") that suits ``model_id``."""
    return facts(model_id).profile


def window_tokens(model_id: str) -> int:
    """How many tokens of prompt and reply together ``model_id`` takes."""
    return facts(model_id).window_tokens


def _suggestion(text: str) -> str:
    """The model id that ``text``, written without a provider, most likely means."""
    known = catalog.load()
    ids = {name: f"local:{name}" for name in known.fetchable}
    for provider in known.providers.values():
        names = (provider.root, provider.sub, *provider.by_prefix)
        named = {name: f"{provider.name}:{name}" for name in names if name and provider.name != "local"}
        ids = named | ids  # the first provider of a model is the one to suggest
    near = difflib.get_close_matches(text, ids, n=1, cutoff=0.5)
    if near:
        return f"did you mean {ids[near[0]]}?"
    near = difflib.get_close_matches(text, _MAKERS, n=1, cutoff=0.5)
    return (
        f"did you mean {near[0]}:NAME?"
        if near
        else "for example local:coder; providers: " + ", ".join(_MAKERS)
    )


# ── the provider table ──────────────────────────────────────────────────────────────────────────────


def _anthropic(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.anthropic_client import AnthropicClient

    return AnthropicClient(name, setting.env)


def _anthropic_batch(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.anthropic_batch import AnthropicBatchClient

    return AnthropicBatchClient(name, setting)


def _openai(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.openai_compatible import OpenAICompatibleClient

    return OpenAICompatibleClient.from_environment(name, setting.env)


def _local(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers import fetch, local

    return local.client(
        name, base_dir=setting.base_dir, models_dir=fetch.models_dir(setting.env), tell=setting.tell
    )


def _manual(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.manual import ManualClient

    return ManualClient(setting.base_dir / name, setting)


def _script(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.script import ScriptClient, read_script

    return ScriptClient(read_script(setting.base_dir / name))


def _claude_cli(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.claude_cli import ClaudeCliClient

    return ClaudeCliClient(name, setting.env)


def _codex_cli(name: str, setting: Setting) -> ModelClient:
    from loop_runner.model.providers.codex_cli import CodexCliClient

    return CodexCliClient(name, setting.env)


def _program(name: str, _: Setting) -> ModelClient:
    from loop_runner.model.providers.program import ProgramClient

    return ProgramClient(name)


_MAKERS: dict[str, Maker] = {
    "anthropic": _anthropic,
    "anthropic-batch": _anthropic_batch,
    "openai": _openai,
    "local": _local,
    "manual": _manual,
    "script": _script,
    "program": _program,
    "claude-cli": _claude_cli,
    "codex-cli": _codex_cli,
}
