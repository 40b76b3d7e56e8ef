"""`verify` gives a run folder from another person nothing that the folder asks for."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from loop_runner.cli import main_group
from tests.support.tasks import ready, run_task, write_task

CHECK = """
import os
def check(submission):
    seen = ''
    for path in {paths!r}:
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb') as file:
                seen += str(file.read(4096))
        except OSError:
            pass
    assert 'SECRET' not in seen and 'OTHER' not in seen, 'it was read: ' + seen
"""


def call(*args):
    return CliRunner().invoke(main_group, [str(arg) for arg in args], standalone_mode=False)


def code_of(result):
    return result.return_value if result.exception is None else getattr(result.exception, "exit_code", 5)


def git(folder, *args):
    settings = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, "-C", folder, *args], check=True, capture_output=True)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "home" / "id_rsa"
    path.parent.mkdir()
    path.write_text("SECRET KEY\n")
    return path


@pytest.fixture
def received(tmp_path):
    """A function that makes the run folder of a stranger, whose task then says ``keys``."""

    def make(verifiers=None, *, check="", **keys):
        task = tmp_path / "task"
        task.mkdir()
        (task / "check.py").write_text(check or "def check(submission):\n    return True\n")
        honest = [{"python": "check.py"}, {"contains": "42"}]
        assert run_task(write_task(task, root=[ready("42")], verifiers=honest), tmp_path / "run")
        folder = tmp_path / "received"
        git(tmp_path, "clone", "-q", str(tmp_path / "run"), str(folder))
        forge(folder, verifiers or honest, keys)
        return folder

    return make


def forge(folder, verifiers, keys):
    """Write the task of the last pass anew, with a proof that fits, as the sender of a folder can."""
    data = yaml.safe_load((folder / "task.yaml").read_text())
    data |= {"verifiers": verifiers, **keys}
    (folder / "task.yaml").write_text(yaml.safe_dump(data))
    message = subprocess.run(
        ["git", "-C", folder, "log", "-1", "--format=%B"], capture_output=True, text=True, check=True
    ).stdout
    proof = json.loads((folder / "proof.json").read_text())
    proof["task_sha256"] = hashlib.sha256((folder / "task.yaml").read_bytes()).hexdigest()
    git(folder, "checkout", "-q", "HEAD^2")
    (folder / "task.yaml").write_text(yaml.safe_dump(data))
    git(folder, "commit", "-qam", "pass 1 turn 1: ran, ready\n\nLoop-Pass: 1\nLoop-Turn: 1\nLoop-Runner: 0")
    tree = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD^{tree}", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.split()
    proof["tree"] = tree[0]
    git(folder, "checkout", "-q", "-B", "main", "origin/main")
    (folder / "task.yaml").write_text(yaml.safe_dump(data))
    (folder / "proof.json").write_text(json.dumps(proof))
    git(folder, "add", "-A")
    made = subprocess.run(["git", "-C", folder, "write-tree"], capture_output=True, text=True, check=True)
    who = ("-c", "user.name=x", "-c", "user.email=x@y")
    commit = subprocess.run(
        ["git", *who, "-C", folder, "commit-tree", made.stdout.strip(), "-p", "HEAD^1", "-p", tree[1]],
        input=message,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    git(folder, "reset", "-q", "--hard", commit)


def test_the_forged_folder_of_these_tests_is_one_that_verify_would_believe(received):
    output = call("verify", received())
    assert (output.return_value, "VERIFIED again" in output.output) == (0, True), output.output


PYTHON = {"file": "check.py"}
DEMANDS: dict[str, list[Any]] = {
    "network": [{"python": PYTHON | {"network": True}}],
    "network of a command": [{"command": {"run": ["true"], "network": True}}],
    "network in a group": [{"all": [{"contains": "4"}, {"any": [{"python": PYTHON | {"network": True}}]}]}],
    "show=~/.ssh": [{"python": PYTHON | {"show": ["~/.ssh"]}}],
    "show=/root": [{"command": {"run": ["true"], "show": "/root"}}],
    "show=/": [{"python": PYTHON | {"show": ["/"]}, "weight": 2}],
    "program=/home/x/python": [{"python": PYTHON | {"interpreter": "/home/x/python"}}],
    "program=../../home/x/run": [{"command": ["../../home/x/run"]}],
    "program=/usr/../home/x/run": [{"command": ["/usr/../home/x/run"]}],
}


@pytest.mark.parametrize("name", DEMANDS)
def test_what_a_run_asks_for_is_named_and_nothing_is_started(received, name):
    output = call("verify", received([*DEMANDS[name], {"contains": "42"}]))
    assert code_of(output) == 4
    assert name.partition(" ")[0] in str(output.exception)
    assert "--allow" in str(output.exception)


def test_a_stop_hook_asks_in_the_same_way(received):
    output = call("verify", received(stop_hooks=[{"command": ["true"], "network": True, "show": ["~"]}]))
    assert code_of(output) == 4
    assert "network" in str(output.exception)
    assert "show=~" in str(output.exception)


def test_a_lower_tier_must_be_allowed(received):
    folder = received(kernel={"require_tier": "C"})
    output = call("verify", folder)
    assert code_of(output) == 4
    assert "tier=C" in str(output.exception)
    assert code_of(call("verify", folder, "--allow", "tier=C")) == 0


def test_what_is_allowed_is_given_and_no_more(received, secret):
    other = secret.with_name("other")
    other.write_text("OTHER\n")
    open_to_all(secret)
    check = CHECK.format(paths=[str(secret), str(other)])
    folder = received([{"python": PYTHON | {"show": [str(secret)]}}], check=check)
    assert code_of(call("verify", folder)) == 4
    output = call("verify", folder, "--allow", f"show={secret}")
    assert output.return_value == 3
    assert "it was read: b'SECRET" in output.output
    assert "OTHER" not in output.output


def open_to_all(path):
    """Let the sandbox's own user read ``path``, where this test runs as root."""
    path.chmod(0o644)
    for parent in path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path(parent.anchor):
            parent.chmod(parent.stat().st_mode | 0o055)


