"""What is told first, from plain values: no model, kernel or input is needed to render it."""

from loop_runner.task import profiles, prompts, system_prompts
from loop_runner.task.task import History


def root(sizes, **values):
    given = {
        "inputs": "INPUTS",
        "python": "PYTHON",
        "helpers": ["`help_one()`: first"],
        "requirements": ["must hold", "must hold too"],
        "max_output_chars": 1234,
    }
    session = system_prompts.Session("LIMITS", History(), values.pop("has_tool", False))
    return system_prompts.root(prompts.BUILT_IN, sizes, session, **{**given, **values})


def test_the_root_is_told_what_it_is_given():
    shown = root(profiles.STANDARD)
    for part in ("INPUTS", "PYTHON", "LIMITS", "`help_one()`: first", "- must hold\n- must hold too"):
        assert part in shown


def test_a_small_model_has_a_root_prompt_of_its_own():
    assert "INPUTS" in root(profiles.LOCAL)
    assert root(profiles.LOCAL) != root(profiles.STANDARD)


def test_code_as_a_tool_changes_the_prompt():
    assert root(profiles.STANDARD) != root(profiles.STANDARD, has_tool=True)


def test_a_child_is_told_its_own_helpers():
    shown = system_prompts.child(
        prompts.BUILT_IN, profiles.STANDARD, helpers=["`only_this()`: it"], max_output_chars=99
    )
    assert "`only_this()`: it" in shown
    assert "{{" not in shown


def test_the_direct_path_and_an_agent_are_told_the_requirements():
    assert "- must hold" in system_prompts.direct(prompts.BUILT_IN, ["must hold"])
    shown = system_prompts.agent(prompts.BUILT_IN, "the folder of the agent", ["must hold"])
    assert "- must hold" in shown
    assert "the folder of the agent" in shown


def test_only_a_small_model_has_an_example():
    assert system_prompts.example(prompts.BUILT_IN, profiles.STANDARD) is None
    example = system_prompts.example(prompts.BUILT_IN, profiles.LOCAL)
    assert example is not None
    question, replies = example
    assert question.strip()
    assert all("```" in reply for reply in replies)
    assert len(set(replies)) == len(replies) == 3
