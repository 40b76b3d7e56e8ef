"""Which lines of a text `outline` and `chunks(by="heading")` take for headings."""

import pytest

from loop_runner.kernel.inside import cutting, outlines, passages, shown, structure, tables
from loop_runner.kernel.inside.matching import find_all
from loop_runner.kernel.inside.search import SearchIndex

TILDES = """The Manual
**********

1. Scope
========

1.1. Files
----------

1.1.1. Names of files
~~~~~~~~~~~~~~~~~~~~~

Names are short.

1.1.2. Sizes
~~~~~~~~~~~~

Sizes are small.

2. Rest
=======
"""
CHANGELOG = """tool (1.2-1) unstable; urgency=medium

  * New version.
    - It is faster.

 -- A Person <a@example.org>  Mon, 30 Nov 2026 10:00:00 +0000

tool (1.1-1) unstable; urgency=low

  * First version.

 -- A Person <a@example.org>  Sun, 29 Nov 2026 10:00:00 +0000
"""
GNU_CHANGELOG = """2026-11-30  A Person  <a@example.org>

\t* main.c (main): Return 0.
\t(helper): New.

2026-11-29  B Person  <b@example.org>

\t* main.c: Begin.
\tIt compiles.
"""
MANUAL_PAGE = """NAME
    tool - does it

SYNOPSIS
    tool [-v] FILE

DESCRIPTION
    It does what it does.

    -v  Say more.
"""
CONTENTS = """              The Sub-Manual

   Abstract of the manual.

   Table of Contents

   1. About this document

   2. Structure

                2.1. Preferred parts

   A. History

                 Chapter 1. About this document

   It is short. It has few words.

                 Chapter 2. Structure

  2.1. Preferred parts

   Parts are preferred.

                 Appendix A. History

   It began.
"""
DOTTED = """Contents
Introduction ......... 1
Methods .............. 4
  Sampling ........... 5
Results .............. 9

Introduction
We begin. Methods come later.

Methods
Here they are, the methods.

Sampling
We took samples.

Results
None.
"""


def headings_of(text):
    return [(mark.level, mark.text) for mark in structure.headings(text)]


NUMBERED = "1. Payment\n\nInvoices are paid within 30 days.\n\n2. Notice\n\nSix months.\n\n"


@pytest.mark.parametrize(
    "title",
    [
        "Amendment of 9 June 2019",
        "First amendment (2019)",
        "Signatures",
        "What both sides agreed in addition",
        "Änderung vom 9. Juni 2019",
        "附则",
    ],
)
@pytest.mark.parametrize(
    "below", ["The following replaces what is above.", "A line\nof two lines", "3. Rest"]
)
def test_a_heading_without_a_number_beside_numbered_ones_is_found(title, below):
    if len(title) < 3:
        title *= 2
    rest = f"{below}\n\nIt ends here.\n"
    assert (1, title) in headings_of(f"{NUMBERED}{title}\n\n{rest}")
    assert (1, title) in headings_of(f"{title}\n\n{NUMBERED}{rest}")


@pytest.mark.parametrize(
    "line",
    [
        "Six months.",  # a sentence
        "and so on",
        "Is it so?",
        "Signed in Berlin\n\nA Person",  # above no text
        "A line of a paragraph\nthat continues",
        "A line of far more words than any title of a section that stands alone has",
        "- an item",
    ],
)
def test_a_line_beside_numbered_headings_that_may_be_text_is_none(line):
    first = line.split("\n")[0]
    text = (
        f"{NUMBERED}{line}\n\nIt ends here.\n" if "Signed" not in line else f"{NUMBERED}{line}\n\nDirector\n"
    )
    assert first not in [title for _, title in headings_of(text)]


@pytest.mark.parametrize("numbered", ["", "1. Payment\n\nInvoices are paid.\n\n"])
def test_lines_that_stand_alone_are_no_headings_where_few_or_no_headings_are_numbered(numbered):
    verses = "".join(f"A line of verse {word}\n\nIt ends here.\n\n" for word in ("one", "two", "three"))
    assert all("verse" not in title for _, title in headings_of(numbered + verses))


