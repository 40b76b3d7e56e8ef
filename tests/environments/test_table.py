"""In every odd environment a job works, or ends with 2 or 4 and names what is at fault. Never 5.

`make test` takes a sample, one job in each environment; `make test-environments` does them all.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments import places
from tests.environments.table import TABLE, Environment
from tests.support.machines import can_mount

_ALL = bool(os.environ.get("LOOP_RUNNER_EVERY_ENVIRONMENT"))


def _cases() -> Iterator[tuple[Environment, str]]:
    for number, environment in enumerate(TABLE):
        jobs = environment.jobs if _ALL else [environment.jobs[number % len(environment.jobs)]]
        yield from ((environment, job) for job in jobs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "made"
    places.make(folder)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Iterator[places.Place]:
    yield places.copy(made, tmp_path / "place")
    shutil.rmtree(tmp_path / "place", ignore_errors=True)


@pytest.mark.parametrize(
    ("environment", "job"), [pytest.param(*case, id=f"{case[0].name}-{case[1]}") for case in _cases()]
)
def test_a_job_works_or_names_what_is_at_fault(
    place: places.Place, environment: Environment, job: str
) -> None:
    if "unshare" in environment.shell and not can_mount():
        pytest.skip("this machine lets no program have mounts of its own")
    environment.set_up(place)
    ended = place.do(job)
    fault = environment.faults.get(job) or (environment.may_fail if ended.exit_code else "")
    if not fault:
        assert place.has_worked(job, ended), ended
        return
    assert ended.exit_code in (2, 4), ended
    assert re.search(fault, ended.text), ended


def test_the_table_has_eighty_environments_and_every_job() -> None:
    assert len({environment.name for environment in TABLE}) == len(TABLE) >= 80
    assert {job for environment in TABLE for job in environment.jobs} == set(places.JOBS)
