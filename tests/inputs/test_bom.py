"""A byte order mark is no part of a text, for cells, rules, gates and prompts; bytes and hashes keep it."""

import codecs
import hashlib
from pathlib import Path
from typing import cast

import pytest

from loop_runner import inputs
from loop_runner.audit import ripgrep
from loop_runner.errors import ConfigError
from loop_runner.inputs.on_disk import measure
from loop_runner.kernel.inside import candidates, outlines, structure, tables
from loop_runner.kernel.inside.search import SearchIndex
from loop_runner.kernel.inside.texts import Texts, read_text
from loop_runner.records import Accepted, Rejected
from loop_runner.session import direct
from loop_runner.verify import Submission, build, python_child
from loop_runner.verify.agreement import Agreement
from tests.support import papers

BOM = codecs.BOM_UTF8
MARKED = {
    "people.csv": BOM + b"name,age\nAda,36\nBob,41\n",
    "rows.tsv": BOM + b"name\tage\nAda\t36\n",
    "log.jsonl": BOM + b'{"name": "Ada"}\n',
    "one.json": BOM + b'{"name": "Ada"}\n',
    "code.py": BOM + b"def first(x=[]):\n    return x\n",
    "notes.md": BOM + b"# A longer title\n\nWords.\n",
    "crlf.txt": BOM + b"first line\r\nsecond\r\n",
}


@pytest.fixture
def marked(folder, converter):
    root = folder(files=MARKED)
    return inputs.load([str(root)], root, converter=converter)


def text_of(result, name):
    return read_text(str(next(text for text in result.texts if text.name == name).path))


def test_bytes_and_hashes_keep_the_mark(marked):
    for text in marked.texts:
        assert inputs.read_bytes(text) == MARKED[text.name]
        assert text.sha256 == hashlib.sha256(MARKED[text.name]).hexdigest()
        assert text.size_bytes == len(MARKED[text.name])
        assert text.replaced_bytes == 0
        assert inputs.content(text) == MARKED[text.name].removeprefix(BOM)
    assert inputs.changed(marked) == ()


@pytest.mark.parametrize("name", MARKED)
def test_cells_read_texts_without_the_mark(marked, name):
    assert text_of(marked, name) == MARKED[name].decode("utf-8-sig")


def test_a_large_text_is_read_without_the_mark(tmp_path):
    path = tmp_path / "large.txt"
    path.write_bytes(BOM + b"x" * (17 << 20))
    assert read_text(str(path))[:2] == "xx"


@pytest.mark.parametrize("data", [BOM + BOM + b"x", b"x" + BOM])
def test_only_one_mark_at_the_beginning_is_dropped(tmp_path, data):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read_text(str(path)) == data.removeprefix(BOM).decode()


def test_the_first_column_has_its_name(marked):
    for name in ("people.csv", "rows.tsv", "log.jsonl"):
        assert tables.rows(name, text_of(marked, name))[0]["name"] == "Ada"
    abouts = {text.name: text.about for text in marked.texts}
    assert "columns name (text), age (integer)" in abouts["people.csv"]
    assert abouts["one.json"] == "JSON: an object; keys name (text)"


def test_the_first_line_has_its_heading_key_and_function(marked):
    assert [mark.text for mark in structure.headings(text_of(marked, "notes.md"))] == ["A longer title"]
    assert str(outlines.outline("one.json", text_of(marked, "one.json"), ())).startswith("one.json:1: name")
    assert structure.definitions("code.py", text_of(marked, "code.py"))[0].line == 1


def test_rules_of_audits_match_the_first_line(marked):
    text = text_of(marked, "code.py")
    for query in ({"name": "mutable-default"}, {"node": "FunctionDef", "where": {"name": "first"}}):
        assert candidates.spans({"regex": "", "ast": query}, "code.py", text, 40) == ([(1, 1)], "")
    assert candidates.spans({"regex": "^def"}, "code.py", text, 40) == ([(1, 1)], "")


def test_ripgrep_leaves_out_no_text_because_of_its_mark(marked, tmp_path):
    fake = tmp_path / "rg"
    fake.write_text("#!/bin/sh\nexit 1\n")  # as ripgrep ends that finds no line that begins so
    fake.chmod(0o755)
    numbers = ripgrep.narrowed("^def", marked.texts, str(fake))
    assert numbers == set(range(len(MARKED)))


