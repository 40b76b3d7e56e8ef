"""Hostile documents: each gets a clear line (or is read all the same), in bounded time and memory.

Run with ``-s`` to see the table.
"""

import bz2
import gzip
import io
import lzma
import re
import resource
import struct
import tarfile
import time
import zipfile

import pytest

from loop_runner import inputs
from loop_runner.inputs.inside.sink import Limits
from tests.support import papers

pytestmark = pytest.mark.slow
SECONDS = 8.0
LIMITS = Limits(seconds=SECONDS, memory_bytes=2 << 30)
MB = 1 << 20
LAUGHS = (
    "<!DOCTYPE x ["
    '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12)) + "]>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


def entry(name, mode=0o100644, **more):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr, info.compress_type = 3, mode << 16, zipfile.ZIP_DEFLATED
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tarred(*members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def patched(archive, name, **fields):
    """A zip whose central directory says other things of a member than are true."""
    places = {"packed": 20, "size": 24, "flags": 8}
    at = archive.rindex(b"PK\x01\x02", 0, archive.rindex(name.encode()))
    data = bytearray(archive)
    for field, value in fields.items():
        struct.pack_into("<H" if field == "flags" else "<I", data, at + places[field], value)
    return bytes(data)


def nested(depth):
    data = papers.zipped([("a.txt", "deep\n")])
    for _ in range(depth):
        data = papers.zipped([("inner.zip", data)])
    return data


def nested_mail(depth):
    lines = [b"From: a@b", b"Subject: deep"]
    for n in range(depth):
        lines += [b"Content-Type: multipart/mixed; boundary=b%d" % n, b"", b"--b%d" % n]
    return b"\n".join([*lines, b"", b"end"])


def encrypted_pdf():
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(papers.pdf(["secret"])))
    writer.encrypt("password", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def packed_page(size):
    import zlib

    stream = zlib.compress(b" " * size, 9)
    body = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream)
    return papers.pdf(["x"], objects={4: body})


def cell_far_out():
    import openpyxl

    book = openpyxl.Workbook()
    book.active["XFD1048576"] = "far"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def bomb_of(size, names):
    return papers.zipped([(name, b"\0" * size) for name in names])


DOCX = papers.docx(["some text"])
XLSX = papers.xlsx([("A", [["x", "y"], [1, 2]])])
MACROS = [("word/vbaProject.bin", b"\xd0\xcf\x11\xe0")]
SHEET_LAUGHS = f'{papers.XML}{LAUGHS}<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"/>'
CYCLE = {2: b"<< /Type /Pages /Count 2 /Kids [2 0 R 3 0 R] >>"}
REPEATED = {2: b"<< /Type /Pages /Count 1000000000 /Kids [%s] >>" % (b"3 0 R " * 25_000)}

# file → (its bytes, what is said of it; "" when it is read as what it is)
CASES = {
    # archives
    "bomb.zip": (lambda: bomb_of(200 * MB, ["zeros"]), "too large: it unpacks to 1[0-9]+ times its size"),
    "bombs.zip": (lambda: bomb_of(9 * MB, map(str, range(40))), "too large: it unpacks to more than 256 MB"),
    "nested.zip": (lambda: nested(6), "nested too deeply: archives in archives are opened 3 levels deep"),
    "liar.zip": (lambda: patched(bomb_of(MB, ["z"]), "z", size=10), "broken: Bad CRC"),
    "huge.zip": (
        lambda: patched(papers.zipped([("h", "text\n")]), "h", size=0xFFFFFFFE),
        "it says that it unpacks to 4,294,967,294 bytes",
    ),
    "escape.zip": (lambda: papers.zipped([("../../evil.txt", "x")]), "its path leads out of the archive"),
    "absolute.zip": (lambda: papers.zipped([("/etc/evil.txt", "x")]), "its path is absolute"),
    "drive.zip": (lambda: papers.zipped([("C:\\evil.txt", "x")]), "its path is absolute"),
    "link.zip": (lambda: papers.zipped([(entry("l", 0o120777), "/etc/passwd")]), "a link"),
    "device.zip": (lambda: papers.zipped([(entry("d", 0o020666), "")]), "not a regular file"),
    "controls.zip": (lambda: papers.zipped([("a\x1b[2Jb.txt", "x")]), "its name holds control characters"),
    "long.zip": (lambda: papers.zipped([("d/" * 60 + "a.txt", "x")]), "its path is too long"),
    "many.zip": (
        lambda: papers.zipped([(str(n), "") for n in range(10_500)], method=0),
        "too many members: at most 10,000",
    ),
    "locked.zip": (lambda: patched(papers.zipped([("l", "x")]), "l", flags=1), "encrypted: its archive has"),
    "cut.zip": (lambda: papers.zipped([("a.txt", "x" * 5000)])[:-30], "broken: File is not a zip file"),
    "escape.tar": (lambda: tarred(("../evil", tarfile.REGTYPE, b"x")), "its path leads out of the archive"),
    "links.tar": (lambda: tarred(("l", tarfile.SYMTYPE, b""), ("h", tarfile.LNKTYPE, b"")), "a link"),
    "devices.tar": (
        lambda: tarred(("c", tarfile.CHRTYPE, b""), ("p", tarfile.FIFOTYPE, b"")),
        "not a regular",
    ),
    "cut.tar.gz": (
        lambda: tarred(("a", tarfile.REGTYPE, bytes(range(1, 255)) * 300), mode="w:gz")[:300],
        "broken",
    ),
    "bomb.txt.gz": (
        lambda: gzip.compress(b"\0" * (600 * MB), 9),
        "too large: it unpacks to more than 256 MB",
    ),
    "bomb.txt.bz2": (lambda: bz2.compress(b"\0" * (600 * MB)), "too large: it unpacks to more than 256 MB"),
    "bomb.txt.xz": (
        lambda: lzma.compress(b"\0" * (600 * MB), preset=1),
        "too large: it unpacks to more than",
    ),
    # Office, books, pages
    "laughs.docx": (lambda: papers.docx(["&a12;"], before=LAUGHS), "broken: its XML defines entities"),
    "laughs16.docx": (
        lambda: papers.docx(["x"], more=[("word/x.xml", f"{LAUGHS}<x/>".encode("utf-16"))]),
        "broken: its XML defines entities",
    ),
    "outside.docx": (lambda: papers.docx(["&e;"], before=OUTSIDE), "broken: its XML defines entities"),
    "laughs.xlsx": (
        lambda: with_part(XLSX, "xl/laughs.xml", SHEET_LAUGHS),
        "broken: its XML defines entities",
    ),
    "laughs.epub": (lambda: papers.epub([("A", "x")], before=LAUGHS), "broken: its XML defines entities"),
    "laughs.svg": (f"{LAUGHS}<svg>&a12;</svg>".encode, ""),
    "macros.docm": (lambda: papers.docx(["x"], more=MACROS), "binary: it holds macros"),
    "macros.docx": (lambda: papers.docx(["x"], more=MACROS), "binary: it holds macros"),
    "bomb.docx": (
        lambda: papers.docx(["x"], more=[("word/b.xml", b" " * (400 * MB))]),
        "too large: a part of it",
    ),
    "twice.docx": (lambda: twice(DOCX), "broken: two of its parts have the same name"),
    "far.xlsx": (cell_far_out, "too large|broken"),
    "cut.docx": (lambda: DOCX[: len(DOCX) // 2], "broken: File is not a zip file"),
    "cut.xlsx": (lambda: XLSX[:-100], "broken: File is not a zip file"),
    "not.docx": (lambda: papers.zipped([("a.txt", "x")]), "broken: it is called .docx, and holds no such"),
    "old.doc": (
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "binary: an old or an encrypted Office",
    ),
    "deep.html": (lambda: b"<div>" * 200_000 + b"text", "^(broken|too large|$)"),  # a quick machine reads it
    # PDF
    "locked.pdf": (encrypted_pdf, "encrypted: it opens with a password only"),
    "cycle.pdf": (lambda: papers.pdf(["one", "two"], objects=CYCLE), "^(broken|too large|$)"),
    "xref.pdf": (lambda: papers.pdf(["one"], prev="self"), "^(broken|too large|$)"),
    "count.pdf": (lambda: papers.pdf(["one"], objects=REPEATED), "too large: it has 25,000 pages|broken"),
    "bomb.pdf": (lambda: packed_page(900 * MB), "broken|too large|it holds no text"),
    "cut.pdf": (lambda: papers.pdf(["some text"])[:60], "broken"),
    "pictures.pdf": (lambda: papers.pdf(["", ""]), "it holds no text: only pictures"),
    # mail, tables, odd files
    "nested.eml": (lambda: nested_mail(500), "broken: its parts are nested too deeply"),
    "parts.eml": (lambda: nested_mail(5000), "too many parts"),
    "nested.mbox": (lambda: papers.mbox(nested_mail(500)), "broken: its parts are nested too deeply"),
    "deep.json": (lambda: b"[" * 1_000_000, ""),
    "wide.csv": (lambda: b'a,b\n1,"' + b"x" * (10 * MB) + b'"\n', ""),
    "wide16.txt": (lambda: "wide text\n".encode("utf-16"), ""),
    "empty.pdf": (lambda: b"", "empty"),
    "picture.docx": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "binary: a PNG image"),
    "program.txt": (lambda: b"\x7fELF" + bytes(100), "binary: a program"),
    "nul.txt": (lambda: b"text\0text", "binary: it holds NUL bytes"),
}


def with_part(package, name, data):
    out = io.BytesIO(package)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(name, data)
    return out.getvalue()


def twice(package):
    with pytest.warns(UserWarning, match="Duplicate name"):
        return with_part(package, "word/document.xml", "<x/>")


@pytest.fixture(scope="module")
def table():
    rows: list[tuple[str, float, str]] = []
    yield rows
    print()
    for name, seconds, output in rows:
        print(f"  {name:16} {seconds:5.1f} s  {output}")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_costs_a_line_and_little_else(name, tmp_path, cache, table):
    make, expected = CASES[name]
    (tmp_path / name).write_bytes(make())
    (tmp_path / "zz.txt").write_text("a good file\n")
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    result = inputs.load([str(tmp_path)], tmp_path, converter=inputs.Converter(cache, limits=LIMITS))
    seconds = time.monotonic() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    reasons = "; ".join(reason for _, reason in result.skipped)
    about = "; ".join(text.about for text in result.texts if text.about)
    table.append((name, seconds, reasons or f"read: {about or 'as text'}"))
    assert seconds < SECONDS + 25  # the machine may be busy
    assert grown < 300 * 1024  # kB, of this process: what is in the document stays in the child
    assert result.texts[-1].name == "zz.txt"
    assert re.search(expected, reasons) if expected else not reasons
    assert "\n" not in reasons
    assert reasons.isprintable()


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("big.pdf", b"%PDF-1.4\n", "too large: 2,147,483,648 bytes, at most 536,870,912 are converted"),
        ("big.zip", b"PK\x03\x04", "too large: 2,147,483,648 bytes, at most 536,870,912 are converted"),
        ("big.bin", b"", "binary: it holds NUL bytes"),
    ],
)
def test_a_file_of_two_gigabytes_of_nothing_is_left_out_at_once(tmp_path, cache, name, head, expected):
    with (tmp_path / name).open("wb") as file:
        file.write(head)
        file.truncate(2 << 30)
    (tmp_path / "zz.txt").write_text("a good file\n")
    began = time.monotonic()
    result = inputs.load([str(tmp_path)], tmp_path, converter=inputs.Converter(cache))
    assert time.monotonic() - began < 60  # reading them would take longer
    assert result.skipped == ((f"{tmp_path}/{name}", expected),)


def test_members_of_one_name_give_the_first_and_a_line_about_the_second(tmp_path, cache):
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = papers.zipped([("a.txt", "first\n"), ("a.txt", "second\n")])
    (tmp_path / "d.zip").write_bytes(data)
    result = inputs.load([str(tmp_path)], tmp_path, converter=inputs.Converter(cache))
    assert [text.path.read_text() for text in result.texts] == ["first\n"]
    assert result.skipped[0][1] == "repeated: the archive has a member of that name already"


def test_memory_that_a_document_asks_for_is_limited(tmp_path, cache):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x" * (200 * MB), 1))
    (tmp_path / "zz.txt").write_text("a good file\n")
    small = Limits(seconds=SECONDS, memory_bytes=300 * MB)
    result = inputs.load([str(tmp_path)], tmp_path, converter=inputs.Converter(cache, limits=small))
    assert result.skipped[0][1].startswith("too large: reading it takes more memory")
