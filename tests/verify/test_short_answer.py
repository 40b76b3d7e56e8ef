"""The one line that says it, and whole words."""

import pytest

from loop_runner.verify import short_answer
from loop_runner.verify.short_answer import stands_in


@pytest.mark.parametrize(
    ("answer", "short"),
    [
        ("128", "128"),
        ("\n\n  128  \nmore", "128"),
        ("> a.py:1: x\n128", "128"),
        ("Answer: 128", "128"),
        ("answer = 128", "128"),
        ("The answer is: 128.", "128"),
        ("Answer:\n128", "128"),
        ("**Answer:** `__init__`", "__init__"),
        ("## Answer: foo", "foo"),
        ("“foo bar”", "foo bar"),
        ("'it''s'", "'it''s'"),
        ("wait...", "wait..."),
        ("[1, 2]", "[1, 2]"),
        (">>> x", ">>> x"),
        ("", ""),
        ("> a.py:1: only a citation", ""),
    ],
)
def test_it_is_the_first_line_without_label_and_wrapping(answer, short):
    assert short_answer(answer) == short


@pytest.mark.parametrize(
    ("needle", "text", "stands"),
    [
        ("...", "placeholder=' [...]'", False),
        ("[...]", "placeholder=' [...]'", True),
        ("...", "end='...'", True),
        ("12", "x = 12", True),
        ("12", "x = 128", False),
        ("12", "x = 312", False),
        ("12", "x = 12.5", False),
        ("12", "x = 3.12", False),
        ("12", "x = .12", False),
        ("12", "it is 12. Then", True),
        ("12", "f(1, 12)", True),
        ("12", "f(1,12)", False),
        ("12", "1,12,3", True),
        ("3", "3,14", False),
        ("14", "3,14", False),
        ("10", "10:30", False),
        ("03", "2021-03-05", False),
        ("2", "1/2", False),
        ("12", "12,000 people", False),
        ("000", "12,000 people", False),
        ("12", "12,34", False),
        ("12", "1..12", True),
        ("12", "x = -12", False),
        ("-12", "x = -12", True),
        ("12", "x-12", True),
        ("12", "a12", False),
        ("12", "0x12", False),
        ("12", "1_12", False),
        ("3.11", "3.11.7", False),
        ("foo", "foobar foo", True),
        ("foo", "_foo foo_ food", False),
        ("os", "os.path", True),
        ("()", "f()", True),
        ("", "anything", False),
    ],
)
def test_words_and_numbers_stand_whole_or_not_at_all(needle, text, stands):
    assert stands_in(needle, text) is stands
