"""What the commands print about a run, as records: ``status`` and ``hook_loops``."""

import pytest

from loop_runner.errors import ConfigError
from loop_runner.runs import hook_loops, status
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.tasks import ready, write_task


def started(tmp_path, **keys):
    task = config.read_task(write_task(tmp_path / "task", **keys))
    return runs.start(task, tmp_path / "run", RunContext({})), tmp_path / "run"


def test_the_status_of_a_run_is_a_record(tmp_path):
    _, folder = started(tmp_path, root=[ready("42")])
    at = status.of_run(folder)
    assert (at.state, at.pass_number, at.turn, at.answer, at.under_way) == ("verified", 1, 0, "42", None)


@pytest.mark.parametrize("damage", ["task.yaml", "HEAD"])
def test_a_run_that_cannot_be_read_has_a_status_too(tmp_path, damage):
    folder = tmp_path / "run"
    (folder / ".git").mkdir(parents=True)
    (folder / damage).write_text("nonsense: [")
    at = status.of_any(folder)
    assert at.state == "unreadable"
    assert at.reason
    assert at.spend.usd is None


def test_a_loop_needs_the_id_of_a_session(tmp_path):
    task = write_task(tmp_path / "task", root=[])
    with pytest.raises(ConfigError, match="no session was named"):
        hook_loops.begin(task, {})
