"""The attacks run where they say that they run."""

import shutil
from pathlib import Path

from tests.adversary.__main__ import conditions
from tests.support.confined import IS_ROOT
from tests.support.machines import path_without


def test_a_hidden_program_cannot_be_found_and_all_others_can(tmp_path):
    path = path_without({"bwrap"}, tmp_path)
    assert shutil.which("bwrap", path=path) is None
    assert Path(shutil.which("git", path=path) or "").samefile(shutil.which("git") or "")
    assert Path(shutil.which("python3", path=path) or "").samefile(shutil.which("python3") or "")


def test_a_folder_that_holds_no_hidden_program_keeps_its_place(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").touch(0o755)
    (tmp_path / "second/bwrap").touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/first:{tmp_path}/gone:{tmp_path}/second")
    first, second = path_without({"bwrap", "strace"}, tmp_path / "links").split(":")
    assert first == f"{tmp_path}/first"
    assert [path.name for path in Path(second).iterdir()] == ["tool"]


def test_every_user_is_tried_in_both_tiers():
    tried = [(condition.user, condition.tier) for condition in conditions()]
    assert tried[-2:] == [("ordinary user", "A"), ("ordinary user", "B")]
    assert len(tried) == (4 if IS_ROOT else 2)
