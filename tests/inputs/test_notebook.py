"""A notebook is read as cells with what they printed; its places are cells; images are only named."""

import base64
import json
from pathlib import Path

import pytest

from loop_runner import inputs
from loop_runner.errors import ConfigError
from loop_runner.inputs.original_places import place_of
from loop_runner.kernel.inside import outlines, passages
from loop_runner.records import Accepted, Rejected
from loop_runner.verify import Submission, build
from tests.support import papers

PNG = base64.b64encode(b"\x89PNG" + bytes(3000)).decode()


def code(source, *outputs, **more):
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {}} | more


def markdown(source, **more):
    return {"cell_type": "markdown", "source": source, "metadata": {}} | more


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def result(**data):
    named = {key.replace("__", "/"): value for key, value in data.items()}
    return {"output_type": "execute_result", "data": named, "metadata": {}, "execution_count": 1}


def notebook(*cells, **more):
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)} | more)


CELLS = [
    markdown(["# The study\n", "\n", "We count bolts."]),
    code(["# a comment, no heading\n", "total = 40 + 2\n", "total"],
         stream("counting\n"), result(text__plain="42")),
    markdown("## Costs"),
    code("1/0", {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "division by zero",
                 "traceback": ["\x1b[0;31mTraceback\x1b[0m", "\x1b[1;32mline 1\x1b[0m"]}),
    code("plot()", {"output_type": "display_data",
                    "data": {"image/png": PNG, "text/plain": "<Figure size 640x480>"}}),
]  # fmt: skip


def load(folder, converter, data, name="a.ipynb", **more):
    root = folder(files={name: data, **more})
    return inputs.load([str(root)], root, converter=converter)


def read(folder, converter, *cells, **more):
    outcome = load(folder, converter, notebook(*cells, **more))
    assert outcome.skipped == ()
    return outcome.texts[0].path.read_text(encoding="utf-8")


def test_cells_and_outputs_follow_each_other(folder, converter):
    assert read(folder, converter, *CELLS).split("\n")[:14] == [
        "# The study",
        "",
        "We count bolts.",
        "```python",
        "# a comment, no heading",
        "total = 40 + 2",
        "total",
        "```",
        "```output",
        "counting",
        "```",
        "```output",
        "42",
        "```",
    ]


def test_the_place_of_a_line_is_its_cell(folder, converter):
    (text,) = load(folder, converter, notebook(*CELLS)).texts
    lines = text.path.read_text().split("\n")
    assert place_of(text.origin, lines.index("counting") + 1) == "cell 2"
    assert place_of(text.origin, lines.index("## Costs") + 1) == "cell 3"
    assert papers.origin(text).kind == "ipynb"


@pytest.mark.parametrize("place", ["cell 2", "6", "6 (cell 2)"])
def test_a_citation_names_the_cell_or_the_line(folder, converter, place):
    outcome = load(folder, converter, notebook(*CELLS))
    (verifier,) = build([{"citations": {"min": 1}}], Path.cwd())
    verdict = verifier.verify(Submission(f"> a.ipynb:{place}: total = 40 + 2", Path.cwd(), outcome, "", ()))
    assert isinstance(verdict, Accepted), verdict
    assert "a.ipynb:6 (cell 2)" in verdict.evidence


def test_a_citation_of_another_cell_is_refused(folder, converter):
    outcome = load(folder, converter, notebook(*CELLS))
    (verifier,) = build([{"citations": {"min": 1}}], Path.cwd())
    verdict = verifier.verify(Submission("> a.ipynb:cell 1: total = 40 + 2", Path.cwd(), outcome, "", ()))
    assert isinstance(verdict, Rejected)
    assert "a.ipynb:6 (cell 2)" in verdict.evidence


def test_the_outline_has_cells_and_headings_and_no_comments(folder, converter):
    (text,) = load(folder, converter, notebook(*CELLS)).texts
    body = text.path.read_text()
    marks = [mark.text for mark in outlines.outline("a.ipynb", body, text.origin.places)]
    assert [mark for mark in marks if not mark.startswith("cell")] == ["The study", "Costs"]
    assert "total = 40" in passages.read("a.ipynb", body, "cell 2", None, text.origin.places)


def test_an_error_is_shown_without_its_colors(folder, converter):
    text = read(folder, converter, *CELLS)
    assert "```error\nTraceback\nline 1\nZeroDivisionError: division by zero\n```" in text
    assert "\x1b" not in text


