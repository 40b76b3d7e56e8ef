"""The documentation as its readers find it: the map, short lines, the pictures, the site and its search."""

import json
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
import yaml

from docs import draw, record
from tests.support import documents, wrapping

DOCS = documents.ROOT / "docs"
QUESTIONS = [
    question for line in yaml.safe_load((DOCS / "questions.yaml").read_text()) for question in line.items()
]
COLUMNS, CELL = wrapping.COLUMNS, 100
GENERATED = {"api.md", "commands.md", "compared.md", "events.md"}
PAGES = sorted(path for path in DOCS.glob("*.md") if path.name not in GENERATED)


def shown_lines(path):
    """The lines of a page as they are shown, without code: a link is its words."""
    fence = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r" *(`{3,})", line)
        if mark and (fence is None or line.strip() == fence):
            fence = mark[1] if fence is None else None
        elif fence is None:
            yield number, re.sub(r"\]\([^)]*\)", "]", line)


@pytest.mark.parametrize("path", [documents.ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_lines_and_cells_of_tables_are_short(path):
    for number, line in shown_lines(path):
        place = f"{path.name}:{number}"
        assert len(line) <= COLUMNS or " " not in line.strip(), (
            f"{place} has {len(line)} columns: `make docs` breaks paragraphs"
        )
        if line.startswith("|"):
            widest = max(map(len, re.split(r"(?<!\\)\|", line)))
            assert widest <= CELL, f"{place} has a cell of {widest} characters"


def test_long_paragraphs_are_broken_and_nothing_else_changes():
    long = "word " * 40
    kept = f"# {long}\n\n| {long} |\n\n```text\n{long}\n```\n\n{'x' * 130}\n\nshort\nlines\n"
    assert wrapping.wrapped(kept) == kept
    written = f"1. {long}\\\n   `{'y' * 119}`\n- {long}\n"
    broken = wrapping.wrapped(written)
    assert max(len(line) for line in broken.splitlines() if "y" not in line) <= COLUMNS
    assert broken.split() == written.split()
    assert wrapping.wrapped(broken) == broken
    assert [line[:3] for line in broken.splitlines() if not line.startswith("   ")] == ["1. ", "- w", "  w"]


def test_the_readme_has_at_most_150_lines():
    assert len((documents.ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_map_names_every_page():
    site = pytest.importorskip("docs.site")
    missing = site.missing((DOCS / "index.md").read_text(encoding="utf-8"))
    assert missing == [], f"add a line for each of these pages to docs/index.md: {missing}"


@pytest.mark.parametrize(("name", "content"), draw.pictures().items())
def test_the_pictures_show_the_package_as_it_is(name, content):
    assert (draw.FOLDER / name).read_text(encoding="utf-8") == content, "run `make docs`"


@pytest.mark.parametrize("name", ["run.svg", "watch.svg"])
def test_the_recordings_are_whole_and_name_no_place_of_the_machine_that_made_them(name):
    picture = (draw.FOLDER / name).read_text(encoding="utf-8")
    texts = "".join(element for element in ET.fromstring(picture).itertext())
    assert "first-rejection" in texts
    assert not re.search(r"(?i)script>|onload|/(home|root|tmp|work)/", picture)


def test_a_recording_shows_one_frame_at_a_time():
    picture = record.animated(
        [record.Frame(("\x1b[32mone & two\x1b[0m",), 1.0), record.Frame(("three",), 3.0)]
    )
    first, second = ET.fromstring(picture).findall("{*}g")
    assert ("".join(first.itertext()), "".join(second.itertext())) == ("one & two", "three")
    assert "25.000%, 100% { visibility: hidden }" in picture
    assert record.COLOURS[2] in picture


def test_arrows_that_follow_from_others_are_left_out():
    folders = {"cli": {"web", "runs", "task"}, "web": set(), "api": {"runs"}, "runs": {"task"}, "task": set()}
    drawn = draw.front_ends(folders)
    assert draw.arrows(drawn) == [("cli", "web"), ("web", "api"), ("api", "runs"), ("runs", "task")]
    assert draw.levels(drawn) == {"cli": 5, "web": 4, "api": 3, "runs": 2, "task": 1}


# ── the site ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site. Building fails for a link to a page or a heading that does not exist."""
    folder = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=documents.ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_site(built):
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]
    assert [str(page) for page in pages if not (built / page).exists()] == []
    assert (built / "home.html").exists()


@pytest.mark.slow
def test_the_search_finds_the_answers_to_the_questions_of_newcomers(built):
    if not shutil.which("node"):
        pytest.skip("no node: the search of the site runs in a browser")
    (worker,) = built.glob("assets/javascripts/workers/search*.min.js")
    program, index = documents.ROOT / "tests/support/search.js", built / "search/search_index.json"
    result = subprocess.run(
        ["node", program, worker, DOCS / "search.js", index, *(question for question, _ in QUESTIONS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for (question, expected), pages in zip(QUESTIONS, json.loads(result.stdout), strict=True):
        first = [sections[0].partition("#")[0] for sections in pages[:3]]
        assert expected.partition("#")[0] in first, f"{question} finds {first}"
        page, _, anchor = expected.partition("#")
        assert not anchor or f'id="{anchor}"' in (built / page).read_text(encoding="utf-8"), expected
