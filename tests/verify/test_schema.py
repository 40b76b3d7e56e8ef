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
    said = verdict('{"name": 7, "people": 0}')
    assert isinstance(said, Rejected)
    assert said.reason == "the answer does not fit the schema: 2 faults, the first at $.name"
    assert said.evidence.splitlines() == [
        '$.name: expected {"type": "string"}, got 7',
        '$.people: expected {"minimum": 1}, got 0',
    ]


def test_what_is_no_json_is_rejected_with_the_line(verdict):
    said = verdict('{"name": "Ulm",\n "people": }')
    assert said == Rejected("it is not JSON: Expecting value at line 2, column 12", 'line 2 is:  "people": }')


@pytest.mark.parametrize("answer", ["", "NaN", "[" * 100_000])
def test_odd_answers_are_rejected_not_broken(verdict, answer):
    assert isinstance(verdict(answer), Rejected)


def test_a_file_of_the_workspace_may_be_asked_for(verdict):
    spec = {"schema": CITY, "of": "workspace/city.json"}
    assert isinstance(verdict("see the file", spec, {"city.json": '{"name": "Ulm", "people": 1}'}), Accepted)
    said = verdict("see the file", {"schema": CITY, "of": "town.json"})
    assert said == Rejected("there is no file town.json in the workspace")


def test_a_schema_may_lie_in_a_file_which_is_pinned(tmp_path):
    (tmp_path / "city.schema.json").write_text(json.dumps(CITY))
    verifier = made({"schema": "city.schema.json"}, tmp_path)
    good = submission(tmp_path, '{"name": "Ulm", "people": 1}')
    assert isinstance(verifier.verify(good), Accepted)
    (tmp_path / "city.schema.json").write_text("{}")
    said = verifier.verify(good)
    assert isinstance(said, Broken)
    assert "city.schema.json has changed since the run began" in said.reason


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nonsense"}, "the schema cannot be used"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "the schema cannot be used"),
        ("missing.json", "there is no schema missing.json"),
        ({"schema": {"pattern": "(a+)+$"}, "timeout_s": 1}, "was not done with this answer in 1 s"),
    ],
)
def test_a_schema_that_is_none_is_broken(verdict, schema, reason):
    said = verdict(json.dumps("a" * 40 + "!"), schema)
    assert isinstance(said, Broken)
    assert reason in said.reason
