"""A task's verifiers are understood in full or refused."""

from typing import Any

import pytest
import yaml

from loop_runner.errors import VerifierError
from loop_runner.verify import Gates, build


def built(text, tmp_path):
    return build(yaml.safe_load(text), tmp_path)


def test_every_kind_can_be_written_in_short_and_in_full(tmp_path):
    verifiers = built(
        r"""
        - citations
        - citations: {min: 2, answer_in_quote: true, names: [a/*], quote_mentions: [x], within_lines: 2}
        - contains: foo
        - contains: {text: foo, ignore_case: true}
        - regex: '^\d+$'
        - regex: {pattern: '^\d+$', part: short_answer, timeout_s: 1.5}
          name: a number
        - command: ["python3", "check.py"]
        - command: python3 check.py --strict
        - command: {run: [make, check], timeout_s: 600}
          name: the build
        """,
        tmp_path,
    )
    assert [verifier.name for verifier in verifiers] == [
        "citations", "citations (2)", "contains 'foo'", "contains 'foo' (2)", r"regex `^\d+$`",
        "a number", "command python3 check.py", "command python3 check.py --strict", "the build",
    ]  # fmt: skip


def test_no_verifiers_are_none(tmp_path):
    assert build([], tmp_path) == ()
    assert Gates.of([], tmp_path).requirements() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- citation", "did you mean 'citations'?"),
        ("- oracle: {}", "it can be: command, python, schema, contains, regex, citations"),
        ("- judge: {}", "must be a text"),
        ("- judge: {rubric: r.md, threshold: 2}", "a number over 0 and up to 1"),
        ("- all: []", "write a list"),
        ("- any: {contains: a}", "write a list"),
        ("- any: [{citation: 1}]", "did you mean 'citations'?"),
        ("- {contains: a, weight: 0}", "a number over 0"),
        ("- command: {run: [a], pin: no-such-file}", "names 'no-such-file'"),
        ("- schema", "must be a text"),
        ("- promise", "must be a text"),
        ("- agreement: {compare: meaning}", "one of short_answer, text"),
        ("- contains: {txt: a}", "did you mean 'text'?"),
        ("- citations: {minimum: 1}", "did you mean 'min'?"),
        ("- citations: {min: -1}", "an integer >= 0"),
        ("- citations: {min: true}", "an integer >= 0"),
        ("- citations: {answer_in_quote: 1}", "true or false"),
        ("- citations: {quote_mentions: [1]}", "a list of texts"),
        ("- contains: 42", "put numbers and yes/no in quotes"),
        ("- contains: ''", "put numbers and yes/no in quotes"),
        ("- contains", "must be a text"),
        ("- regex: '('", "the pattern '(' is wrong"),
        ("- regex: {pattern: a, part: last_line}", "one of answer, first_line, short_answer"),
        ("- regex: {pattern: a, timeout_s: 0}", "a number of seconds over 0"),
        ("- regex: {pattern: a, timeout_s: .nan}", "a number of seconds over 0"),
        ("- command: []", "it names no program"),
        ("- command: ''", "it names no program"),
        ("- command:", "it names no program"),
        ("- command: [sleep, 5]", "its words are not all texts"),
        ('- command: "echo \'"', "cannot be split into words"),
        ("- command: {run: ls, time_out: 5}", "did you mean 'timeout_s'?"),
        ("- {contains: a, regex: b}", "a verifier is not written as expected"),
        ("- {name: a}", "a verifier is not written as expected"),
        ("- {contains: a, name: 5}", "a verifier is not written as expected"),
        ("- {contains: a, nme: b}", "there is no verifier 'nme'"),
        ("- 5", "a verifier is not written as expected"),
        ("- [contains, a]", "a verifier is not written as expected"),
    ],
)
def test_a_mistake_is_refused_with_what_to_do(tmp_path, text, message):
    with pytest.raises(VerifierError) as caught:
        built(text, tmp_path)
    assert message in str(caught.value)
    assert "why it matters" in str(caught.value)
    assert "what to do" in str(caught.value)


def test_the_model_is_told_what_will_be_asked(tmp_path):
    (citations,) = Gates.of(["citations"], tmp_path).requirements()
    assert citations.startswith("at least 1 citation, each on its own line")
    specs: list[Any] = [{"citations": {"answer_in_quote": True}}, {"command": "check.py"}]
    citations, command = Gates.of(specs, tmp_path).requirements()
    assert "the first line must be the short answer alone" in citations
    assert command == "the program `check.py` must accept the answer"