def test_an_image_is_named_with_its_size_and_left_out(folder, converter):
    text = read(folder, converter, *CELLS)
    assert "<Figure size 640x480>" in text
    assert "[image/png, 3,004 bytes, left out]" in text
    assert PNG[:40] not in text


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (stream("a\rb\rc\n"), "```output\nc\n```"),  # a progress bar
        (stream("warned\n", "stderr"), "```stderr\nwarned\n```"),
        (stream(["one\n", "two\n"]), "```output\none\ntwo\n```"),
        (stream("```\nnot the end\n```\n"), "````output\n```\nnot the end\n```\n````"),
        (result(text__html="<table><tr><td>a</td></tr></table>"), "```output\na\n```"),
        (result(text__html="<b>no</b>", text__plain="yes"), "```output\nyes\n```"),
        (result(application__json={"größe": [1]}), "größe"),
        (result(text__latex="$x^2$"), "$x^2$"),
        (result(**{"application__vnd.plotly.v1+json": {"data": []}}),
         "[application/vnd.plotly.v1+json, 12 bytes"),
    ],
)  # fmt: skip
def test_what_a_cell_shows(folder, converter, output, shown):
    assert shown in read(folder, converter, code("x", output))


def test_pictures_in_markdown_are_named_and_left_out(folder, converter):
    cells = [
        markdown(f"before ![plot](data:image/png;base64,{PNG}) after"),
        markdown("![a](attachment:a.png)", attachments={"a.png": {"image/png": PNG}}),
    ]
    text = read(folder, converter, *cells)
    assert "before ![plot](image/png, 3,004 bytes, left out) after" in text
    assert "[attachment a.png, left out]" in text
    assert PNG[:40] not in text


def test_a_notebook_of_another_language_says_so(folder, converter):
    more = {"metadata": {"language_info": {"name": "R"}}}
    assert "```r\nx <- 1\n```" in read(folder, converter, code("x <- 1"), **more)


def test_a_notebook_of_format_three_is_read(folder, converter):
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Old"},
        {"cell_type": "code", "input": "1+1", "language": "python", "prompt_number": 1,
         "outputs": [{"output_type": "pyout", "text": ["2"], "png": PNG, "metadata": {}}]},
    ]  # fmt: skip
    data = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]})
    (text,) = load(folder, converter, data).texts
    assert text.path.read_text().startswith("## Old\n```python\n1+1\n```\n```output\n2\n```\n[image/png, ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"cells": [', "broken: it is not a notebook: "),
        ("[1, 2]", "broken: it is not a notebook: it is JSON, but not an object"),
        ('{"nbformat": 4}', "broken: it is not a notebook: it has no list of cells"),
        ('{"cells": {"a": 1}}', "broken: it is not a notebook: it has no list of cells"),
        ("[" * 100_000, "broken: "),
        ("version https://git-lfs.github.com/spec/v1\n", "broken: it is not a notebook: "),
        ('{"cells": []}', "it holds no text"),
    ],
)
def test_a_broken_notebook_is_reported(folder, converter, data, reason):
    outcome = load(folder, converter, data, **{"b.txt": "b"})
    assert [text.name for text in outcome.texts] == ["b.txt"]
    assert outcome.skipped[0][1].startswith(reason)
    assert inputs.is_fault(outcome.skipped[0][1])
    with pytest.raises(ConfigError, match=r"a\.ipynb"):
        inputs.load(["a.ipynb"], folder(files={}), converter=converter)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (7, "broken: it is not an object"),
        ({"cell_type": "code"}, "broken: its source is not text"),
        ({"cell_type": "code", "source": [1]}, "broken: its source is not text"),
        (code("x", outputs="y"), "broken: its outputs are not a list"),
        (code("x", 5), "broken: an output of it is not an object"),
        ({"cell_type": "strange", "source": "x"}, "broken: its kind is neither code nor markdown nor raw"),
    ],
)
def test_a_damaged_cell_costs_only_itself_and_is_reported(folder, converter, cell, reason):
    outcome = load(folder, converter, notebook(markdown("before"), cell, markdown("after")))
    assert outcome.texts[0].path.read_text() == "before\n\nafter\n"
    assert [reason for _, reason in outcome.skipped] == [reason]
    assert outcome.skipped[0][0].endswith("a.ipynb/cell 2")
    assert [label for _, label in papers.origin(outcome.texts[0]).places] == ["cell 1", "cell 2", "cell 3"]


def test_notebooks_in_archives_and_repositories_are_read(folder, converter, git):
    data = notebook(markdown("a note"))
    root = folder(files={"x.zip": papers.zipped([("d/a.ipynb", data)]), "b.ipynb": data})
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    for spec in (str(root), f"{root}@HEAD"):
        outcome = inputs.load([spec], root, converter=converter)
        assert {text.name: text.path.read_text() for text in outcome.texts} == {
            "x.zip/d/a.ipynb": "a note\n",
            "b.ipynb": "a note\n",
        }


def test_without_convert_a_notebook_stays_as_it_is(folder, converter):
    data = notebook(markdown("a note"))
    root = folder(files={"a.ipynb": data})
    outcome = inputs.load([{"path": str(root), "convert": False}], root, converter=converter)
    assert inputs.read_bytes(outcome.texts[0]) == data.encode()
