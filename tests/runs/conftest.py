import pytest

from tests.support.tasks import cell, ready, run_task, write_task

ROOT = [
    cell("words = ['one']\nopen('notes/plan.md', 'w').write('count\\n')"),
    ready("41"),
    cell("words.append('two')\nopen('notes/plan.md', 'a').write('count again\\n')"),
    ready("40"),
    ready("42"),
]


@pytest.fixture
def place(tmp_path):
    """A folder with one finished run, ``runs/scripted``: passes 1 and 2 rejected, pass 3 accepted."""
    outcome = run_task(write_task(tmp_path / "task", root=ROOT), tmp_path / "runs/scripted")
    assert (outcome.status, outcome.spend.passes) == ("verified", 3)
    return tmp_path
