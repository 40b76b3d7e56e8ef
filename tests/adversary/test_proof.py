"""Nothing that differs from what was proven is called verified."""

import json
import os
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from tests.support.tasks import cell, run_task, write_task

_WRITES = """
import pathlib
pathlib.Path('report.md').write_text('Pay account A.\\n')
pathlib.Path('sub').mkdir(exist_ok=True)
pathlib.Path('sub/data.csv').write_text('a,b\\n1,2\\n')
answer['content'] = '42'
answer['ready'] = True
"""


@pytest.fixture(scope="module")
def proven_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    assert run_task(write_task(folder / "task", root=[cell(_WRITES)]), folder / "run").status == "verified"
    return folder / "run"


@pytest.fixture
def clone(proven_run, tmp_path):
    git(tmp_path, "clone", "-q", str(proven_run), "clone")
    return tmp_path / "clone"


def git(folder, *args):
    settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, "-C", folder, *args], check=True, capture_output=True)


def call(*args):
    return CliRunner().invoke(main_group, [str(arg) for arg in args], standalone_mode=False)


def states(folder):
    """What ``verify``, ``status`` and ``fsck`` say: exit code, state, exit code."""
    status = json.loads(call("status", folder, "--json").output)["runs"][0]
    return call("verify", folder).return_value, status["state"], call("fsck", folder).return_value


def replaced(path, data=b"EVIL\n"):
    def change(folder):
        (folder / path).unlink()
        (folder / path).write_bytes(data)

    return change


def removed(path):
    return lambda folder: (folder / path).unlink()


def linked(path):
    def change(folder):
        (folder / path).unlink()
        (folder / path).symlink_to("/etc/passwd")

    return change


def added(path):
    def change(folder):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("more\n")

    return change


CHANGES = {
    "workspace/report.md": replaced("workspace/report.md"),
    "workspace/sub/data.csv": removed("workspace/sub/data.csv"),
    "workspace/invoice.md": added("workspace/invoice.md"),
    "answer.md": replaced("answer.md", b"42 or 43"),
    "answer.json": replaced("answer.json", b'{"content": "43", "ready": true}\n'),
    "passes/0001/turns/0001/reply.md": replaced("passes/0001/turns/0001/reply.md"),
    "passes/0001/turns/0001/output.txt": removed("passes/0001/turns/0001/output.txt"),
    "passes/0001/verdict.json": replaced("passes/0001/verdict.json", b'{"decision": "allow"}\n'),
    "passes/0001/pass.json": replaced("passes/0001/pass.json", b"{}\n"),
    "passes/0002/turns/0001/reply.md": added("passes/0002/turns/0001/reply.md"),
    "variables/manifest.json": removed("variables/manifest.json"),
    "system.md": replaced("system.md"),
    "task.yaml": lambda folder: (folder / "task.yaml").write_text(
        (folder / "task.yaml").read_text() + "# changed\n"
    ),
    "workspace/report.md as a link": linked("workspace/report.md"),
    "README.md": added("README.md"),
}


def test_a_clone_that_nobody_changed_is_verified_everywhere(clone):
    assert states(clone) == (0, "verified", 0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_path_that_a_later_commit_changed_is_named_and_nothing_is_verified(clone, name):
    CHANGES[name](clone)
    git(clone, "add", "-A", "-f")
    git(clone, "commit", "-qm", "pass 1: accepted")
    output = call("verify", clone)
    assert output.return_value == 3, output.output
    assert name.partition(" ")[0] in output.output
    assert "VERIFIED again" not in output.output
    code, state, checked = states(clone)
    assert (code, state) == (3, "different")
    assert checked in (3, 4)  # 4: the runner's own files do not agree with each other either
    assert name.partition(" ")[0] in call("status", clone).output


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "README.md"])
def test_a_path_that_was_changed_without_a_commit_is_named_too(clone, name):
    CHANGES[name](clone)
    output = call("verify", clone)
    assert output.return_value == 3, output.output
    assert f"{name.partition(' ')[0]} in the folder" in output.output
    assert states(clone) == (3, "different", 3)


def test_a_file_of_the_same_size_and_time_is_still_seen_as_another(clone):
    path = clone / "workspace/report.md"
    before = path.stat()
    path.write_text(path.read_text().replace("account A", "account B"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert states(clone) == (3, "different", 3)


def test_a_named_pipe_in_the_place_of_a_file_is_different_and_waits_for_nobody(clone):
    (clone / "workspace/report.md").unlink()
    os.mkfifo(clone / "workspace/report.md")
    assert call("verify", clone).return_value == 3


def test_a_folder_that_became_a_link_to_the_same_files_is_different(clone, tmp_path):
    shutil.move(clone / "workspace", tmp_path / "elsewhere")
    (clone / "workspace").symlink_to(tmp_path / "elsewhere")
    assert call("verify", clone).return_value == 3


def test_a_commit_that_is_named_is_compared_without_the_files_beside_it(clone):
    (clone / "workspace/report.md").write_text("EVIL\n")
    assert call("verify", clone, "--at", "HEAD").return_value == 0


def test_a_clone_without_its_files_is_verified_by_its_commits(proven_run, tmp_path):
    git(tmp_path, "clone", "-q", "--no-checkout", str(proven_run), "bare")
    assert call("verify", tmp_path / "bare").return_value == 0


def test_a_verdict_commit_that_smuggles_in_a_file_is_different(clone):
    """The commit that says "accepted" is made once more, with a delivered file changed in it."""
    (clone / "workspace/report.md").write_text("Pay account EVIL.\n")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "--amend", "--no-edit")
    output = call("verify", clone)
    assert output.return_value == 3
    assert "workspace/report.md" in output.output


def test_an_accepted_pass_without_a_proof_is_not_verified(clone):
    git(clone, "rm", "-q", "proof.json")
    git(clone, "commit", "-q", "--amend", "--no-edit")
    assert call("verify", clone).return_value == 3
    assert states(clone)[1] == "different"


def test_an_answer_and_a_proof_that_were_changed_together_are_both_named(clone):
    import hashlib

    (clone / "answer.md").write_text("42!")
    proof = json.loads((clone / "proof.json").read_text())
    proof["answer_sha256"] = hashlib.sha256(b"42!").hexdigest()
    (clone / "proof.json").write_text(json.dumps(proof))
    git(clone, "commit", "-qam", "better")
    output = call("verify", clone)
    assert output.return_value == 3
    assert "answer.md" in output.output
    assert "proof.json" in output.output
