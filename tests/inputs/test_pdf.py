"""The text of a PDF has its words, its headings and its form's values; what it lacks is reported."""

import io
from typing import Any

import pytest

from loop_runner import inputs
from loop_runner.inputs.inside import pdf
from loop_runner.kernel.inside import cutting, outlines, passages
from tests.support import papers

GLUED = "Packageswhicharenecessaryforthe installationofthewholesystem are listed"


def load(folder, converter, name="a.pdf", data=b"", **more):
    root = folder(files={name: data, **more})
    return inputs.load([str(root)], root, converter=converter)


def text_of(result, name="a.pdf"):
    return next(text for text in result.texts if text.name == name).path.read_text(encoding="utf-8")


def reasons(result):
    return [reason for _, reason in result.skipped]


def with_gaps(words, gap=-333):
    """A page whose words have no space characters between them, only a gap, as LaTeX writes them."""
    shown = f" {gap} ".join(f"({word})" for word in words.split())
    stream = f"BT /F1 12 Tf 72 700 Td [{shown}] TJ ET".encode()
    body = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
    return papers.pdf(["x"], objects={4: body})


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gap", [-250, -333, -500])
def test_words_that_only_a_gap_separates_are_separate(folder, converter, gap):
    words = "Packages which are necessary for the system"
    assert text_of(load(folder, converter, data=with_gaps(words, gap))) == f"{words}\n"


def test_letters_that_kerning_moves_stay_one_word(folder, converter):
    result = load(folder, converter, data=with_gaps("A V A T A R", gap=80))
    assert text_of(result) == "AVATAR\n"


def test_columns_are_read_one_after_the_other(folder, converter):
    rows = [
        f"1 0 0 1 {x} {y} Tm ({word}) Tj"
        for x, words in ((72, ("left one", "left two")), (320, ("right one", "right two")))
        for y, word in zip((700, 686), words, strict=True)
    ]
    stream = f"BT /F1 12 Tf {' '.join(rows)} ET".encode()
    body = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
    result = load(folder, converter, data=papers.pdf(["x"], objects={4: body}))
    assert text_of(result).split("\n")[:4] == ["left one", "left two", "right one", "right two"]


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_rotated_page_has_its_words(folder, converter, angle):
    data = papers.pdf(["The term is nine months"]).replace(b"/MediaBox", b"/Rotate %d /MediaBox" % angle)
    assert text_of(load(folder, converter, data=data)) == "The term is nine months\n"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("docu\ufffementation of it", "documentation of it"),
        (
            "a width\ufffechanging command, width-changing indeed",
            "a width-changing command, width-changing indeed",
        ),
        ("Width\ufffechanging; a width-changing one", "Width-changing; a width-changing one"),
        ("über\ufffeschrift", "überschrift"),
        ("a range of 5\ufffe", "a range of 5-"),
    ],
)
def test_a_word_that_a_line_end_divides_is_whole(text, whole):
    assert pdf._without_line_end_hyphens([text]) == [whole]


@pytest.mark.parametrize(
    ("text", "is_joined"),
    [
        (GLUED, True),
        ("Diesebeidenwörtersindnichtgetrennt", True),
        ("словабезпробеловмеждунимисовсем", True),
        ("Packages which are necessary for the installation are listed", False),
        ("https://example.org/a/very/long/address/without/any/spaces/in/it/index.html", False),
        ("some_function_with_quite_a_long_name(argument_one=2)", False),
        ("日本語の文章には単語の間に空白がありませんので長い行になります", False),
        ("0123456789" * 10, False),
        ("Der Schalter dient der Verbesserung der Eingabebearbeitungsfähigkeiten von Perl", False),
        ("RequirePackageWithOptionsAndMore bookmarkHorizontalAbsoluteValue", False),
        ("PACKAGESWHICHARENECESSARYFORTHE SYSTEM", True),
        ("abcdefghijklmnopqrstuvwxyzabcdef " + "ordinary words of a page " * 40, False),
        ("", False),
    ],
)
def test_words_run_together_in_scripts_that_have_spaces(text, is_joined):
    assert pdf.has_joined_words(text) is is_joined


# ── what is reported ────────────────────────────────────────────────────────────────────────────────


