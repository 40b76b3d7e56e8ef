"""The tool that names the dependency that breaks: how it attributes, counts and reports."""

import sys
from pathlib import Path

import pytest

from tests.versions import Change, changes_between, culprits, failing_tests, main, read_versions, report

PYTHON = Path(sys.executable)
NAMES = ("anthropic", "click", "cloudpickle", "httpx2", "jinja2", "pypdf", "pyyaml")
CHANGES = [Change(name, "1.0", "2.0") for name in NAMES]


def failing_because_of(causes):
    """A stand-in for the suite: each test fails when all the dependencies that it names have moved."""

    def failing(moved, tests):
        names = {change.name for change in moved}
        return frozenset(test for test in tests if causes[test] <= names)

    return failing


@pytest.mark.parametrize(
    ("causes", "expected"),
    [
        ({"a": {"cloudpickle"}}, {"cloudpickle": {"a"}}),
        ({"a": {"anthropic"}, "b": {"anthropic"}}, {"anthropic": {"a", "b"}}),
        ({"a": {"anthropic"}, "b": {"pyyaml"}}, {"anthropic": {"a"}, "pyyaml": {"b"}}),
        ({"a": {"click"}, "b": {"click"}, "c": {"jinja2"}}, {"click": {"a", "b"}, "jinja2": {"c"}}),
        ({"a": {"click", "pyyaml"}}, {}),
        ({}, {}),
    ],
)
def test_each_failing_test_is_attributed_to_the_dependency_that_alone_breaks_it(causes, expected):
    result = culprits(CHANGES, frozenset(causes), failing_because_of(causes))
    assert {change.name: set(tests) for change, tests in result.items()} == expected


def test_nothing_is_run_when_no_version_differs():
    assert culprits([], frozenset("a"), lambda *_: pytest.fail("the suite ran")) == {}


def test_a_dependency_that_breaks_gets_one_line_with_its_versions_and_tests():
    result = {Change("cloudpickle", "3.1.2", "3.1.3"): frozenset({"t1", "t2", "t3", "t4"})}
    expected = ["cloudpickle 3.1.2 -> 3.1.3: 4 tests fail (t1, t2, t3 and 1 more)"]
    assert report(result, frozenset({"t1", "t2", "t3", "t4"})) == expected


def test_tests_that_no_single_dependency_breaks_get_a_line_of_their_own():
    result = {Change("click", "8.1", "8.2"): frozenset({"t1"})}
    lines = report(result, frozenset({"t1", "t2"}))
    assert lines[1] == "several of these versions together: 1 test fails (t2)"


def test_only_dependencies_of_both_sets_with_different_versions_count_as_changes():
    locked = read_versions("a==1\nb==1 ; os_name == 'nt' \\\n    --hash=sha256:00\nc==1\n# d==1\n")
    assert locked == {"a": "1", "b": "1", "c": "1"}
    assert changes_between(locked, {"a": "1", "b": "2", "e": "1"}) == [Change("b", "1", "2")]


TESTS = """
import pytest
@pytest.mark.parametrize("text", ["plain", "a - b", "x::y", "[z]"])
def test_text(text):
    assert text == "plain"
"""


def test_the_failing_tests_of_a_real_run_are_named_so_that_they_can_be_run_again(tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(TESTS)
    monkeypatch.chdir(tmp_path)
    everything = failing_tests(PYTHON, ["test_it.py"], tmp_path / "cache")
    assert len(everything) == 3
    assert failing_tests(PYTHON, sorted(everything), tmp_path / "cache") == everything
    passing = ["test_it.py::test_text[plain]"]
    assert failing_tests(PYTHON, passing, tmp_path / "cache") == frozenset()


@pytest.mark.parametrize("content", ["import no_such_module", "def broken(:", "raise SystemExit(3)"])
def test_a_file_that_cannot_be_loaded_counts_as_failing(tmp_path, monkeypatch, content):
    (tmp_path / "test_it.py").write_text(content)
    monkeypatch.chdir(tmp_path)
    assert failing_tests(PYTHON, ["test_it.py"], tmp_path / "cache") == {"test_it.py"}


@pytest.mark.parametrize("arguments", [[], ["oldest"], ["lock", "extra"]])
def test_an_unknown_command_prints_the_usage(arguments, capsys):
    assert main(arguments) == 2
    assert "python -m tests.versions lowest" in capsys.readouterr().err
