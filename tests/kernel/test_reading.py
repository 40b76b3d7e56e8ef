"""Outline, read, chunks and rows: what they find, that no piece is lost, and what odd texts do."""

import csv
import io
import json
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.kernel.inside import cutting, outlines, passages, structure, tables
from loop_runner.records import Origin

MARKDOWN = """Preface.

# First

text
```python
# no heading
```
## Second part ##

Third
-----
| a | b |
|---|---|
"""
CONTRACT = """SUPPLY AGREEMENT

between A and B.

1. Definitions

In this agreement "Goods" means goods.

1.1 Interpretation

1. The supplier shall deliver, and
2. the buyer shall pay.

ARTICLE IV - Term and Termination

It ends.

Section 7. Notices

§ 8 Law
"""
PYTHON = '''"""Docs."""
import os

# What it does.
@cached
def first(a):
    def inner():
        pass
    return """
def not_one():
"""

class Second:
    async def method(self): ...
'''
TYPESCRIPT = """export interface Shape { area(): number }
export class Circle implements Shape {
  constructor(private r: number) {
  }
  area(): number {
    if (this.r) {
      return 1;
    }
  }
}
const double = (x: number) => 2 * x;
"""
C = """static int add(int a, int b)
{
    return sub(a, b);
}
int main(void) {
    while (1) {}
}
"""


def marks(result):
    return [(mark.line, mark.level, mark.text) for mark in result]


def test_headings_of_markdown_are_found_outside_its_code():
    assert marks(structure.headings(MARKDOWN)) == [(3, 1, "First"), (9, 2, "Second part"), (11, 2, "Third")]


def test_headings_of_plain_text_are_numbered_lines_and_capitals_but_no_sentences_of_a_list():
    assert marks(structure.headings(CONTRACT)) == [
        (1, 1, "SUPPLY AGREEMENT"),
        (5, 1, "1. Definitions"),
        (9, 2, "1.1 Interpretation"),
        (14, 1, "ARTICLE IV - Term and Termination"),
        (18, 1, "Section 7. Notices"),
        (20, 1, "§ 8 Law"),
    ]


def test_definitions_have_their_line_and_depth():
    assert marks(structure.definitions("a.py", PYTHON)) == [
        (6, 1, "def first(a):"),
        (7, 2, "def inner():"),
        (13, 1, "class Second:"),
        (14, 2, "async def method(self): ..."),
    ]
    broken = marks(structure.definitions("a.py", PYTHON + "this is no python\n"))
    assert {(6, 1, "def first(a):"), (13, 1, "class Second:")} <= set(broken)
    assert [mark[:2] for mark in marks(structure.definitions("a.ts", TYPESCRIPT))] == [
        (1, 1),
        (2, 1),
        (3, 2),
        (5, 2),
        (11, 1),
    ]
    assert [mark[0] for mark in marks(structure.definitions("a.c", C))] == [1, 5]


def test_the_outline_of_json_has_its_keys_with_lines_and_shapes():
    text = json.dumps({"name": "x", "parts": [{"id": 1, "size": 2}], "none": {}}, indent=1)
    assert str(outlines.outline("a.json", text, ())) == (
        'a.json:2: name: "x"\na.json:3: parts: a list of 1, the first: an object of 2: id, size\n'
        "a.json:9: none: an empty object"
    )
    assert "a list of 3, the first: 1" in str(outlines.outline("a.json", "[1, 2, 3]", ()))
    assert "not the JSON that its name says" in str(outlines.outline("a.json", "{'a': 1", ()))


def test_the_outline_of_a_table_has_its_columns():
    shown = str(outlines.outline("a.csv", "id,name,price\n1,ada,1.50\n2,bob,\n", ()))
    assert shown.split("\n") == [
        "a.csv:1: 2 rows of 3 columns",
        "a.csv:1:   id: int, such as '1'",
        "a.csv:1:   name: str, such as 'ada'",
        "a.csv:1:   price: float, such as '1.5'",
    ]


def test_the_outline_of_a_converted_text_has_its_pages_and_what_is_on_them():
    pages = [(1, "page 1"), (5, "page 2")]
    shown = outlines.outline("c.pdf", "1. Scope\n\nAll goods.\n\nthe second page\n\n2. Price\n", pages)
    assert str(shown).split("\n") == [
        "c.pdf:1: page 1: 1. Scope",
        "c.pdf:1:   1. Scope",
        "c.pdf:5: page 2: the second page",
        "c.pdf:7:   2. Price",
    ]