def test_pages_whose_words_run_together_are_reported_and_the_text_is_kept(folder, converter):
    result = load(folder, converter, data=papers.pdf(["fine words", GLUED, GLUED, "fine", GLUED]))
    (reason,) = reasons(result)
    assert reason.startswith("words run together on pages 2-3 and 5 of 5")
    assert GLUED in text_of(result)
    assert result.texts[0].about == f"a PDF; {reason}"  # what the model sees
    assert inputs.notices(result) == list(result.skipped)
    assert inputs.skipped_by_kind(result) == {}  # nothing was left out
    assert not inputs.is_fault(reason)
    assert inputs.from_json(inputs.to_json(result)) == result


def picture_page():
    """A page with an image and no text, between two with text."""
    image = (
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 "
    )
    image += b"/Length 1 >>\nstream\n0\nendstream"
    drawn = b"q 100 0 0 100 72 600 cm /I Do Q"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 6 0 R "
    page += b"/Resources << /XObject << /I 9 0 R >> >> >>"
    body = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn)
    return papers.pdf(["one", "", "three"], objects={5: page, 6: body, 9: image})


def test_a_page_that_is_only_a_picture_is_reported(folder, converter):
    result = load(folder, converter, data=picture_page())
    how = 'a model that reads images can be shown them: images=["NAME#page=N"]'
    assert reasons(result) == [f"no text on page 2 of 3: only pictures ({how})"]
    assert "no text on page 2" in result.texts[0].about


def test_a_blank_page_is_listed_and_is_no_fault(folder, converter):
    result = load(folder, converter, data=papers.pdf(["one", "", "three", "", ""]))
    assert reasons(result) == ["nothing on pages 2 and 4-5 of 5"]
    assert (result.texts[0].about, inputs.notices(result)) == ("", [])
    assert not inputs.is_fault(reasons(result)[0])


def test_what_a_readable_text_lacks_is_no_error_with_strict(folder, converter):
    root = folder(files={"a.pdf": papers.pdf([GLUED]), "b.pdf": picture_page()})
    result = inputs.load([str(root)], root, converter=converter, strict=True)
    assert len(result.texts) == len(result.skipped) == 2


def test_a_notice_about_a_document_in_an_archive_names_it(folder, converter):
    data = papers.zipped([("docs/b.pdf", papers.pdf([GLUED])), ("c.txt", "c\n")])
    result = load(folder, converter, "x.zip", data)
    ((path, reason),) = result.skipped
    assert path.endswith("x.zip/docs/b.pdf")
    assert reason.startswith("words run together on page 1 of 1")
    assert {text.name: bool(text.about) for text in result.texts} == {
        "x.zip/docs/b.pdf": True,
        "x.zip/c.txt": False,
    }


def test_notices_are_kept_with_the_cached_text(folder, converter):
    data = papers.pdf([GLUED])
    first = load(folder, converter, data=data)
    assert load(folder, converter, data=data) == first
    assert first.skipped


def test_many_pages_are_counted():
    assert pdf._named(range(2, 200, 2), 300) == "99 of 300 pages"
    assert pdf._named([7], 9) == "page 7 of 9"
    assert pdf._named([1, 2, 4, 6, 7, 8], 9) == "pages 1-2, 4 and 6-8 of 9"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4 nothing", "broken: it is damaged, or it is not a PDF"),
        (papers.pdf(["some text"])[:60], "broken: it is damaged, or it is not a PDF"),
        (papers.pdf([]), "broken: "),
        (papers.pdf(["", ""]), "it holds no text: only pictures, perhaps"),
    ],
)
def test_a_pdf_that_cannot_be_read_has_its_reason(folder, converter, data, reason):
    result = load(folder, converter, data=data, **{"b.txt": "text"})
    assert reasons(result)[0].startswith(reason)
    assert inputs.is_fault(reasons(result)[0])


def test_a_pdf_with_an_empty_password_is_read(folder, converter):
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(papers.pdf(["not so secret"])))
    writer.encrypt("", owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    assert text_of(load(folder, converter, data=out.getvalue())) == "not so secret\n"


# ── forms ───────────────────────────────────────────────────────────────────────────────────────────


def form(value):
    """A page with the word "Name" and a field that was filled in."""
    drawn = f"/Tx BMC BT /F1 12 Tf 0 0 0 rg 2 4 Td ({value}) Tj ET EMC".encode()
    font = b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    look = b"<< /Type /XObject /Subtype /Form /BBox [0 0 200 20] /Resources %s /Length %d >>" % (
        font,
        len(drawn),
    )
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (%s) /Rect [72 600 272 620] /F 4 "
        % value.encode()
    )
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Annots [7 0 R] "
    page += b"/Resources %s >>"
    return papers.pdf(
        ["Name"],
        objects={
            1: b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [7 0 R] /DR %s >> >>" % font,
            3: page % font,
            7: field + b"/P 3 0 R /AP << /N 8 0 R >> >>",
            8: look + b"\nstream\n" + drawn + b"\nendstream",
        },
    )


