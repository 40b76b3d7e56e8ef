"""``citations: {sources: 2}``: quotes of one site, or of a copy, are one source."""

import hashlib
from pathlib import Path

import pytest

from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Inputs, InputText, Origin, Rejected
from loop_runner.verify import Submission, build

LINE = "The limit is 42 tonnes."


def verdict(folder, pages, **options):
    """What `citations` says of an answer that quotes each of ``pages``: address, or name, to text."""
    texts, quotes = [], []
    for place, content in pages.items():
        name = place.partition("://")[2] or place
        path, data = folder / hashlib.sha256(place.encode()).hexdigest()[:12], content.encode()
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        origin = Origin(path, sha256, "text", url=place) if "://" in place else None
        texts.append(InputText(name, path, len(data), sha256, origin=origin))
        quotes.append(f"> {name}:1: {content.splitlines()[0]}")
    (verifier,) = build([{"citations": options}], Path("/"))
    answer = "\n".join(["42", *quotes])
    return verifier.verify(Submission(answer, Path("/nowhere"), Inputs(tuple(texts))))


PLAIN, LONGER = f"{LINE}\n", f"{LINE}\nSaid by another.\n"
INDEPENDENT = [
    ("https://a.example/x", "https://b.example/x"),
    ("https://www.bbc.co.uk/x", "https://www.itv.co.uk/x"),
    ("http://127.0.0.1:1/x", "http://127.0.0.2:1/x"),
    ("notes.txt", "other.txt"),
    ("https://a.example/x", "notes.txt"),
]
SAME = [
    ("https://a.example/x", "https://a.example/y"),
    ("https://docs.a.example/x", "https://www.a.example/x"),
    ("https://a.example/x", "https://A.EXAMPLE./y"),
    ("https://news.bbc.co.uk/x", "https://www.bbc.co.uk/x"),
    ("http://127.0.0.1:1/x", "http://127.0.0.1:2/y"),
]


@pytest.mark.parametrize("places", INDEPENDENT)
def test_quotes_of_two_sites_or_files_are_two_sources(places, tmp_path):
    assert isinstance(verdict(tmp_path, dict(zip(places, (PLAIN, LONGER), strict=True)), sources=2), Accepted)


@pytest.mark.parametrize("places", SAME)
def test_quotes_of_one_site_are_one_source(places, tmp_path):
    result = verdict(tmp_path, dict(zip(places, (PLAIN, LONGER), strict=True)), sources=2)
    assert isinstance(result, Rejected)
    assert "its citations come from 1 of 2 independent sources" in result.reason


@pytest.mark.parametrize("places", INDEPENDENT)
def test_a_copy_is_no_second_source_wherever_it_is(places, tmp_path):
    assert isinstance(verdict(tmp_path, dict.fromkeys(places, PLAIN), sources=2), Rejected)


def test_a_copy_on_a_second_site_makes_the_pages_of_both_one_source(tmp_path):
    pages = {"https://a.example/x": PLAIN, "https://b.example/x": PLAIN, "https://b.example/y": LONGER}
    assert isinstance(verdict(tmp_path, pages, sources=2), Rejected)
    assert isinstance(
        verdict(tmp_path, {**pages, "https://c.example/y": f"{LINE}\nThird.\n"}, sources=2), Accepted
    )


def test_without_the_setting_one_source_is_enough(tmp_path):
    assert isinstance(verdict(tmp_path, {"https://a.example/x": PLAIN}), Accepted)


def test_the_model_is_shown_how_many_sources_are_required():
    (verifier,) = build([{"citations": {"sources": 2}}], Path("/"))
    assert "at least 2 independent sources (pages of one site are one)" in verifier.requirement


@pytest.mark.parametrize("value", [-1, "two", True, 1.5])
def test_a_number_of_sources_that_is_none_is_refused(value):
    with pytest.raises(VerifierError):
        build([{"citations": {"sources": value}}], Path("/"))
