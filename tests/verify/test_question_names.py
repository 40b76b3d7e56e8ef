"""Evidence must be about what the question names: a true line about another pump proves nothing."""

import hashlib

import pytest

from loop_runner.records import Accepted, Inputs, InputText, Rejected
from loop_runner.verify.question_names import names_in
from tests.support.gates import made, submission

PUMPS = (
    "\n".join(
        [
            "The flow limit of pump K-46 at Stanwell without a filter is 512 litres.",
            *[f"The committee met for the {number}th time." for number in range(40)],
            "The flow limit of pump K-64 at Stanwell without a filter is 671 litres.",
        ]
    )
    + "\n"
)
SERVER = '''"""HTTP servers."""

import socket

class TCPServer:
    """A server."""

    address_family = 2

    socket_type = 1

    allow_reuse_address = False

    request_queue_size = 5


class Other:
    backlog = 9
'''
BOOK = "# Harbour book\n\n" + "\n" * 6 + "## Quay Seven\n\n" + "\n" * 8 + "The fee is 12 crowns.\n" + "\n" * 9
BOOK += "## Quay Eight\n\n" + "\n" * 8 + "The fee is 15 crowns.\n"
TABLE = "year,Norway,Spain\n" + "".join(f"{year},{year - 1000},{year - 900}\n" for year in range(2000, 2030))


@pytest.fixture
def inputs(tmp_path):
    texts = []
    for name, text in {
        "pumps.txt": PUMPS,
        "net/server.py": SERVER,
        "book.md": BOOK,
        "table.csv": TABLE,
        "ferry.txt": FERRY,
        "limits.py": LIMITS,
        "letter.txt": "\n" * 9 + "A letter to the Bertelsen company.\n",
        "summary.txt": "A summary of pumps.txt\nThe flow limit of pump K-64 is 700 litres.\n",
    }.items():
        path = tmp_path / name.replace("/", "-")
        path.write_text(text)
        texts.append(InputText(name, path, len(text), hashlib.sha256(text.encode()).hexdigest()))
    return Inputs(tuple(texts))


LIMITS = "WRITE_TIMEOUT = 30\n" + "# more\n" * 9 + "READ_TIMEOUT = 40\n" + "# more\n" * 9
PUMPS += "Nothing happened.\n" * 9 + "The valves of Stanwick are checked in May.\n"
FERRY = "The ferry to Varde is run by the town.\nIt follows the rules of IATA.\n"
FERRY += "".join(f"Rule {number}: keep the deck clear of ropes.\n" for number in range(30))
FERRY += "It leaves at 7:40 from the west pier.\nFees:\n  - bicycles: 2 crowns\n  - parcels: 3 crowns\n"
FERRY += "The licence costs 90 crowns a year.\n"


def line_of(text, start):
    return next(number for number, line in enumerate(text.split("\n"), 1) if line.strip().startswith(start))


def judge(inputs, tmp_path, question, answer):
    gate = made({"citations": {"answer_in_quote": True, "derived": True, "about_question": True}}, tmp_path)
    return gate.verify(submission(tmp_path, answer, inputs=inputs, prompt=question))


