"""What counts as the same answer in another form, and what is only near it."""

import pytest

from evals.grading import grade, numbers, short_answer
from evals.questions import Key

PORT = Key("number", ("8080",))
NAME = Key("name", ("Ellison", "Mara Ellison"), rivals=("Ellerson", "Brandt"))
VERSION = Key("name", ("HTTP/1.0",), rivals=("HTTP/1.1",))
LIST = Key("list", ("3", "11|eleven", "21"))
ORDER = Key("list", ("March", "June", "July"), is_ordered=True)


@pytest.mark.parametrize(
    "answer",
    [
        "8080",
        "8,080",
        "8 080",
        "Answer: 8080.",
        "**8080**",
        "The answer is 8080",
        "`8080`",
        "8080.0",
        "The port is 8080.\n> a.txt:3: port 9090",
        "> a.txt:3: port 9090\n8080",
        "# 8080",
    ],
)
def test_a_number_is_right_in_any_usual_form(answer):
    assert grade(answer, PORT).is_right


@pytest.mark.parametrize(
    "answer",
    ["", "8081", "80800", "808", "8080 or 9090", "-8080", "8080.5", "port8080x", "the port", "v8080"],
)
def test_a_number_near_the_right_one_is_wrong(answer):
    assert not grade(answer, PORT).is_right


def test_numbers_of_the_question_are_not_taken_for_the_answer():
    assert grade("Pump 17 moves 34 litres", Key("number", ("34",)), "How much does pump 17 move?").is_right
    assert not grade(
        "Pump 17 moves 35 litres", Key("number", ("34",)), "How much does pump 17 move?"
    ).is_right
    assert not grade("17", Key("number", ("34",)), "How much does pump 17 move?").is_right
    assert grade("17", Key("number", ("17",)), "Does pump 17 move 17 litres?").is_right


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("twelve", {12}),
        ("Two or three", {2, 3}),
        ("0.6", {0.6}),
        ("1e3", {1000}),
        ("12 of 128", {12, 128}),
        ("-5", {-5}),
        ("\u22125", {-5}),
        ("1.2.3", set()),
        ("two, so 2", {2}),
    ],
)
def test_numbers_are_read_as_a_person_reads_them(text, values):
    assert numbers(text) == values


@pytest.mark.parametrize(
    "answer",
    ["Ellison", "mara ellison", "Mara  Ellison.", '"Ellison"', "It is Mara Ellison.", "Answer: **Ellison**"],
)
def test_a_name_is_right_in_any_accepted_form(answer):
    assert grade(answer, NAME).is_right


@pytest.mark.parametrize(
    "answer",
    [
        "Ellerson",
        "Ellisons",
        "Ellison or Ellerson",
        "not Ellison",
        "Brandt, not Mara Ellison",
        "El lison",
        "word " * 41 + "Ellison",
        "> a.txt:1: Ellison",
        "",
    ],
)
def test_a_name_near_the_right_one_is_wrong(answer):
    assert not grade(answer, NAME).is_right


@pytest.mark.parametrize(
    ("answer", "is_right"),
    [
        ("HTTP/1.0", True),
        ("http/1.0.", True),
        ("HTTP/1.01", False),
        ("HTTP/1.1", False),
        ("HTTP/1.0.1", False),
    ],
)
def test_a_version_is_a_name_with_its_marks(answer, is_right):
    assert grade(answer, VERSION).is_right is is_right


def test_a_rival_inside_an_accepted_form_does_not_count():
    key = Key("name", ("north-east wing",), rivals=("wing", "east"))
    assert grade("The north-east wing", key).is_right


@pytest.mark.parametrize(
    "answer",
    [
        "3, 11, 21",
        "21, 3 and 11",
        "[3, 11, 21]",
        "3; 11; 21",
        "- 3\n- 11\n- 21",
        "The clauses are:\n* 3\n* eleven\n* 21",
        "Clauses: 3, 11, and 21.",
        "Clause 3, clause 11, clause 21",
        "3, 11, 21, 3",
        "1. 3\n2. 11\n3. 21",
    ],
)
def test_a_list_is_right_in_any_usual_form(answer):
    assert grade(answer, LIST).is_right


@pytest.mark.parametrize("answer", ["3, 11", "3, 11, 21, 4", "3, 11, 12", "31121", "", "- 3\n- 11\n- 22"])
def test_a_list_with_another_item_or_without_one_is_wrong(answer):
    assert not grade(answer, LIST).is_right


def test_the_order_of_a_list_counts_only_where_the_key_has_one():
    assert grade("March, June, July", ORDER).is_right
    assert not grade("June, March, July", ORDER).is_right


@pytest.mark.parametrize(
    ("answer", "right", "is_right"),
    [
        ("Yes", "yes", True),
        ("Yes, clause 7 does.", "yes", True),
        ("no.", "no", True),
        ("False", "no", True),
        ("**No**", "no", True),
        ("Yes", "no", False),
        ("Yes and no", "yes", False),
        ("Perhaps", "yes", False),
        ("Nobody", "no", False),
        ("", "no", False),
    ],
)
def test_yes_and_no_are_read_from_the_first_word(answer, right, is_right):
    assert grade(answer, Key("yes_no", (right,))).is_right is is_right


@pytest.mark.parametrize(
    "answer",
    [
        "Not in the texts.",
        "not in the texts",
        "None",
        "The answer is not in the provided texts",
        "The texts do not say.",
        "This is not mentioned.",
        "It cannot be determined",
        "There is no information about it",
        "Unknown",
        "No such line: it was not found in the files",
    ],
)
def test_an_answer_that_the_texts_do_not_contain_is_named_so(answer):
    assert grade(answer, Key("absent", ())).is_right


@pytest.mark.parametrize("answer", ["42", "Harwick", "", "No", "not 42", "It is in the texts: 42", "nothing"])
def test_any_other_answer_to_an_unanswerable_question_is_wrong(answer):
    assert not grade(answer, Key("absent", ())).is_right


def test_a_key_with_quotes_needs_the_quotes_as_well():
    key = Key("name", ("Granby",), quotes=("Rosa Moreau works in team Heron.",))
    assert grade("Granby\n> people.txt:3: Rosa Moreau works  in team Heron.", key).is_right
    reason = grade("Granby\n> people.txt:3: Rosa works in team Heron.", key).reason
    assert "not quoted" in reason
    assert not grade("Granley\n> people.txt:3: Rosa Moreau works in team Heron.", key).is_right


@pytest.mark.parametrize(
    ("answer", "short"),
    [
        ("\n\n## Final answer: 128\nmore", "128"),
        (">>> print(1)", ">>> print(1)"),
        ("> a:1: x", ""),
        ("`__init__`", "__init__"),
        ("None.", "None"),
        ("0.5", "0.5"),
    ],
)
def test_the_short_answer_is_the_first_line_that_is_no_citation(answer, short):
    assert short_answer(answer) == short
