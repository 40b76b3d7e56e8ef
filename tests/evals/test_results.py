"""The written results: what comes first, what is compared, and that the plots are sound."""

import xml.etree.ElementTree as ET

import pytest

from evals import results, runner
from evals.plots import Point, named, plot
from evals.results import ahead, newest, write


def test_the_results_begin_with_where_a_peer_is_ahead_and_why(row, tmp_path):
    rows = [
        row("bm25", seed=0),
        row("loop", seed=0, is_right=False, verified=False, error="unverified: budget", answer="7"),
        row("bm25", seed=2),
        row("loop", seed=2),
        row("loop", seed=1),
    ]
    text = write(rows, {"rlms": "rlms is not installed"}, tmp_path).read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[0] == "## Where a peer is ahead"
    assert "**needles**: `bm25` 100% (2/2" in text
    assert "1 times: unverified, and a wrong value" in text
    assert "The intervals overlap" in text
    assert "`rlms`: not measured: rlms is not installed." in text
    assert "## The tuning half (even seeds)" in text
    assert "## The unseen half (odd seeds)" in text


def test_the_notes_of_a_person_follow_the_list(row, tmp_path):
    (tmp_path / "notes.md").write_text("Because of the tokenizer.")
    assert (
        "Because of the tokenizer." in write([row()], {}, tmp_path).read_text().partition("## Conditions")[0]
    )


def test_no_peer_is_ahead_where_the_loop_is_at_least_as_good(row):
    assert ahead([row("direct"), row("loop")]) == ["None in these measurements."]
    assert ahead([row("loop")]) == ["No peer was measured on the same questions."]


def test_arms_are_compared_on_the_same_questions_only(row):
    rows = [row("direct", seed=0), row("direct", seed=2), row("loop", seed=4, is_right=False)]
    assert ahead(rows) == ["No peer was measured on the same questions."]


def test_a_half_that_was_not_measured_says_so(row, tmp_path):
    text = write([row(seed=0)], {}, tmp_path).read_text()
    assert (
        text.partition("## The unseen half")[2].partition("## Plots")[0].strip().endswith("Not measured yet.")
    )


def test_nothing_measured_is_no_error(tmp_path):
    assert "No peer was measured" in write([], {}, tmp_path).read_text()


def test_attempts_of_an_earlier_version_are_left_out(row):
    rows = [row(version="1", at=1), row(version="2", at=2), row("direct", version="1", at=1)]
    assert [(item.arm, item.version) for item in newest(rows)] == [("loop", "2"), ("direct", "1")]


def test_questions_that_need_judgement_have_a_table_without_them(row, tmp_path):
    rows = [row(family="glosses", is_right=False), row(family="needles")]
    text = write(rows, {}, tmp_path).read_text()
    tables = text.partition("### All families")[2].split("### ")
    assert "50% (1/2" in tables[0]
    assert "100% (1/1" in tables[1]


def test_the_plots_are_pictures_with_a_line_for_each_arm(row, tmp_path):
    rows = [row(arm, size=size) for arm in ("direct", "loop") for size in (10_000, 1_000_000)]
    write(rows, {}, tmp_path)
    for name in ("right", "tokens", "seconds"):
        tree = ET.parse(tmp_path / "plots" / f"{name}.svg")
        texts = [element.text for element in tree.iter() if element.tag.endswith("text")]
        assert {"direct", "loop", "10 kB", "1 MB"} <= set(texts)


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [Point(10_000, 0.0, 0.0, 0.0)]}])
def test_a_plot_of_little_is_a_picture_too(series):
    assert ET.fromstring(plot("A & B", "%", series)) is not None
    assert (named(10_000), named(50_000_000)) == ("10 kB", "50 MB")


def test_the_committed_results_are_those_of_the_recorded_attempts():
    """``RESULTS.md`` is written by the command: no number in it comes from elsewhere."""
    rows = results.newest(runner.read(results.HERE / "results.jsonl"))
    text = (results.HERE / "RESULTS.md").read_text(encoding="utf-8")
    for half in ("tuning", "unseen"):
        chosen = [row for row in rows if row.half == half]
        for table in results.tables(chosen) if chosen else []:
            assert table in text
