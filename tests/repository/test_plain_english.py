"""Texts and names are plain English: none of the wordings in plain_english.yaml, no name without a noun."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORDINGS = yaml.safe_load(Path(__file__).with_name("plain_english.yaml").read_text(encoding="utf-8"))
# Words that say nothing of a value. ``found`` and the others stay words of texts.
NOT_A_NOUN = {"said", "told", "asked", "one", "each", "found", "ours", "theirs", "yours"}
TEXTS = ("loop_runner", "prompts", "hooks", "bench", "examples", "docs", "README.md")
CODE = ("loop_runner", "hooks", "bench", "examples", "tests", "docs")
SUFFIXES = {".py", ".md", ".j2", ".yaml", ".json"}
# Records of decisions and of earlier versions keep their words.
HISTORY = ("docs/adr", "tests/data", "loop_runner/_resources")
EARLIER_VERSIONS = {
    ("loop_runner/runs/stand_ins.py", "made again"),
    # Requests: recorded replies are found by their words.
    ("loop_runner/verify/agreement.py", "nobody's"),
    ("loop_runner/verify/judge.py", "stands there"),
}


def files(roots: tuple[str, ...], suffixes: set[str]) -> list[Path]:
    """The files below ``roots`` with one of ``suffixes``, without those that keep earlier words."""
    paths = [path for root in roots for path in (ROOT / root, *(ROOT / root).rglob("*"))]
    return sorted(
        path
        for path in paths
        if path.suffix in suffixes
        and path.is_file()
        and not path.relative_to(ROOT).as_posix().startswith(HISTORY)
    )


def pattern(wording: str) -> re.Pattern[str]:
    """The wording as whole words, in any letter case, with any white space between them."""
    words = r"\s+(?:#\s+)?".join(map(re.escape, wording.split()))
    return re.compile(rf"(?<![\w-]){words}(?![\w-])", re.IGNORECASE)


PATTERNS = {wording: pattern(wording) for wording in WORDINGS}


def odd_wordings(path: str, text: str) -> list[str]:
    """A line for each wording of the list in ``text``: the place, the wording, the better one."""
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {wording!r}; better: {WORDINGS[wording]}"
        for wording, expression in PATTERNS.items()
        if (path, wording) not in EARLIER_VERSIONS
        for match in expression.finditer(text)
    ]


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of each value, parameter, attribute and function that ``tree`` defines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                yield node.lineno, name


def odd_names(path: str, source: str) -> list[str]:
    """A line for each name in ``source`` that says nothing of its value."""
    return [
        f"{path}:{line}: {name}"
        for line, name in names(ast.parse(source))
        if name.strip("_").lower() in NOT_A_NOUN
    ]


@pytest.mark.parametrize("root", TEXTS)
def test_no_text_has_a_wording_of_the_list(root):
    odd = [
        line
        for path in files((root,), SUFFIXES)
        for line in odd_wordings(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not odd, "\n".join(odd)


@pytest.mark.parametrize("root", CODE)
def test_every_name_says_what_its_value_is(root):
    odd = [
        line
        for path in files((root,), {".py"})
        for line in odd_names(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not odd, "\n".join(odd)


@pytest.mark.parametrize("wording", WORDINGS)
def test_a_wording_is_found_over_the_end_of_a_line_and_in_any_case(wording):
    assert odd_wordings("page.md", f"It says: {wording.upper()}, and more.")
    assert odd_wordings("module.py", "# " + "\n# ".join(wording.split()))
    assert not odd_wordings("page.md", f"x{wording}x")


@pytest.mark.parametrize("better", sorted(set(WORDINGS.values())))
def test_no_better_wording_is_itself_on_the_list(better):
    assert not odd_wordings("page.md", better)


@pytest.mark.parametrize(
    "source",
    [
        "said = 1",
        "for each in (): pass",
        "print([one for one in ()])",
        "def check(told): pass",
        "lambda asked: 0",
        "self.found = 1",
        "def _ours(): pass",
        "with open('x') as theirs: pass",
        "try: pass\nexcept OSError as said: pass",
        "match x:\n    case [*one]: pass",
        "if (found := 1): pass",
        "class Found: pass",
        "import ast\nasync def each(): pass",
    ],
)
def test_a_name_that_says_nothing_is_found_wherever_it_is_defined(source):
    assert odd_names("module.py", source)


@pytest.mark.parametrize(
    "source", ["match = 1", "x = said", "print(found)", "foundation = 1", "is_found = 1"]
)
def test_other_names_and_uses_are_left_alone(source):
    assert not odd_names("module.py", source)
