import pytest

from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, write_task

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
    task = write_task(tmp_path / "task", root=ROOT)
    result = loop_runner("run", task, "-q", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    return tmp_path