def test_a_long_outline_says_how_to_print_the_rest():
    result = outlines.outline("a.md", "".join(f"# Part number {i}\n" for i in range(2000)), ())
    assert len(result) == 2000
    assert len(str(result)) < 8000
    assert "more: print them with print(outline('a.md')[" in str(result)
    assert result[1990:][0].text == "Part number 1990"


def test_lines_are_read_by_number_from_the_end_and_by_place():
    text = "".join(f"line {i}\n" for i in range(1, 501))
    assert str(passages.read("a", text, 3, 4, ())) == "a:3: line 3\na:4: line 4"
    assert str(passages.read("a", text, -1, None, ())) == "a:500: line 500"
    assert str(passages.read("a", text, 1, None, ())).endswith(
        "a:200: line 200\n… 300 more lines: read('a', 201)"
    )
    places = [(1, "page 1"), (4, "Page 2"), (6, "page 3")]
    assert str(passages.read("a", text, "page 2", None, places)) == "-- Page 2 --\na:4: line 4\na:5: line 5"
    assert (
        str(passages.read("a", text, 5, 6, places)) == "-- Page 2 --\na:5: line 5\n-- page 3 --\na:6: line 6"
    )
    assert "has 500 lines: there is none from 501" in passages.read("a", text, 501, 600, ())
    with pytest.raises(ValueError, match="such as 'page 1' and 'page 3'"):
        passages.read("a", text, "page 9", None, places)


AMENDED = """AGREEMENT

1. Payment

Within 30 days.

2. Notice

One month.
Signed twice.
Signed twice.

Amendment of 9 June 2019

Payment: within 60 days.
"""


@pytest.mark.parametrize(
    ("label", "first", "last"),
    [
        ("2. Notice", 7, 12),  # a part of the outline
        ("Notice", 7, 12),
        ("Amendment of 9 June 2019", 13, 15),  # a heading without a number
        ("  amendment of 9  june 2019 ", 13, 15),
        ("Within 30 days.", 5, 6),  # a line, to the next part
        ("Payment: within 60 days.", 15, 15),
    ],
)
def test_a_part_that_is_no_heading_of_the_outline_is_read_from_its_line(label, first, last):
    printed = str(passages.read("a.txt", AMENDED, label, None, ())).splitlines()
    numbers = [int(line.split(":")[1]) for line in printed]
    assert (numbers[0], numbers[-1]) == (first, last)


@pytest.mark.parametrize("label", ["Within", "Signed twice.", "", "within 61 days"])
def test_a_part_that_no_line_or_several_lines_name_is_refused(label):
    with pytest.raises(ValueError, match=r"no part called|parts like"):
        passages.read("a.txt", AMENDED, label, None, ())


@given(st.integers(0, 60), st.integers(-70, 70), st.integers(1, 9), st.booleans())
def test_any_line_of_a_text_in_many_blocks_is_the_line_of_that_number(count, start, more, ends):
    size, passages._BLOCK_CHARS = passages._BLOCK_CHARS, 16
    try:
        text = "\n".join(f"{'x' * (i % 11)}{i}" for i in range(count)) + "\n" * ends
        lines = text.removesuffix("\n").split("\n")
        first = max(start if start > 0 else len(lines) + 1 + start, 1) if start else 1
        wanted = [f"a:{i}: {lines[i - 1]}" for i in range(first, min(first + more, len(lines)) + 1)]
        read = str(passages.read("a", text, start, first + more, ()))
        assert read == "\n".join(wanted) if wanted else "there is none" in read
    finally:
        passages._BLOCK_CHARS = size


TEXTS = st.text(st.sampled_from('ab#=-\n\r" ,x1.') | st.characters(), max_size=300)


@given(TEXTS, st.sampled_from(["heading", "function"]), st.integers(1, 80))
def test_pieces_by_heading_and_by_function_are_the_text_again(text, by, size):
    pieces = cutting.cut_by(by, "a.py", text, size)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces)


def test_pieces_begin_at_headings_and_at_functions_with_what_stands_above_them():
    assert [piece.split("\n")[0] for piece in cutting.cut_by("heading", "a.md", MARKDOWN, 10_000)] == [
        "Preface.",
        "# First",
        "## Second part ##",
        "Third",
    ]
    assert [piece.split("\n")[0] for piece in cutting.cut_by("function", "a.py", PYTHON, 10_000)] == [
        '"""Docs."""',
        "# What it does.",
        "class Second:",
    ]


