"""``loop-runner fleet``: what a person types, sees and gets."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from loop_runner.fleet import ci
from tests.fleet.test_worker import make, opened
from tests.support.commands import loop_runner

pytestmark = pytest.mark.slow


def fleet(folder, *args, code=0):
    ended = loop_runner("fleet", *args, cwd=folder)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_shards_without_an_engine_give_the_results_of_one_run(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        make(folder, jobs=4)
    summary = json.loads(fleet(whole, "run", "fleet.yaml", "--json"))
    assert summary["counts"] == {"verified": 4}
    for shard in range(3):
        fleet(parts, "run", "fleet.yaml", "--shard", f"{shard}/3", "-q")
    assert (whole / "results.jsonl").read_bytes() == (parts / "results.jsonl").read_bytes()
    assert [json.loads(line)["answer"] for line in (whole / "results.jsonl").read_text().splitlines()] == [
        *("8000", "8001", "8002", "8003")
    ]
    assert "4 jobs: 4 verified" in fleet(whole, "status", "fleet.yaml")
    assert "no worker holds a job" in fleet(whole, "workers", "fleet.yaml")
    assert "pages/index.html: 1 run of 4 jobs" in fleet(
        whole, "report", "fleet.yaml", "-o", "pages", "--only", "*doc2*"
    )
    (page,) = (whole / "pages/runs").iterdir()
    assert "8002" in page.read_text()
    assert page.name in (whole / "pages/index.html").read_text()


def test_a_job_that_failed_is_named_with_its_reason_and_can_be_tried_again(tmp_path):
    wrong = "```python\nanswer['content'] = 'no idea'\nanswer['ready'] = True\n```"
    path = make(tmp_path, jobs=1, replies=[wrong])
    task = yaml.safe_load((tmp_path / "task.yaml").read_text()) | {"budget": {"passes": 1}}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    out = fleet(tmp_path, "run", path.name, "-q", code=3)
    assert "1 job: 1 unverified" in out
    assert "1 job will be run again" in fleet(tmp_path, "retry", path.name, "--failed")
    right = "```python\nanswer['content'] = '8000'\nanswer['ready'] = True\n```"
    (tmp_path / "script.yaml").write_text(yaml.safe_dump({"root": [wrong, right]}))
    assert "1 job: 1 verified" in fleet(tmp_path, "run", path.name, "-q")


def test_jobs_are_paused_and_resumed_by_pattern(tmp_path):
    path = make(tmp_path)
    assert "1 job paused" in fleet(tmp_path, "pause", path.name, "--only", "*doc0*")
    assert "0 jobs paused" in fleet(tmp_path, "pause", path.name, "--only", "*doc0*")
    assert "1 paused, 1 waiting" in fleet(tmp_path, "status", path.name)
    assert "1 job no longer paused" in fleet(tmp_path, "resume", path.name)


def test_jobs_are_stopped_by_pattern_and_only_the_others_get_a_note(tmp_path):
    path = make(tmp_path)
    assert "1 job stopped" in fleet(tmp_path, "stop", path.name, "--only", "*doc0*")
    assert "0 jobs stopped" in fleet(tmp_path, "stop", path.name, "--only", "*doc0*")
    assert "1 job will be given the note" in fleet(tmp_path, "note", path.name, "mind the annexes")
    assert "1 stopped, 1 waiting" in fleet(tmp_path, "status", path.name)
    _, store = opened(path)
    assert [kept.state.notes for kept in store.states().values()] == [(), ("mind the annexes",)]
    assert "1 job will be run again" in fleet(tmp_path, "retry", path.name, "--failed")
    assert "2 waiting" in fleet(tmp_path, "status", path.name)


@pytest.mark.parametrize("text", ["", " ", "x" * 16_001])
def test_a_note_that_no_model_could_be_given_is_refused(tmp_path, text):
    fleet(tmp_path, "note", make(tmp_path).name, text, code=2)
    assert not (tmp_path / "store").exists()


def test_a_plan_lists_the_jobs_and_the_most_that_they_cost_and_starts_nothing(tmp_path):
    path = make(tmp_path, budget={"usd": 3, "per_job": {"usd": 2}})
    out = fleet(tmp_path, "plan", path.name)
    assert "ports: 2 jobs, 4 at a time" in out
    assert "at most $4 for all of them; the fleet stops at $3" in out
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("kind", ["github", "gitlab", "k8s"])
def test_a_file_for_another_scheduler_is_yaml_that_runs_every_shard(tmp_path, kind):
    path = make(tmp_path)
    text = fleet(tmp_path, "ci", kind, path.name, "--shards", "3")
    assert yaml.safe_load(text)
    assert "fleet run fleet.yaml --shard" in text


def test_an_array_script_runs_every_shard(tmp_path):
    text = fleet(tmp_path, "ci", "slurm", make(tmp_path).name, "--shards", "3")
    assert text.startswith("#!/bin/bash")
    assert "--array=0-2" in text


NAMES = ("fleet.yaml", "a b.yaml", "it's.yaml", "a: b #c.yaml", 'say "x".yaml', "é$HOME.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_for_another_scheduler_runs_the_fleet_whatever_its_name_is(name):
    path = Path(name)
    jobs = yaml.safe_load(ci.github(path, 3))["jobs"]
    (container,) = yaml.safe_load(ci.k8s(path, 3))["spec"]["template"]["spec"]["containers"]
    lines = [
        jobs["shard"]["steps"][-1]["run"],
        *yaml.safe_load(ci.gitlab(path, 3))["fleet"]["script"][-1:],
        *container["args"],
        ci.slurm(path, 3).splitlines()[-1],
    ]
    assert [shlex.split(line)[:4] for line in lines] == [["loop-runner", "fleet", "run", name]] * 4
    results = jobs["results"]["steps"][-1]["run"]
    assert shlex.split(results) == ["loop-runner", "fleet", "results", name]


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "0/0", "1/2/3", ""])
def test_a_shard_that_is_none_is_refused(tmp_path, shard):
    fleet(tmp_path, "run", make(tmp_path).name, "--shard", shard, code=2)


@pytest.mark.parametrize("executor", ["spark", "dask-local:0", "dask-local:x", "dask:host"])
def test_an_executor_that_is_unknown_is_refused_with_those_that_are_known(tmp_path, executor):
    fleet(tmp_path, "run", make(tmp_path).name, "--executor", executor, code=2)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_models_answer_cannot_become_a_formula_of_a_spreadsheet(tmp_path, suffix):
    reply = "```python\nanswer['content'] = '=8000'\nanswer['ready'] = True\n```"
    path = make(tmp_path, jobs=1, replies=[reply], results=f"results{suffix}")
    task = yaml.safe_load((tmp_path / "task.yaml").read_text()) | {"verifiers": [{"contains": "8000"}]}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    fleet(tmp_path, "run", path.name, "-q")
    text = (tmp_path / f"results{suffix}").read_text()
    assert ("'=8000" in text) == (suffix == ".csv")


def test_a_changed_task_or_job_is_refused_and_nothing_is_lost(tmp_path):
    path = make(tmp_path, jobs=1)
    fleet(tmp_path, "run", path.name, "-q")
    before = (tmp_path / "results.jsonl").read_bytes()
    source = (tmp_path / "task.yaml").read_text()
    (tmp_path / "task.yaml").write_text(source + "# another\n")
    fleet(tmp_path, "run", path.name, code=2)
    (tmp_path / "task.yaml").write_text(source)
    _, store = opened(path)
    name = next(iter(store.states()))
    jobs = [{"name": name, "path": "in/other.txt"}]
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"jobs": jobs}))
    fleet(tmp_path, "run", path.name, code=2)
    assert (tmp_path / "results.jsonl").read_bytes() == before