def test_search_shows_the_first_line_without_the_mark(marked):
    texts = Texts([(text.name, str(text.path), text.size_bytes) for text in marked.texts])
    hits = SearchIndex(texts).search("first line", "crlf.txt", 5, 1, regex=False)
    assert hits[0].line == 1
    assert "\ufeff" not in str(hits)


def judged(result, answer, **options):
    (verifier,) = build([{"citations": {"min": 1, **options}}], Path.cwd())
    return verifier.verify(Submission(answer, Path.cwd(), result, "", ()))


@pytest.mark.parametrize(
    "cited",
    [
        "people.csv:1: name,age",
        "notes.md:1: # A longer title",
        "code.py:1: def first(x=[]):",
        "crlf.txt:1: first line",
        "people.csv:1: \ufeffname,age",  # from a model that read the file by itself
    ],
)
def test_citations_of_the_first_line_hold(marked, cited):
    assert isinstance(judged(marked, f"> {cited}"), Accepted)


def test_a_wrong_line_is_answered_with_the_right_one(marked):
    verdict = judged(marked, "> people.csv:3: name,age")
    assert isinstance(verdict, Rejected)
    assert "the quote is on people.csv:1" in verdict.evidence


def test_a_changed_text_with_a_mark_is_noticed(marked):
    path = next(text.path for text in marked.texts if text.name == "people.csv")
    path.write_bytes(path.read_bytes().removeprefix(BOM))  # the mark is part of the bytes
    assert inputs.changed(marked) == ("people.csv",)


def test_a_direct_session_shows_no_mark(marked):
    shown = direct.documents(marked)
    assert "\ufeff" not in shown
    assert "1| name,age" in shown


def test_the_model_of_an_agreement_gate_is_shown_no_mark(marked):
    (gate,) = build([{"agreement": {"model": "script:x.yaml"}}], Path.cwd())
    shown = "".join(cast("Agreement", gate)._texts(marked))
    assert "\ufeff" not in shown
    assert "name,age" in shown


def test_a_python_gate_reads_no_mark(marked):
    text = next(text for text in marked.texts if text.name == "people.csv")
    assert python_child.Input(text.name, text.path, text.sha256).read().startswith("name")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"])
@pytest.mark.parametrize("name", ["people.csv", "words.txt", "code.py"])
def test_wide_encodings_become_utf8_without_a_mark(folder, converter, encoding, name):
    words = "name,größe\nAda,1\n"
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    root = folder(files={name: (mark + words).encode(encoding)})
    (text,) = inputs.load([str(root)], root, converter=converter).texts
    assert inputs.read_bytes(text) == words.encode()
    assert papers.origin(text).kind == encoding[:6]
    assert ("columns name (text), größe (integer)" in text.about) == name.endswith(".csv")


def test_members_of_archives_and_mail_lose_their_marks(folder, converter):
    mail = BOM + papers.message("Hello", "the body", ("n.txt", BOM + b"noted\n"))
    page = BOM + b"<html><body><p>first</p></body></html>"
    root = folder(files={"a.zip": papers.zipped(MARKED.items()), "b.eml": mail, "c.html": page})
    result = inputs.load([str(root)], root, converter=converter)
    assert result.skipped == ()
    texts = {text.name: read_text(str(text.path)) for text in result.texts}
    assert not [name for name, text in texts.items() if "\ufeff" in text]
    assert texts["a.zip/people.csv"].startswith("name,age")
    assert "Hello" in texts["b.eml"]
    assert texts["c.html"].startswith("first")


def test_a_file_that_is_only_a_mark_is_empty(folder, converter):
    root = folder(files={"a.txt": BOM, "b.txt": "b"})
    result = inputs.load([str(root)], root, converter=converter)
    assert [(Path(path).name, reason) for path, reason in result.skipped] == [("a.txt", "empty")]
    with pytest.raises(ConfigError, match="empty"):
        inputs.load(["a.txt"], root)


def test_a_mark_before_other_text_is_not_empty(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(BOM + b"x")
    assert measure(str(path)).size == 4
