"""What the plain data promises."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.inputs.original_places import lines_of, place_of
from loop_runner.records import Message, Origin, Request

REQUEST = Request("script:x", (Message("user", "How many?"),), kind="sub")


def test_the_fingerprint_of_a_plain_request_stays_what_journals_hold():
    assert REQUEST.fingerprint() == "eb93a9135d4c7fe700636a2d7cbc08f58ec260e937d3e8e859d6da869c269ea9"


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, model="script:y"),
        replace(REQUEST, schema={"type": "integer"}),
        replace(REQUEST, schema={}),
        replace(REQUEST, scope="0123/0"),
        replace(REQUEST, kind="child"),
        replace(REQUEST, max_output_tokens=1),
    ],
)
def test_whatever_can_change_the_reply_or_who_it_is_for_changes_the_fingerprint(other):
    assert other.fingerprint() != REQUEST.fingerprint()


def test_what_a_request_counts_as_does_not_change_it():
    assert replace(REQUEST, ordinal=7).fingerprint() == REQUEST.fingerprint()


@given(
    st.builds(Message, st.sampled_from(["user", "assistant"]), st.text()), st.text(), st.text(), st.booleans()
)
def test_a_fingerprint_is_the_hash_of_canonical_json(message, system, scope, has_schema):
    schema = {"b": ["ü", 1.5], "a": None} if has_schema else None
    request = Request("p:m", (message, message), system, 7, "child", schema=schema, scope=scope)
    body = {
        "kind": "child",
        "max_output_tokens": 7,
        "messages": [[message.role, message.text]] * 2,
        "model": "p:m",
        "system": system,
        **({"schema": schema} if has_schema else {}),
        **({"scope": scope} if scope else {}),
    }
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert request.fingerprint() == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


BOOK = Origin(Path("/a/book.pdf"), "0" * 64, "pdf", places=((2, "page 1"), (9, "page 2"), (9, "page 3")))


@pytest.mark.parametrize(
    ("line", "label"), [(0, ""), (1, ""), (2, "page 1"), (8, "page 1"), (9, "page 3"), (500, "page 3")]
)
def test_a_line_belongs_to_the_last_place_that_begins_at_or_before_it(line, label):
    assert place_of(BOOK, line) == label


def test_a_text_that_is_its_own_original_has_no_places():
    assert place_of(None, 7) == ""
    assert lines_of(None, "page 1") is None


def test_a_place_runs_up_to_the_next_one_and_the_last_to_the_end():
    assert lines_of(BOOK, "Page 1") == (2, 8)
    assert lines_of(BOOK, "page 3") == (9, None)
    assert lines_of(BOOK, "page 4") is None
