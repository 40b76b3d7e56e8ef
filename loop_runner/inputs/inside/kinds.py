"""Tells kinds of files apart by their first bytes and their name. Standard library only: both sides use it.

The bytes decide wherever they can; the name decides only among kinds that are text (HTML, mail) or that
look the same from outside (the many kinds of zip archive).
"""

from __future__ import annotations

NEEDS_DOCS = "needs the extra [docs]"  # the host knows the command that installs it
SNIFF = 8192

# A file of one of these kinds may have no NUL in its first 8 kB and still not be text.
MAGIC = {
    b"%PDF-": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip archive (also .docx, .xlsx, .whl)",
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x7fELF": "a program",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old or an encrypted Office file (.doc, .xls, .ppt, or one with a password)",
    b"\xff\xfe\x00\x00": "UTF-32 text",
    b"\x00\x00\xfe\xff": "UTF-32 text",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
# Pictures that a model can be shown.
IMAGES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
MAX_IMAGE_BYTES = 3_750_000  # of one: 5 MB in base64, the least that providers of models take
# Zip archives that hold programs, data or drawings: never opened.
_NO_DOCUMENTS = {
    *(
        ".jar",
        ".war",
        ".ear",
        ".aar",
        ".apk",
        ".ipa",
        ".aab",
        ".whl",
        ".egg",
        ".xpi",
        ".crx",
        ".vsix",
        ".nupkg",
    ),
    *(".npz", ".pt", ".pth", ".ckpt", ".keras", ".kmz", ".3mf", ".sb3", ".xps", ".odt", ".ods", ".odp"),
}
PACKAGES = {
    ".docx": "docx",
    ".docm": "docx",
    ".dotx": "docx",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".xltx": "xlsx",
    ".pptx": "pptx",
    ".pptm": "pptx",
    ".ppsx": "pptx",
    ".epub": "epub",
}
_BY_NAME = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".mbox": "mbox",
    ".eml": "eml",
    ".ipynb": "ipynb",
}
_TAR_SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_COMPRESSED_SUFFIXES = {"gzip": (".gz", ".tgz"), "bzip2": (".bz2", ".tbz2"), "xz": (".xz", ".txz")}
TABLES = {".csv": "CSV", ".tsv": "TSV", ".json": "JSON", ".jsonl": "JSONL", ".ndjson": "JSONL"}


def suffix_of(name: str) -> str:
    """The last extension of ``name`` with its dot, in lower case; "" when it has none."""
    last = name.rsplit("/", 1)[-1]
    _, dot, ending = last.rpartition(".")
    return f".{ending.lower()}" if dot else ""


def is_tar(name: str) -> bool:
    """Whether ``name`` is that of a tar archive, compressed or not."""
    return name.lower().endswith(_TAR_SUFFIXES)


def kind_of(name: str, head: bytes, added: frozenset[str] = frozenset()) -> str | None:
    """How a file is converted; None: not at all (it is plain text, or a kind that is not read).

    ``head`` is its first 8 kB, ``added`` the extensions that other packages' loaders take.
    """
    suffix = suffix_of(name)
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None if suffix in _NO_DOCUMENTS else "package"
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            return kind if suffix in _COMPRESSED_SUFFIXES[kind] else None
    if head[257:262] == b"ustar" or (suffix == ".tar" and head):
        return "tar"
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if not head:
        return None
    is_ours = suffix in _BY_NAME or suffix in TABLES
    return "added" if suffix in added and not is_ours else _BY_NAME.get(suffix)


def why_binary(head: bytes) -> str:
    """Why a file that begins with ``head`` is not text; "" when it is."""
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return f"binary: {kind}"
    return "binary: it holds NUL bytes" if b"\0" in head[:SNIFF] else ""