def test_pieces_by_row_keep_rows_whole_and_repeat_the_columns():
    text = "id,text\n" + "".join(f'{i},"line one\nline ""two"" {i}"\n' for i in range(50))
    pieces = cutting.cut_by("row", "a.csv", text, 200)
    assert len(pieces) > 5
    assert all(piece.startswith("id,text\n") and len(piece) <= 200 for piece in pieces)
    rows = [row for piece in pieces for row in list(csv.reader(io.StringIO(piece)))[1:]]
    assert rows == list(csv.reader(io.StringIO(text)))[1:]
    assert "".join(cutting.cut_by("row", "a.jsonl", '{"a": 1}\n' * 99, 100)) == '{"a": 1}\n' * 99
    assert len(cutting.cut_by("row", "a.jsonl", '{"a": 1}\n' * 99, 100)) == 9


@given(TEXTS, st.integers(1, 80))
def test_no_row_is_lost_or_doubled_by_cutting(text, size):
    assert "".join(cutting.cut_by("row", "a.txt", text, size)) == text
    pieces = cutting.cut_by("row", "a.csv", text, size)
    head = text[: structure.row_starts(text, quoted=True)[1:][0]] if len(pieces) > 1 else ""
    assert "".join(piece.removeprefix(head) if at else piece for at, piece in enumerate(pieces)) == text


def test_rows_of_csv_are_dicts_with_lines_and_numbers_only_where_all_are():
    text = 'id;zip;price;note\r\n1;01234;1.50;"a\nb"\r\n2;99999;;x\r\nbroken\r\n3;1;-2;y\r\n'
    table = tables.rows("a.csv", text)
    assert [dict(row) for row in table] == [
        {"id": 1, "zip": "01234", "price": 1.5, "note": "a\nb"},
        {"id": 2, "zip": "99999", "price": None, "note": "x"},
        {"id": 3, "zip": "1", "price": -2.0, "note": "y"},
    ]
    assert [row.line for row in table] == [2, 4, 6]
    assert table.skipped == [(5, "1 value for 4 columns")]
    assert table.columns == ["id", "zip", "price", "note"]
    assert tables.rows("a.tsv", "a\tb\n1,0\t2\n")[0] == {"a": "1,0", "b": 2}
    assert list(tables.rows("a.csv", "a,a,\n1,2,3\n")[0]) == ["a", "a (2)", "column 3"]
    assert list(tables.rows("a.csv", "")) == []


SHEETS = r"""## Prices
| part | price | note |
| --- | --- | --- |
| bolt | 1.50 | a \| b |
| nut | 2 |  |

## Stock
| part | count |
| --- | ---: |
| bolt | 7 |
"""


def test_rows_of_sheets_and_of_markdown_are_those_of_their_tables():
    table = tables.rows("book.xlsx", SHEETS)
    assert [(dict(row), row.line) for row in table] == [
        ({"part": "bolt", "price": 1.5, "note": "a | b"}, 4),
        ({"part": "nut", "price": 2.0, "note": ""}, 5),
        ({"part": "bolt", "count": 7}, 10),
    ]
    places = [(1, "sheet Prices"), (7, "sheet Stock")]
    stock = tables.rows("book.xlsx", SHEETS, "sheet stock", places)
    assert [(dict(row), row.line) for row in stock] == [({"part": "bolt", "count": 7}, 10)]
    later = tables.rows("a.csv", "a,b\n1,2\n3,4\n", "row 2 on", [(3, "row 2 on")])
    assert [dict(row) for row in later] == [{"a": 3, "b": 4}], "by the columns of the whole table"
    with pytest.raises(ValueError, match="such as 'sheet Prices' and 'sheet Stock'"):
        tables.rows("book.xlsx", SHEETS, "sheet 3", places)


def test_rows_of_json_have_their_lines():
    table = tables.rows("a.jsonl", '{"a": 1}\n\nno\n[2]\n')
    assert [(dict(row), row.line) for row in table] == [({"a": 1}, 1), ({"value": [2]}, 4)]
    assert [line for line, _ in table.skipped] == [3]
    table = tables.rows("a.json", '[\n {"a": 1},\n {"a": 2}\n]\n')
    assert [(row["a"], row.line) for row in table] == [(1, 2), (2, 3)]
    table = tables.rows("a.json", '{"x": 1,\n "y": [2]}')
    assert [(dict(row), row.line) for row in table] == [
        ({"key": "x", "value": 1}, 1),
        ({"key": "y", "value": [2]}, 2),
    ]


