"""The real Codex and Claude Code, with the service as their provider."""

import json

import pytest

from loop_runner.serve.service_settings import Settings
from tests.support.service import ALICE, in_thread, write_models


@pytest.fixture
def service(tmp_path, monkeypatch):
    for name, value in write_models(tmp_path / "tasks").items():
        monkeypatch.setenv(name, value)
    with in_thread(Settings(runs=tmp_path / "runs", tasks=tmp_path / "tasks", port=0)) as running:
        yield running


def codex_config(place, service, model):
    (place.folder / "home" / ".codex" / "config.toml").write_text(
        f'model = "{model}"\nmodel_provider = "lr"\n[model_providers.lr]\nname = "lr"\n'
        f'base_url = "{service.url}/v1"\nwire_api = "responses"\nenv_key = "DUMMY_KEY"\n'
    )
    return {"DUMMY_KEY": ALICE}


def test_codex_shows_the_verified_answer_of_a_run(place, codex, service):
    env = codex_config(place, service, "good")
    command = [codex, "exec", "--skip-git-repo-check", "--json", "-"]
    done = place.call(command, stdin="What is the answer?", env=env, timeout=180)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    reply_text = [
        event["item"]["text"] for event in events if event.get("item", {}).get("type") == "agent_message"
    ]
    assert (done.returncode, reply_text) == (0, ["It is 42."]), done.stderr + done.stdout
    assert {run["state"] for run in service.get("/v1/runs")["data"]} == {"verified"}


def test_codex_does_not_take_an_unverified_answer_for_a_complete_one(place, codex, service):
    env = codex_config(place, service, "wrong")
    command = [codex, "exec", "--skip-git-repo-check", "--json", "-"]
    done = place.call(command, stdin="What is the answer?", env=env, timeout=180)
    assert done.returncode != 0 or "turn.failed" in done.stdout, done.stdout
    assert len(service.get("/v1/runs")["data"]) == 1, "its retries attach to the same run"


def claude_env(service):
    return {
        "ANTHROPIC_BASE_URL": service.url,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_AUTH_TOKEN": ALICE,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "good",
    }


def test_claude_code_shows_the_verified_answer_of_a_run(place, claude, service):
    command = [claude, "-p", "What is the answer?", "--model", "good", "--output-format", "json"]
    done = place.call(command, env=claude_env(service), timeout=180)
    result = json.loads(done.stdout)
    assert (done.returncode, result["is_error"], result["result"]) == (0, False, "It is 42."), done.stderr
    assert {run["state"] for run in service.get("/v1/runs")["data"]} == {"verified"}
