"""The answer, or a file, must be JSON that fits; what does not is told with its place."""

import json

import pytest

from loop_runner.records import Accepted, Broken, Rejected
from tests.support.gates import made, submission

CITY = {
    "type": "object",
    "required": ["name", "people"],
    "properties": {"name": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
}


@pytest.fixture
def verdict(tmp_path):
    def run(answer, spec=CITY, files=None):
        return made({"schema": spec}, tmp_path).verify(submission(tmp_path, answer, files=files))

    return run


@pytest.mark.parametrize(
    "answer",
    ['{"name": "Ulm", "people": 126949}', 'Here it is:\n\n```json\n{"name": "Ulm", "people": 1}\n```\n'],
)
def test_json_that_fits_is_accepted_alone_or_in_the_only_fence(verdict, answer):
    assert isinstance(verdict(answer), Accepted)


def test_each_fault_is_told_with_its_place_and_what_was_expected(verdict):
    output = verdict('{"name": 7, "people": 0}')
    assert isinstance(output, Rejected)
    assert output.reason.startswith(
        "the answer does not fit the schema: 2 faults, the first at $.name: expected"
    )
    assert output.evidence.splitlines() == [
        '$.name: expected {"type": "string"}, got 7',
        '$.people: expected {"minimum": 1}, got 0',
    ]


def test_what_is_no_json_is_rejected_with_the_line(verdict):
    output = verdict('{"name": "Ulm",\n "people": }')
    assert output == Rejected(
        "it is not JSON: Expecting value at line 2, column 12", 'line 2 is:  "people": }'
    )


@pytest.mark.parametrize("answer", ["", "NaN", "[" * 100_000])
def test_odd_answers_are_rejected_not_broken(verdict, answer):
    assert isinstance(verdict(answer), Rejected)


def test_a_file_of_the_workspace_may_be_asked_for(verdict):
    spec = {"schema": CITY, "of": "workspace/city.json"}
    assert isinstance(verdict("see the file", spec, {"city.json": '{"name": "Ulm", "people": 1}'}), Accepted)
    output = verdict("see the file", {"schema": CITY, "of": "town.json"})
    assert output == Rejected("there is no file town.json in the workspace")


def test_a_schema_may_lie_in_a_file_which_is_pinned(tmp_path):
    (tmp_path / "city.schema.json").write_text(json.dumps(CITY))
    verifier = made({"schema": "city.schema.json"}, tmp_path)
    good = submission(tmp_path, '{"name": "Ulm", "people": 1}')
    assert isinstance(verifier.verify(good), Accepted)
    (tmp_path / "city.schema.json").write_text("{}")
    output = verifier.verify(good)
    assert isinstance(output, Broken)
    assert "city.schema.json has changed since the run began" in output.reason


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nonsense"}, "the schema cannot be used"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "the schema cannot be used: a reference leads nowhere"),
        ({"$ref": "#"}, "the schema cannot be used: its references form a loop"),
        ({"pattern": "("}, "the schema cannot be used"),
        ("missing.json", "there is no schema missing.json"),
        ({"schema": {"pattern": "(a+)+$"}, "timeout_s": 1}, "was not done with this answer in 1 s"),
    ],
)
def test_a_schema_that_is_none_is_broken(verdict, schema, reason):
    output = verdict(json.dumps("a" * 40 + "!"), schema)
    assert isinstance(output, Broken)
    assert reason in output.reason


@pytest.mark.parametrize("count", [2, 1000, 1001, 5000])
def test_all_faults_are_counted_and_the_first_thousand_are_listed(verdict, count):
    output = verdict(json.dumps(["x"] * count), {"items": {"type": "integer"}})
    assert f"{count} faults, the first at $[0]" in output.reason
    lines = output.evidence.splitlines()
    assert len(lines) == min(count, 1000) + (count > 1000)
    assert (lines[-1] == f"and {count - 1000} more") == (count > 1000)


