"""What a model writes as a schema cannot hang the runner, fetch anything or take its memory."""

import json
import time

import pytest

from loop_runner.verify import json_schema
from loop_runner.verify.json_schema import BadSchemaError, SchemaChecker

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
}


@pytest.fixture(scope="module")
def checker():
    checker = SchemaChecker(timeout_s=1.0)
    yield checker
    checker.close()


def check(checker, schema, value):
    return checker.check(json_schema.encode(schema), json.dumps(value))


def test_a_value_fits_or_the_reason_names_the_place(checker):
    assert check(checker, PERSON, {"name": "Ada", "age": 36}) == ""
    assert check(checker, PERSON, {"name": "Ada", "age": -1}) == '$.age: expected {"minimum": 0}, got -1'
    assert check(checker, PERSON, {"age": 1}) == '$: the required key "name" is missing (it has "age")'


def test_patterns_and_references_within_the_schema_work(checker):
    schema = {
        "$defs": {"id": {"type": "string", "pattern": "^[A-Z]-[0-9]+$"}},
        "items": {"$ref": "#/$defs/id"},
    }
    assert check(checker, schema, ["A-1", "B-22"]) == ""
    assert '$[0]: expected {"pattern":' in check(checker, schema, ["a1"])


def test_a_schema_that_names_its_dialect_is_read_in_it(checker):
    tuples = [{"type": "integer"}, {"type": "string"}]
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "items": tuples}
    assert check(checker, old, [1, "a"]) == ""
    assert check(checker, old, ["a"]).startswith("$[0]: expected")
    assert check(checker, {"prefixItems": tuples}, ["a"]).startswith("$[0]: expected")


@pytest.mark.parametrize(
    ("schema", "output"),
    [
        ({"type": "no such type"}, "is not valid under any of the given schemas"),
        ({"$ref": "#/$defs/nowhere"}, "leads nowhere"),
        ({"$ref": "#"}, "form a loop"),
        ({"pattern": "("}, "is not a 'regex'|re.error|error"),
    ],
)
def test_a_schema_that_is_none_is_told_from_a_value_that_does_not_fit(checker, schema, output):
    with pytest.raises(BadSchemaError, match=output):
        check(checker, schema, "text")


@pytest.mark.parametrize(
    ("schema", "output"),
    [
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "only point into the schema itself"),
        ({"anyOf": [{"$ref": "other.json"}]}, "only point into the schema itself"),
        ({"$id": "http://example.com/", "$ref": "#/a"}, "not supported"),
        ({"enum": ["x" * 70_000]}, "longer than"),
        ({"const": float("nan")}, "not JSON"),
    ],
)
def test_a_schema_that_is_too_large_or_points_elsewhere_is_refused_before_it_is_used(schema, output):
    with pytest.raises(BadSchemaError, match=output):
        json_schema.encode(schema)


def test_a_schema_that_is_nested_too_deeply_is_refused():
    schema: dict[str, object] = {}
    for _ in range(50):
        schema = {"items": schema}
    with pytest.raises(BadSchemaError, match="deeper than 40"):
        json_schema.encode(schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 40 + "b"),
        (
            {"$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)}}
            | {"$ref": "#/$defs/0"},
            1,
        ),
    ],
    ids=["a pattern that tries forever", "references that multiply"],
)
def test_a_check_that_would_take_for_ever_is_ended_and_the_next_one_works(checker, schema, value):
    schema = json.loads(json.dumps(schema))
    schema.setdefault("$defs", {})["60"] = {}
    began = time.monotonic()
    with pytest.raises(BadSchemaError, match="took too long"):
        check(checker, schema, value)
    assert time.monotonic() - began < 60
    assert check(checker, {"type": "integer"}, 1) == ""


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" 42\n", 42),
        ('Here it is:\n```json\n{"a": [1]}\n```\nDone.', {"a": [1]}),
        ('The answer is {"a": {"b": 2}}. Good?', {"a": {"b": 2}}),
        ('```\n["x"]\n```', ["x"]),
    ],
)
def test_json_is_found_in_a_reply_however_it_is_wrapped(reply, value):
    assert json_schema.read_json(reply) == value


@pytest.mark.parametrize("reply", ["", "no", "{'a': 1}", '{"a": NaN}', "[" * 200_000, "1" * 5_000_000])
def test_what_is_no_json_is_a_value_error(reply):
    with pytest.raises(ValueError, match=r"JSON|longer"):
        json_schema.read_json(reply)
