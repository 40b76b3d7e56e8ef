"""What the model may leave in its folder: bytes are kept, nothing is run, nothing hangs, nothing leaks."""

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from loop_runner.workspace.walk import Limits, Walker, blob_id
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import turn


def walk(folder, known=None, limits=Limits(), walker=None):  # noqa: B008 - frozen
    fd = os.open(folder.parent, os.O_RDONLY)
    try:
        return (walker or Walker(limits)).walk(fd, os.fsencode(folder.name), known or {})
    finally:
        os.close(fd)


@pytest.fixture
def top(tmp_path):
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


# ── through a commit ────────────────────────────────────────────────────────────────────────────────


def test_bytes_are_kept_under_hostile_attributes_and_ignore_rules(workspace, git):
    folder = workspace.model_folder
    (folder / ".gitattributes").write_text(
        "* text eol=lf filter=evil diff=evil ident working-tree-encoding=UTF-16\n"
    )
    (folder / ".gitignore").write_text("*\n")
    (folder / "crlf.txt").write_bytes(b"one\r\ntwo\r\n$Id$\r\n")
    workspace.commit_turn(turn(), {})
    workspace.commit_pass(1, "rejected")
    workspace.wait_for_maintenance()  # the index is written in the background
    assert workspace.history.read("workspace/crlf.txt") == b"one\r\ntwo\r\n$Id$\r\n"
    assert workspace.history.read("workspace/.gitignore") == b"*\n"
    assert git("status", "--porcelain") == ""
    git("fsck", "--strict")


def test_a_repository_with_hooks_inside_the_workspace_runs_nothing_and_its_files_are_kept(
    workspace, tmp_path
):
    marker, inner = tmp_path / "ran", workspace.model_folder / "project"
    subprocess.run(["git", "init", "-q", inner], check=True)
    for name in ("post-commit", "pre-commit", "reference-transaction", "post-index-change", "fsmonitor"):
        hook = inner / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
    with (inner / ".git" / "config").open("a") as config:
        config.write(
            f'[core]\nhooksPath = {hook.parent}\nfsmonitor = {hook}\n[filter "e"]\nclean = touch {marker}\n'
        )
    (inner / ".gitattributes").write_text("* filter=e\n")
    (inner / "main.py").write_text("print(1)\n")
    workspace.commit_turn(turn(), {})
    workspace.commit_pass(1, "rejected")
    assert not marker.exists()
    assert workspace.history.read("workspace/project/main.py") == b"print(1)\n"
    assert workspace.unstored == (("workspace/project/.git", "git takes this name for its own"),)


NAMES_GIT_TAKES = [
    ".git",
    ".GIT",
    ".Git",
    "git~1",
    "GIT~1",
    ".git ",
    ".git...",
    ".git::$INDEX_ALLOCATION",
    ".g\u200cit",
    ".gitmodules",
    ".GITMODULES",
    "gitmod~1",
    "x\\.git",
    "..\\.git\\config",
]


@pytest.mark.parametrize("name", NAMES_GIT_TAKES)
def test_names_that_git_takes_for_its_own_are_left_out_and_reported(top, name):
    (top / name).write_text("[core]")
    (top / "kept").write_text("x")
    walked = walk(top)
    assert list(walked.files) == [b"workspace/kept"]
    assert walked.unstored == ((f"workspace/{name}", "git takes this name for its own"),)


ODD_NAMES = [
    b"new\nline",
    b'quote"back\\slash',
    b"tab\tand\x01control\x7f",
    b"not-utf8-\xff\xfe",
    "ünïcödé-漢字".encode(),
    b" leading and trailing ",
    b"-rf",
    b"CON",
    b"aux.txt",
    b"a" * 255,
    b".gitignored",
    b"...",
    b"..x",
    b"x.git",
]


def test_any_other_name_is_stored_byte_for_byte_and_comes_back(workspace, run_folder, git):
    paths = [workspace.model_folder / os.fsdecode(name) for name in ODD_NAMES]
    for path in paths:
        path.write_bytes(os.fsencode(path.name))
    workspace.commit_turn(turn(), {})
    assert not workspace.unstored
    git("fsck", "--strict")
    workspace.close()
    for path in paths:
        path.unlink()
    with Workspace.open(run_folder) as again:
        assert again.set_aside is None
        for path in paths:
            assert path.read_bytes() == os.fsencode(path.name)
            assert again.history.read(f"workspace/{path.name}") == os.fsencode(path.name)


