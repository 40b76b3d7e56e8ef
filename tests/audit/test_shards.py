"""Parts of an audit: together they are the audit, and the audit after them pays for nothing."""

import json
from pathlib import Path

import pytest

from loop_runner.audit import shards
from loop_runner.audit.run import run
from loop_runner.errors import ConfigError
from loop_runner.fleet.audit_shards import run_shards

pytestmark = pytest.mark.slow

MODEL = "script:script.yaml"
FILES = {f"src/shop{number}.py": "def get(items=[]):\n    return items\n" for number in range(5)}


@pytest.fixture
def env(project, monkeypatch):
    for name, text in FILES.items():
        (project.folder / name).write_text(text)
    monkeypatch.chdir(project.folder)
    return {"LOOP_RUNNER_STATE": str(project.folder.parent / "state")}


def audit(env, **options):
    return run([Path("src")], Path("rules.yaml"), env, **{"model": MODEL, **options})


def findings_of(result):
    return {(finding.rule, finding.file, finding.line) for finding in result.report.findings}


def questions_sent(result):
    """How many questions the run of an audit sent."""
    lines = [
        line for path in Path(result.about.run).rglob("calls.jsonl") for line in path.read_text().splitlines()
    ]
    return sum(json.loads(line)["kind"] != "root" for line in lines)


def test_the_parts_together_find_what_the_whole_finds_and_the_whole_then_asks_nothing(env):
    parts = [audit(env, shard=shards.Shard(index, 3)) for index in range(3)]
    assert len({part.about.category for part in parts}) == 3
    assert sum(questions_sent(part) for part in parts) > 0
    merged = audit(env)
    assert questions_sent(merged) == 0
    alone = audit(env, runs_folder=Path("other"), settings=[("budget.passes", 4)])
    assert set().union(*map(findings_of, parts)) == findings_of(merged) == findings_of(alone)
    assert sum(len(part.report.findings) for part in parts) == len(alone.report.findings)
    assert merged.report.findings == alone.report.findings


def test_a_part_leaves_the_entries_of_the_other_parts_in_the_baseline(env):
    known = Path("known.json")
    audit(env, baseline_file=known, write_baseline=True)
    before = json.loads(known.read_text())
    for index in range(2):
        result = audit(env, baseline_file=known, write_baseline=True, shard=shards.Shard(index, 2))
        assert result.exit_code == 0
    assert json.loads(known.read_text()) == before


def test_a_part_without_files_says_so_and_passes(env):
    names = [path.as_posix() for path in Path("src").rglob("*.py")]
    parts = [shards.Shard(index, 64) for index in range(64)]
    empty = next(part for part in parts if not any(map(part.holds, names)))
    result = audit(env, shard=empty)
    assert (result.exit_code, result.report.findings) == (0, ())
    assert f"shard {empty}" in result.about.reason


def test_every_file_is_in_one_part():
    names = [f"src/{number}.py" for number in range(500)]
    sizes = [sum(shards.Shard(index, 4).holds(name) for name in names) for index in range(4)]
    assert sum(sizes) == 500
    assert min(sizes) > 90


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/3", "a/b", "0/0", "1/2/3", "0/65", "\u0661/3"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ConfigError, match="--shard"):
        shards.parse(text)


def test_a_cluster_judges_the_parts_and_names_those_that_failed(project, env, monkeypatch):
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv("LOOP_RUNNER_STATE", env["LOOP_RUNNER_STATE"])
    command = ["--model", MODEL, "--rules", "rules.yaml", "--", "src"]
    assert list(run_shards("dask-local:2", command)) == []
    assert len(project.runs()) == 2
    merged = audit(env)
    assert questions_sent(merged) == 0
    assert len(merged.report.findings) >= len(FILES)
    problems = list(run_shards("dask-local:1", ["--rules", "none.yaml", "--", "src"]))
    assert len(problems) == 1
    assert "none.yaml" in problems[0]
