"""The library in a Jupyter notebook: the example's cells give what it shows, and an interrupt loses nothing.

One kernel serves all tests of this file, as starting one takes a second and more.
"""

import asyncio
import threading
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.support import notebooks
from tests.support.commands import wait_for
from tests.support.tasks import cell, ready, write_task

pytestmark = pytest.mark.slow
INTERRUPTED = """
import threading
from pathlib import Path
import loop_runner as lr

def heard(event):
    if event.kind == "turn_committed":
        Path("is-committed").touch()

result = None
threads = threading.active_count()
result = lr.run("../slow/task.yaml", run_dir="runs/slow", on_event=heard)
"""
AWAITED = INTERRUPTED.replace("= lr.run(", "= await lr.arun(").replace("slow", "other")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A client of a running kernel, whose current folder is ``work``, and the folder that ``work`` is in."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in notebooks.environment(folder).items():
            patch.setenv(name, value)
        client = notebooks.client(nbformat.v4.new_notebook(), folder)
        with client.setup_kernel():
            yield client, folder


def execute(client, source):
    """The cell with its outputs; raises ``CellExecutionError`` where it raised."""
    made = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(made)
    client.execute_cell(made, len(client.nb.cells) - 1)
    return made


def printed(client, source):
    return "".join(output["text"] for output in execute(client, source).outputs)


def test_each_cell_of_the_example_gives_what_the_notebook_shows(kernel):
    client, _ = kernel
    example = nbformat.read(notebooks.NOTEBOOK, as_version=4)
    nbformat.validate(example)
    sources = [shown.source for shown in example.cells if shown.cell_type == "code"]
    fresh = nbformat.v4.new_notebook(cells=[execute(client, source) for source in sources])
    assert len(sources) > 6
    assert notebooks.outputs(fresh) == notebooks.outputs(example)


@pytest.mark.parametrize(("name", "code"), [("slow", INTERRUPTED), ("other", AWAITED)])
def test_an_interrupt_of_the_notebook_keeps_what_is_committed_and_the_run_is_resumed(kernel, name, code):
    client, folder = kernel
    committed = Path(folder / "work" / "is-committed")
    committed.unlink(missing_ok=True)
    root = [cell("x = 1"), cell("import time; time.sleep(60)"), ready("42")]
    write_task(folder / name, root=root)

    def interrupt():
        wait_for(committed.exists, 50)
        asyncio.run(client.km.interrupt_kernel())  # to the kernel's whole process group, as its button does

    pressing = threading.Thread(target=interrupt)
    pressing.start()
    with pytest.raises(CellExecutionError, match=r"KeyboardInterrupt|CancelledError"):
        execute(client, code)
    pressing.join()
    shown = f"print(lr.open('runs/{name}').state, result, threading.active_count() - threads)"
    assert printed(client, shown) == "unfinished None 0\n"
    resumed = f"lr.resume('runs/{name}', settings=[('kernel.timeout_s', 1)])"  # the paid reply sleeps again
    assert printed(client, f"print({resumed}.answer)") == "42\n"