FITS = '{"name": "Ulm", "people": 1}'


@pytest.mark.parametrize(
    "answer",
    [
        "\ufeff" + FITS,
        FITS + "\nDone.",
        FITS + "\n\nThe number is that of 2022 [1].",
        "Here it is: " + FITS,
        f"~~~\n{FITS}\n~~~",
        f"````json\n{FITS}\n````\nDone.",
        f"\ufeff```JSON\r\n{FITS}\r\n```",
        f"```json title=city\n\ufeff{FITS}\n```",
        f"  ```\n{FITS}\n  ```",
    ],
)
def test_one_json_value_is_found_with_a_mark_words_or_a_fence_around_it(verdict, answer):
    assert isinstance(verdict(answer), Accepted)


@pytest.mark.parametrize(
    "answer",
    [
        '{"name": "Ulm", "people": 0, "people": 1}',
        '{"name": "Ulm", "people": 1, "more": [{"deep": {"a": 1, "a": 1}}]}',
        '{"name": "Ulm", "people": 1, "p\\u0065ople": 2}',
        f"```json\n{FITS}\n```\n```json\n{FITS}\n```",
        f"```json\n{FITS}\n```\n```python\nprint(2)\n```",
        f"```json\n{FITS}\n```\n~~~\n{{}}\n~~~",
        f"~~~json\n{{}}\n~~~\n```json\n{FITS}\n```",
        f"```json\n{FITS}\n```\nor rather {{}}",
        f"```json\n{FITS}\n```\n```json\n{{}}",
        f"{FITS}\n{FITS}",
        FITS + "}",
        f"{FITS}\n```json\n{{}}\n```",
        '{"name": "Ulm", "people": 1, "share": NaN}',
        '{"name": "Ulm", "people": 1, "share": -Infinity}',
        '{"name": "Ulm", "people": 1, "share": 1e400}',
        '{"name": "Ulm", "people": ' + "9" * 400 + "}",
        '{"name": "Ulm", "people": ' + "9" * 5000 + "}",
        '{"name": "\\ud800", "people": 1}',
        '{"name": "Ulm", "people": 1, "deep": ' + "[" * 300 + "]" * 300 + "}",
        '{"name": "Ulm", "people": 1,}',
        "{'name': 'Ulm', 'people': 1}",
        '{"name": "Ulm", "people": 1} // {"people": 2}',
        "The city is Ulm.",
    ],
)
def test_an_answer_that_can_be_read_in_two_ways_is_rejected(verdict, answer):
    assert isinstance(verdict(answer), Rejected)


def test_the_reason_says_which_key_is_there_twice(verdict):
    output = verdict('{"name": "Ulm", "people": 0, "people": 1}')
    assert output.reason == 'it is not JSON: duplicate key "people" in one object'


def test_a_file_with_a_mark_is_read_and_one_that_is_not_utf_8_is_rejected(tmp_path):
    verifier = made({"schema": {"schema": CITY, "of": "city.json"}}, tmp_path)
    given = submission(tmp_path, "see the file", files={"city.json": "\ufeff" + FITS})
    assert isinstance(verifier.verify(given), Accepted)
    (given.checkout / "workspace/city.json").write_bytes(b'{"name": "\xff", "people": 1}')
    verdict = verifier.verify(given)
    assert isinstance(verdict, Rejected)
    assert "city.json is not UTF-8" in verdict.reason


def test_a_key_of_any_length_rejects_and_does_not_break_the_gate(verdict):
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert isinstance(
        verdict(json.dumps({f"{number}{'k' * 100_000}": 1 for number in range(20)}), schema), Rejected
    )


