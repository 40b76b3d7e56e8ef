"""--estimate: what is read and paid for at least, with nothing sent and nothing created."""

import json
import os
import shutil
from pathlib import Path

import pytest

from loop_runner.audit import estimate as of_audits
from loop_runner.errors import ConfigError
from loop_runner.runs import estimate
from loop_runner.task import config
from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task

EXAMPLE = Path(__file__).parents[2] / "examples" / "audit"
KEY = {"ANTHROPIC_API_KEY": "sk-none-000000000000"}


def estimated(folder, env=KEY, **keys):
    keys = {"model": "anthropic:claude-sonnet-5-5", **keys}
    return estimate.of_task(config.read_task(write_task(folder, root=[ready("42")], **keys)), env)


def test_a_session_needs_one_request_and_says_what_it_may_use(tmp_path):
    result = estimated(tmp_path, budget={"passes": 3, "turns": 4, "usd": 2})
    (row,) = result.rows
    assert (row.requests, row.model, result.texts) == (1, "anthropic:claude-sonnet-5-5", 1)
    assert row.usd == pytest.approx((row.input_tokens * 2 + row.output_tokens * 10) / 1e6)
    assert result.limits == "3 passes of 4 turns, 2 US dollars"


@pytest.mark.parametrize("session", ["direct", "auto"])
def test_texts_that_the_model_is_given_whole_are_counted(tmp_path, session):
    texts = {"a.txt": "word " * 4000}
    whole = estimated(tmp_path / "a", session=session, texts=texts)
    searched = estimated(tmp_path / "b", texts=texts)
    assert whole.session == "direct"
    assert whole.rows[0].input_tokens - searched.rows[0].input_tokens > 4000


@pytest.mark.parametrize(
    ("verifier", "requests"),
    [
        ({"judge": {"rubric": "rubric.md", "votes": 5, "threshold": 0.6}}, 3),
        ({"judge": {"rubric": "rubric.md", "votes": 3}}, 2),
        ({"judge": "rubric.md"}, 1),
        ({"agreement": {"replies": 3}}, 3),
        ({"all": [{"judge": "rubric.md"}, {"contains": "x"}]}, 1),
        ({"contains": "42"}, 0),
    ],
)
def test_what_verifiers_ask_is_counted(tmp_path, verifier, requests):
    (tmp_path / "rubric.md").write_text("Is it good?")
    result = estimated(tmp_path, verifiers=[verifier])
    assert result.requests == 1 + requests


def test_an_unknown_price_is_unknown(tmp_path):
    result = estimated(tmp_path, {"OPENAI_API_KEY": "sk-none-000000000000"}, model="openai:nobody-knows-it")
    assert result.usd is None
    assert result.rows[0].usd is None


def test_what_a_run_would_refuse_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        estimated(tmp_path, model="nonsense")


def test_the_command_sends_nothing_and_creates_nothing(tmp_path, model_server):
    task = write_task(tmp_path, root=[ready("42")], model="anthropic:claude-sonnet-5-5")
    before = sorted(os.listdir(tmp_path))
    env = {**KEY, "ANTHROPIC_BASE_URL": model_server.url}
    done = loop_runner("run", str(task), "--estimate", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][0]["requests"] == 1
    assert model_server.requests == []
    assert sorted(os.listdir(tmp_path)) == before


def test_an_audit_asks_exactly_the_questions_that_were_counted(tmp_path, monkeypatch):
    """And none, once they are paid for."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLE, tmp_path / "audit")
    paths, rules = [Path("audit/code")], Path("audit/rules.yaml")

    def count():
        return of_audits.of_audit(paths, rules, {}, model="script:script.yaml").requests

    counted = count()
    argv = ["audit", "audit/code", "--rules", "audit/rules.yaml", "--model", "script:script.yaml"]
    done = loop_runner(*argv, "-q", "--fail-on", "never", "--runs", "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    calls = [json.loads(line) for path in run.rglob("calls.jsonl") for line in path.read_text().splitlines()]
    first = [call for call in calls if call["kind"] == "sub"]
    assert 0 < counted <= len(first)  # a reply that leaves a place out is asked about again
    assert count() == 0
