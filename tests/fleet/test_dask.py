"""A fleet on a real Dask cluster of two processes."""

import json

import pytest

from tests.fleet.test_commands import fleet
from tests.fleet.test_worker import make

pytest.importorskip("distributed", reason="the extra dask is not installed")
pytestmark = pytest.mark.slow


def test_a_dask_cluster_runs_every_job_and_gives_the_results_of_one_machine(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        make(folder)
    fleet(here, "run", "fleet.yaml", "-q")
    summary = json.loads(fleet(there, "run", "fleet.yaml", "--executor", "dask-local:2", "--json"))
    assert summary["counts"] == {"verified": 2}
    assert (here / "results.jsonl").read_bytes() == (there / "results.jsonl").read_bytes()


def test_a_scheduler_that_cannot_be_reached_is_said_to_be_so(tmp_path):
    make(tmp_path)
    fleet(tmp_path, "run", "fleet.yaml", "--executor", "dask://127.0.0.1:9", code=4)