@given(TEXTS, st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.md", "a.py", "a.ts", "a.json"]))
def test_odd_texts_have_an_outline_too(text, name):
    result = outlines.outline(name, text, ())
    if name != "a.json":
        assert all(row.line > 0 for row in tables.rows(name, "a|b\n-|-\n" + text))
    lines = text.count("\n") + 1
    assert all(1 <= mark.line <= lines and mark.level >= 1 for mark in result)
    assert str(result)


def test_most_definitions_of_the_standard_library_are_found_without_parsing_too():
    root = Path(sysconfig.get_path("stdlib"))
    for name in ("functools.py", "argparse.py", "asyncio/tasks.py"):
        text = (root / name).read_text(encoding="utf-8")
        parsed = {mark.line for mark in structure.definitions(name, text)}
        looked = {mark.line for mark in structure.definitions(name, text + "\n)\n")}
        assert len(parsed) > 20
        assert len(parsed - looked) <= len(parsed) // 20


def test_all_of_it_is_there_in_the_kernel_and_survives_a_snapshot(start, inputs_of):
    inputs = inputs_of({"docs/a.md": MARKDOWN, "t.csv": "a,b\n1,x\n2,y\nbroken\n"})
    kernel = start(inputs)
    kernel.run(
        "o = outline('a.md'); r = rows('t.csv'); l = read('docs/a.md', 3, 3); h = search_text('third')"
    )
    again = start(inputs, snapshot=kernel.snapshot())
    assert again.run("o").output.startswith("docs/a.md:3: First\n")
    assert again.run("l").output == "docs/a.md:3: # First\n"
    assert again.value("sum(x['a'] for x in r), r[1].line, r.columns, r.skipped, type(o[1:]).__name__") == (
        "3 3 ['a', 'b'] [(4, '1 value for 2 columns')] Outline"
    )
    assert (
        again.value("len(chunks('docs/a.md', by='heading')), len(chunks(context['docs/a.md'], by='heading'))")
        == "4 4"
    )
    assert "left out, the first at t.csv:4" in again.run("rows('t.csv')").output
    assert "did you mean" in (again.run("read('docs/b.md')").error or "")
    assert "by='size', 'heading'" in (again.run("chunks('x', by='page')").error or "")


def test_places_of_what_was_converted_are_told_and_read(start, inputs_of, tmp_path):
    inputs = inputs_of({"c.pdf": "one\n\ntwo\nTermination\n"}, is_single=True)
    (text,) = inputs.texts
    origin = Origin(tmp_path / "c.pdf", "0" * 64, "pdf", places=((1, "page 1"), (3, "page 2")))
    converted = replace(inputs, texts=(replace(text, origin=origin),))
    kernel = start(converted)
    assert kernel.run("outline()").output == "c.pdf:1: page 1: one\nc.pdf:3: page 2: two\n"
    assert kernel.run("read(start='page 2')").output == "-- page 2 --\nc.pdf:3: two\nc.pdf:4: Termination\n"
    assert (
        kernel.run("search_text('termination', context_lines=0)").output == "c.pdf (page 2)\n4: Termination\n"
    )
    assert kernel.value("search_text('termination')[0].place") == "page 2"
    kernel.run("hits = search_text('termination'); name, line, text, passage = hits[0]")
    again = start(converted, snapshot=kernel.snapshot())
    assert again.value("hits[0].place, line") == "page 2 4"


def test_a_variable_may_take_the_name_of_a_new_helper_and_is_saved_like_any_other(start, inputs_of):
    inputs = inputs_of({"t.csv": "a,b\n1,x\n"})
    kernel = start(inputs)
    kernel.run("table = rows('t.csv'); keep = rows; rows = [1, 2]")
    snapshot = kernel.snapshot()
    assert [variable.name for variable in snapshot.variables] == ["keep", "rows", "table"]
    again = start(inputs, snapshot=snapshot)
    assert again.value("rows, keep('t.csv')[0]['a'], read('t.csv', 2)") == "[1, 2] 1 t.csv:2: 1,x"
    again.run("del rows, keep")
    assert again.value("rows('t.csv')[0]['b']") == "x"
    assert [variable.name for variable in again.snapshot().variables] == ["table"]