def test_lines_that_stand_alone_are_no_headings_where_they_are_more_than_the_numbered_ones():
    verses = "".join(f"A line of verse {word}\n\nIt ends here.\n\n" for word in ("one", "two", "three"))
    assert headings_of(NUMBERED + verses) == [(1, "1. Payment"), (1, "2. Notice")]


def test_a_line_of_tildes_below_a_title_is_an_underline_and_opens_no_code():
    assert headings_of(TILDES) == [
        (1, "The Manual"),
        (2, "1. Scope"),
        (3, "1.1. Files"),
        (4, "1.1.1. Names of files"),
        (4, "1.1.2. Sizes"),
        (2, "2. Rest"),
    ]
    assert len(cutting.cut_by("heading", "manual.txt", TILDES, 10_000)) == 6


@pytest.mark.parametrize(
    ("code", "closes"),
    [
        ("~~~\n# no heading\n~~~\n", True),
        ("```sh\n# no heading\n```\n", True),
        ("````\n```\n# no heading\n````\n", True),
        ("~~~~ python\n# no heading\n~~~\n# nor this\n~~~~~\n", True),
        ("text:\n~~~\n# no heading\n~~~\n", True),
        ("```\n# a heading, for nothing closes the fence\n", False),
        ("``` is a fence ```\n# a heading\n", False),
    ],
)
def test_headings_in_code_count_only_if_the_fence_is_never_closed(code, closes):
    titles = [title for _, title in headings_of(f"# Before\n\n{code}\n# After\n")]
    assert titles[0] == "Before"
    assert titles[-1] == "After"
    assert (len(titles) == 2) == closes


@pytest.mark.parametrize(
    "line", ["====", "----", "~~~~", "^^^^", "****", "++++", '""""', "....", "::::", ">>>>"]
)
def test_every_line_that_restructured_text_underlines_with_makes_a_heading(line):
    assert (1, "Name") in headings_of(f"Name\n{line}\n\nText below it.\n\nMore\n{line}\n\nText.\n")


@pytest.mark.parametrize("title", ["gc", "os", "re"])
def test_a_title_of_two_letters_may_have_an_underline_of_two(title):
    assert headings_of(f"Modules\n=======\n\nText.\n\n{title}\n--\n\nText.\n") == [(1, "Modules"), (2, title)]


def test_a_title_as_long_as_its_underline_may_pass_ninety_characters():
    title = "Package interrelationship fields: Depends, Pre-Depends, Recommends, Suggests, Breaks, Conflicts"
    assert headings_of(f"{title}\n{'=' * len(title)}\n\nText.\n") == [(1, title)]


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        (CHANGELOG, ["tool (1.2-1) unstable; urgency=medium", "tool (1.1-1) unstable; urgency=low"]),
        (GNU_CHANGELOG, ["2026-11-30 A Person <a@example.org>", "2026-11-29 B Person <b@example.org>"]),
        (MANUAL_PAGE, ["NAME", "SYNOPSIS", "DESCRIPTION"]),
    ],
    ids=["Debian's changelog", "GNU's changelog", "manual page"],
)
def test_in_a_text_of_entries_the_lines_at_the_margin_are_the_headings(text, titles):
    assert [title for _, title in headings_of(text)] == titles


@pytest.mark.parametrize(
    "text",
    [
        "- one\n  more\n\n- two\n  more\n\n- three\n  more\n",
        "A paragraph that continues\nfor two lines.\n\nAnother paragraph that\nhas two lines, too.\n",
        "    all\n    is\n    indented\n    here\n    and\n    there\n",
        ".. note::\n   one\n   two\n\n.. note::\n   three\n   four\n",
    ],
    ids=["list", "paragraphs", "indented", "directives"],
)
def test_lists_paragraphs_and_directives_are_no_entries(text):
    assert headings_of(text) == []


def test_titles_that_a_table_of_contents_lists_are_found_where_they_come_again():
    assert headings_of(CONTENTS) == [
        (1, "Table of Contents"),
        (1, "Chapter 1. About this document"),
        (1, "Chapter 2. Structure"),
        (2, "2.1. Preferred parts"),
        (1, "Appendix A. History"),
    ]
    assert headings_of(DOTTED) == [
        (1, "Contents"),
        (1, "Introduction"),
        (1, "Methods"),
        (2, "Sampling"),
        (1, "Results"),
    ]