def test_a_grant_for_another_path_is_none(received, secret):
    folder = received([{"python": PYTHON | {"show": [str(secret)]}}])
    for word in (f"show={secret.parent}", f"show={secret}x", "network"):
        assert code_of(call("verify", folder, "--allow", word)) == 4


@pytest.mark.parametrize("word", ["all", "show", "show=", "Network", "tier=B", "*", "plugin="])
def test_a_word_that_grants_nothing_is_refused(received, word):
    assert code_of(call("verify", received(), "--allow", word)) == 2


def test_a_verifier_of_an_installed_package_is_not_loaded_unless_it_is_allowed(received):
    output = call("verify", received([{"all": [{"made_up_plugin": {"x": 1}}]}]))
    assert code_of(output) == 4
    assert "plugin=made_up_plugin" in str(output.exception)


@pytest.mark.parametrize("place", ["answer", "key", "zero", "pipe", "folder", "link", "kcore"])
def test_an_input_with_another_hash_is_not_shown_and_is_not_waited_for(received, secret, tmp_path, place):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(secret)
    path = {
        "answer": "../received/answer.md",
        "key": secret,
        "zero": "/dev/zero",
        "pipe": pipe,
        "folder": secret.parent,
        "link": link,
        "kcore": "/proc/kcore",
    }[place]
    open_to_all(secret)
    folder = received(check=CHECK.format(paths=[str(path)]))
    listing = json.loads((folder / "inputs.json").read_text())
    listing["texts"][0] |= {"path": str(path), "relative": str(path), "size_bytes": 11}
    (folder / "inputs.json").write_text(json.dumps(listing))
    git(folder, "commit", "-qam", "other inputs")
    command = [sys.executable, "-m", "loop_runner", "verify", str(folder), "--json"]
    source = Path(__file__).parents[2]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=source)
    assert ended.returncode in (3, 4), ended.stdout + ended.stderr
    result = json.loads(ended.stdout)["verifiers"]
    assert [gate["status"] for gate in result] == ["same", "same"], result


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../etc/passwd", "workspace/../../x"])
def test_a_schema_reads_no_file_outside_the_workspace(received, name):
    schema = {"schema": {"type": "object"}, "of": name}
    output = call("verify", received([{"schema": schema}]))
    assert code_of(output) == 3
    assert "root:" not in output.output


def test_a_check_sees_no_token_and_no_home(received, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "SECRET-TOKEN")
    check = (
        "import os\ndef check(submission):\n"
        "    assert 'SECRET' not in str(dict(os.environ))\n"
        f"    assert os.environ['HOME'] != {os.environ.get('HOME', '')!r}\n"
        f"    assert not os.path.exists({str(Path.home() / '.profile')!r})\n"
    )
    output = call("verify", received(check=check))
    assert code_of(output) == 0, output.output
