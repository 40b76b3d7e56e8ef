"""Executes the notebooks of ``examples/`` in a real Jupyter kernel, and writes their true output into them.

    python -m tests.support.notebooks

The committed outputs are those of a run; ``tests/api/test_notebook.py`` compares them.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def environment(folder: Path) -> dict[str, str]:
    """Variables that keep what Jupyter, IPython and this project write within ``folder``."""
    jupyter = ["IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"]
    own = ["LOOP_RUNNER_CACHE", "LOOP_RUNNER_STATE", "XDG_CONFIG_HOME"]
    return {name: str(folder / name.lower()) for name in [*jupyter, *own]} | {"PYTHONPATH": str(ROOT)}


def client(notebook: Any, folder: Path) -> NotebookClient:
    """Executes ``notebook`` with ``folder`` as its current folder."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return NotebookClient(
        notebook,
        timeout=100,
        kernel_name="python3",
        resources={"metadata": {"path": str(work)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
    )


def outputs(notebook: Any) -> list[Mapping[str, str]]:
    """What each code cell printed and evaluated to, as text."""
    return [
        {output.get("name", "result"): _text(output) for output in cell.outputs}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _text(output: Any) -> str:
    return str(output["text"] if "text" in output else output.get("data", {}).get("text/plain", output))


def main() -> None:
    """Write the true outputs into the notebook."""
    with tempfile.TemporaryDirectory() as name:
        os.environ.update(environment(Path(name)))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        client(notebook, Path(name)).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
