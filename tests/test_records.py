"""What the plain data promises."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.records import Message, Request

ASKED = Request("script:x", (Message("user", "How many?"),), kind="sub")


def test_the_fingerprint_of_a_plain_request_stays_what_journals_hold():
    assert ASKED.fingerprint() == "eb93a9135d4c7fe700636a2d7cbc08f58ec260e937d3e8e859d6da869c269ea9"


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, model="script:y"),
        replace(ASKED, schema={"type": "integer"}),
        replace(ASKED, schema={}),
        replace(ASKED, scope="0123/0"),
        replace(ASKED, kind="child"),
        replace(ASKED, max_output_tokens=1),
    ],
)
def test_whatever_can_change_the_reply_or_who_it_is_for_changes_the_fingerprint(other):
    assert other.fingerprint() != ASKED.fingerprint()


def test_what_a_request_counts_as_does_not_change_it():
    assert replace(ASKED, ordinal=7).fingerprint() == ASKED.fingerprint()


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
