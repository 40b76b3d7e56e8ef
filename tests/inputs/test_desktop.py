"""Documents are read on a machine with the files of a full desktop, in each tier, alone and in a folder."""

import subprocess
import sys

import pytest

from loop_runner.inputs.inside.main import _why
from tests.support import desktop
from tests.support.confined import BUBBLEWRAP, SOURCE

_CONVERT = """
import sys
from pathlib import Path
from loop_runner.inputs.converting import Converter, Source
from loop_runner.kernel import sandbox
candidates = sandbox._candidates
def chosen(bubblewrap, *, as_root):
    for layers in candidates(bubblewrap, as_root=as_root):
        if sys.argv[1] == "A" or not layers.bubblewrap and layers.own_root == (sys.argv[1] != "B"):
            yield layers
sandbox._candidates = chosen
folder = Path(sys.argv[2])
sources = [Source(path, path.name, "html") for path in sorted(folder.glob("*.html"))]
results = Converter(folder / "cache").convert(sources)
print(sandbox.probe().tier, len(results), sorted({result.failure for result in results}))
"""


@pytest.mark.skipif(not desktop.can_be_made(), reason="DESKTOP UNTESTED: this user may not make mounts")
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("tier", ["A", "B with its own root", "B"])
def test_no_document_is_lost_on_a_desktop(tier, count, tmp_path):
    if tier == "A" and not BUBBLEWRAP:
        pytest.skip("TIER A UNTESTED: no bubblewrap")
    for number in range(count):
        (tmp_path / f"{number}.html").write_text(f"<html><body><h1>Page {number}</h1></body></html>")
    place = tmp_path / "machine"
    place.mkdir()
    argv = desktop.command([sys.executable, "-c", _CONVERT, tier, str(tmp_path)], place)
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{tier[0]} {count} ['']", (done.stdout, done.stderr)


def _caused_by(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/etc/mime.types"),
        OSError(28, "No space left on device"),
        OSError(24, "Too many open files"),
        ImportError("libxslt.so.1: cannot open shared object file"),
        _caused_by(ValueError("File conversion failed"), PermissionError(13, "Permission denied")),
    ],
)
def test_what_the_machine_refuses_is_no_fault_of_the_document(error):
    assert _why(error).startswith("not read here: ")


@pytest.mark.parametrize(
    "error", [ValueError("no such tag"), OSError("damaged"), KeyError("x"), EOFError(), OSError(22, "seek")]
)
def test_a_fault_of_the_document_stays_broken(error):
    assert _why(error).startswith("broken: ")
