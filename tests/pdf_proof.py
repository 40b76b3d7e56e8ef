"""Read real PDFs as inputs are read, and with pypdf for comparison: words, words that run together, seconds.

`python -m tests.pdf_proof` downloads documentation packages of Debian and the source archive of pypdf, which
holds forms, rotated pages, scans and encrypted files, into a temporary folder. `python -m tests.pdf_proof
FOLDER` reads the PDFs of a folder instead. It ends with 1 if more than 1 % of the pages have words that run
together, or if pypdf is faster.
"""

import gzip
import io
import json
import logging
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pypdf

from loop_runner.inputs.inside import pdf
from loop_runner.inputs.inside.sink import Limits, Refused, Sink

_PACKAGES = (
    *(
        "4ti2-doc",
        "asymptote-doc",
        "dblatex-doc",
        "debmake-doc",
        "developers-reference",
        "docbook-xsl-doc-pdf",
    ),
    *("freefem-doc", "latex2rtf-doc", "mrbayes-doc", "music-doc", "nauty-doc", "python-reportlab-doc"),
    *("r-doc-pdf", "tachyon-doc"),
)
_MOST_JOINED = 0.01  # of all pages


class Reading(NamedTuple):
    """What one library makes of one PDF."""

    pages: int
    words: int
    joined_pages: int  # whose words run together
    silent_pages: int  # without text
    seconds: float


class Row(NamedTuple):
    """One PDF: a reading, or the reason why there is none, by PDFium and by pypdf."""

    name: str
    pdfium: Reading | str
    pypdf: Reading | str


def downloaded(folder: Path) -> Iterator[Path]:
    """The PDFs of the packages, in ``folder``."""
    for package in _PACKAGES:
        subprocess.run(
            ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], cwd=folder, check=True
        )
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "pypdf", "pypdf"]
    subprocess.run(fetch, cwd=folder, check=True)
    (archive,) = folder.glob("pypdf-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "pypdf", filter="data")
    for packed_pdf in folder.rglob("*.pdf.gz"):
        if packed_pdf.is_file():
            packed_pdf.with_suffix("").write_bytes(gzip.decompress(packed_pdf.read_bytes()))
    yield from found_in(folder)


def found_in(folder: Path) -> Iterator[Path]:
    """The PDFs below ``folder``, each content once."""
    seen: set[bytes] = set()
    for path in sorted(folder.rglob("*.pdf")):
        if path.is_file() and not path.is_symlink() and (data := path.read_bytes()) not in seen:
            seen.add(data)
            yield path


def by_pdfium(path: Path) -> Reading | str:
    """As inputs are read, in this process."""
    out, began = io.BytesIO(), time.perf_counter()
    try:
        with path.open("rb") as file:
            pdf.read(file, Sink(out, Limits()), "", Limits())
    except Refused as refused:
        return str(refused)
    return reading(pages_in(out.getvalue()), time.perf_counter() - began)


def pages_in(frames: bytes) -> list[str]:
    """The texts of the pages in what a sink wrote."""
    line, _, rest = frames.partition(b"\n")
    header = json.loads(line)
    lines = rest[: header["size"]].decode().split("\n")
    firsts = [first - 1 for first, _ in header["places"]]
    return ["\n".join(lines[first:end]) for first, end in zip(firsts, [*firsts[1:], len(lines)], strict=True)]


def by_pypdf(path: Path) -> Reading | str:
    """As earlier releases read it."""
    began = time.perf_counter()
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(path, strict=False).pages]
    except Exception as error:  # noqa: BLE001 - it raises whatever a damaged page leads to
        return f"{type(error).__name__}: {error}"
    return reading(pages, time.perf_counter() - began)


def reading(pages: list[str], seconds: float) -> Reading:
    """Count what the texts of the pages hold."""
    words = sum(len(page.split()) for page in pages)
    joined = sum(map(pdf.has_joined_words, pages))
    return Reading(len(pages), words, joined, sum(not page.strip() for page in pages), seconds)


def total(readings: Iterable[Reading | str]) -> Reading:
    """The sum over those that were read."""
    counted = [reading for reading in readings if isinstance(reading, Reading)]
    whole = [sum(column) for column in zip(*counted, strict=True)] or [0] * 5
    pages, words, joined, silent = map(int, whole[:4])
    return Reading(pages, words, joined, silent, whole[4])


def shown(reading: Reading | str) -> str:
    if isinstance(reading, str):
        return f"{reading:.44}"
    pages, words, joined, silent, seconds = reading
    return f"{pages:>5} {words:>8,} {joined:>5} {silent:>6} {seconds:>7.2f} s"


def main(arguments: list[str]) -> int:
    """Print a line for each PDF and the totals."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as temporary:
        paths = found_in(Path(arguments[0])) if arguments else downloaded(Path(temporary))
        print(f"{'':<40} {'PDFium: pages, words, joined, silent':<36} pypdf")
        rows = []
        for path in paths:
            rows.append(Row(path.name, by_pdfium(path), by_pypdf(path)))
            print(f"{path.name:<40.40} {shown(rows[-1].pdfium):<36} {shown(rows[-1].pypdf)}", flush=True)
    pdfium, other = total(row.pdfium for row in rows), total(row.pypdf for row in rows)
    print(f"{len(rows)} PDFs{'':<33} {shown(pdfium):<36} {shown(other)}")
    return int(pdfium.joined_pages > _MOST_JOINED * pdfium.pages or pdfium.seconds > other.seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
