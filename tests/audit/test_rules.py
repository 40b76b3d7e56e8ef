"""The rules file: several mistakes are reported at once, each with its line."""

import textwrap

import pytest

from loop_runner.audit.rules import read_rules
from loop_runner.errors import ConfigError

RULE = "  - id: a\n    title: A\n"


def refusal(tmp_path, source):
    path = tmp_path / "rules.yaml"
    path.write_text(textwrap.dedent(source))
    with pytest.raises(ConfigError) as caught:
        read_rules(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def rules_of(tmp_path, source):
    path = tmp_path / "rules.yaml"
    path.write_text(textwrap.dedent(source))
    return read_rules(path)


def test_every_fault_of_a_file_is_reported_with_the_line_of_its_rule(tmp_path):
    message = refusal(
        tmp_path,
        """\
        rules:
          - id: no spaces
            title: A
            severity: fatal
          - id: fine
            title: Fine
          - titel: C
            regex: "("
          - just a text
        """,
    )
    assert "rules.yaml has 7 faults" in message
    for line, words in [
        (2, "`id` takes letters"),
        (2, "`severity` takes note or warning or error"),
        (7, "there is no key of a rule 'titel'"),
        (7, "`id` takes letters"),
        (7, "`description` takes a text"),
        (7, "`regex` takes a regular expression"),
        (9, "a rule is a mapping of id,"),
    ]:
        assert any(f"line {line}: {words}" in shown for shown in message.splitlines()), (line, words, message)
    assert "did you mean 'title'?" in message
    assert "docs/audit.md" in message


def test_one_fault_is_reported_alone(tmp_path):
    message = refusal(tmp_path, "rules:\n" + RULE + "    severity: fatal\n")
    assert message.startswith(str(tmp_path / "rules.yaml, line 2: `severity`"))
    assert "faults" not in message


def test_a_wrong_title_is_one_fault_although_the_description_would_come_from_it(tmp_path):
    assert "faults" not in refusal(tmp_path, "rules: [{id: a, title: 3}]")


def test_two_rules_with_one_id_are_reported_with_both_lines_and_beside_other_faults(tmp_path):
    message = refusal(tmp_path, "rules:\n" + RULE + RULE + "  - id: b\n    title: ''\n")
    assert "line 4: the id `a` is taken by the rule in" in message
    assert "rules.yaml, line 2; choose another id" in message
    assert "line 6: `title` takes a text" in message


@pytest.mark.parametrize(
    "source",
    [
        "rules: [{id: a, title: 2024-99-99}]",
        "rules: [{id: a, title: ]}",
        f"rules: {'[' * 3000}{']' * 3000}",
        "rules: [{id: a, title: A, ast: {node: []}}]",
        "rules: [{id: a, title: A, ast: {node: {}}}]",
        "rules: [{id: a, title: A, severity: [note]}]",
        "rules: [{id: a, title: A, regex: [x]}]",
        "rules: [{id: a, title: A, files: [1]}]",
        "rules: [{id: a, title: A, wrong: [1]}]",
        "rules: {id: a}",
        "rules: []",
        "- id: a",
        "",
        "{? [a] : b}",
    ],
)
def test_no_file_is_taken_for_a_fault_of_the_runner(tmp_path, source):
    assert "rules.yaml" in refusal(tmp_path, source)


def test_a_list_of_rules_that_comes_from_a_merge_key_is_read(tmp_path):
    rules = rules_of(tmp_path, "<<: {rules: [{id: a, title: A}, {id: b, title: B}]}")
    assert [rule.id for rule in rules] == ["a", "b"]


def test_title_and_description_come_from_what_is_given(tmp_path):
    (rule,) = rules_of(tmp_path, "rules: [{id: a, description: ' What is wrong.\n '}]")
    assert (rule.title, rule.description) == ("a", "What is wrong.")
    (rule,) = rules_of(tmp_path, "rules: [{id: a, title: A  title}]")
    assert (rule.title, rule.description) == ("A title", "A title")
