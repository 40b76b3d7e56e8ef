"""How the unseen half of the seeds is guarded."""

import json
import subprocess

import pytest

from evals import halves
from evals.halves import GuardError, allow


@pytest.fixture
def checkout(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    (tmp_path / "loop_runner").mkdir()
    (tmp_path / "prompts").mkdir()
    (tmp_path / "loop_runner/a.py").write_text("1")
    (tmp_path / "prompts/b.j2").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")
    return tmp_path


def test_the_unseen_half_is_refused_without_final(checkout):
    with pytest.raises(GuardError, match="--final"):
        allow("unseen", is_final=False, what=[], root=checkout)


def test_the_unseen_half_is_refused_while_the_code_has_uncommitted_changes(checkout, tmp_path):
    (checkout / "loop_runner/a.py").write_text("2")
    with pytest.raises(GuardError, match="uncommitted changes"):
        allow("unseen", is_final=True, what=[], root=checkout, uses=tmp_path / "evals-uses.jsonl")


def test_each_use_of_the_unseen_half_is_recorded_with_the_commit(checkout, tmp_path_factory):
    uses = tmp_path_factory.mktemp("uses") / "uses.jsonl"
    for arm in ("loop", "direct"):
        allow("unseen", is_final=True, what=[arm], root=checkout, uses=uses)
    lines = [json.loads(line) for line in uses.read_text().splitlines()]
    assert [line["what"] for line in lines] == [["loop"], ["direct"]]
    assert lines[0]["commit"] == halves.git(checkout, "rev-parse", "HEAD")


def test_the_tuning_half_is_free_and_leaves_no_record(checkout, tmp_path):
    allow("tuning", is_final=False, what=[], root=checkout, uses=tmp_path / "uses.jsonl")
    assert not (tmp_path / "uses.jsonl").exists()


def test_results_of_evaluations_are_no_changes_of_the_code(checkout):
    (checkout / "evals").mkdir()
    for name in ("results.jsonl", "RESULTS.md", "unseen-uses.jsonl"):
        (checkout / "evals" / name).write_text("x")
    assert halves.changes(checkout) in ([], ["evals/"])
    (checkout / "evals/grading.py").write_text("x")
    assert halves.changes(checkout)


def test_the_version_of_the_code_changes_with_the_package_and_the_prompts_only(checkout):
    version = halves.code_version(checkout)
    (checkout / "README.md").write_text("x")
    assert halves.code_version(checkout) == version
    (checkout / "prompts/b.j2").write_text("2")
    assert halves.code_version(checkout) == version + "+"