@pytest.mark.parametrize("value", ["Ada Lovelace", "42 EUR"])
def test_what_was_filled_into_a_form_is_in_the_text(folder, converter, value):
    assert text_of(load(folder, converter, data=form(value))).split("\n")[:2] == ["Name", value]


# ── the document's own headings ─────────────────────────────────────────────────────────────────────


def with_bookmarks(pages, bookmarks):
    """A PDF with (title, index of its page) as its bookmarks, each "> " before a title a level down."""
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(papers.pdf(pages)))
    parents: dict[int, Any] = {}
    for title, index in bookmarks:
        level = title.count("> ")
        parents[level] = writer.add_outline_item(
            title=title.replace("> ", ""), page_number=index, parent=parents.get(level - 1)
        )
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


PAGES = [
    "The Manual\nContents\nScope",
    "The Manual\n1 Scope\nAll goods.\n1.1 Limits\nNone.",
    "The Manual\nmore of it\n2 Price and\nPayment\nTen dollars.",
]
BOOKMARKS = [("Scope", 1), ("> 1.1 Limits", 1), ("Price and Payment", 2), ("Elsewhere", 2)]


def outlined(folder, converter, pages=PAGES, bookmarks=BOOKMARKS):
    (text,) = load(folder, converter, data=with_bookmarks(pages, bookmarks)).texts
    body = text.path.read_text()
    return body, outlines.outline("a.pdf", body, text.origin.places, text.origin.headings), text.origin


def test_the_outline_of_a_pdf_is_its_bookmarks_on_the_lines_of_their_titles(folder, converter):
    body, outline, _ = outlined(folder, converter)
    lines = body.split("\n")
    assert [(mark.level, mark.text, lines[mark.line - 1]) for mark in outline] == [
        (1, "Scope", "1 Scope"),
        (2, "1.1 Limits", "1.1 Limits"),
        (1, "Price and Payment", "2 Price and"),
        (1, "Elsewhere", "2 Price and"),  # no line shows it: it stays behind the heading before it
    ]


def test_a_bookmark_that_no_line_shows_is_on_the_first_line_of_its_page(folder, converter):
    body, outline, _ = outlined(folder, converter, bookmarks=[("Scope", 1), ("Elsewhere", 2)])
    assert body.split("\n")[outline[1].line] == "more of it"


def test_a_part_is_read_by_its_bookmark(folder, converter):
    body, _, origin = outlined(folder, converter)
    shown = passages.read("a.pdf", body, "scope", None, origin.places, origin.headings)
    assert "1 Scope" in shown
    assert "None." in shown
    assert "Ten dollars" not in shown


def test_pieces_begin_at_bookmarks(folder, converter):
    body, _, origin = outlined(folder, converter, bookmarks=BOOKMARKS[:3])
    pieces = cutting.cut_by("heading", "a.pdf", body, 5000, origin.headings)
    assert [piece.split("\n")[0] for piece in pieces] == [
        "The Manual",
        "1 Scope",
        "1.1 Limits",
        "2 Price and",
    ]


def test_bookmarks_without_a_title_or_a_page_are_left_out(folder, converter):
    _, outline, _ = outlined(folder, converter, bookmarks=[("", 0), ("Scope", 1)])
    assert [mark.text for mark in outline] == ["Scope"]


def test_headings_survive_the_list_of_inputs_and_the_cache(folder, converter):
    data = with_bookmarks(PAGES, BOOKMARKS)
    first = load(folder, converter, data=data)
    assert load(folder, converter, data=data) == first == inputs.from_json(inputs.to_json(first))
    assert papers.origin(first.texts[0]).headings


def test_without_bookmarks_the_outline_has_pages_and_no_running_heads(folder, converter):
    words = ["ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple"]
    pages = [f"A Manual of Trees\nthe {word} is a tree\n{at}" for at, word in enumerate(words, 1)]
    (text,) = load(folder, converter, data=papers.pdf(pages)).texts
    shown = str(outlines.outline("a.pdf", text.path.read_text(), text.origin.places, text.origin.headings))
    assert "A Manual of Trees" not in shown
    assert "page 3: the cedar is a tree" in shown
