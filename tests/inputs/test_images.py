"""Images among the inputs, and what a model is shown of them: pictures, bytes, and pages of PDFs."""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import pytest

from loop_runner import inputs
from loop_runner.errors import WorkspaceError
from loop_runner.inputs.images import FILE, NoImageError
from loop_runner.inputs.inside.kinds import MAX_IMAGE_BYTES
from loop_runner.model.client import media_type
from loop_runner.records import Image, Inputs, Message, Request
from tests.support import papers

JPEG = b"\xff\xd8\xff\xe0" + bytes(40)


def png(width=2, height=2, colour=200):
    """A small picture."""
    rows = b"".join(b"\0" + bytes([colour]) * width for _ in range(height))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# A page with a drawing and without text, as a scanner makes it.
SCAN = papers.pdf(["x", "y"], objects={4: b"<< /Length 18 >>\nstream\n9 9 300 300 re f   \nendstream"})
SCANNED = papers.pdf(["x"], objects={4: b"<< /Length 18 >>\nstream\n9 9 300 300 re f   \nendstream"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    files = {
        "notes.txt": b"words\n",
        "scan.png": png(),
        "deep/photo.jpg": JPEG,
        "misnamed.txt": png(colour=9),
        "animation.gif": b"GIF89a" + bytes(20),
        "scanned.pdf": SCANNED,
        "report.pdf": SCAN,
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def loaded(folder, tmp_path_factory):
    converter = inputs.Converter(tmp_path_factory.mktemp("cache"))
    return inputs.load([str(folder)], folder.parent, converter=converter, takes_images=True)


def test_images_and_scanned_documents_are_inputs_and_other_binaries_are_not(loaded):
    assert {image.name: image.about for image in loaded.images} == {
        "deep/photo.jpg": "JPEG",
        "misnamed.txt": "PNG",
        "scan.png": "PNG",
        "scanned.pdf": "PDF without text",
    }
    assert [text.name for text in loaded.texts] == ["notes.txt", "report.pdf"]
    assert [Path(path).name for path, reason in loaded.skipped if reason.startswith("binary")] == [
        "animation.gif"
    ]


def test_a_page_without_text_is_reported_with_the_way_to_read_it(loaded):
    reasons = {Path(name).name: reason for name, reason in inputs.notices(loaded)}
    assert reasons["report.pdf"].startswith("no text on page 1 of 2: only pictures")
    assert reasons["scanned.pdf"].startswith("no text: only pictures")
    assert all('images=["NAME#page=N"]' in reason for reason in reasons.values())


def test_where_images_are_not_asked_for_they_are_left_out_as_before(folder, tmp_path):
    taken = inputs.load([str(folder / "deep"), str(folder / "notes.txt")], folder, converter=None)
    assert taken.images == ()
    assert [reason for _, reason in taken.skipped] == ["binary: a JPEG image"]


@pytest.mark.parametrize("name", ["scan.png", "deep/photo.jpg"])
def test_a_task_may_have_nothing_but_an_image(name, folder):
    taken = inputs.load([name], folder, takes_images=True)
    assert (taken.texts, [image.path for image in taken.images]) == ((), [folder / name])


def test_the_list_of_inputs_keeps_images_and_a_list_without_them_is_as_it_was(loaded, folder):
    assert inputs.from_json(inputs.to_json(loaded)).images == loaded.images
    plain = Inputs(loaded.texts)
    assert "images" not in json.loads(inputs.to_json(plain))
    assert inputs.from_json(inputs.to_json(plain)).images == ()


def test_an_image_that_has_changed_counts_as_changed_and_is_found_elsewhere(folder, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    taken = inputs.load(["a.png"], tmp_path, takes_images=True)
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/a.png").write_bytes(png())
    (tmp_path / "a.png").write_bytes(png(colour=7))
    assert inputs.changed(taken) == ("a.png",)
    assert inputs.changed(inputs.found_in(taken, tmp_path / "moved")) == ()
    with pytest.raises(NoImageError, match="is not the file that the run began with"):
        inputs.ImageReader().opened(taken, ["a.png"])


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────


def test_pictures_are_shown_as_they_are_whether_by_name_or_as_bytes(loaded):
    reader = inputs.ImageReader()
    shown = reader.opened(loaded, ["scan.png", JPEG, "misnamed.txt"])
    assert [(media_type(image), image.data) for image in shown] == [
        ("image/png", png()),
        ("image/jpeg", JPEG),
        ("image/png", png(colour=9)),
    ]
    kept = reader.files()
    assert kept.keys() == {FILE, *(f"images/{image.file}" for image in shown)}
    assert all(hashlib.sha256(data).hexdigest() in name for name, data in kept.items() if name != FILE)
    assert reader.files() == {}


@pytest.mark.slow
def test_a_page_of_a_pdf_is_drawn_once_and_taken_from_the_run_folder_after_that(loaded, monkeypatch):
    reader = inputs.ImageReader()
    (first,), (second,) = (
        reader.opened(loaded, ["report.pdf#page=1"]),
        reader.opened(loaded, ["scanned.pdf#page=1"]),
    )
    assert media_type(first) == "image/png"
    width, height = struct.unpack(">II", first.data[16:24])
    assert (width, height) == (1212, 1568)
    assert len(first.data) < MAX_IMAGE_BYTES
    pixels = zlib.decompress(first.data[41 : first.data.index(b"IEND") - 8])
    assert {0, 255} <= set(pixels[::97]), "the drawing is black on white"
    files = reader.files()
    monkeypatch.setattr(inputs.ImageReader, "_draw", lambda *_: pytest.fail("drawn again"))
    again = inputs.ImageReader(None, files.get)
    assert again.opened(loaded, ["report.pdf#page=1", "scanned.pdf#page=1"]) == (first, second)


def test_a_kept_page_that_was_altered_is_drawn_again(loaded, monkeypatch):
    monkeypatch.setattr(inputs.ImageReader, "_draw", lambda *_: png())
    reader = inputs.ImageReader()
    (first,) = reader.opened(loaded, ["report.pdf#page=2"])
    files = {name: data if name == FILE else b"forged" for name, data in reader.files().items()}
    assert inputs.ImageReader(None, files.get).opened(loaded, ["report.pdf#page=2"]) == (first,)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("nothing.png", "no image is named 'nothing.png'; the images are: deep/photo.jpg"),
        ("notes.txt", "no image is named 'notes.txt'"),
        ("../scan.png", "no image is named"),
        ("/etc/passwd", "no image is named"),
        ("scanned.pdf", "is a PDF: name a page of it, as scanned.pdf#page=1"),
        ("report.pdf", "is a PDF: name a page of it, as report.pdf#page=1"),
        ("report.pdf#page=3", "it has 2 pages, and no page 3"),
        ("report.pdf#page=0", "no image is named"),
        ("report.pdf#page=9999999", "and no page 9999999"),
        ("scan.png#page=1", "no image is named"),
        ("notes.txt#page=1", "no image is named"),
        (b"GIF89a" + bytes(9), "an image is neither PNG nor JPEG"),
        (b"x", "an image is neither PNG nor JPEG"),
        (png() + bytes(MAX_IMAGE_BYTES), "make it smaller"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(wanted, message, loaded):
    reader = inputs.ImageReader()
    with pytest.raises(NoImageError) as error:
        reader.opened(loaded, ["scan.png", wanted])
    assert message in str(error.value)
    assert reader.files() == {}, "nothing was shown"


def test_a_request_shows_twenty_images_at_most(loaded):
    with pytest.raises(NoImageError, match="at most 20 images, not 21"):
        inputs.ImageReader().opened(loaded, ["scan.png"] * 21)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"format": 9, "drawn": {}}', b'{"format": 1, "drawn": {"a": 7}}', b"[" * 99_999],
)
def test_a_damaged_list_of_drawn_pages_is_called_damaged(data):
    with pytest.raises(WorkspaceError):
        inputs.ImageReader(None, {FILE: data}.get)


@pytest.mark.parametrize("file", ["../../secret", "/etc/passwd", "0" * 64, f"{'0' * 64}.png\n"])
def test_a_received_list_of_drawn_pages_names_no_other_file(file, loaded, monkeypatch):
    monkeypatch.setattr(inputs.ImageReader, "_draw", lambda *_: png())
    sha256 = hashlib.sha256(SCAN).hexdigest()
    body = json.dumps({"format": 1, "drawn": {f"{sha256}#page=1": file}}).encode()
    read: list[str] = []

    def reading(path):
        read.append(path)
        return body if path == FILE else None

    inputs.ImageReader(None, reading).opened(loaded, ["report.pdf#page=1"])
    assert read == [FILE]


# ── what asks the same ──────────────────────────────────────────────────────────────────────────────


def shown(*images):
    made = tuple(Image(f"{hashlib.sha256(data).hexdigest()}.png", data) for data in images)
    return Request("openai:x", (Message("user", "What?", images=made),)).fingerprint()


def test_the_fingerprint_of_a_request_covers_the_bytes_of_its_images_and_their_order():
    shows = ((), (b"a",), (b"b",), (b"a", b"b"), (b"b", b"a"), (b"a", b"a"))
    assert len({shown(*images) for images in shows}) == len(shows)
    assert shown(b"a", b"b") == shown(b"a", b"b")


def test_the_fingerprint_of_a_request_without_images_is_that_of_earlier_versions():
    body = '{"kind":"root","max_output_tokens":4096,"messages":[["user","What?"]],"model":"openai:x",'
    body += '"system":""}'
    assert shown() == hashlib.sha256(body.encode()).hexdigest()
