"""Two answers in many forms: what is surely the same, surely another answer, and a juror's to decide."""

import pytest

from loop_runner.verify.sameness import Sameness, compare, compare_whole

SAME = [
    ("A: 87\nB: typing 41", "A: 87 / B: typing 41"),
    ("- A: 87\n- B: 41", "| A | 87 |\n|---|---|\n| B | 41 |"),
    ('{"A": 87, "B": 41}', "A: 87\nB: 41"),
    ("capture_output, text", "capture_output and text"),
    ("128", "128 (the default)"),
    ("50%", "50 %"),
    ("5 March 2021", "2021-03-05"),
    ("March 5, 2021", "2021-03-05"),
    ("the 5th of March 2021", "5.3.2021"),
    ("Friday, 5 March 2021", "Mar. 5, 2021"),
    ("1e3", "1000"),
    ("1,000", "1000"),
    ("5 kB", "5000 B"),
    ("-0", "0"),
    ("\u0664\u0662", "42"),
    ("**87**", "87"),
    ("`a_b`", "a_b"),
    ("foo()", "foo"),
    ("Yes.", "yes"),
    ("No", "no"),
    ("NO", "no"),
    ("The tower", "tower"),
    ("a, b, c", "c, b and a"),
    ("87, 41", "41, 87"),
    ("42\n\nWhy:\n- line 5 says so", "42"),
    ("42\nIt says so in a.txt.", "42\nbecause"),
    ("- a\n- b", "a, b"),
    ("1. a\n2. b", "a, b"),
    ("\u20ac5", "5 EUR"),
    ("$5", "5 dollars"),
    ("\u20ac1,234.50", "1234.5 EUR"),
    ("five", "5"),
    ("5 minutes", "300 s"),
    ("5\u201310", "5-10"),
    ("\u22125", "-5"),
    ("Answer: 1024 \n> a.txt:1: The tower", "1,024.\nIt says so."),
    ('```json\n{"a": 1}\n```', '{"a": 1.0}'),
    ("nan", "NaN"),
    ("he said, she left", "she left, he said"),
    ("Paris.", "paris"),
    ("1 234", "1234"),
    ("1 234", "1234"),
    ("# Answer\n87", "87"),
    ("**Answer:** 87", "87"),
    ("The answer is: 87", "87"),
    ("10 %", "10 percent"),
]
DIFFERENT = [
    ("A: 87\nB: 41", "A: 87\nB: 24"),
    ("87", "88"),
    (".5", "5"),
    ("5 MW", "5 mW"),
    ("-5", "5"),
    ('{\n"a": 1\n}', '{\n"a": 2\n}'),
    (">5", "5"),
    ("2021-03-05", "2021-03-06"),
]
OPEN = [
    ("A: 87 / B: typing 41", "A: 87 / B: ssl 24"),
    ("A: 87\nB: typing 41", "A: 87\nB: ssl 24"),
    ("3.10", "3.1"),
    ("10\xb2", "102"),
    ("03/05/2021", "2021-03-05"),
    ("1.000", "1000"),
    ("1.000", "1"),
    ("1,000", "1.000"),
    ("0.5", "50%"),
    ("5 KB", "5000 B"),
    ("007", "7"),
    ("\xbd", "0.5"),
    ("is allowed", "is not allowed"),
    ("!x", "x"),
    ("*args", "args"),
    ("-v", "-V"),
    ("MW", "mW"),
    ("A beats B, C", "C, A beats B"),
    ("not A, B", "B, not A"),
    ("Yes.\nBut not on Sundays.", "Yes."),
    ("Allowed:\n- a\n- b", "Not allowed:\n- a\n- b"),
    ("1. a\n2. b", "1. b\n2. a"),
    ("3,14", "3.14"),
    ("1,234.50", "1234.5"),
    ("3.14", "3.1416"),
    ("5 m", "5 minutes"),
    ("yes (but only with consent)", "yes"),
    ("128 (not the default)", "128"),
    ("a or b", "a and b"),
    ("(5)", "5"),
    ("[0, 5]", "[0, 5)"),
    ("x\xb2", "x2"),
    ("UNSEEN 1024", "1024"),
    ('{"a": 1, "a": 2}', '{"a": 2}'),
    ("87\n41", "87\n42"),
    ("5!", "5"),
    ("A", "a"),
    ("Answer: 5\nAnswer: 6", "5"),
    ("1,02", "102"),
    ("24 hours", "1 day"),
    ("192.168.1.1", "192.168.1.10"),
    ("1.2.3", "1.2.30"),
    ("C++", "C"),
    ("C#", "C"),
    ("a-b", "a b"),
    ("12:30", "12.30"),
    ("5'", "5"),
    ("2**10", "210"),
    ("87 of 100", "87"),
    ("~5", "5"),
    ("<5", "5"),
    ("\u22655", "5"),
    ("5+", "5"),
    ("+5", "5"),
    ("5e3", "5 e3"),
    ("0x10", "10"),
    ("1/2", "0.5"),
    ("Title: A / B", "A / B"),
    ("9 a.m.", "9 p.m."),
    ("May 2021", "2021-05"),
    ("3 of 5", "5 of 3"),
    ("A\nB", "A"),
]


@pytest.mark.parametrize(("answer", "other"), SAME)
def test_other_spellings_and_forms_are_the_same_answer(answer, other):
    assert compare(answer, other) is Sameness.SAME
    assert compare(other, answer) is Sameness.SAME


@pytest.mark.parametrize(("answer", "other"), DIFFERENT)
def test_another_number_date_or_amount_is_another_answer(answer, other):
    assert compare(answer, other) is Sameness.DIFFERENT
    assert compare(other, answer) is Sameness.DIFFERENT


@pytest.mark.parametrize(("answer", "other"), OPEN)
def test_what_may_be_another_answer_is_never_taken_for_the_same(answer, other):
    assert compare(answer, other) is Sameness.OPEN
    assert compare(other, answer) is Sameness.OPEN


@pytest.mark.parametrize(
    "question",
    [
        "List the steps in order.",
        "Which ports are open, sorted by use?",
        "How many errors, and how many warnings?",
        "Give (a) the errors and (b) the warnings.",
        "How many errors and warnings are there, respectively?",
    ],
)
def test_the_order_of_a_list_counts_where_the_question_asks_for_one(question):
    assert compare("87, 41", "41, 87", question) is Sameness.OPEN
    assert compare("87, 41", "87 and 41", question) is Sameness.SAME


@pytest.mark.parametrize(
    ("answer", "other", "sameness"),
    [
        ("The default\nis 5.", "the default\n\nis 5", Sameness.SAME),
        ("The default is 5.", "The default is not 5.", Sameness.OPEN),
        ("5\nbecause of a", "5\nbecause of b", Sameness.OPEN),
        ('{"a": [1, 2]}', '{"a": [1, 2]}\n', Sameness.SAME),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', Sameness.OPEN),
        ("5", "6", Sameness.DIFFERENT),
        ("", "", Sameness.DIFFERENT),
    ],
)
def test_whole_texts_are_compared_word_by_word(answer, other, sameness):
    assert compare_whole(answer, other) is sameness


@pytest.mark.parametrize("empty", ["", "  \n", "```\n```", "> a.txt:1: only a citation"])
def test_an_answer_that_says_nothing_is_like_no_other(empty):
    assert compare(empty, empty) is Sameness.DIFFERENT
