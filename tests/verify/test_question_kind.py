"""An answer of another kind than the question asks for is no answer; in doubt, every kind fits."""

import pytest

from loop_runner.verify.question_kind import misfit


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("How many seats does the hall have?", "the hall", "a number"),
        ("In what year did she leave?", "in winter", "a number"),
        ("What is the sum of the minutes?", "minutes", "a number"),
        ("Does clause 5 contradict clause 2?", "14 days", "yes or no"),
        ("Read both texts. Is the tenant free to leave?", "the tenant", "yes or no"),
    ],
)
def test_an_answer_of_another_kind_does_not_fit(question, answer, kind):
    assert misfit(question, f"Answer: {answer}\n> a.txt:1: {answer}") == kind


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many seats does the hall have?", "twelve"),
        ("How many seats does the hall have?", "1,200 seats"),
        ("How many seats does the hall have?", "none"),
        ("How many are allowed?", "unlimited"),
        ("Which port is used?", "443 (HTTPS)"),
        ("Does clause 5 contradict clause 2?", "No, it repeats it"),
        ("Does it end by itself?", "only if notice is given"),
        ("May the tenant leave?", "The tenant may not leave"),
        ("Is it red or green?", "green"),
        ("Can you tell me the port of the server?", "443"),
        ("Does anyone know the port?", "443"),
        ("Do the texts say when it began?", "in 1998"),
        ("Is there a rule on noise?", "rule 7"),
        ("Which port did the Amalia leave?", "Hamburg"),
        ("Which file has the targets?", "Makefile"),
        ("Is there a rule, and which one?", "rule 7"),
        ("In which file is QueueEmpty defined?", "asyncio/queues.py"),
        ("Which file format is used?", "CSV"),
        ("What is the default port of imaplib?", "IMAP4_PORT"),
        ("Who keeps the key?", "Magnus Okafor"),
        ("Wie viele Sitze hat der Saal?", "der Saal"),
        ("", "anything"),
    ],
)
def test_an_answer_that_may_be_of_the_kind_fits(question, answer):
    assert misfit(question, f"{answer}\n> a.txt:1: {answer}") == ""
