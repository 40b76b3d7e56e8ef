"""Real documents become texts whose lines say where in the original they come from."""

import io
import tarfile
from pathlib import Path

import pytest

from loop_runner import inputs
from loop_runner.errors import ConfigError
from loop_runner.inputs.original_places import place_of
from loop_runner.records import Accepted, Rejected
from loop_runner.verify import Submission, build
from tests.support import papers

REAL = {
    "contract.pdf": papers.pdf(["Parties\nAnn and Bob", "Term\nThe term is nine months", "Signed"]),
    "letter.docx": papers.docx(["# Offer", "We offer ten bolts", "# Price", "They cost three dollars"]),
    "prices.xlsx": papers.xlsx([("Prices", [["item", "usd"], ["bolt", 3]]), ("Costs", [["what"], ["rent"]])]),
    "slides.pptx": papers.pptx(["Beginnings", "The end"]),
    "page.html": "<html><body><h1>Top</h1><p>one &amp; two</p><h2>More</h2><p>three</p></body></html>",
    "book.epub": papers.epub([("Dawn", "It was early"), ("Dusk", "It was late")]),
    "team.mbox": papers.mbox(
        papers.message("Hello", "first body"),
        papers.message("Again", "second body", ("n.txt", b"in the note\n")),
    ),
    "people.csv": 'id,name,note\n1,Ann,"two\nlines"\n2,Bob,plain\n',
    "log.jsonl": '{"at": 1, "what": "begun"}\n{"at": 2.5}\n',
    "bundle.zip": papers.zipped(
        [("docs/a.txt", "alpha\nbeta\n"), ("docs/b.pdf", papers.pdf(["zipped page"]))]
    ),
}
# name → (text, quote, place, kind, member)
EXPECTED = [
    ("contract.pdf", "The term is nine months", "page 2", "pdf", ""),
    ("letter.docx", "They cost three dollars", "section Price", "docx", ""),
    ("prices.xlsx", "| bolt | 3 |", "sheet Prices", "xlsx", ""),
    ("prices.xlsx", "| rent |", "sheet Costs", "xlsx", ""),
    ("slides.pptx", "# The end", "slide 2", "pptx", ""),
    ("page.html", "one & two", "section Top", "html", ""),
    ("book.epub", "It was late", "section Dusk", "epub", ""),
    ("team.mbox", "second body", "message 2", "mbox", ""),
    ("team.mbox/message 2/n.txt", "in the note", "", "text", "message 2/n.txt"),
    ("people.csv", "2,Bob,plain", "row 2 on", "csv", ""),
    ("bundle.zip/docs/a.txt", "beta", "", "text", "docs/a.txt"),
    ("bundle.zip/docs/b.pdf", "zipped page", "page 1", "pdf", "docs/b.pdf"),
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    for name, data in REAL.items():
        (root / name).write_bytes(data.encode() if isinstance(data, str) else data)
    cache = tmp_path_factory.mktemp("cache")
    return inputs.load([str(root)], root, converter=inputs.Converter(cache))


def test_ten_kinds_of_documents_load_and_nothing_is_left_out(loaded):
    assert loaded.skipped == ()
    assert {text.name.split("/")[0] for text in loaded.texts} == set(REAL)


@pytest.mark.parametrize(("name", "quote", "place", "kind", "member"), EXPECTED)
def test_a_line_says_where_in_the_original_it_stands(loaded, name, quote, place, kind, member):
    text = next(item for item in loaded.texts if item.name == name)
    lines = text.path.read_text(encoding="utf-8").split("\n")
    number = next(at for at, line in enumerate(lines, 1) if quote in line)
    assert place_of(text.origin, number) == place
    assert (papers.origin(text).kind, papers.origin(text).member) == (kind, member)
    assert papers.origin(text).path.name == name.split("/")[0]


def test_tables_and_json_stay_as_they_are_and_are_described(loaded):
    about = {text.name: text.about for text in loaded.texts if text.about}
    assert about == {
        "people.csv": "CSV: 2 rows below the header; columns id (integer), name (text), note (text)",
        "log.jsonl": "JSONL: 2 rows; objects with keys at (number), what (text)",
    }
    text = next(item for item in loaded.texts if item.name == "log.jsonl")
    assert text.path.read_text() == REAL["log.jsonl"]


def test_a_listing_gives_origins_and_descriptions_back(loaded):
    assert inputs.from_json(inputs.to_json(loaded)) == loaded


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("contract.pdf:4: The term is nine months", "contract.pdf:4 (page 2)"),
        ("contract.pdf:page 2: The term is nine months", "contract.pdf:4 (page 2)"),
        ("contract.pdf:Page 2: The term is nine months", "contract.pdf:4 (page 2)"),
        ("contract.pdf:4 (page 2): The term is nine months", "contract.pdf:4 (page 2)"),
        ("letter.docx:section Price: They cost three dollars", "(section Price)"),
        ("bundle.zip/docs/b.pdf:page 1: zipped page", "docs/b.pdf:1 (page 1)"),
    ],
)
def test_a_citation_may_name_the_place_and_the_verdict_shows_it(loaded, output, shown):
    (verifier,) = build([{"citations": {"min": 1}}], Path.cwd())
    verdict = verifier.verify(Submission(f"> {output}", Path.cwd(), loaded, "", ()))
    assert isinstance(verdict, Accepted), verdict
    assert shown in verdict.evidence
    assert verdict.record["citations"][0]["place"]


