"""How many headings of real manuals `outline` finds, by the manuals' own tables of contents.

`python -m tests.outline_proof` downloads three Debian packages of manuals and reads installed changelogs.
It prints a line for each group and ends with 1 if any group is below 98 %.
"""

import gzip
import html
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from loop_runner.kernel.inside import outlines

_PACKAGES = ("debian-policy", "developers-reference", "python3.11-doc")
_CHANGELOGS = 30
_LEAST_SHARE = 0.98
_ROLE = re.compile(r":[\w:+-]+:`~?!?([^`<]*?)(?:\s*<[^`]*>)?`")  # :ref:`text <target>`
_TAG = re.compile(r"<[^>]+>")


class Document(NamedTuple):
    """A text and the titles that its own table of contents lists."""

    name: str
    text: str
    titles: list[str]


def missing(document: Document) -> list[str]:
    """The titles that the outline of the text lacks."""
    marks = [_plain(mark.text) for mark in outlines.outline(document.name, document.text, ())]
    return [
        title for title in document.titles if not any(mark.startswith(_plain(title)[:100]) for mark in marks)
    ]


def manuals(folder: Path) -> Iterator[Document]:
    """The two manuals of Debian, whose first page lists the numbered titles."""
    for path in ("debian-policy/policy.txt.gz", "developers-reference/docs/developers-reference.txt.gz"):
        text = gzip.decompress((folder / path).read_bytes()).decode()
        listed = re.findall(r"^ *\* (\d[\d.]*\.? .*(?:\n +(?!\*)\S.*)*)$", text[:60_000], re.MULTILINE)
        titles = [" ".join(title.split()).replace("- ", "-") for title in listed]
        yield Document(Path(path).stem, text, titles)


def python_pages(folder: Path) -> Iterator[Document]:
    """The sources of Python's manual, with the titles of the pages made from them."""
    top = folder / "python3.11/html"
    for source in sorted((top / "_sources").rglob("*.rst.txt")):
        page = top / source.relative_to(top / "_sources").with_name(source.name.replace(".rst.txt", ".html"))
        if page.exists():
            yield Document(source.stem, source.read_text(), list(_titles_of(page.read_text())))


def changelogs() -> Iterator[Document]:
    """Debian changelogs of installed packages; the title of an entry names package, version and urgency."""
    for path in sorted(Path("/usr/share/doc").glob("*/changelog*.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        titles = re.findall(r"^\S+ \([^)]+\) .*; urgency=.*$", text, re.MULTILINE)
        if len(titles) >= 5:
            yield Document(path.stem, text, titles)


def _titles_of(page: str) -> Iterator[str]:
    body = page.rsplit('<div class="body"', maxsplit=1)[-1].split('<div class="sphinxsidebar"', maxsplit=1)[0]
    for title in re.findall(r"<h[1-6]>(.*?)</h[1-6]>", body, re.DOTALL):
        shown = re.sub(r"^\d+(\.\d+)*\.\s+", "", _TAG.sub("", title).replace("¶", "").strip())
        if _plain(shown):
            yield shown


def _plain(title: str) -> str:
    """A title without markup, case and punctuation."""
    title = _ROLE.sub(r"\1", html.unescape(title))
    title = re.sub(r"[^\w\s.()/:-]|_|\(\)", "", title)
    return re.sub(r"\W+", " ", title).strip().casefold()


def main() -> int:
    """Print the share of each group; 1 if one is too low."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", *_PACKAGES], cwd=folder, check=True, capture_output=True)
        for package in sorted(Path(folder).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        docs = Path(folder) / "usr/share/doc"
        groups = {
            "manuals of Debian": list(manuals(docs)),
            "manual of Python": list(python_pages(docs)),
            "changelogs": list(changelogs())[:_CHANGELOGS],
        }
    shares = [_report(group, documents) for group, documents in groups.items()]
    return int(min(shares) < _LEAST_SHARE)


def _report(group: str, documents: list[Document]) -> float:
    count = sum(len(document.titles) for document in documents)
    lost = [(document.name, title) for document in documents for title in missing(document)]
    share = 1 - len(lost) / max(count, 1)
    print(f"{group}: {len(documents)} texts, {count - len(lost):,} of {count:,} headings found ({share:.1%})")
    for name, title in lost[:10]:
        print(f"  not found in {name}: {title}")
    return share


if __name__ == "__main__":
    sys.exit(main())
