"""Unusual blanks in names are kept, as macOS writes them; only what breaks a line or is no text is odd."""

import io
import os
import tarfile
import unicodedata
from pathlib import Path

import pytest

from loop_runner import inputs
from loop_runner.inputs.inside.paths import is_odd, shown
from loop_runner.kernel.inside.search import SearchIndex
from loop_runner.kernel.inside.texts import Texts
from loop_runner.records import Accepted
from loop_runner.text import label
from loop_runner.verify import Submission, build
from loop_runner.verify.named_places import Catalogue
from tests.support import papers

SCREENSHOT = "Screenshot 2024-05-01 at 10.14.07\u202fAM.txt"
KEPT = [
    SCREENSHOT,
    "No\u00a0break.txt",
    "wide\u3000space.txt",
    "thin\u2009space.txt",
    "Cafe\u0301.txt",  # macOS decomposes accents
    "family \U0001f468\u200d\U0001f469\u200d\U0001f467.txt",  # joined by U+200D
    "soft\u00adhyphen.txt",
    "mark\u200e.txt",
]
ODD = ["a\x1b[2Jb.txt", "line\nbreak.txt", "bell\x07.txt", "del\x7f.txt", "next\x85line.txt", "ls\u2028.txt"]
ODD += ["ps\u2029.txt", "tab\t.txt", "return\r.txt"]
WORDS = "the first line\nthe second line\n"


@pytest.fixture
def loaded(folder, converter):
    root = folder(files={name: f"the first line\nthe second line of {at}\n" for at, name in enumerate(KEPT)})
    return inputs.load([str(root)], root, converter=converter)


@pytest.mark.parametrize("name", KEPT)
def test_a_name_with_unusual_blanks_is_not_odd(name):
    assert not is_odd(name)
    assert shown(name) == name


@pytest.mark.parametrize("name", [*ODD, "surrogate\udcff.txt"])
def test_a_name_that_breaks_a_line_or_is_no_text_is_odd(name):
    assert is_odd(name)
    assert shown(name).isprintable()


def test_files_keep_their_names(loaded):
    assert {text.name for text in loaded.texts} == set(KEPT)
    assert loaded.skipped == ()
    assert inputs.from_json(inputs.to_json(loaded)) == loaded


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_left_out_with_a_reason(folder, converter, name):
    root = folder(files={name: WORDS, "b.txt": "b"})
    result = inputs.load([str(root)], root, converter=converter)
    assert [text.name for text in result.texts] == ["b.txt"]
    assert result.skipped[0][1] == "its name holds control characters or is not UTF-8"


def test_names_that_are_not_utf8_are_left_out(folder, converter):
    root = folder(files={"b.txt": "b"})
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.txt")).write_text(WORDS)
    result = inputs.load([str(root)], root, converter=converter)
    assert [text.name for text in result.texts] == ["b.txt"]


@pytest.mark.parametrize("name", KEPT)
def test_a_file_by_its_own_path_and_by_a_glob(folder, converter, name):
    root = folder(files={name: WORDS})
    assert inputs.load([name], root, converter=converter).texts[0].name == name
    assert inputs.load(["*.txt"], root, converter=converter).texts[0].name == name
    with pytest.raises(Exception, match="nothing to read"):
        inputs.load([{"path": ".", "exclude": [name]}], root, converter=converter)


@pytest.mark.parametrize("name", KEPT)
def test_members_of_archives_keep_their_names(folder, converter, name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(WORDS)
        archive.addfile(info, io.BytesIO(WORDS.encode()))
    root = folder(files={"a.zip": papers.zipped([(name, WORDS)]), "b.tar": out.getvalue()})
    result = inputs.load([str(root)], root, converter=converter)
    assert [text.name for text in result.texts] == [f"a.zip/{name}", f"b.tar/{name}"]
    assert result.skipped == ()


def test_documents_and_repositories_keep_their_names(folder, converter, git, tmp_path):
    name = SCREENSHOT.replace(".txt", ".pdf")
    root = folder(files={name: papers.pdf(["a page"]), SCREENSHOT: WORDS})
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    result = inputs.load([f"{root}@HEAD"], root, converter=converter)
    assert {text.name for text in result.texts} == {name, SCREENSHOT}


def test_a_sheet_whose_name_has_an_unusual_blank_is_a_place(folder, converter):
    root = folder(files={"a.xlsx": papers.xlsx([("Q1\u00a02024", [["item"], ["bolt"]])])})
    (text,) = inputs.load([str(root)], root, converter=converter).texts
    assert [place for _, place in papers.origin(text).places] == ["sheet Q1\u00a02024"]


# ── citations, search, prompts ──────────────────────────────────────────────────────────────────────


def spellings(name):
    return {
        "as it is": name,
        "plain blanks": "".join(" " if unicodedata.category(char) == "Zs" else char for char in name),
        "composed": unicodedata.normalize("NFC", name),
        "decomposed": unicodedata.normalize("NFD", name),
        "as Python shows it": repr(name)[1:-1],
    }


@pytest.mark.parametrize("spelling", spellings(SCREENSHOT))
@pytest.mark.parametrize("name", KEPT)
def test_a_citation_may_spell_the_name_with_other_blanks_accents_or_escapes(loaded, name, spelling):
    (verifier,) = build([{"citations": {"min": 1}}], Path.cwd())
    quote = f"the second line of {KEPT.index(name)}"  # no other text has it
    for answer in (f"> {{}}:2: {quote}", f"> `{{}}`:2: {quote}"):
        verdict = verifier.verify(
            Submission(answer.format(spellings(name)[spelling]), Path.cwd(), loaded, "", ())
        )
        assert isinstance(verdict, Accepted), verdict


def test_a_spelling_of_two_names_is_no_name(folder, converter):
    root = folder(files={"a\u00a0b.txt": WORDS, "a\u202fb.txt": "other\n"})
    result = inputs.load([str(root)], root, converter=converter)
    catalogue = Catalogue(result)
    assert catalogue.meant("a\u00a0b.txt") == result.texts[0]
    assert catalogue.meant("a\u202fb.txt") == result.texts[1]
    assert catalogue.meant("a b.txt") is None


@pytest.mark.parametrize("name", KEPT)
def test_search_finds_and_prints_the_name(loaded, name):
    texts = Texts([(text.name, str(text.path), text.size_bytes) for text in loaded.texts])
    hits = SearchIndex(texts).search("second line", [name], 3, 0, regex=False)
    assert {hit.name for hit in hits} == {name}
    assert str(hits).startswith(name)


@pytest.mark.parametrize("name", KEPT)
def test_a_label_is_one_line_of_python_that_reads_as_the_name(name):
    shown = label(name)
    assert shown.isprintable()
    if shown != name:
        assert eval(shown) == name
