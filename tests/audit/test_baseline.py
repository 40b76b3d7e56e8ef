"""A baseline: a partial audit changes only what it audited, and counts only what it looked for."""

import json

import pytest
import yaml

from tests.audit.conftest import RULES, SHOP
from tests.support.git import git


def commit(folder, message="x"):
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=u", "-c", "user.email=u@example.org", "commit", "-qm", message)


@pytest.fixture
def known(project):
    """Two files with two findings each, all of them in the baseline, committed."""
    project.write("src/other.py", SHOP)
    git(project.folder, "init", "-q", "-b", "main")
    project.write(".gitignore", "runs\n")
    ended = project.audit("src", "--baseline", "known.json", "--write-baseline")
    assert ended.returncode == 0, ended.stderr
    commit(project.folder)
    assert len(entries(project)) == 4
    return project


def entries(project):
    return json.loads((project.folder / "known.json").read_text())["findings"]


PARTS = {
    "a path": ["src/shop.py"],
    "a glob": ["src/sh*.py"],
    "changed files": ["src", "--changed-since", "main"],
    "an excluded file": ["src", "--exclude", "src/other.py"],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_writing_the_baseline_of_a_part_keeps_the_other_entries(known, part):
    known.write("src/shop.py", SHOP.replace("basket=[]", "basket=()"))
    ended = known.audit(*part, "--baseline", "known.json", "--write-baseline")
    assert ended.returncode == 0, ended.stderr
    assert sorted(entry["file"] for entry in entries(known)) == [
        "src/other.py",
        "src/other.py",
        "src/shop.py",
    ]
    assert "wrote known.json: 3 entries (0 added, 1 removed, 2 kept that" in ended.stderr


def test_writing_the_baseline_when_nothing_was_judged_keeps_every_entry(known):
    ended = known.audit("src", "--changed-since", "main", "--baseline", "known.json", "--write-baseline")
    assert ended.returncode == 0
    assert len(entries(known)) == 4


def test_the_entries_of_a_rule_that_was_not_asked_are_kept(known):
    known.write("rules.yaml", yaml.safe_dump({"rules": RULES["rules"][:1]}))
    report = known.report("src", "--baseline", "known.json", "--write-baseline")
    assert len(entries(known)) == 4
    assert report["baseline_written"]["entries"] == 4
    assert report["baseline_written"]["not_audited"] == 2


def test_a_deleted_file_loses_its_entries_and_a_suppressed_finding_too(known):
    (known.folder / "src" / "other.py").unlink()
    known.write("src/shop.py", SHOP.replace("except:", "except:  # loop-runner: ignore[bare-except] old"))
    known.audit("src", "--baseline", "known.json", "--write-baseline")
    assert [(entry["rule"], entry["file"]) for entry in entries(known)] == [
        ("mutable-default", "src/shop.py")
    ]


def test_an_incomplete_audit_leaves_the_baseline_alone(known):
    known.write("src/shop.py", SHOP + "\n\ndef more(item, basket=[]): ...\n")
    before = (known.folder / "known.json").read_bytes()
    ended = known.audit(
        "src",
        "--baseline",
        "known.json",
        "--write-baseline",
        "--set",
        "budget.subcalls=0",
        "--set",
        "width=1",
    )
    assert ended.returncode in (2, 3), ended.stderr
    assert (known.folder / "known.json").read_bytes() == before


def test_a_baseline_that_cannot_be_read_is_not_overwritten(known):
    known.write("known.json", "{ not JSON")
    ended = known.audit("src", "--baseline", "known.json", "--write-baseline")
    assert ended.returncode == 2
    assert "restore it from git" in ended.stderr
    assert (known.folder / "known.json").read_text() == "{ not JSON"


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_entries_of_files_that_were_left_out_are_not_gone(known, part):
    known.write("src/shop.py", SHOP.replace("basket=[]", "basket=()"))
    assert known.report(*part, "--baseline", "known.json")["baseline_gone"] == 1


def test_an_audit_with_known_findings_does_not_say_that_there_are_none(known):
    report = known.report("src", "--baseline", "known.json")
    assert report["verdict"] == "CLEAN: no new findings; 4 known"
    known.write("src/shop.py", SHOP.replace("except:", "except:  # loop-runner: ignore[bare-except] old"))
    report = known.report("src", "--baseline", "known.json")
    assert report["verdict"] == "CLEAN: no new findings; 3 known, 1 suppressed"


def test_a_baseline_of_an_earlier_version_still_holds_or_is_reported(known):
    old = json.loads((known.folder / "known.json").read_text())
    old["findings"] = [item | {"file": f"src/*.py/{item['file']}"} for item in old["findings"]][:1]
    old["findings"] += [{"fingerprint": item["fingerprint"]} for item in entries(known)[1:]]
    for item in old["findings"][:1]:
        item["fingerprint"] = "0" * 64
    known.write("known.json", json.dumps(old))
    report = known.report("src", "--baseline", "known.json")
    assert [item["state"] for item in report["findings"]].count("known") == 3
    assert report["baseline_nameless"] == 1
    assert "no file has that name" in known.audit("src", "--baseline", "known.json").stdout
