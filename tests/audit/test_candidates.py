"""Pre-filters: what each query finds, and that ripgrep leaves nothing out."""

import shutil
from pathlib import Path

import pytest

from loop_runner.audit import ripgrep
from loop_runner.audit.rules import Rule
from loop_runner.inputs import load
from loop_runner.kernel.inside import candidates

CODE = """\
import os
def a(x, y=[], *, z=None): ...
def b(
    x,
    y={1: 2},
):
    return x
def c(x=1, y=-2, z="s"): ...
def d(x=os): ...
e = lambda x=set(): x
try:
    eval("1")
except:
    pass
try:
    os.system("x")
except (OSError, Exception) as error:
    print(error)
assert a
"""


def lines(query):
    result, trouble = candidates.spans({"regex": "", "ast": query}, "a.py", CODE, 100)
    assert trouble == ""
    return result


@pytest.mark.parametrize(
    ("query", "spans"),
    [
        ({"name": "mutable-default"}, [(2, 2), (3, 6), (10, 10)]),
        ({"name": "computed-default"}, [(2, 2), (3, 6), (9, 9), (10, 10)]),
        ({"name": "bare-except"}, [(13, 13)]),
        ({"name": "broad-except"}, [(17, 17)]),
        ({"name": "silent-except"}, [(13, 13)]),
        ({"node": "Assert", "where": {}}, [(19, 19)]),
        ({"node": "Call", "where": {"func": "eval"}}, [(12, 12)]),
        ({"node": "Call", "where": {"func": "os.*"}}, [(16, 16)]),
        ({"node": "ExceptHandler", "where": {"type": None}}, [(13, 13)]),
        ({"node": "ExceptHandler", "where": {"type": "*"}}, [(17, 17)]),
    ],
)
def test_a_query_finds_its_nodes(query, spans):
    assert lines(query) == spans


def test_windows_cover_every_line_and_overlap():
    text = "x\n" * 25
    spans, _ = candidates.spans({"regex": "", "ast": {}}, "a.txt", text, 12)
    assert spans == [(1, 12), (7, 18), (13, 24), (19, 25)]
    assert candidates.spans({"regex": "", "ast": {}}, "a.txt", "x", 12)[0] == [(1, 1)]


def test_a_line_that_is_too_long_to_match_is_said():
    result, trouble = candidates.spans({"regex": "x", "ast": {}}, "a.txt", "x\n" + "x" * 20_001, 9)
    assert result == [(1, 1)]
    assert trouble == "1 line has over 20,000 characters: not matched"


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.py", "src/a.py", True),
        ("src", "src/a.py", True),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/b/a.py", False),
        ("src/**/*.py", "src/b/a.py", True),
        ("src/**/*.py", "src/a.py", True),
        ("*.py", "a.pyc", False),
    ],
)
def test_patterns_of_files(pattern, name, fits):
    assert Rule("r", "t", "d", files=(pattern,)).is_about(name) is fits


@pytest.fixture
def texts(tmp_path):
    for number in range(40):
        (tmp_path / f"f{number:02}.txt").write_bytes(f"line\r\nword{number} = [{number}]\r\nend".encode())
    (tmp_path / "odd.txt").write_bytes(b"caf\xe9 word99\n")
    return load(["."], tmp_path).texts


needs_ripgrep = pytest.mark.skipif(shutil.which("rg") is None, reason="ripgrep is not installed here")


@needs_ripgrep
@pytest.mark.parametrize(
    "pattern", [r"word\d+ = \[3", r"(?i)WORD7\b", r"\bend$", r"^line$", r"nothing at all", "[0-9]{2}"]
)
def test_ripgrep_leaves_out_only_what_cannot_match(texts, pattern):
    kept = ripgrep.narrowed(pattern, texts)
    assert kept is not None
    for number, text in enumerate(texts):
        result, _ = candidates.spans(
            {"regex": pattern, "ast": {}},
            text.name,
            Path(text.path).read_bytes().decode("utf-8", "replace"),
            9,
        )
        assert number in kept or not result, text.name


@pytest.mark.parametrize(
    "pattern", [r"(?=x)y", r"(?P<a>x)", r"\1", "é", r"[a--b]", r"[[:alpha:]]", r"x++", r"\Z"]
)
def test_what_ripgrep_may_read_otherwise_is_not_given_to_it(texts, pattern):
    assert ripgrep.narrowed(pattern, texts, program="/bin/false") is None


def test_a_ripgrep_that_fails_leaves_nothing_out(texts, tmp_path):
    broken = tmp_path / "rg"
    broken.write_text("#!/bin/sh\nexit 2\n")
    broken.chmod(0o755)
    assert ripgrep.narrowed("word", texts, program=str(broken)) is None
    assert ripgrep.narrowed("word", texts, program="/no/such/rg") is None
