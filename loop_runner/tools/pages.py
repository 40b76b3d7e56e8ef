"""The pages that a run fetched: inputs from then on, kept in its folder by their hashes.

Owns ``pages.json`` and ``pages/`` of the run folder: the bytes that came, and the text that was made of them,
so that a citation of a page is verified offline, with whatever version of a converter. A page is durable
before the result that names it is. What ``pages.json`` names lies in ``pages/`` and nowhere else: a run
folder from another person cannot name a file of this machine. Safe from any thread.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from loop_runner import failpoints, scratch
from loop_runner.errors import WorkspaceError
from loop_runner.inputs.committed_list import entries_of
from loop_runner.records import Inputs, InputText, Origin
from loop_runner.workspace import durable, faults

FILE = "pages.json"
FOLDER = "pages"
_FORMAT = 1
_PLAIN = re.compile(r"[0-9a-f]{64}[.a-z0-9]{0,12}")
_BOM = b"\xef\xbb\xbf"
Stored = Callable[[str], bytes | None]
"""Reads a file of the run folder."""


@dataclass(frozen=True, slots=True)
class Page:
    """One text of what an address gave. ``file`` and ``text_file`` are names below ``pages/``."""

    name: str
    url: str
    retrieved: str  # the date, ISO 8601
    file: str
    text_file: str
    kind: str
    member: str = ""
    made_by: str = ""
    places: tuple[tuple[int, str], ...] = ()
    headings: tuple[tuple[int, int, str], ...] = ()

    def as_input(self, path: Path, data: bytes) -> InputText:
        """The page as an input whose text lies at ``path``."""
        origin = Origin(
            path,
            self.file[:64],
            self.kind,
            self.member,
            self.places,
            self.made_by,
            self.url,
            self.headings,
        )
        return InputText(self.name, path, len(data), hashlib.sha256(data).hexdigest(), origin=origin)


class Pages:
    """The pages of one run, on top of the inputs that it began with. A context manager."""

    def __init__(self, base: Inputs, read: Stored, private: Path | None = None) -> None:
        """``read`` reads the run folder. ``private``: where a page is kept until a commit holds it."""
        self._base = base
        self._read = read
        self._private = None if private is None else private / FOLDER
        self._scratch: scratch.Scratch | None = None
        self._lock = threading.Lock()
        self._pages: dict[str, Page] = {}
        self._texts: dict[str, InputText] = {}
        self._uncommitted: dict[str, Page] = {}
        for page in _fetched(read(FILE)):
            self._add(page)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            self._scratch.remove()

    @property
    def folder(self) -> Path:
        """Where the texts lie to be read, named by their hashes."""
        if self._scratch is None:
            self._scratch = scratch.make("pages")
            (self._scratch.path / "texts").mkdir()
            (self._scratch.path / "texts").chmod(0o755)  # the kernel may run as another user
        return self._scratch.path / "texts"

    def inputs(self) -> Inputs:
        """Everything that the run works on now."""
        with self._lock:
            if not self._texts:
                return self._base
            own = {text.name for text in self._base.texts}
            more = [text for name, text in sorted(self._texts.items()) if name not in own]
            return replace(self._base, texts=(*self._base.texts, *more))

    def keep(self, page: Page, files: Mapping[str, bytes]) -> Page:
        """Keep a page that came, durably; its name may differ, where another page has it already."""
        assert self._private is not None
        with self._lock:
            page = self._named(page)
            if self._pages.get(page.name) == page:
                return page
            with faults.translated(self._private.parents[2], "keeping a fetched page"):
                self._write(files)
                self._take(page)
                failpoints.passing("page.kept")
            return page

    def _write(self, files: Mapping[str, bytes]) -> None:
        assert self._private is not None
        failpoints.passing("page.keep")
        self._private.mkdir(exist_ok=True)
        for name, data in files.items():
            if not (self._private / name).is_file():
                durable.replace(self._private / name, data)

    def _named(self, page: Page) -> Page:
        """``page`` under a name of its own; the one that is known, where it is the same text."""
        taken = {text.name for text in self._base.texts}
        name, number = page.name, 1
        while (known := self._pages.get(name)) is not None or name in taken:
            if known is not None and (known.text_file, known.url) == (page.text_file, page.url):
                return known
            number += 1
            name = f"{page.name}.{number}"
        return replace(page, name=name)

    def served(self, listed: Sequence[Mapping[str, object]]) -> list[tuple[Page, bytes]]:
        """The pages that a recorded result names, with their texts; from now on they are inputs."""
        result = []
        for item in listed:
            page = _page(item)
            with self._lock:
                if self._pages.get(page.name) != page:
                    self._take(page)
            result.append((page, self._bytes(page.text_file)))
        return result

    def files(self) -> dict[str, bytes]:
        """What the next commit holds of the pages that no commit holds yet."""
        with self._lock:
            if not self._uncommitted:
                return {}
            pages = [self._pages[name] for name in sorted(self._pages)]
            new = {
                name: self._bytes(name)
                for page in self._uncommitted.values()
                for name in (page.file, page.text_file)
            }
            self._uncommitted = {}
        body = {"format": _FORMAT, "pages": list(map(asdict, pages))}
        return {FILE: (json.dumps(body, indent=1) + "\n").encode()} | {
            f"{FOLDER}/{name}": data for name, data in new.items()
        }

    def _take(self, page: Page) -> None:
        self._add(page)
        self._uncommitted[page.name] = page

    def _add(self, page: Page) -> None:
        data = self._bytes(page.text_file)
        path = self.folder / page.text_file
        if not path.is_file():
            path.write_bytes(data)
            path.chmod(0o644)
        self._pages[page.name] = page
        self._texts[page.name] = page.as_input(path, data)

    def _bytes(self, name: str) -> bytes:
        """A file of a page, checked against its hash."""
        data = None
        if self._private is not None and (self._private / name).is_file():
            data = (self._private / name).read_bytes()
        data = self._read(f"{FOLDER}/{name}") if data is None else data
        if data is None or hashlib.sha256(data).hexdigest() != name[:64]:
            raise WorkspaceError(
                f"the run folder does not hold {FOLDER}/{name} as it was fetched",
                why="citations of that page could not be checked",
                hint="`loop-runner fsck RUN` says what is damaged",
                exit_code=4,
            )
        return data


def text_of(data: bytes) -> str:
    """The text of a page as the model's code reads it."""
    return data.removeprefix(_BOM).decode("utf-8", "replace")


def _fetched(data: bytes | None) -> list[Page]:
    if data is None:
        return []
    return entries_of(
        data,
        FILE,
        _FORMAT,
        lambda body: [_page(item) for item in body["pages"]],
        unknown="which pages it fetched",
    )


def _page(item: Mapping[str, object]) -> Page:
    """A page as a record names it. ``ValueError`` for a file that is not one of ``pages/``."""
    given = dict(item)
    names = ("name", "url", "retrieved", "file", "text_file", "kind", "member", "made_by")
    page = Page(
        **{name: str(given.get(name, "")) for name in names},
        places=tuple((int(line), str(place)) for line, place in given.get("places", ())),  # type: ignore[attr-defined]
        headings=tuple(
            (int(line), int(level), str(title))
            for line, level, title in given.get("headings", ())  # type: ignore[attr-defined]
        ),
    )
    if not _PLAIN.fullmatch(page.file) or not _PLAIN.fullmatch(page.text_file) or not page.name:
        raise ValueError(f"{page.file!r:.100} is no file of a page")
    return page
