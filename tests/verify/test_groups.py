"""Groups and weights: what members say makes one verdict, and money is not spent on what is settled."""

import pytest

from loop_runner.records import Accepted, Allow, Block, Broken, GateBroken, Rejected
from loop_runner.verify import Group, build
from tests.support.gates import Says, stop_hook, submission

JUDGE = {"judge": "rubric.md"}
NO = '{"verdict": "reject", "score": 0}'


@pytest.fixture
def decide(tmp_path):
    (tmp_path / "rubric.md").write_text("Be right.")

    def run(specs, answer, *replies):
        panel = Says(*replies)
        hook = stop_hook(specs, tmp_path, panel=panel, retries=1)
        return hook.decide(submission(tmp_path, answer)), panel

    return run


def test_any_needs_one_and_all_needs_each(decide):
    anyone = [{"any": [{"contains": "a"}, {"contains": "b"}]}]
    every = [{"all": [{"contains": "a"}, {"contains": "b"}]}]
    assert isinstance(decide(anyone, "b")[0], Allow)
    assert isinstance(decide(every, "b")[0], Block)
    assert isinstance(decide(every, "ab")[0], Allow)


def test_groups_may_hold_groups(decide):
    specs = [{"any": [{"all": [{"contains": "a"}, {"contains": "b"}]}, {"contains": "c"}]}]
    assert isinstance(decide(specs, "ab")[0], Allow)
    decision, _ = decide(specs, "a")
    assert isinstance(decision, Block)
    assert "Failed: any of 2: 0 of 2 accepted it; one must" in decision.reason
    assert "        Failed: contains 'b': the answer does not contain 'b'" in decision.reason
    names = [member.verifier for member in decision.reports[0].members]
    assert names == ["all of 2", "contains 'c'"]


def test_any_asks_no_further_once_one_has_accepted(decide):
    decision, panel = decide([{"any": [{"contains": "a"}, JUDGE]}], "a", NO)
    assert isinstance(decision, Allow)
    assert panel.requests == []


def test_a_broken_member_matters_only_where_it_decides(decide):
    broken = {"command": ["no-such-program"]}
    assert isinstance(decide([{"any": [broken, {"contains": "a"}]}], "a")[0], Allow)
    assert isinstance(decide([{"any": [broken, {"contains": "b"}]}], "a")[0], GateBroken)
    assert isinstance(decide([{"all": [broken, {"contains": "b"}]}], "a")[0], GateBroken)


def test_the_score_is_the_mean_by_weight(decide):
    specs = [{"contains": "a", "weight": 3}, {"contains": "b"}]
    assert decide(specs, "a")[0].score == pytest.approx(0.75)
    assert decide(specs, "b")[0].score == pytest.approx(0.25)


def test_a_spent_budget_leaves_the_answer_unjudged_but_not_where_another_rejects(decide):
    alone, _ = decide([JUDGE], "a")
    assert isinstance(alone, GateBroken)
    assert alone.limit == "1 US dollars"
    beside, _ = decide([JUDGE, {"contains": "b"}], "a")
    assert isinstance(beside, Block)


def test_names_are_unique_over_all_groups(tmp_path):
    outer, group = build([{"contains": "a"}, {"any": [{"contains": "a"}, {"contains": "a"}]}], tmp_path)
    assert outer.name == "contains 'a'"
    assert isinstance(group, Group)
    assert [member.name for member in group.members] == ["contains 'a' (2)", "contains 'a' (3)"]


def test_a_group_says_what_it_asks(tmp_path):
    (group,) = build([{"any": [{"contains": "a"}, {"contains": "b"}], "name": "one of both"}], tmp_path)
    assert group.name == "one of both"
    assert group.requirement == (
        "at least one of these must hold: (1) the answer must contain the text 'a'; "
        "(2) the answer must contain the text 'b'"
    )
    assert isinstance(group.verify(submission(tmp_path, "b")), Accepted)
    assert isinstance(group.verify(submission(tmp_path, "c")), Rejected)
    assert not isinstance(group.verify(submission(tmp_path, "c")), Broken)