def test_a_table_of_contents_whose_titles_never_come_again_makes_no_headings():
    assert headings_of("Contents\n\nOne\n\nTwo\n\nThree\n\nSomething else, in a sentence.\n") == []


PAGES = "".join(
    f"Supply Agreement - confidential\nSection {number}. Part {number}\n\nText.\n\nPage {number} of 9\n"
    for number in range(1, 10)
)
PLACES = [(1 + 6 * at, f"page {at + 1}") for at in range(9)]


def test_the_outline_of_pages_shows_what_is_their_own_and_no_running_heads():
    shown = str(outlines.outline("a.pdf", PAGES, PLACES))
    assert "page 2: Section 2. Part 2" in shown
    assert "confidential" not in shown
    assert "Page 2 of 9" not in shown


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        ("1.1.1. Names of files", (10, 14)),
        ("1.1.1.  names of FILES", (10, 14)),
        ("Names of files", (10, 14)),
        ("1. Scope", (4, 19)),
        ("2. Rest", (20, 21)),
    ],
)
def test_a_part_is_read_by_the_heading_that_the_outline_shows(part, lines):
    numbers = [
        int(line.split(":")[1]) for line in str(passages.read("m.txt", TILDES, part, None, ())).split("\n")
    ]
    assert (numbers[0], numbers[-1]) == lines


def test_an_unknown_and_an_ambiguous_part_are_errors_that_name_parts():
    with pytest.raises(
        ValueError, match=r"no part called '3\. More': it has parts such as 'The Manual' and '2\. Rest'"
    ):
        passages.read("m.txt", TILDES, "3. More", None, ())
    with pytest.raises(ValueError, match=r"parts like '1\.1', on lines 7, 10, 15"):
        passages.read("m.txt", TILDES, "1.1", None, ())


@pytest.mark.parametrize("limit", [600, 3000, 8000, 20_000])
def test_what_a_helper_prints_fits_into_what_is_shown(limit, monkeypatch):
    monkeypatch.setattr(shown, "_limit", limit)
    text = "".join(f"# Heading {i}\n{'word ' * (i % 90)}\n" for i in range(3000))
    printed = [
        str(passages.read("a.md", text, 1, None, ())),
        str(passages.read("a.md", text, 1, 3000, ())),
        str(passages.read("a.md", text, "Heading 7", None, ())),
        str(outlines.outline("a.md", text, ())),
        str(tables.rows("a.csv", "a,b\n" + "1,two\n" * 5000)),
        str(SearchIndex({"a.md": text}).search("word", None, 50, 9, regex=False)),
        str(find_all({"a.md": text}, ["a.md"], "word")),
    ]
    assert [len(output) for output in printed if len(output) > limit] == []


def test_the_last_line_of_a_reading_says_how_to_read_on(monkeypatch):
    monkeypatch.setattr(shown, "_limit", 600)
    text = "".join(f"line {i} {'x' * 50}\n" for i in range(1, 101))
    numbers, call = [], "read('a', 20, 60)"
    while call:
        printed = str(
            eval(call, {"read": lambda name, start, end=None: passages.read(name, text, start, end, ())})
        )
        lines = printed.split("\n")
        call = lines.pop().partition(": ")[2] if lines[-1].startswith("…") else ""
        numbers += [int(line.split(":")[1]) for line in lines]
    assert numbers == list(range(20, 61))


def test_pieces_know_their_text_and_their_lines():
    for by in ("heading", "size", "row"):
        pieces = (
            cutting.cut_chunks(TILDES, 60, 0, name="m.txt")
            if by == "size"
            else cutting.cut_by(by, "m.txt", TILDES, 60)
        )
        lines = TILDES.split("\n")
        assert len(pieces) > 3
        for piece in pieces:
            assert piece.name == "m.txt"
            assert "\n".join(lines[piece.line - 1 : piece.last_line]).strip() == piece.strip()
