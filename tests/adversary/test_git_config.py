"""No setting of a received run folder starts a program or changes what is printed, whichever git knows."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from loop_runner.cli import main_group
from tests.support.tasks import cell, ready, run_task, write_task

# The words by which a name in git's own list says that its value is a program, or leads to one.
PROGRAM_WORDS = re.compile(
    r"program|command|cmd|driver|external|textconv|helper|pager|editor|hook|proxy|askpass|tool|path|fsmonitor"
    r"|process|smudge|clean|viewer|browser|exec|uploadpack|receivepack|include|alias|worktree|terminal"
    r"|template|gpg|signature|sign|merge|diff|filter|remote|promisor|ssh|vcs|url|file",
    re.IGNORECASE,
)
FORMAT_WORDS = re.compile(
    r"^(log|i18n|core|diff|color|column|pager|format|status|pretty|blame|show|tag|versionsort|extensions|submodule"
    r"|rebase|gc|pack|index|feature|safe|transfer|fetch|http|init|notes|mailmap)\.",
    re.IGNORECASE,
)


def known_keys():
    """Every key that the installed git lists: ``git help --config``, with its placeholders filled in."""
    listed = subprocess.run(["git", "help", "--config"], capture_output=True, text=True, check=True).stdout
    names = [line.strip() for line in listed.splitlines() if "." in line and " " not in line.strip()]
    filled = {re.sub(r"<[^>]*>|\*", "x", name) for name in names}
    filled = {
        name for name in filled if re.fullmatch(r"[A-Za-z][\w-]*(\.[^\n\"]*)?\.[A-Za-z][A-Za-z0-9-]*", name)
    }
    # Those that the list leaves out, because a person does not set them.
    return sorted(filled | {"remote.origin.promisor", "extensions.partialClone", "filter.x.process"})


PROGRAM_KEYS = [key for key in known_keys() if PROGRAM_WORDS.search(key)]
FORMAT_KEYS = [key for key in known_keys() if FORMAT_WORDS.search(key)]
VALUES = ("ISO-2022-JP", "format:%G? %GG EVIL", "99", "-1", "always", "", "\x1b[31m", "/dev/zero")


def section(key, value):
    """``key`` as a section of a configuration file."""
    first, _, rest = key.partition(".")
    middle, _, last = rest.rpartition(".")
    name = f'[{first} "{middle}"]' if middle else f"[{first}]"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}\n\t{last} = "{quoted}"\n'


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    root = [
        cell("import pathlib\npathlib.Path('a').write_text('ä\\n')\nanswer.update(content='41', ready=True)"),
        ready("42 — ü"),
    ]
    assert run_task(write_task(folder / "task", root=root), folder / "run").status == "verified"
    return folder / "run"


@pytest.fixture
def received(run_folder, tmp_path):
    """A copy of the run with a signed commit on top, hooks, attributes and a marking program."""
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder, symlinks=True)
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/mark\ncat\n')
    program.chmod(0o755)
    sign(folder)
    (folder / ".git/info/attributes").write_text("* diff=x filter=x merge=x textconv=x\n")
    hooks = folder / ".git/hooks"
    hooks.mkdir()
    for name in (
        "post-index-change",
        "reference-transaction",
        "fsmonitor-watchman",
        "pre-auto-gc",
        "post-checkout",
    ):
        shutil.copy(program, hooks / name)
    return folder


def sign(folder):
    """Put an empty commit with a signature on top, which ``log.showSignature`` would have a program check."""

    def git(*args, data=b""):
        command = ["git", "-C", folder, *args]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    head = git("rev-parse", "HEAD").decode().strip()
    tree = git("rev-parse", "HEAD^{tree}").decode().strip()
    who = "x <x@y> 1700000000 +0000"
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n AAAA\n -----END PGP SIGNATURE-----"
    commit = f"tree {tree}\nparent {head}\nauthor {who}\ncommitter {who}\n{signature}\n\nsigned\n"
    oid = git("hash-object", "-t", "commit", "-w", "--stdin", data=commit.encode()).decode().strip()
    git("update-ref", "HEAD", oid)


_AGE = re.compile(r'"age_s": [\d.e-]+|last event .* ago')  # these grow while the test runs


def call(folder, *args):
    arguments = [
        str(folder) if arg == "RUN" else str(folder) + arg[3:] if arg[:4] == "RUN@" else arg for arg in args
    ]
    result = CliRunner().invoke(main_group, arguments, standalone_mode=False)
    return _AGE.sub("AGE", result.output), result.return_value, repr(result.exception)


READING = [
    ("status", "RUN"),
    ("status", "RUN", "--json"),
    ("log", "RUN"),
    ("show", "RUN"),
    ("show", "RUN@1.1"),
    ("diff", "RUN", "0", "2"),
    ("diff", "RUN", "1", "2"),
    ("cost", "RUN"),
    ("fsck", "RUN"),
    ("verify", "RUN"),
    ("bisect", "RUN", "--", "true"),
]


def everything(folder, commands=READING):
    return {command: call(folder, *command) for command in commands}


def test_the_program_of_these_tests_would_be_started_by_a_plain_git(received, tmp_path):
    with (received / ".git/config").open("a") as file:
        file.write(section("log.showSignature", "true") + section("gpg.program", str(tmp_path / "program")))
    subprocess.run(["git", "-C", received, "log", "-1"], capture_output=True, check=False)
    assert (tmp_path / "mark").exists()


def test_every_key_at_once_starts_nothing_and_changes_nothing(received, tmp_path):
    before = everything(received)
    assert all("exit_code=5" not in output[2] for output in before.values())
    program = str(tmp_path / "program")
    lines = [section(key, program) for key in known_keys() if key != "core.repositoryFormatVersion"]
    lines += [section(key, "true") for key in ("log.showSignature", "core.fsmonitor", "tag.gpgSign")]
    lines += [section("i18n.logOutputEncoding", "UTF-16"), section("remote.origin.promisor", "true")]
    with (received / ".git/config").open("a") as file:
        file.write("".join(lines))
    assert everything(received) == before
    assert not (tmp_path / "mark").exists(), (tmp_path / "mark").read_text()


@pytest.mark.parametrize("part", range(8))
def test_no_key_that_may_name_a_program_starts_it(received, tmp_path, part):
    quick = [("log", "RUN"), ("diff", "RUN", "1", "2")]
    before = everything(received, quick)
    config = (received / ".git/config").read_text()
    program = str(tmp_path / "program")
    for key in PROGRAM_KEYS[part::8]:
        (received / ".git/config").write_text(
            config + section(key, program) + section("log.showSignature", "1")
        )
        assert everything(received, quick) == before, key
        assert not (tmp_path / "mark").exists(), key


@pytest.mark.parametrize("value", VALUES)
def test_no_key_of_encodings_and_formats_changes_what_is_printed(received, value):
    before = everything(received)
    with (received / ".git/config").open("a") as file:
        file.write(
            "".join(section(key, value) for key in FORMAT_KEYS if key != "core.repositoryFormatVersion")
        )
    assert everything(received) == before


@pytest.mark.parametrize("broken", ["[core", "\0\0", "[include]\n\tpath = /dev/zero\n", "garbage\n" * 10])
def test_a_configuration_that_git_cannot_read_is_not_read_by_the_reading_commands(received, broken):
    before = everything(received, READING[:8])
    with (received / ".git/config").open("a") as file:
        file.write(broken)
    assert everything(received, READING[:8]) == before


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("info/grafts", "GRAFT"),
        ("gitdir", "/nowhere\n"),
        ("config.worktree", '[core]\n\tworktree = /nowhere\n\tfsmonitor = "/nowhere"\n'),
        ("info/sparse-checkout", "!*\n"),
        ("objects/info/commit-graph", "CGPH"),
        ("refs/replace/HEAD_OID", "REPLACE"),
    ],
)
def test_no_file_beside_the_settings_changes_the_history(received, place, text):
    before = everything(received, READING[:8])
    oid, first = (
        subprocess.run(
            ["git", "-C", received, "rev-parse", name], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("HEAD", "HEAD~1^1")
    )
    path = received / ".git" / place.replace("HEAD_OID", oid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text({"GRAFT": f"{oid}\n", "REPLACE": f"{first}\n"}.get(text, text))
    after = everything(received, READING[:8])
    assert {key: value for key, value in after.items() if key[0] != "fsck"} == {
        key: value for key, value in before.items() if key[0] != "fsck"
    }


def odd_link(received, place):
    path = Path(os.path.normpath(received / ".git" / place))
    kept = received.parent / "kept"
    path.replace(kept) if path.exists() else kept.write_text("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(kept)


ODD = {
    ".git as a link": lambda folder: odd_link(folder.parent / "run", "../.git"),
    "HEAD as a link": lambda folder: odd_link(folder, "HEAD"),
    "refs as a link": lambda folder: odd_link(folder, "refs"),
    "config as a link": lambda folder: odd_link(folder, "config"),
    "events as a link": lambda folder: odd_link(folder, "loop-runner/events.jsonl"),
    "journal as a link": lambda folder: odd_link(folder, "loop-runner/journal"),
    "the private folder as a link": lambda folder: odd_link(folder, "loop-runner"),
    "packs as a link": lambda folder: odd_link(folder, "objects/pack"),
    "a pipe as packed-refs": lambda folder: os.mkfifo(folder / ".git/packed-refs"),
    "a pipe as a branch": lambda folder: os.mkfifo(folder / ".git/refs/heads/other"),
    "commondir": lambda folder: (folder / ".git/commondir").write_text("/nowhere\n"),
    "alternates": lambda folder: (folder / ".git/objects/info/alternates").write_text("/nowhere\n"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(
    "command", [READING[0], READING[2], READING[3], READING[8], READING[9], ("resume", "RUN")]
)
def test_a_git_folder_that_leads_elsewhere_is_called_damaged_before_it_is_opened(received, name, command):
    ODD[name](received)
    before = (received.parent / "kept").stat() if (received.parent / "kept").is_file() else None
    arguments = [str(received) if arg == "RUN" else arg for arg in command]
    result = CliRunner().invoke(main_group, arguments, standalone_mode=False)
    assert getattr(result.exception, "exit_code", 0) == 4, result.exception
    assert "is damaged" in str(result.exception)
    if before is not None:
        assert (received.parent / "kept").stat().st_size == before.st_size
