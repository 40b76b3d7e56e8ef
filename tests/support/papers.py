"""Makes real documents, small ones, for tests: what office programs, scanners' software and mailers write."""

import io
import zipfile
from email.message import EmailMessage

from loop_runner.records import Origin

XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def pdf(pages, *, objects=None, prev=None):
    """A PDF with these texts as its pages. ``objects`` (number → body) replaces or adds to its own."""
    bodies = {1: b"<< /Type /Catalog /Pages 2 0 R >>"}
    kids = []
    for at, text in enumerate(pages):
        number = 3 + 2 * at
        lines = " ".join(f"({line}) Tj T*" for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 72 700 Td 14 TL {lines} ET".encode()
        font = b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
        bodies[number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources %s >>"
            % (number + 1, font)
        )
        bodies[number + 1] = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
        kids.append(b"%d 0 R" % number)
    bodies[2] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    bodies |= objects or {}
    out, offsets = b"%PDF-1.4\n", {}
    for number, body in sorted(bodies.items()):
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    xref, size = len(out), max(bodies) + 1
    rows = b"".join(
        b"%010d 00000 n \n" % offsets[number] if number in offsets else b"0000000000 65535 f \n"
        for number in range(size)
    )
    more = b"" if prev is None else b" /Prev %d" % (xref if prev == "self" else prev)
    return (
        out
        + b"xref\n0 %d\n%s" % (size, rows)
        + b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (size, more, xref)
    )


def zipped(members, *, method=zipfile.ZIP_DEFLATED):
    """A zip archive of (name or ``ZipInfo``) → bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def docx(paragraphs, *, before="", more=()):
    """A Word document; a paragraph that begins with "# " is a heading. ``before`` stands before its root."""
    parts = []
    for text in paragraphs:
        style = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>' if text.startswith("# ") else ""
        parts.append(f"<w:p>{style}<w:r><w:t>{text.removeprefix('# ')}</w:t></w:r></w:p>")
    document = f'{XML}{before}<w:document xmlns:w="{_WORD}"><w:body>{"".join(parts)}</w:body></w:document>'
    styles = (
        f'{XML}<w:styles xmlns:w="{_WORD}"><w:style w:type="paragraph" w:styleId="Heading1">'
        '<w:name w:val="heading 1"/></w:style></w:styles>'
    )
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    types = (
        f'{XML}<Types xmlns="{_TYPES}"><Default Extension="xml" ContentType="application/xml"/>'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{main}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{main}.styles+xml"/></Types>'
    )
    relations = (
        f'{XML}<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
        'Target="word/document.xml"/></Relationships>'
    )
    own = (
        f'{XML}<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/styles" '
        'Target="styles.xml"/></Relationships>'
    )
    return zipped(
        [
            ("[Content_Types].xml", types),
            ("_rels/.rels", relations),
            ("word/document.xml", document),
            ("word/styles.xml", styles),
            ("word/_rels/document.xml.rels", own),
            *more,
        ]
    )


def xlsx(sheets):
    """An Excel workbook: (name of a sheet, its rows)."""
    import openpyxl

    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def pptx(titles):
    """Slides, each with a title."""
    from pptx import Presentation

    shown = Presentation()
    for title in titles:
        shown.slides.add_slide(shown.slide_layouts[5]).shapes.title.text = title
    out = io.BytesIO()
    shown.save(out)
    return out.getvalue()


def epub(chapters, *, before=""):
    """A book: (heading, text) of its chapters."""
    names = [f"c{number}.xhtml" for number in range(len(chapters))]
    items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    package = (
        f'{XML}{before}<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>A book</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine>"
        "</package>"
    )
    container = (
        f'{XML}<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles>'
        "</container>"
    )
    page = (
        '<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><body><h1>{}</h1><p>{}</p></body></html>'
    )
    pages = [(f"OPS/{name}", page.format(*chapter)) for name, chapter in zip(names, chapters, strict=True)]
    return zipped(
        [
            ("mimetype", "application/epub+zip"),
            ("META-INF/container.xml", container),
            ("OPS/content.opf", package),
            *pages,
        ]
    )


def message(subject, body, *attached):
    """A message with (file name, bytes) attached to it."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "ann@example.org", "bob@example.org", subject
    made["Date"] = "Thu, 01 Jan 2026 00:00:00 +0000"
    made.set_content(body)
    for name, data in attached:
        made.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return made.as_bytes()


def mbox(*messages):
    """A mailbox of them."""
    return b"".join(
        b"From ann@example.org Thu Jan  1 00:00:00 2026\n" + item.rstrip(b"\n") + b"\n\n" for item in messages
    )


def origin(text) -> Origin:
    """Where a text comes from; it must come from something."""
    assert text.origin is not None
    result: Origin = text.origin
    return result