def test_attributes_that_git_calls_damage_are_left_out(workspace, git):
    (workspace.model_folder / ".gitattributes").write_text("x" * 3000 + " text\n")
    workspace.commit_turn(turn(), {})
    assert workspace.unstored == (
        ("workspace/.gitattributes", "git refuses attributes with lines this long"),
    )
    git("fsck", "--strict")


# ── links, pipes, devices ───────────────────────────────────────────────────────────────────────────


def test_a_link_is_stored_as_a_link_and_never_followed(workspace, tmp_path, git):
    secret = tmp_path / "secret"
    secret.write_text("do not read me")
    (workspace.model_folder / "out").symlink_to(secret)
    (workspace.model_folder / "folder").symlink_to(tmp_path)
    (workspace.model_folder / "nowhere").symlink_to("/does/not/exist")
    workspace.commit_turn(turn(), {})
    assert workspace.history.read("workspace/out") == os.fsencode(secret)
    assert git("ls-tree", "HEAD", "workspace/out").startswith("120000")
    assert workspace.history.files("workspace/") == ["workspace/folder", "workspace/nowhere", "workspace/out"]
    assert (
        b"do not read me"
        not in subprocess.run(
            ["git", "cat-file", "--batch", "--batch-all-objects"],
            cwd=workspace.folder,
            capture_output=True,
            check=True,
        ).stdout
    )


def test_a_workspace_that_was_replaced_by_a_link_is_not_walked(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("x")
    (tmp_path / "workspace").symlink_to(tmp_path / "elsewhere")
    walked = walk(tmp_path / "workspace")
    assert not walked.files
    assert walked.unstored[0][0] == "workspace"


@pytest.mark.timeout(20)
def test_pipes_sockets_and_devices_are_left_out_without_waiting(top):
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(top / "socket"))
    expected = {"workspace/pipe": "a fifo, not a file", "workspace/socket": "a socket, not a file"}
    if os.getuid() == 0:
        os.mknod(top / "device", 0o020666, os.makedev(1, 5))  # /dev/zero never ends
        expected["workspace/device"] = "a device, not a file"
    walked = walk(top)
    assert dict(walked.unstored) == expected
    assert not walked.files


