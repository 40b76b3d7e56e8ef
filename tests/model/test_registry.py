"""From a model id to a client; from an environment to a default."""

from pathlib import Path

import pytest

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model import catalog, registry
from loop_runner.model.providers.script import ScriptClient


@pytest.mark.parametrize(
    ("model_id", "hint"),
    [
        ("coder", "did you mean local:coder?"),
        ("claude-sonet-5-5", "did you mean anthropic:claude-sonnet-5-5?"),
        ("anthropic", "did you mean anthropic:NAME?"),
        ("scrip:", "did you mean script:NAME?"),
        ("antropic:claude-x", "did you mean anthropic:claude-x?"),
        ("zzz:claude-x", "providers: anthropic, anthropic-batch, openai, local, manual, script"),
        ("", "for example local:coder"),
    ],
)
def test_an_id_that_names_no_provider_gets_the_nearest_one_named(model_id: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.check(model_id, base_dir=Path())
    assert hint in caught.value.hint


def test_a_script_is_read_relative_to_the_task(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("root: [hi]")
    assert isinstance(registry.client_for("script:r.yaml", base_dir=tmp_path, env={}), ScriptClient)
    with pytest.raises(ConfigError, match="there is no script file"):
        registry.check("script:other.yaml", base_dir=tmp_path, env={})


@pytest.mark.parametrize(
    ("env", "model"),
    [
        ({"ANTHROPIC_API_KEY": "k"}, "anthropic:claude-sonnet-5-5"),
        ({"ANTHROPIC_AUTH_TOKEN": "k", "OPENAI_API_KEY": "k"}, "anthropic:claude-sonnet-5-5"),
        ({"OPENAI_API_KEY": "k"}, "openai:gpt-5.4"),
    ],
)
def test_the_default_is_the_provider_whose_key_is_set(env: dict[str, str], model: str) -> None:
    assert registry.default_model(env) == model


def test_without_a_key_the_default_is_the_fetched_local_model(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with (models / "coder.gguf").open("wb") as file:
        file.truncate(catalog.load().fetchable["coder"].size_bytes)
    assert registry.default_model({"LOOP_RUNNER_CACHE": str(tmp_path)}) == "local:coder"


def test_with_nothing_the_two_commands_that_help_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.default_model({"LOOP_RUNNER_CACHE": str(tmp_path), "ANTHROPIC_API_KEY": ""})
    assert "export ANTHROPIC_API_KEY" in caught.value.hint
    assert "loop-runner models fetch coder" in caught.value.hint


def test_a_root_model_brings_its_familys_cheaper_sub_model_and_an_unknown_one_itself() -> None:
    assert registry.default_sub_model("anthropic:claude-sonnet-5-5") == "anthropic:claude-haiku-5-5"
    assert registry.default_sub_model("anthropic:claude-opus-5-5") == "anthropic:claude-haiku-5-5"
    assert registry.default_sub_model("openai:qwen3-coder") == "openai:qwen3-coder"
    assert registry.default_sub_model("local:coder") == "local:coder"


def test_facts_come_from_the_longest_prefix() -> None:
    assert registry.window_tokens("anthropic:claude-sonnet-5-5") == 1_000_000
    assert registry.window_tokens("anthropic:claude-sonnet-4-5") == 200_000
    assert registry.profile_name("local:coder") == "local"
    assert registry.profile_name("script:x.yaml") == "standard"


def test_a_local_model_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    env = {"LOOP_RUNNER_CACHE": str(tmp_path)}
    with pytest.raises(ModelError, match="local:coder is not fetched yet") as missing:
        registry.check("local:coder", base_dir=tmp_path, env=env)
    assert missing.value.hint == "loop-runner models fetch coder"
    with pytest.raises(ConfigError, match="there is no local model 'codr'"):
        registry.check("local:codr", base_dir=tmp_path, env=env)
    with pytest.raises(ConfigError, match="there is no model file"):
        registry.check("local:own.gguf", base_dir=tmp_path, env=env)
    (tmp_path / "own.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="is not a GGUF file"):
        registry.check("local:own.gguf", base_dir=tmp_path, env=env)


def test_every_fact_in_the_catalog_is_filled_in() -> None:
    known = catalog.load()
    assert set(known.providers) == set(registry._MAKERS)
    for provider in known.providers.values():
        for facts in (provider.facts, *provider.by_prefix.values()):
            assert 0 < facts.max_output_tokens < facts.window_tokens
            assert facts.profile in ("standard", "local")
    pieces = known.fetchable["coder"].slices
    assert len({piece.sha256 for piece in pieces}) == len(pieces) == 22
