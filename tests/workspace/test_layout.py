"""The files of format 1: what is written is read back, whatever is in it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_runner import __version__
from loop_runner.records import Answer, Call, Reply, Snapshot, Usage
from loop_runner.workspace import layout
from loop_runner.workspace.git.fast_import import quote
from loop_runner.workspace.layout import Trailers
from tests.support.turns import call

anything = st.text(st.characters(), max_size=40)
calls = st.builds(
    Call,
    kind=st.sampled_from(["root", "sub", "judge"]),
    model=anything,
    fingerprint=anything,
    occurrence=st.integers(0, 3),
    prompt=anything,
    reply=st.builds(Reply, anything, usage=st.builds(Usage, st.integers(0, 9), st.integers(0, 9))),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=5,
)


@given(anything)
def test_text_survives_the_way_through_a_file(text):
    assert layout.to_text(layout.to_bytes(text)) == text


@given(st.lists(calls, max_size=5))
def test_calls_survive_the_way_through_a_file(written):
    assert layout.calls_from_jsonl(layout.calls_to_jsonl(written)) == written


@given(st.lists(calls, max_size=6), st.randoms())
def test_the_order_in_which_sub_calls_ended_does_not_show(written, random):
    roots = [item for item in written if item.kind == "root"]
    others = [item for item in written if item.kind != "root"]
    keys = [(item.fingerprint, item.occurrence) for item in written]
    if len(set(keys)) < len(keys):
        return
    shuffled = random.sample(others, len(others))
    assert layout.in_order(roots + others) == layout.in_order(shuffled + roots)


@settings(max_examples=50)
@given(anything, st.booleans(), st.dictionaries(anything, json_values, max_size=3))
def test_answers_survive_the_way_through_files(content, is_ready, extra):
    files = layout.answer_files(Answer(content, is_ready, extra), 1, 2)
    assert layout.answer_from(files["answer.md"], files["answer.json"]) == Answer(content, is_ready, extra)


@given(
    st.builds(
        Trailers,
        st.integers(1, 9999),
        st.integers(0, 9999),
        st.sampled_from([None, "accepted", "rejected", "broken", "stopped"]),
        st.integers(0, 10**6).map(lambda ms: ms / 1000),
        st.just("0.1.0"),
    ),
    anything,
)
def test_trailers_survive_any_subject(trailers, subject):
    text = layout.message(subject, trailers)
    assert layout.trailers_from(text) == trailers
    assert text.splitlines()[0].isprintable()
    assert "\n\n" in text


def test_a_subject_cannot_forge_a_trailer():
    text = layout.message("run: x\n\nLoop-Pass: 9\nLoop-Turn: 9", Trailers(runner="1"))
    assert layout.trailers_from(text) == Trailers(runner="1")


@given(anything)
def test_a_persons_own_message_is_never_an_error(text):
    layout.trailers_from(text)


def test_json_is_always_valid_utf8_and_stable():
    for value in ({"b": 1, "a": "ü"}, {"b": "\ud83d", "a": "ü"}):
        data = layout.to_json(value)
        assert json.loads(data.decode()) == value
        assert list(json.loads(data)) == ["a", "b"]
        assert layout.to_json(dict(reversed(value.items()))) == data


def test_the_same_call_is_listed_once():
    assert layout.in_order([call("a"), call("b", kind="sub"), call("a")]) == [
        call("a"),
        call("b", kind="sub"),
    ]


@given(st.binary(max_size=40))
def test_a_quoted_path_means_the_same_bytes(path):
    quoted = quote(path)
    assert quoted[:1] == quoted[-1:] == b'"'
    inner = quoted[1:-1]
    out, at = bytearray(), 0
    while at < len(inner):
        if inner[at : at + 1] == b"\\":
            out.append(int(inner[at + 1 : at + 4], 8))
            at += 4
        else:
            out.append(inner[at])
            at += 1
    assert bytes(out) == path
    assert b"\n" not in quoted


def test_requests_without_a_reply_are_said_in_the_commit_and_nothing_is_said_of_none():
    trailers = Trailers(1, 2, None, 0.5, "1", unanswered=3)
    assert layout.trailers_from(layout.message("pass 1 turn 2: ran", trailers)) == trailers
    assert "Unanswered" not in layout.message("x", Trailers(1, 2, None, 0.5, "1"))


def test_a_manifest_names_the_versions_that_wrote_it():
    files, _ = layout.snapshot_files(Snapshot(python="3.12.1"), {})
    assert layout.versions_from(files[layout.MANIFEST]) == {"loop_runner": __version__, "python": "3.12.1"}


@pytest.mark.parametrize(
    "written_by", [None, [], "3.12", 7, {}, {"python": None}, {"python": "4.0.0", "cloudpickle": "9"}]
)
def test_a_manifest_of_another_version_is_read_with_the_keys_that_are_known(written_by):
    row = {
        "name": "x",
        "type": "int",
        "size": 1,
        "preview": "1",
        "status": "saved",
        "blob": "ab",
        "later": [1],
    }
    data = json.dumps({"variables": [row], "written_by": written_by, "more": 1}).encode()
    assert [(item.name, item.status) for item in layout.variables_from(data)] == [("x", "saved")]
    versions = layout.versions_from(data)
    assert all(isinstance(version, str) for version in versions.values())
    assert versions.keys() == (written_by.keys() if isinstance(written_by, dict) else set())


def test_a_manifest_of_before_versions_were_recorded_is_read():
    assert layout.versions_from(b'{"variables": []}') == {}
    assert layout.versions_from(None) == {}
