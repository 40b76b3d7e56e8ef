"""What a run prints when it ends: who accepted the answer and why, or who rejected it, and what was cited."""

import pytest

from tests.support.commands import loop_runner
from tests.support.tasks import ready, write_task

POLICY = "Every package must have a maintainer, unless the archive says otherwise.\nThe port is 8080.\n"
QUOTE = "> policy.txt:2: The port is 8080.\n"


@pytest.fixture
def ended(tmp_path):
    """What the run of a task prints, and the prompts of its passes."""

    def run(answers, verifiers, **keys):
        task = write_task(
            tmp_path / "task",
            root=[ready(answer) for answer in answers],
            texts={"policy.txt": POLICY},
            verifiers=verifiers,
            budget={"passes": len(answers)},
            **keys,
        )
        return loop_runner("run", task, "--run-dir", tmp_path / "run", cwd=tmp_path).stdout

    return run


def block(output, heading):
    """The lines below ``heading``, up to the blank line that ends them."""
    return output.partition(heading + "\n")[2].partition("\n\n")[0].split("\n")


def test_every_gate_that_accepted_says_what_it_checked(ended):
    gates = [
        {"contains": "8080"},
        {"regex": r"\d{4}"},
        {"any": [{"contains": "9090"}, {"contains": "8080"}]},
        {"citations": {"min": 1}},
    ]
    lines = block(ended([f"8080\n\n{QUOTE}"], gates), "Accepted by")
    assert [line.partition(": ")[0] for line in lines] == [
        "  contains '8080'",
        r"  regex `\d{4}`",
        "  any of 2",
        "    contains '8080' (2)",
        "  citations",
    ]
    assert all(line.partition(": ")[2] for line in lines)


def test_a_gate_that_rejected_says_why_with_its_evidence_and_the_others_are_not_named(ended):
    output = ended(
        [f"8081\n\n{QUOTE}"], [{"contains": "8080"}, {"contains": "9090"}, {"citations": {"min": 1}}]
    )
    assert "Accepted by" not in output
    lines = block(output, "Why the last answer (pass 1) was rejected")
    assert lines[0].startswith("  contains '9090': ")
    assert "citations" not in "".join(lines)


def test_only_the_reasons_of_the_last_pass_are_printed(ended):
    output = ended(["1", "2"], [{"contains": "8080"}])
    assert "Why the last answer (pass 2) was rejected" in output
    assert "(pass 1)" not in output


def test_a_line_that_is_quoted_in_part_is_printed_whole(ended):
    answer = (
        "yes\n\n> policy.txt:1: Every package must have a maintainer, unless the archive says otherwise\n"
    )
    output = ended([answer], [{"citations": {"min": 1}}])
    assert "Accepted by" in output
    assert "\u27e6Every package must have a maintainer, unless the archive says otherwise\u27e7." in output


def test_a_line_that_is_quoted_whole_is_not_printed_twice(ended):
    output = ended([f"8080\n\n{QUOTE}"], [{"citations": {"min": 1}}])
    assert "quoted in part" not in output
    assert "policy.txt:2  found" in output


def test_what_a_model_wrote_controls_no_terminal_in_any_of_it(ended):
    answer = "8080 \x1b[31mred\x1b]0;title\x07\n> policy.txt:2: The port\x1b[2J is 8080.\n"
    output = ended([answer], [{"contains": "9090"}, {"citations": {"min": 1}}])
    assert "was rejected" in output
    assert "\x1b" not in output
    assert "\x07" not in output


def test_the_next_pass_is_shown_what_a_quotation_left_out(ended, tmp_path):
    answer = (
        "yes\n\n> policy.txt:1: Every package must have a maintainer, unless the archive says otherwise\n"
    )
    ended([answer, answer], [{"citations": {"min": 1}}, {"contains": "never"}])
    prompt = (tmp_path / "run/passes/0002/injected.md").read_text()
    assert "\u27e6Every package must have a maintainer, unless the archive says otherwise\u27e7." in prompt