@pytest.mark.timeout(60)
def test_files_that_are_swapped_for_links_and_pipes_during_the_walk_leak_and_hang_nothing(top, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    target = top / "target"
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for make in (
                lambda path: path.write_text("fine"),
                lambda path: path.symlink_to(secret),
                os.mkfifo,
                lambda path: path.mkdir(),
            ):
                new = tmp_path / "new"
                make(new)
                if target.is_dir() and not target.is_symlink():
                    target.rmdir()
                elif new.is_dir():
                    target.unlink(missing_ok=True)
                new.rename(target)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        deadline, seen = time.monotonic() + 1.0, set()
        while time.monotonic() < deadline:
            walked = walk(top)
            seen |= {(file.mode, file.data) for file in walked.files.values()}
    finally:
        stop.set()
        swapper.join()
    assert seen <= {("100644", b"fine"), ("120000", os.fsencode(secret)), ("100644", b"")}


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_sparse_terabyte_is_left_out_at_once(top):
    with (top / "huge").open("wb") as file:
        try:
            file.truncate(2**40)
        except OSError:
            file.truncate(2**37)
    (top / "small").write_text("x")
    walked = walk(top)
    assert list(walked.files) == [b"workspace/small"]
    assert walked.unstored == (("workspace/huge", "larger than 67,108,864 bytes"),)


def test_nesting_is_followed_to_a_limit(top):
    deep = top
    for _ in range(30):
        deep /= "d"
        deep.mkdir()
        (deep / "f").write_text("x")
    walked = walk(top, limits=Limits(depth=10))
    assert len(walked.files) == 10
    assert walked.unstored == (("workspace" + "/d" * 11, "deeper than 10 folders"),)


def test_hundreds_of_nested_folders_exhaust_nothing(top):
    fd = os.open(top, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert walk(top).unstored[0][1] == "deeper than 40 folders"


def test_a_folder_that_takes_the_count_over_the_limit_is_left_out_as_a_whole(top):
    for name, count in (("a", 3), ("b", 50), ("c", 2)):
        (top / name).mkdir()
        for index in range(count):
            (top / name / f"{index}").write_text("x")
    walked = walk(top, limits=Limits(files=20))
    assert {path.split(b"/")[1] for path in walked.files} == {b"a", b"c"}
    assert walked.unstored == (("workspace/b", "more than 20 files"),)


def test_the_sum_of_all_sizes_has_a_limit(top):
    for index in range(5):
        (top / f"{index}").write_bytes(b"x" * 100)
    walked = walk(top, limits=Limits(total_bytes=250))
    assert sorted(walked.files) == [b"workspace/0", b"workspace/1"]
    assert len(walked.unstored) == 3


def test_a_path_that_is_too_long_is_left_out(top):
    folder = top / ("n" * 200)
    folder.mkdir()
    (folder / ("m" * 200)).write_text("x")
    walked = walk(top, limits=Limits(path_bytes=300))
    assert not walked.files
    assert walked.unstored[0][1] == "its path is longer than 300 bytes"


def test_what_may_not_be_read_is_reported(workspace_of_nobody):
    assert workspace_of_nobody == {
        "workspace/shut": "could not be opened: Permission denied",
        "workspace/unreadable": "could not be read: Permission denied",
    }


@pytest.fixture
def workspace_of_nobody(top):
    """What a walk reports that runs as a user who may not read everything."""
    (top / "unreadable").write_text("x")
    (top / "unreadable").chmod(0)
    (top / "shut").mkdir()
    (top / "shut" / "inner").write_text("x")
    (top / "shut").chmod(0)
    if os.getuid() != 0:
        yield dict(walk(top).unstored)
    else:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            for folder in (top, *top.parents[:-2]):
                folder.chmod(0o755)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(write, repr(dict(walk(top).unstored)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(child, 0)
        yield eval(text)
    (top / "shut").chmod(0o755)


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


# ── again and again ─────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_did_not_change_is_not_handed_over_again(top):
    (top / "a").write_text("one")
    (top / "b").write_text("two")
    first = walk(top)
    known = {path: result.blob for path, result in first.files.items()}
    (top / "b").write_text("three")
    again = walk(top, known)
    assert again.files[b"workspace/a"].data is None
    assert again.files[b"workspace/b"].data == b"three"


def test_a_large_settled_file_is_not_read_again(top):
    big = top / "big"
    big.write_bytes(b"x" * 100_000)
    known = {b"workspace/big": blob_id(b"x" * 100_000)}
    time.sleep(0.02)
    for settled_s, is_read in ((60.0, True), (0.001, False)):
        walker = Walker(settled_s=settled_s)
        walk(top, walker=walker)
        before = bytes_read()
        again = walk(top, known, walker=walker)
        assert again.files[b"workspace/big"].data is None
        assert (bytes_read() - before >= 100_000) == is_read


def test_a_change_that_keeps_size_and_mtime_is_seen(top):
    big = top / "big"
    big.write_bytes(b"x" * 100_000)
    walker = Walker()
    first = walk(top, walker=walker)
    seen = big.stat()
    big.write_bytes(b"y" * 100_000)
    os.utime(big, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    again = walk(top, {path: result.blob for path, result in first.files.items()}, walker=walker)
    assert again.files[b"workspace/big"].data == b"y" * 100_000


def test_the_result_does_not_depend_on_the_order_in_which_files_were_made(tmp_path):
    walks = []
    for name, order in (("a", range(50)), ("b", reversed(range(50)))):
        top = tmp_path / name / "workspace"
        top.mkdir(parents=True)
        for index in order:
            (top / f"{index}").write_text(str(index))
        walks.append(walk(top, limits=Limits(total_bytes=60)))
    assert walks[0] == walks[1]


def test_empty_folders_are_remembered(workspace, run_folder):
    (workspace.model_folder / "empty" / "inner").mkdir(parents=True)
    workspace.commit_turn(turn(), {})
    workspace.close()
    (run_folder / "workspace" / "empty" / "inner").rmdir()
    (run_folder / "workspace" / "another").mkdir()
    with Workspace.open(run_folder):
        assert (run_folder / "workspace" / "empty" / "inner").is_dir()
        assert not (run_folder / "workspace" / "another").exists()
