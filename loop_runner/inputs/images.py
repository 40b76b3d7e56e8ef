"""Images among the inputs, and what a model is shown of them: pictures, and pages of PDFs.

Owns what counts as an image and how a name becomes one. No byte of an image or a PDF is parsed here: a
picture is passed on as it is, and a page is drawn in a sandboxed child. Every image that was shown is kept in
the run folder by its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from loop_runner.errors import EnvironmentFault
from loop_runner.inputs.committed_list import entries_of
from loop_runner.inputs.inside.kinds import IMAGES, MAX_IMAGE_BYTES, SNIFF
from loop_runner.inputs.inside.sink import ONLY_PICTURES, Limits
from loop_runner.inputs.on_disk import NotTextError, hash_of_original, head, is_same, open_file, words
from loop_runner.inputs.reader_process import frames_of
from loop_runner.records import Image, Inputs, InputText, SandboxTier

FILE = "images.json"  # of the run folder
FOLDER = "images"
_FORMAT = 1
_PLAIN = re.compile(r"[0-9a-f]{64}[.](png|jpeg)")
Stored = Callable[[str], bytes | None]
MAX_IMAGES = 20  # of one request
SCANNED = "PDF without text"
READ_BY_PAGE = 'no text: only pictures (a model that reads images can be shown them: images=["NAME#page=N"])'
_PAGE = re.compile(r"(.+)#page=([1-9][0-9]{0,6})")


class NoImageError(Exception):
    """Why something cannot be shown to a model; for the model's code."""


def image_in(path: Path, failure: str = "") -> InputText | None:
    """The image in the file at ``path``, without a name; ``failure``: why it gave no text. None: no image."""
    try:
        start = head(str(path), SNIFF)
        size = path.stat().st_size
    except (NotTextError, OSError):
        return None
    kind = next((name for magic, name in IMAGES.items() if start.startswith(magic)), "")
    if failure.startswith(ONLY_PICTURES):
        kind = SCANNED
    sha256 = hash_of_original(path) if kind else ""
    return InputText("", path, size, sha256, about=kind) if sha256 else None


class ImageReader:
    """Makes the images of a run's requests. Safe from any thread.

    A page that was drawn once is not drawn again: another version of the library would draw other bytes, and
    a replay would not find the reply to them.
    """

    def __init__(self, tier: SandboxTier | None = None, read: Stored = lambda _path: None) -> None:
        """``read`` reads the run folder. ``WorkspaceError``: its list of drawn pages is damaged."""
        self._tier = tier
        self._read = read
        self._lock = threading.Lock()
        self._new: dict[str, bytes] = {}
        self._drawn = _drawn(read(FILE))

    def opened(self, inputs: Inputs, wanted: Sequence[str | bytes]) -> tuple[Image, ...]:
        """The images that ``wanted`` names (`scan.png`, `report.pdf#page=3`) or is. ``NoImageError``."""
        if len(wanted) > MAX_IMAGES:
            raise NoImageError(f"images= takes at most {MAX_IMAGES} images, not {len(wanted)}")
        shown = tuple(
            _image(item, "an image") if isinstance(item, bytes) else self._named(inputs, item)
            for item in wanted
        )
        with self._lock:
            self._new |= {image.file: image.data for image in shown}
        return shown

    def files(self) -> dict[str, bytes]:
        """What the next commit holds of the images that no commit holds yet."""
        with self._lock:
            new, self._new = self._new, {}
            body = {"format": _FORMAT, "drawn": dict(sorted(self._drawn.items()))}
        if not new:
            return {}
        listed = {FILE: (json.dumps(body, indent=1) + "\n").encode()}
        return listed | {f"{FOLDER}/{name}": data for name, data in new.items()}

    def _named(self, inputs: Inputs, name: str) -> Image:
        known = {image.name: image for image in inputs.images}
        if name in known and known[name].about != SCANNED:
            return _image(_bytes(known[name]), name)
        page = _PAGE.fullmatch(name)
        pdf = page and (_pdf(known.get(page[1])) or _pdf_of(inputs, page[1]))
        if page and pdf:
            return _image(self._page(*pdf, int(page[2])), name)
        raise NoImageError(_unknown(inputs, name))

    def _page(self, path: Path, sha256: str, number: int) -> bytes:
        """A picture of a page, as it was shown before, or drawn now."""
        key = f"{sha256}#page={number}"
        with self._lock:
            file = self._drawn.get(key, "")
            known = self._new.get(file) or (self._read(f"{FOLDER}/{file}") if file else None)
        if known is not None and hashlib.sha256(known).hexdigest() == file[:64]:
            return known
        data = self._draw(path, sha256, number)
        with self._lock:
            self._drawn[key] = _image(data, key).file
        return data

    def _draw(self, path: Path, sha256: str, page: int) -> bytes:
        """A picture of a page, drawn in the sandbox."""
        if hash_of_original(path) != sha256:
            raise NoImageError(f"{path.name} is not the file that the run began with")
        try:
            fd = open_file(str(path))
        except (NotTextError, OSError) as error:
            raise NoImageError(f"{path.name} cannot be read: {words(error)}") from error
        request = {"kind": "render", "name": path.name, "fd": fd, "is_named": True, "page": page}
        try:
            (frames,) = frames_of([request], [fd], Limits(), {}, [], self._tier)
        except EnvironmentFault as error:
            raise NoImageError(error.message) from error
        finally:
            os.close(fd)
        for frame in frames:
            if frame.kind == "fail":
                raise NoImageError(
                    f"page {page} of {path.name} cannot be drawn: {frame.header.get('why')!s:.300}"
                )
            if frame.kind == "image":
                return frame.body
        raise NoImageError(f"page {page} of {path.name} cannot be drawn")