RIGHT = {
    "the line of the pump": (
        "What is the flow limit of pump K-64 at Stanwell without a filter?",
        "671\n> pumps.txt:42: The flow limit of pump K-64 at Stanwell without a filter is 671 litres.",
    ),
    "a class that encloses the line": (
        "What is the default request_queue_size of server.TCPServer?",
        "5\n> net/server.py:14:     request_queue_size = 5",
    ),
    "a heading above the line": (
        "What is the fee at Quay Seven?",
        f"12\n> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns.",
    ),
    "the names of a table's columns": (
        "How many visitors did Norway have in 2011?",
        f"1011\n> table.csv:{line_of(TABLE, '2011')}: 2011,1011,1111",
    ),
    "a name that no input has": (
        "What is the flow limit of pump K-64 according to Bertram?",
        "671\n> pumps.txt:42: The flow limit of pump K-64 at Stanwell without a filter is 671 litres.",
    ),
    "another spelling of capitals": (
        "WHAT is the fee at quay seven?",
        f"12\n> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns.",
    ),
    "names that two quotes have together": (
        "Which of K-64 and K-46 has the lower limit?",
        (
            "K-46\nDerived: 512 is less than 671\n"
            "> pumps.txt:1: The flow limit of pump K-46 at Stanwell without a filter is 512 litres.\n"
            "> pumps.txt:42: The flow limit of pump K-64 at Stanwell without a filter is 671 litres."
        ),
    ),
    "a subject that only the beginning of the text names": (
        "When does the ferry to Varde leave?",
        f"7:40\n> ferry.txt:{line_of(FERRY, 'It leaves')}: It leaves at 7:40 from the west pier.",
    ),
    "a name that only other texts have": (
        "What does the Bertelsen company pay for the licence?",
        f"90 crowns\n> ferry.txt:{line_of(FERRY, 'The licence')}: The licence costs 90 crowns a year.",
    ),
    "an acronym above an indented line": (
        "What is the IATA fee for a parcel?",
        f"3 crowns\n> ferry.txt:{line_of(FERRY, '- parcels')}:   - parcels: 3 crowns",
    ),
    "one of two texts that the question names": (
        "Is the fee in book.md or in pumps.txt?",
        (
            "book.md\nDerived: only book.md has a fee\n"
            f"> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns."
        ),
    ),
    "a decimal number that the text writes otherwise": (
        "Which fee is lower than 12.5 crowns?",
        f"12\n> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns.",
    ),
    "a question in German, in which every noun has a capital": (
        "Wie hoch ist die Gebühr für das Schiff im Hafen?",
        f"12\n> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns.",
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_evidence_about_the_names_of_the_question_is_accepted(case, inputs, tmp_path):
    verdict = judge(inputs, tmp_path, *RIGHT[case])
    assert isinstance(verdict, Accepted), verdict


WRONG = {
    "another pump": (
        "What is the flow limit of pump K-64 at Stanwell without a filter?",
        "512\n> pumps.txt:1: The flow limit of pump K-46 at Stanwell without a filter is 512 litres.",
        "K-64",
    ),
    "another class": (
        "What is the backlog of server.TCPServer?",
        f"9\n> net/server.py:{line_of(SERVER, 'backlog')}:     backlog = 9",
        "server.TCPServer",
    ),
    "another section": (
        "What is the fee at Quay Eight?",
        f"12\n> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns.",
        "Eight",
    ),
    "another year": (
        "How many visitors did Norway have in 2011?",
        f"1021\n> table.csv:{line_of(TABLE, '2021')}: 2021,1021,1121",
        "2011",
    ),
    "another file": (
        "What is the fee in TCPServer?",
        f"12\n> book.md:{line_of(BOOK, 'The fee is 12')}: The fee is 12 crowns.",
        "TCPServer",
    ),
    "another town at the same place of the sentence": (
        "What is the flow limit of pump K-64 at Stanwick without a filter?",
        "671\n> pumps.txt:42: The flow limit of pump K-64 at Stanwell without a filter is 671 litres.",
        "Stanwick",
    ),
    "another constant": (
        "What is the value of READ_TIMEOUT?",
        f"30\n> limits.py:{line_of(LIMITS, 'WRITE')}: WRITE_TIMEOUT = 30",
        "READ_TIMEOUT",
    ),
    "a derived answer about another thing": (
        "Is the limit of K-64 above 500?",
        (
            "yes\nDerived: 512 is more than 500\n"
            "> pumps.txt:1: The flow limit of pump K-46 at Stanwell without a filter is 512 litres."
        ),
        "K-64",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_evidence_about_something_else_is_rejected_with_lines_that_have_the_name(case, inputs, tmp_path):
    question, answer, name = WRONG[case]
    verdict = judge(inputs, tmp_path, question, answer)
    assert isinstance(verdict, Rejected)
    assert f"the question is about {name}" in verdict.reason
    last = name.rpartition(".")[2]
    assert last.lower() in verdict.evidence.rpartition("lines that name it:")[2].lower()


def test_a_text_that_the_question_names_must_be_quoted_itself(inputs, tmp_path):
    question = "What is the flow limit of pump K-64, according to pumps.txt?"
    verdict = judge(
        inputs, tmp_path, question, "700\n> summary.txt:2: The flow limit of pump K-64 is 700 litres."
    )
    assert isinstance(verdict, Rejected)
    assert "the question is about pumps.txt" in verdict.reason


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("What is the default of json.loads?", ["json.loads"]),
        ("Where does Magnus Okafor live?", ["Magnus", "Okafor"]),
        ("Which port does IMAP4 use over SSL?", ["IMAP4", "SSL"]),
        ("How long is the notice?", []),
        ("Is it so? Quote the line. Answer in one word.", []),
        ("What is max_size of maxSize in v2?", ["max_size", "maxSize", "v2"]),
        ("Wann beginnt der Vertrag?", []),
        ("What did Norway's fleet catch in 1998?", ["Norway", "1998"]),
    ],
)
def test_names_are_identifiers_codes_years_and_in_english_words_with_a_capital(question, names):
    assert [name.written for name in names_in(question)] == names


def test_of_a_long_task_the_last_question_counts():
    task = "Read about the Brig Amalia. " * 40 + "Which port did the Amalia leave?"
    assert [name.written for name in names_in(task)] == ["Amalia"]
    assert names_in("Tell me about the Brig Amalia. " * 40) == []