ITEM = {
    "type": "object",
    "required": ["name", "date"],
    "properties": {"name": {"type": "string"}, "date": {"type": "string"}, "pages": {"minimum": 1}},
    "additionalProperties": False,
}
FAULTS = {
    "a missing key": ({"name": "a"}, '$: the required key "date" is missing (it has "name")'),
    "a missing key of an empty object": ({}, '$: the required key "date" is missing'),
    "a key that is not allowed": (
        {"name": "a", "date": "b", "nmae": 1},
        '$: the key "nmae" is not allowed (allowed: "name", "date", "pages")',
    ),
    "keys that are not allowed": (
        {"name": "a", "date": "b", "x": 1, "y": 2},
        '$: the keys "x", "y" are not allowed (allowed: "name", "date", "pages")',
    ),
    "a wrong type": ({"name": 1, "date": "b"}, '$.name: expected {"type": "string"}, got 1'),
    "a wrong value": ({"name": "a", "date": "b", "pages": 0}, '$.pages: expected {"minimum": 1}, got 0'),
    "a long value": (["x" * 9999], '$: expected {"type": "object"}, got ["xxx'),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_names_the_place_and_the_rule_before_the_value(verdict, case):
    value, shown = FAULTS[case]
    output = verdict(json.dumps(value), ITEM)
    assert shown in output.evidence
    assert len(output.evidence) < 900


@pytest.mark.parametrize("rule", ["anyOf", "oneOf"])
def test_of_alternatives_the_nearest_is_named(verdict, rule):
    schema = {rule: [{"type": "string"}, {"type": "object", "properties": {"a": {"required": ["b"]}}}]}
    output = verdict('{"a": {"c": 1}}', schema)
    assert (
        f"it fits none of the 2 forms of {rule}; the nearest fails at $.a: the required key"
        in output.evidence
    )
    assert '"b" is missing (it has "c")' in output.evidence


def test_a_value_that_fits_two_forms_of_one_of_is_reported_as_such(verdict):
    output = verdict("1", {"oneOf": [{"type": "integer"}, {"minimum": 0}]})
    assert "it fits more than one of the 2 forms of oneOf; got 1" in output.evidence


def test_every_fault_is_listed(verdict):
    output = verdict(json.dumps([{"name": "a"}] * 60), {"items": ITEM})
    assert output.evidence.count('the required key "date" is missing') == 60
    assert "60 faults" in output.reason


def test_the_first_fault_is_in_the_reason(verdict):
    output = verdict('{"name": "a"}', ITEM)
    assert output.reason.endswith(
        '1 fault, the first at $: the required key "date" is missing (it has "name")'
    )


@pytest.mark.parametrize(
    ("schema", "value", "lines"),
    [
        (ITEM, {}, ['$: the required key "name" is missing', '$: the required key "date" is missing']),
        (
            {"required": ["it's", 'a "b"']},
            {},
            ['$: the required key "it\'s" is missing', '$: the required key "a \\"b\\"" is missing'],
        ),
        (
            {"properties": {"in": {"required": ["a", "b"]}}, "required": ["c"]},
            {"in": {}},
            [
                '$: the required key "c" is missing (it has "in")',
                '$.in: the required key "a" is missing',
                '$.in: the required key "b" is missing',
            ],
        ),
        (
            {"items": ITEM},
            [{}, {"date": "b"}],
            [
                '$[0]: the required key "name" is missing',
                '$[0]: the required key "date" is missing',
                '$[1]: the required key "name" is missing (it has "date")',
            ],
        ),
        (
            {"allOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            ['$: the required key "a" is missing', '$: the required key "b" is missing'],
        ),
    ],
)
def test_every_missing_key_has_a_line_with_its_name(verdict, schema, value, lines):
    assert verdict(json.dumps(value), schema).evidence.split("\n") == lines


@pytest.mark.parametrize("rule", ["anyOf", "oneOf"])
def test_every_missing_key_of_the_nearest_form_is_named(verdict, rule):
    schema = {rule: [{"type": "string"}, {"required": ["a", "b"]}, {"required": ["c", "d", "e"]}]}
    output = verdict("{}", schema)
    assert '"a" is missing; $: the required key "b" is missing' in output.evidence
    assert '"c"' not in output.evidence
