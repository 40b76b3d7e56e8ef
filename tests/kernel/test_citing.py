"""`cite` and `cite_lines`: an exact match or an error, never another line or another text."""

import pytest

from loop_runner.kernel.inside.citing import Citer

TEXTS = {
    "a.txt": "port = 25  # smtp\nport = 25\n\nThe tenant must not\nkeep animals.\n",
    "b.txt": "port = 25\nThe seller pays\tthe tax.\nThe seller pays the tax.\n",
    "sub/c.pdf": "page one says so\n\npage two says so\nthe end says so\n",
}
PLACES = {"sub/c.pdf": [(1, "page 1"), (3, "page 2")]}


def cite(quote, name=None):
    return Citer(TEXTS, PLACES).cite(quote, name)


@pytest.mark.parametrize(
    ("quote", "name", "citation"),
    [
        ("port = 25  # smtp", None, "> a.txt:1: port = 25  # smtp"),
        ("port = 25", "b.txt", "> b.txt:1: port = 25"),
        ("port = 25", "a.txt", "> a.txt:2: port = 25"),
        ("b.txt:1: port = 25", None, "> b.txt:1: port = 25"),
        ("> a.txt:1: port = 25", None, "> a.txt:1: port = 25  # smtp"),
        ("- > a.txt:2: port = 25", None, "> a.txt:2: port = 25"),
        ("> sub/c.pdf:page 2: page two says so", None, "> sub/c.pdf:3: page two says so"),
        (
            "The tenant must not keep animals.",
            None,
            "> a.txt:4: The tenant must not\n> a.txt:5: keep animals.",
        ),
        ("must not\nkeep animals", None, "> a.txt:4: The tenant must not\n> a.txt:5: keep animals."),
        ("port = 25\n\nThe tenant must", None, "> a.txt:2: port = 25\n> a.txt:4: The tenant must not"),
        (
            "> a.txt:2: port = 25\n> b.txt:1: port = 25",
            None,
            "> a.txt:2: port = 25\n> b.txt:1: port = 25",
        ),
    ],
)
def test_a_quote_that_is_in_one_place_gives_the_citation_of_each_of_its_lines(quote, name, citation):
    assert cite(quote, name) == citation


@pytest.mark.parametrize(
    ("quote", "name", "message"),
    [
        ("port = 26", None, "in none of the inputs: 'port = 26'; copy it exactly"),
        ("PORT = 25  # SMTP", None, "nearest: a.txt:1, cite_lines"),
        ("keep animals the tenant must", None, "in none of the inputs"),
        ("says so", "sub/c.pdf", "is in 3 places: sub/c.pdf:1, sub/c.pdf:3, sub/c.pdf:4; say which one"),
        ("port = 25", None, "is in 2 places: a.txt:2, b.txt:1; say which one is meant, such as cite_lines"),
        ("The seller pays the tax.", None, "is in 2 places: b.txt:2, b.txt:3"),
        (
            "a.txt:5: port = 25",
            None,
            r"line 5 of a.txt does not say 'port = 25'; it is on line 1, 2: cite_lines",
        ),
        ("a.txt:1: keep cats", None, "line 1 of a.txt does not say 'keep cats'"),
        ("sub/c.pdf:page 1: page two says so", None, "lines 1 to 2 of sub/c.pdf does not say|do not say"),
        ("sub/c.pdf:page 2: says so", None, "is in 2 places: sub/c.pdf:3, sub/c.pdf:4"),
        ("a.txt:2: port = 25", "b.txt", "begins with 'a.txt', but cite was asked for 'b.txt'"),
        ("port = 25\nkeep animals", None, "in none of the inputs"),
        ("", None, "needs the text of a line"),
        ("> \n>", None, "needs the text of a line"),
        ("x", "d.txt", "no text is named 'd.txt'"),
        ("\n".join(map(str, range(51))), None, "at most 50 lines"),
    ],
)
def test_any_other_quote_is_an_error_that_says_what_to_do(quote, name, message):
    with pytest.raises(ValueError, match=message):
        cite(quote, name)


def test_lines_are_cited_by_number_without_the_blank_ones():
    assert Citer(TEXTS).cite_lines("a.txt", 2, 4) == "> a.txt:2: port = 25\n> a.txt:4: The tenant must not"
    for first, last, message in (
        (0, 1, "has lines 1 to 6"),
        (2, 9, "has lines"),
        (3, 3, "are blank"),
        (4, 2, "has"),
    ):
        with pytest.raises(ValueError, match=message):
            Citer(TEXTS).cite_lines("a.txt", first, last)


def test_the_citation_that_an_error_names_can_be_made():
    with pytest.raises(ValueError, match="places") as refused:
        cite("port = 25")
    call = str(refused.value).rpartition("such as ")[2]
    assert eval(call, {"cite_lines": Citer(TEXTS).cite_lines}) == "> a.txt:2: port = 25"
