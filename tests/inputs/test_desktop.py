"""Documents are read on a machine with the files of a full desktop, in each tier, alone and in a folder."""

import subprocess
import sys

import pytest

from loop_runner.inputs.inside.main import _why
from tests.support import desktop, papers
from tests.support.confined import BUBBLEWRAP, SOURCE

_CONVERT = """
import sys
from pathlib import Path
from loop_runner.inputs.converting import Converter, Source
from loop_runner.sandbox import probe as sandbox
candidates = sandbox._candidates
def chosen(bubblewrap, *, as_root):
    for layers in candidates(bubblewrap, as_root=as_root):
        if sys.argv[1] == "A" or not layers.bubblewrap and layers.own_root == (sys.argv[1] != "B"):
            yield layers
sandbox._candidates = chosen
folder = Path(sys.argv[2])
converter = Converter(folder / "cache")
paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
kinds = [converter.kind_of(path.name, path.read_bytes()[:8192]) for path in paths]
results = converter.convert([Source(path, path.name, kind) for path, kind in zip(paths, kinds)])
why = {result.failure for result in results} | {why for result in results for _, why in result.skipped}
print(sandbox.probe().tier, len(results), sorted(why), sum(len(result.pieces) for result in results))
"""
EVERY_KIND = {
    "a.pdf": papers.pdf(["a page"]),
    "b.docx": papers.docx(["# A heading", "a line"]),
    "c.xlsx": papers.xlsx([("Prices", [["item", "usd"], ["bolt", 3]])]),
    "d.pptx": papers.pptx(["A slide"]),
    "e.epub": papers.epub([("Dawn", "It was early")]),
    "f.html": b"<html><body><h1>A page</h1></body></html>",
    "g.ipynb": b'{"cells": [{"cell_type": "markdown", "source": "a note"}]}',
    "h.mbox": papers.mbox(papers.message("Hello", "a body")),
    "i.eml": papers.message("Hello", "a body"),
    "j.zip": papers.zipped([("k.txt", "a text"), ("l.html", "<p>a page</p>")]),
    "m.txt": "wide".encode("utf-16"),
}
TIERS = ["A", "B with its own root", "B"]


def converted(folder, tier):
    """What the program above prints: tier, number of documents, reasons, number of texts."""
    if tier == "A" and not BUBBLEWRAP:
        pytest.skip("TIER A UNTESTED: no bubblewrap")
    place = folder / "machine"
    place.mkdir()
    argv = desktop.command([sys.executable, "-c", _CONVERT, tier, str(folder)], place)
    done = subprocess.run(argv, cwd=SOURCE, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


@pytest.mark.skipif(not desktop.can_be_made(), reason="DESKTOP UNTESTED: this user may not make mounts")
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("tier", TIERS)
def test_no_document_is_lost_on_a_desktop(tier, count, tmp_path):
    for number in range(count):
        (tmp_path / f"{number}.html").write_text(f"<html><body><h1>Page {number}</h1></body></html>")
    assert converted(tmp_path, tier) == f"{tier[0]} {count} [''] {count}"


@pytest.mark.skipif(not desktop.can_be_made(), reason="DESKTOP UNTESTED: this user may not make mounts")
@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("tier", TIERS)
def test_every_kind_of_document_is_read_on_a_desktop(tier, copies, tmp_path):
    for copy in range(copies):  # in several batches
        for name, data in EVERY_KIND.items():
            (tmp_path / f"{copy}{name}").write_bytes(data)
    count = copies * len(EVERY_KIND)
    assert converted(tmp_path, tier) == f"{tier[0]} {count} [''] {count + copies}"


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
