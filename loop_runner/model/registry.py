"""From a model id (``provider:name``) to a client, and from an environment to a default model.

Owns the provider table. Relies on ``catalog`` for every name of a model. Clients are imported when they are
asked for; making one checks what can be checked without a request and starts nothing.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from loop_runner.errors import ConfigError
from loop_runner.model import catalog
from loop_runner.model.catalog import Facts
from loop_runner.model.client import ModelClient

_Maker = Callable[[str, Path, Mapping[str, str]], ModelClient]


def client_for(model_id: str, *, base_dir: Path, env: Mapping[str, str] | None = None) -> ModelClient:
    """The client for ``model_id``; a path in it is relative to ``base_dir``.

    ``env`` holds keys and addresses (None: the process's own). Raises ``ConfigError`` for an unknown id or
    a missing key, ``ModelError`` for a local model that is not there. Nothing is started or sent.
    """
    provider, name = split(model_id)
    return _MAKERS[provider](name, base_dir, os.environ if env is None else env)


def check(model_id: str, *, base_dir: Path, env: Mapping[str, str] | None = None) -> None:
    """Raise what ``client_for`` would raise, so that a run can refuse before it creates anything."""
    client_for(model_id, base_dir=base_dir, env=env)


def split(model_id: str) -> tuple[str, str]:
    """``"local:coder"`` → ``("local", "coder")``. Raises ``ConfigError`` that names the nearest provider."""
    provider, colon, name = model_id.partition(":")
    if not colon or not name:
        raise ConfigError(
            f"{model_id!r} is not a model id",
            why="a model id is PROVIDER:NAME, so that nothing has to guess who answers",
            hint=_suggestion(model_id.rstrip(":")),
        )
    if provider not in _MAKERS:
        near = difflib.get_close_matches(provider, _MAKERS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}:{name}?" if near else f"providers: {', '.join(_MAKERS)}"
        raise ConfigError(
            f"there is no provider {provider!r} (in the model id {model_id!r})",
            why="the provider says who is asked, and how",
            hint=hint,
        )
    return provider, name


def default_model(env: Mapping[str, str]) -> str:
    """The root model when nobody names one: whose key is in ``env``, else the local one if it is fetched."""
    known = catalog.load()
    for provider in known.providers.values():
        if provider.root and any(env.get(key) for key in provider.keys):
            return f"{provider.name}:{provider.root}"
    from loop_runner.model import fetch

    local = known.providers["local"].root
    if fetch.is_fetched(local, fetch.models_dir(env)):
        return f"local:{local}"
    raise ConfigError(
        "no model: no --model was given, no provider's key is set, and no local model is fetched",
        why="somebody has to answer",
        hint=f"export ANTHROPIC_API_KEY=..., or run: loop-runner models fetch {local}",
    )


def default_sub_model(root_model: str) -> str:
    """The sub-model that goes with ``root_model``: its provider's cheaper one, else the same model."""
    provider, _ = split(root_model)
    entry = catalog.load().providers[provider]
    return f"{provider}:{entry.sub}" if entry.sub and root_model == f"{provider}:{entry.root}" else root_model


def facts(model_id: str) -> Facts:
    """Window, reply size and prompt profile of ``model_id``."""
    provider, name = split(model_id)
    return catalog.load().providers[provider].facts_of(name)


def profile_name(model_id: str) -> str:
    """The prompt profile ("standard" or "local") that suits ``model_id``."""
    return facts(model_id).profile


def window_tokens(model_id: str) -> int:
    """How many tokens of prompt and reply together ``model_id`` takes."""
    return facts(model_id).window_tokens


def _suggestion(text: str) -> str:
    """What somebody who wrote ``text`` without a provider most likely meant."""
    known = catalog.load()
    ids = {name: f"local:{name}" for name in known.fetchable}
    for provider in known.providers.values():
        names = (provider.root, provider.sub, *provider.by_prefix)
        ids.update({name: f"{provider.name}:{name}" for name in names if name and provider.name != "local"})
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


def _anthropic(name: str, _base_dir: Path, env: Mapping[str, str]) -> ModelClient:
    from loop_runner.model.anthropic_client import AnthropicClient

    return AnthropicClient(name, env)


def _openai(name: str, _base_dir: Path, env: Mapping[str, str]) -> ModelClient:
    from loop_runner.model.openai_compatible import OpenAICompatibleClient

    return OpenAICompatibleClient.from_environment(name, env)


def _local(name: str, base_dir: Path, env: Mapping[str, str]) -> ModelClient:
    from loop_runner.model import fetch, local

    return local.client(name, base_dir=base_dir, models_dir=fetch.models_dir(env))


def _script(name: str, base_dir: Path, _env: Mapping[str, str]) -> ModelClient:
    from loop_runner.model.script import ScriptClient, read_script

    return ScriptClient(read_script(base_dir / name))


_MAKERS: dict[str, _Maker] = {
    "anthropic": _anthropic,
    "openai": _openai,
    "local": _local,
    "script": _script,
}