def test_a_quote_of_another_page_is_refused_with_its_own(loaded):
    (verifier,) = build([{"citations": {"min": 1}}], Path.cwd())
    answer = "> contract.pdf:page 1: The term is nine months"
    verdict = verifier.verify(Submission(answer, Path.cwd(), loaded, "", ()))
    assert isinstance(verdict, Rejected)
    assert "it is on none of the lines of page 1 of contract.pdf: 1 to 2" in verdict.evidence
    assert "the quote is on contract.pdf:4 (page 2)" in verdict.evidence


def test_an_empty_page_has_a_line_of_its_own(folder, converter):
    root = folder(files={"a.pdf": papers.pdf(["one", "", "three"])})
    (text,) = inputs.load([str(root)], root, converter=converter).texts
    assert [label for _, label in papers.origin(text).places] == ["page 1", "page 2", "page 3"]
    assert len({line for line, _ in papers.origin(text).places}) == 3


def test_a_document_by_its_own_path_is_a_single_text(folder, converter):
    root = folder(files={"a.pdf": papers.pdf(["one"])})
    assert inputs.load(["a.pdf"], root, converter=converter).is_single


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archives_are_read_packed_or_not(folder, converter, mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        info = tarfile.TarInfo("docs/a.txt")
        info.size = 6
        archive.addfile(info, io.BytesIO(b"alpha\n"))
    ending = mode.replace("w", ".tar").replace(":", ".")
    root = folder(files={f"b{ending}": out.getvalue()})
    (text,) = inputs.load([str(root)], root, converter=converter).texts
    assert (text.name, text.path.read_text()) == (f"b{ending}/docs/a.txt", "alpha\n")


def test_a_second_load_converts_nothing_and_gives_the_same(folder, converter, tmp_path):
    root = folder(files={"a.pdf": papers.pdf(["one"])})
    first = inputs.load([str(root)], root, converter=converter)
    stored = {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*")}
    assert inputs.load([str(root)], root, converter=converter) == first
    assert {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*")} == stored


def test_a_damaged_cache_is_made_anew(folder, converter):
    root = folder(files={"a.pdf": papers.pdf(["one"])})
    (text,) = inputs.load([str(root)], root, converter=converter).texts
    text.path.write_text("something else")
    (again,) = inputs.load([str(root)], root, converter=converter).texts
    assert again == text
    assert inputs.read_bytes(again) == b"one\n"


def test_without_convert_text_stays_as_it_is_and_documents_are_left_out(folder, converter):
    root = folder(files={"a.pdf": papers.pdf(["one"]), "b.html": "<p>x</p>"})
    result = inputs.load([{"path": str(root), "convert": False}], root, converter=converter)
    assert [(text.name, text.origin) for text in result.texts] == [("b.html", None)]
    assert result.skipped == ((f"{root}/a.pdf", "binary: a PDF"),)


def test_a_broken_file_in_a_folder_is_a_line_and_with_strict_an_error(folder, converter):
    root = folder(files={"a.pdf": b"%PDF-1.4 nothing", "b.txt": "text"})
    result = inputs.load([str(root)], root, converter=converter)
    assert [text.name for text in result.texts] == ["b.txt"]
    assert result.skipped[0][0] == f"{root}/a.pdf"
    with pytest.raises(ConfigError, match="1 of the inputs cannot be read"):
        inputs.load([str(root)], root, converter=converter, strict=True)


def test_a_broken_file_by_its_own_path_is_an_error(folder, converter):
    root = folder(files={"a.pdf": b"%PDF-1.4 nothing"})
    with pytest.raises(ConfigError, match=r"input 'a\.pdf' cannot be used: broken"):
        inputs.load(["a.pdf"], root, converter=converter)
