"""Files that cannot be judged: listed under "Not searched", never the end of the audit."""

import json
import os

import pytest

from tests.audit.conftest import SHOP
from tests.support.git import git


def odd_file(project, kind):
    """A file of this kind in ``src``, which a commit hook would name."""
    path = project.folder / "src" / "odd.py"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "binary":
            path.write_bytes(b"\0\1\2" * 9)
        case "UTF-16":
            path.write_bytes("x = 1\n".encode("utf-16"))
        case "a dangling link":
            path.symlink_to("nowhere")
        case "a link that leads out":
            path.symlink_to("/etc/hostname")
        case "a pipe":
            os.mkfifo(path)
        case "a loop of links":
            path.symlink_to("odd.py")
    return "src/odd.py"


KINDS = ["empty", "binary", "UTF-16", "a dangling link", "a link that leads out", "a pipe", "a loop of links"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_hook_with_a_file_that_cannot_be_judged_judges_the_others(project, kind, tmp_path):
    """pre-commit-hooks#834: an empty ``__init__.py`` among the files."""
    git(project.folder, "init", "-q")
    name = odd_file(project, kind)
    sarif = tmp_path / "out.sarif"
    ended = project.audit("src/shop.py", name, "--json", "--output", f"sarif={sarif}")
    report = json.loads(ended.stdout)
    assert (ended.returncode, len(report["findings"])) == (1, 2)
    ((file, why),) = [(item["file"], item["why"]) for item in report["not_searched"]]
    assert file == name
    assert why
    (notification,) = json.loads(sarif.read_text())["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert "not searched" in notification["message"]["text"]
    place = notification["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == name


def test_only_a_missing_file_is_an_error(project):
    ended = project.audit("src/shop.py", "src/missing.py")
    assert (ended.returncode, project.runs()) == (2, [])
    assert "src/missing.py" in ended.stderr


def test_a_file_of_a_run_folder_that_is_named_is_not_judged(project):
    project.audit("src")
    (run,) = project.runs()
    report = project.report("src/shop.py", run / "answer.json")
    ((file, why),) = [(item["file"], item["why"]) for item in report["not_searched"]]
    assert file.endswith("answer.json")
    assert "run" in why


def test_a_file_whose_name_is_not_utf8_is_listed(project):
    path = os.fsencode(project.folder / "src") + b"/caf\xe9.py"
    try:
        with open(path, "wb") as file:
            file.write(SHOP.encode())
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    ended = project.audit("src/shop.py", os.fsdecode(path), "--json")
    assert ended.returncode == 1, ended.stderr
    assert "not UTF-8" in ended.stdout


def test_reports_list_what_the_walk_of_a_folder_leaves_out(project):
    project.write("src/pkg/__init__.py", "")
    (project.folder / "src/logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    project.write("src/.hidden.py", SHOP)
    project.write("src/node_modules/x.js", "x\n")
    left_out = {item["file"]: item["why"] for item in project.report("src")["not_searched"]}
    assert set(left_out) == {"src/pkg/__init__.py", "src/logo.png", "src/.hidden.py", "src/node_modules"}
    shown = project.audit("src").stdout
    assert "## Not searched" in shown
    assert "- empty: src/pkg/\\_\\_init\\_\\_.py" in shown


def test_a_glob_lists_only_what_it_means(project):
    project.write("src/a.txt", "x\n")
    project.write("src/empty.py", "")
    left_out = [item["file"] for item in project.report("src/*.py")["not_searched"]]
    assert left_out == ["src/empty.py"]