def _drawn(data: bytes | None) -> dict[str, str]:
    """The files of pages that were drawn, by the hash of the PDF and the page."""
    if data is None:
        return {}
    # A name that is no file of an image is drawn again.
    return entries_of(
        data,
        FILE,
        _FORMAT,
        lambda body: {str(key): file for key, file in body["drawn"].items() if _PLAIN.fullmatch(file)},
        unknown="which pages it drew",
    )


def _pdf(image: InputText | None) -> tuple[Path, str] | None:
    return (image.path, image.sha256) if image is not None and image.about == SCANNED else None


def _pdf_of(inputs: Inputs, name: str) -> tuple[Path, str] | None:
    """The PDF that the text ``name`` was made from."""
    for text in inputs.texts:
        origin = text.origin
        if text.name == name and origin is not None and origin.kind == "pdf" and not origin.member:
            return origin.path, origin.sha256
    return None


def _bytes(image: InputText) -> bytes:
    if image.size_bytes > MAX_IMAGE_BYTES:
        raise NoImageError(_too_large(image.name, image.size_bytes))
    try:
        data = image.path.read_bytes() if is_same(image) else b""
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise NoImageError(f"{image.name} is not the file that the run began with")
    return data


def _image(data: bytes, name: str) -> Image:
    if len(data) > MAX_IMAGE_BYTES:
        raise NoImageError(_too_large(name, len(data)))
    kind = next((kind for magic, kind in IMAGES.items() if data.startswith(magic)), "")
    if not kind:
        raise NoImageError(f"{name} is neither PNG nor JPEG")
    return Image(f"{hashlib.sha256(data).hexdigest()}.{kind.lower()}", data)


def _too_large(name: str, size: int) -> str:
    return f"{name:.200} has {size:,} bytes, and at most {MAX_IMAGE_BYTES:,} are sent: make it smaller"


def _unknown(inputs: Inputs, name: str) -> str:
    if any(
        name in (item.name, item.name.partition("#")[0]) and item.about == SCANNED for item in inputs.images
    ):
        return f"{name:.200} is a PDF: name a page of it, as {name:.200}#page=1"
    if _pdf_of(inputs, name):
        return f"{name:.200} is a PDF: name a page of it, as {name:.200}#page=1"
    listed = ", ".join(image.name for image in inputs.images[:10]) or "none"
    return f"no image is named {name!r:.200}; the images are: {listed}; a page of a PDF is NAME.pdf#page=N"
