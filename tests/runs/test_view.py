"""The view model: what there is to see of a run, from its events alone."""

import pytest

from loop_runner.events import Event
from loop_runner.runs.view import Activity, Limit, RunView, duration


def at(seconds, kind, pass_number=1, turn=1, text="", budget=None, **data):
    return Event(kind, text, pass_number, turn, data, seq=0, at=1000.0 + seconds, budget=budget or {})


def begun(*more):
    return RunView([at(0, "run_started", 0, 0), at(1, "pass_started", 1, 0), at(2, "turn_started"), *more])


@pytest.mark.parametrize(
    ("events", "reply_text"),
    [
        ([], "asking the model for 10 s"),
        ([at(5, "reply_received"), at(5, "cell_started", code="x")], "running code for 7.0 s"),
        (
            [at(5, "cell_started"), at(6, "subcalls_progress", 0, 0, answered=41, failed=0, out=159)],
            "41 of 200 sub-calls for 7.0 s",
        ),
        (
            [at(5, "cell_started"), at(6, "subcalls_progress", 0, 0, answered=38, failed=3, out=159)],
            "41 of 200 sub-calls for 7.0 s (3 failed)",
        ),
        ([at(5, "cell_started"), at(9, "cell_finished")], "saving for 3.0 s"),
        ([at(9, "verifying", 1, 0)], "verifying for 3.0 s"),
        ([at(9, "pass_ended", 1, 0, outcome="rejected")], "between passes for 3.0 s"),
        ([at(9, "paused")], "paused for 3.0 s"),
        ([at(5, "cell_started"), at(8, "paused"), at(10, "resumed")], "running code for 2.0 s"),
        ([at(9, "waiting", text="Is it right?")], "waiting for 3.0 s"),
        ([at(9, "run_ended", status="verified")], ""),
    ],
)
def test_the_activity_says_what_the_run_does_and_for_how_long(events, reply_text):
    assert str(begun(*events).activity(1012.0)) == reply_text


def test_sub_calls_are_counted_one_by_one_until_there_is_a_report_of_all():
    view = begun(at(3, "cell_started"), *(at(4, "subcall_finished", 0, 0, reply="x") for _ in range(3)))
    assert view.activity(1005.0).answered == 3
    view.apply(at(6, "subcalls_progress", 0, 0, answered=7, failed=1, out=2))
    assert (view.activity(1006.0).subcalls, view.activity(1006.0).out) == (10, 2)
    view.apply(at(8, "turn_started", 1, 2))
    assert view.activity(1008.0).subcalls == 0


def test_rates_are_those_of_the_last_minutes_and_unknown_at_the_beginning():
    view = begun(
        *(
            at(10 * n, "turn_committed", budget={"usd": (0.1 * n, 5.0), "wall": (n, None)})
            for n in range(1, 13)
        )
    )
    (usd, wall) = view.limits(1120.0)
    assert usd.per_minute == pytest.approx(0.6, rel=0.1)
    assert usd.minutes_left == pytest.approx((5 - 1.2) / usd.per_minute)
    assert str(usd).startswith("1.2000 USD of 5.0000 USD (0.6")
    assert wall.per_minute is None
    assert RunView([at(0, "turn_committed", budget={"usd": (1.0, 5.0)})]).limits(1005.0)[0].per_minute is None


def test_time_at_work_counts_on_between_events():
    view = begun(at(3, "cell_started", budget={"wall": (3.0, 60.0)}))
    assert view.limits(1013.0)[0].used == pytest.approx(13.0)
    view.apply(at(20, "run_ended", budget={"wall": (20.0, 60.0)}, status="verified"))
    assert view.limits(1100.0)[0].used == 20.0


@pytest.mark.parametrize(
    ("limit", "share"), [(Limit("usd", 1, None), None), (Limit("usd", 1, 4), 0.25), (Limit("usd", 9, 4), 1.0)]
)
def test_the_share_of_a_limit_is_at_most_all_of_it(limit, share):
    assert limit.share == share


def test_verdicts_and_the_best_score_also_from_passes_before_the_first_event():
    view = RunView(
        [
            at(
                0,
                "pass_started",
                4,
                0,
                before={"last": {"pass": 3, "score": 0.2, "reason": "no"}, "best_score": 0.9},
            )
        ]
    )
    assert view.last_verdict is not None
    assert (view.last_verdict.number, view.last_verdict.reason, view.best_score) == (3, "no", 0.9)
    view.apply(at(5, "pass_ended", 4, 0, "still no", outcome="rejected", verdict={"score": 0.5}))
    assert (view.last_verdict.number, view.best_score) == (4, 0.9)
    view.apply(at(9, "pass_ended", 5, 0, outcome="accepted", verdict={}))
    assert view.best_score == 1.0


# ── what looks wrong ────────────────────────────────────────────────────────────────────────────────


def kinds(view, now):
    return [sign.kind for sign in view.anomalies(now)]


def test_silence_is_reported_when_it_is_longer_than_usual_for_what_the_run_does():
    view = begun(at(100, "reply_received"), at(101, "turn_started", 1, 2))
    assert kinds(view, 1101.0 + 130) == []
    assert kinds(view, 1101.0 + 600) == ["silent"]
    view.apply(at(800, "run_ended", status="interrupted"))
    assert kinds(view, 9999.0) == []


def test_a_storm_of_retries_is_reported_while_it_lasts():
    retries = [at(5 + n, "retried", 0, 0, provider="x", reason="429") for n in range(12)]
    view = begun(*retries)
    (sign,) = view.anomalies(1018.0)
    assert (sign.kind, "429" in sign.text) == ("retries", True)
    assert kinds(view, 1100.0) == []


@pytest.mark.parametrize(
    ("rates", "is_collapsed"),
    [([0.9] * 3 + [0.0] * 3, True), ([0.0] * 6, False), ([0.9] * 6, False), ([0.9] * 3 + [0.0] * 2, False)],
)
def test_a_collapsed_hit_rate_of_the_prompt_cache_is_reported(rates, is_collapsed):
    replies = [
        at(n, "reply_received", usage={"input_tokens": 1000 * (1 - rate), "cache_read_tokens": 1000 * rate})
        for n, rate in enumerate(rates)
    ]
    assert ("cache" in kinds(begun(*replies), 1010.0)) == is_collapsed


@pytest.mark.parametrize(
    ("answers", "reply_text"),
    [
        (["41", "41"], True),
        (["41", " 41\n"], True),
        (["41", "42"], False),
        (["", ""], False),
        (["41"], False),
    ],
)
def test_the_same_answer_twice_is_reported(answers, reply_text):
    passes = [at(n, "verifying", n + 1, 0, answer) for n, answer in enumerate(answers)]
    assert ("same answer" in kinds(begun(*passes), 1003.0)) == reply_text


def test_nothing_in_an_event_makes_the_view_fail():
    for kind in (
        "pass_ended",
        "pass_started",
        "subcalls_progress",
        "reply_received",
        "cell_started",
        "retried",
    ):
        for data in (
            {},
            {"verdict": 3},
            {"before": {"last": 3}},
            {"usage": {"input_tokens": "x"}},
            {"code": 3},
        ):
            view = begun(Event(kind, data=data, at=1003.0))
            assert isinstance(view.activity(1004.0), Activity)
            view.anomalies(1004.0)
            view.limits(1004.0)


@pytest.mark.parametrize(
    ("seconds", "reply_text"),
    [(0.5, "0.5 s"), (48, "48 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (200000, "2 d 7 h")],
)
def test_durations_are_readable(seconds, reply_text):
    assert duration(seconds) == reply_text
