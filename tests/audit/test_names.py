"""One name for each file, its path from the top of the repository: in reports, rules and --exclude."""

import json
import os
import shutil
from pathlib import Path

import pytest

from loop_runner.audit import chosen_files
from loop_runner.audit.rules import Rule
from loop_runner.errors import ConfigError
from tests.audit.conftest import SHOP
from tests.support.git import git


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository with nested folders, and the current folder at its top."""
    top = tmp_path / "top"
    for name in ("src/pkg/a.py", "src/pkg/sub/b.py", "src/c.py", "app/[id]/page.py", "app/i/page.py", "d.py"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    git(top, "init", "-q")
    monkeypatch.chdir(top)
    return top


def names(paths, cwd, **options):
    return [
        text.name for text in chosen_files.choose([Path(path) for path in paths], cwd, **options).texts.texts
    ]


SRC = ["src/c.py", "src/pkg/a.py", "src/pkg/sub/b.py"]


@pytest.mark.parametrize(
    ("place", "paths", "expected"),
    [
        (".", ["src/**/*.py"], SRC),
        (".", ["src"], SRC),
        (".", ["./src/"], SRC),
        (".", ["src/../src/*.py", "src/pkg"], SRC),
        (".", ["src", "src/c.py", "src/**/*.py"], SRC),
        (".", ["src/pkg/a.py"], ["src/pkg/a.py"]),
        ("src", ["**/*.py"], SRC),
        ("src", ["."], SRC),
        ("src", ["../d.py", "c.py"], ["d.py", "src/c.py"]),
        ("src/pkg", ["*.py"], ["src/pkg/a.py"]),
        ("app", ["[id]"], ["app/[id]/page.py"]),
        (".", ["app/[id]/*.py"], ["app/[id]/page.py"]),
        (".", ["app/[id]/page.py"], ["app/[id]/page.py"]),
        (".", ["*/[id]/*.py"], ["app/[id]/page.py"]),
        (".", ["**/[id]/page.py"], ["app/[id]/page.py"]),
        (".", ["app/[ij]/*.py"], ["app/i/page.py"]),
        (".", ["app/?/*.py"], ["app/i/page.py"]),
    ],
)
def test_a_file_has_its_name_from_the_top_however_it_is_given(tree, monkeypatch, place, paths, expected):
    monkeypatch.chdir(tree / place)
    assert names(paths, Path.cwd()) == expected


def test_a_repository_is_found_from_outside_of_it(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names([tree / "src"], tmp_path) == SRC
    assert names(["top/src/**/*.py"], tmp_path) == SRC


def test_without_a_repository_names_are_relative_to_the_current_folder(tree, monkeypatch):
    shutil.rmtree(tree / ".git")
    assert names(["src/**/*.py"], tree) == SRC
    monkeypatch.chdir(tree / "src")
    assert names(["pkg", "../d.py"], tree / "src") == [
        (tree / "d.py").as_posix(),
        "pkg/a.py",
        "pkg/sub/b.py",
    ]


def test_a_file_outside_of_the_repository_does_not_change_the_names_inside(tree, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "e.py").write_text("x = 1\n")
    assert names(["src/c.py", "../other"], tree) == [f"{tmp_path}/other/e.py", "src/c.py"]


def test_a_link_is_the_file_that_it_leads_to(tree):
    (tree / "link.py").symlink_to("src/c.py")
    (tree / "folder").symlink_to("src/pkg")
    assert names(["link.py", "src/c.py", "folder"], tree) == ["src/c.py", "src/pkg/a.py", "src/pkg/sub/b.py"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("src/pkg/a.py", ["src/c.py", "src/pkg/sub/b.py"]),
        ("./src/pkg/a.py", ["src/c.py", "src/pkg/sub/b.py"]),
        ("src/pkg", ["src/c.py"]),
        ("src/pkg/", ["src/c.py"]),
        ("pkg/sub", ["src/c.py", "src/pkg/a.py"]),  # relative to PATH, as before
        ("sub", ["src/c.py", "src/pkg/a.py"]),
        ("src/**/b.py", ["src/c.py", "src/pkg/a.py"]),
        ("*.py", []),
    ],
)
@pytest.mark.parametrize("path", ["src", "src/**/*.py"])
def test_exclude_takes_the_names_that_the_report_shows(tree, path, pattern, left):
    assert names([path], tree, exclude=[pattern]) == left


@pytest.mark.parametrize("pattern", ["app/[id]", "app/[id]/page.py", "[id]"])
def test_exclude_of_a_name_with_brackets_means_that_name(tree, pattern):
    assert names(["app"], tree, exclude=[pattern]) == ["app/i/page.py"]


def test_exclude_is_also_about_files_that_are_named(tree):
    chosen = chosen_files.choose([Path("d.py"), Path("src/c.py")], tree, [str(tree / "src")])
    assert [text.name for text in chosen.texts.texts] == ["d.py"]
    assert chosen.left_out == (("src/c.py", "excluded"),)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("src/**/*.py", "src/pkg/a.py"),
        ("app/[id]/*.py", "app/[id]/page.py"),
        ("[id]", "app/[id]/page.py"),
        ("./src/*.py", "src/c.py"),
    ],
)
def test_a_pattern_of_a_rule_means_the_name_of_the_report(pattern, name):
    assert Rule("r", "t", "d", files=(pattern,)).is_about(name)


def test_a_glob_gives_the_fingerprints_of_its_folder_in_every_report(project, tmp_path):
    git(project.folder, "init", "-q")
    project.write("src/pkg/a.py", SHOP)
    text = (project.folder / "rules.yaml").read_text().replace("'*.py'", "src/**/*.py")
    (project.folder / "rules.yaml").write_text(text)
    folder = project.report("src")
    sarif = tmp_path / "out.sarif"
    ended = project.audit("src/**/*.py", "--json", "--output", f"sarif={sarif}")
    pattern = json.loads(ended.stdout)
    assert {item["file"] for item in pattern["findings"]} == {"src/shop.py", "src/pkg/a.py"}
    assert [item["fingerprint"] for item in pattern["findings"]] == [
        item["fingerprint"] for item in folder["findings"]
    ]
    assert len(project.runs()) == 1, "the same files are the same audit"
    results = json.loads(sarif.read_text())["runs"][0]["results"]
    uris = {item["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for item in results}
    assert uris == {"src/shop.py", "src/pkg/a.py"}
    assert (project.audit("src", "--exclude", "src/pkg/a.py", "--json").stdout).count("src/pkg/a.py") == 1


@pytest.mark.parametrize("path", ["nothing.py", "src/**/*.ts", "empty"])
def test_a_path_that_means_no_file_is_a_mistake(tree, path):
    os.mkdir(tree / "empty")
    with pytest.raises(ConfigError, match="nothing"):
        names([path], tree)


def test_the_files_of_the_audit_itself_are_not_audited(project):
    report = project.report(".", "--output", "sarif=out.sarif")
    again = project.report(".", "--output", "sarif=out.sarif")
    assert {item["file"] for item in report["not_searched"] if "own file" in item["why"]} == {"rules.yaml"}
    assert report["run"] == again["run"]
