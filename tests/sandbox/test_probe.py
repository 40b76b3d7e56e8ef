"""What the sandbox is said to keep from happening is tried for real, tier by tier."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.errors import EnvironmentFault
from loop_runner.kernel.quota import Quota
from loop_runner.sandbox import cgroup, probe, tier_claims
from loop_runner.sandbox.inside import confine, seccomp
from loop_runner.sandbox.wrap import Layers, Limits, free_uid, hand_over, inner_pid
from tests.support import confined, desktop
from tests.support.confined import BUBBLEWRAP, IS_ROOT, TIERS, count_processes, eventually, run, start

needs_bubblewrap = pytest.mark.skipif(BUBBLEWRAP is None, reason="TIER A UNTESTED: no bubblewrap")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="ROOT START UNTESTED: not run as root")
needs_mounts = pytest.mark.skipif(not desktop.can_be_made(), reason="OWN ROOT UNTESTED: no mounts here")
TIER_PARAMETERS = [
    pytest.param(
        name,
        marks=needs_bubblewrap
        if layers.bubblewrap or name.startswith("A")
        else needs_mounts
        if layers.own_root
        else (),
    )
    for name, layers in TIERS.items()
]

# Each is run alone in a fresh sandbox and has to end in an error. ``given`` names what lies outside.
FORBIDDEN = {
    "read a secret": "open(given['secret']).read()",
    "read a secret through a link": "os.symlink(given['secret'], 'link'); open('link').read()",
    "list a folder outside": "'secret' in os.listdir(given['outside']) or fail()",
    "read the machine's users": "open('/etc/passwd').read()",
    "read the machine's password hashes": "open('/etc/shadow').read()",
    "read the home of root": "os.listdir('/root/.ssh')",
    "read the source of the verifiers": "open(given['source'] + '/loop_runner/errors.py').read()",
    "write a file outside": "open(given['elsewhere'] + '/new', 'w')",
    "append to a file outside": "os.open(given['secret'], os.O_WRONLY | os.O_APPEND)",
    "empty a file outside": "os.truncate(given['secret'], 0)",
    "remove a file outside": "os.unlink(given['secret'])",
    "move a file from outside": "os.rename(given['secret'], 'mine')",
    "move a file to outside": "open('mine', 'w').close(); os.rename('mine', given['outside'] + '/mine')",
    "hard link a file outside into the workspace": "os.link(given['secret'], 'mine')",
    "hard link the bootstrap into the workspace": "os.link(given['bootstrap'], 'mine')",
    "write to the bootstrap": "open(given['bootstrap'], 'a')",
    "write to Python's library": "open(os.__file__, 'a')",
    "write to an input": "open(given['input'], 'a')",
    "make a device": "os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0)); open('disk', 'rb').read(1)",
    "read the environment of process 1": "open('/proc/1/environ', 'rb').read() or fail()",
    "read the environment of the runner": "open(f\"/proc/{given['host']}/environ\", 'rb').read(1)[0]",
    "write core_pattern": "open('/proc/sys/kernel/core_pattern', 'r+b')",
    "trigger a system request": "open('/proc/sysrq-trigger', 'wb')",
    "write to a control group": "open('/sys/fs/cgroup/release_agent', 'wb')",
    "signal the runner": "os.kill(given['host'], 0)",
    "become root": "os.setuid(0)",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_NOFILE, (10**5, 10**5))",
    "TCP to this machine": "socket.create_connection(('127.0.0.1', given['tcp']), 1)",
    "TCP to elsewhere": "socket.create_connection(('192.0.2.1', 80), 1)",
    "the address of cloud metadata": "socket.create_connection(('169.254.169.254', 80), 1)",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', given['udp']))",
    "IPv6": "socket.socket(socket.AF_INET6)",
    "DNS": "socket.getaddrinfo('example.com', 80)",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + given['abstract'])",
    "a datagram over a pair": "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', given['datagram'])",
    "trace the runner": "call('ptrace', 16, given['host'], 0, 0)",
    "read the runner's memory": "call('process_vm_readv', given['host'], 0, 0, 0, 0, 0)",
    "a new user namespace": "call('unshare', 0x10000000)",
    "a clone in a new user namespace": "call('clone', 0x10000000 | 17, 0, 0, 0, 0)",
    "clone3": "call('clone3', 0, 0)",
    "mount": "call('mount', 0, 0, 0, 0, 0)",
    "io_uring": "call('io_uring_setup', 1, 0)",
    "bpf": "call('bpf', 0, 0, 0)",
    "the keyring": "call('keyctl', 0, -3, 0)",
    "userfaultfd": "call('userfaultfd', 1)",
    "perf": "call('perf_event_open', 0, 0, -1, -1, 0)",
    "open by handle": "call('open_by_handle_at', -1, 0, 0)",
    "a system call that is newer than the filter": "libc.syscall(470) < 0 and fail()",
    "type into the terminal": "fcntl.ioctl(0, 0x5412, b'x')",
    "a file over the limit": "os.pwrite(os.open('big', os.O_CREAT | os.O_WRONLY), b'x', 1 << 20)",
    "a sparse file of 1 TB": "os.ftruncate(os.open('big', os.O_CREAT | os.O_WRONLY), 1 << 40)",
    "a memory bomb": "bytearray(1 << 30)",
    "a fork bomb": "[os.fork() or time.sleep(1) for _ in range(99)]",
    # Not `threading.Thread`: its `start` waits forever for a thread that ran out of memory at once.
    "a thread bomb": "[_thread.start_new_thread(time.sleep, (1,)) for _ in range(99)]",
    "many open files": "[os.dup(0) for _ in range(100)]",
}
TRIAL = """
import _thread, ctypes, fcntl, json, os, resource, socket, stat, sys, threading, time
given = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def fail():
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def call(name, *arguments):
    if libc.syscall(ctypes.c_long(given["numbers"][name]), *map(ctypes.c_long, arguments)) < 0:
        fail()
main = os.getpid()
try:
    exec(sys.argv[2])
except (OSError, MemoryError, RuntimeError, ValueError) as error:
    told = f"{type(error).__name__}: {error}"
else:
    told = "IT WORKED"
if os.getpid() == main:
    print(told, flush=True)
os._exit(0)
"""


@pytest.fixture
def outside(tmp_path):
    """Bait around the sandbox, open to every user, and sockets that nobody may reach."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for item in (tmp_path, folder):
        item.chmod(0o777)
    for name in ("secret", "input"):
        (folder / name).write_text("untouched")
        (folder / name).chmod(0o666)
    name = f"loop-runner-test-{os.getpid()}-{tmp_path.name}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        udp.bind(("127.0.0.1", 0))
        abstract.bind("\0" + name)
        abstract.listen()
        datagram.bind(str(folder / "datagram"))
        (folder / "datagram").chmod(0o777)
        for item in (tcp, udp, abstract, datagram):
            item.setblocking(False)
        column = 1 if os.uname().machine == "aarch64" else 0
        # A sandbox has a temporary folder of its own, where a checkout may be on the host.
        is_temporary = confined.SOURCE.is_relative_to(tempfile.gettempdir())
        elsewhere = "/" if is_temporary else str(confined.SOURCE)
        given_ = {
            "secret": str(folder / "secret"),
            "input": str(folder / "input"),
            "outside": str(folder),
            "source": str(confined.SOURCE),
            "elsewhere": elsewhere,
            "bootstrap": str(confine.__file__),
            "host": os.getpid(),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": name,
            "datagram": str(folder / "datagram"),
            "numbers": {key: numbers[column] for key, numbers in seccomp.NUMBERS.items()},
        }
        yield given_
        for item in (udp, datagram):
            with pytest.raises(BlockingIOError):
                item.recv(1)
        for item in (tcp, abstract):
            with pytest.raises(BlockingIOError):
                item.accept()
    assert Path(given_["secret"]).read_text() == "untouched"
    assert Path(given_["input"]).read_text() == "untouched"
    assert not Path(elsewhere, "new").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["datagram", "input", "secret"]


@pytest.mark.parametrize("action", FORBIDDEN)
@pytest.mark.parametrize("tier", [item for item in TIER_PARAMETERS if item.values != ("A without Landlock",)])
def test_what_is_forbidden_is_refused(tier, action, outside, tmp_path):
    ran = run(
        TIERS[tier], tmp_path, TRIAL, json.dumps(outside), FORBIDDEN[action], read_only=[outside["input"]]
    )
    assert ran.code == 0, ran.err
    assert ran.out.strip(), ran.err
    assert "IT WORKED" not in ran.out


HARMLESS = {
    "read an input": "assert open(given['input']).read() == 'untouched'",
    "write, rename and remove": "open('a', 'w').write('x'); os.rename('a', 'b'); os.unlink('b')",
    "folders and links in the workspace": "os.makedirs('x/y'); os.symlink('y', 'x/z'); os.rename('x/y', 'w')",
    "a temporary file": "import tempfile; tempfile.TemporaryFile().write(b'x')",
    "copy with mode and times": "import shutil; open('a', 'w').close(); shutil.copy2('a', 'b')",
    "run Python": "import subprocess; subprocess.run([sys.executable, '-S', '-c', '1'], check=True)",
    "an event loop": "import asyncio; asyncio.run(asyncio.sleep(0))",
    "threads": "t = threading.Thread(target=print, args=('',)); t.start(); t.join()",
    "a database": "import sqlite3; c = sqlite3.connect('d.db'); c.execute('create table t (a)'); c.commit()",
    "stop one's own child": "import subprocess; p = subprocess.Popen([sys.executable]); p.kill(); p.wait()",
    "time zones": "import zoneinfo",
    "abort": "os.fork() or os.abort(); os.wait()",
}


@pytest.mark.parametrize("action", HARMLESS)
@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_ordinary_work_goes_on(tier, action, outside, tmp_path):
    ran = run(
        TIERS[tier], tmp_path, TRIAL, json.dumps(outside), HARMLESS[action], read_only=[outside["input"]]
    )
    assert ran.out.strip().splitlines()[-1:] == ["IT WORKED"], ran


@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_modes_and_times_of_files_outside_stay(tier, outside, tmp_path):
    before = Path(outside["input"]).stat()
    code = "os.chmod(given['input'], 0o600); os.utime(given['input'], (1, 1))"
    run(TIERS[tier], tmp_path, TRIAL, json.dumps(outside), code, read_only=[outside["input"]])
    after = Path(outside["input"]).stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)


@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_the_model_is_nobody_and_sees_no_variable_of_the_host(tier, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_API_KEY", "sk-do-not-leak")
    code = """if True:
        import os
        print({*os.getresuid(), *os.getresgid(), *os.getgroups()} & {0} or "nobody")
        for pid in ("self", *filter(str.isdigit, os.listdir("/proc") if os.access("/proc", 4) else ())):
            try: print(open(f"/proc/{pid}/environ").read(), open(f"/proc/{pid}/cmdline").read())
            except OSError: pass
        print(dict(os.environ))"""
    ran = run(TIERS[tier], tmp_path, code)
    assert ran.out.startswith("nobody"), ran
    assert "sk-do-not-leak" not in ran.out
    assert "--args" not in ran.out or "--ro-bind" not in ran.out


@needs_bubblewrap
def test_temporary_files_are_private_and_limited_in_size(tmp_path):
    code = "for number in range(9): open(f'/tmp/{number}', 'wb').write(bytes(1 << 19))"
    ran = run(TIERS["A"], tmp_path, code)
    assert "No space left on device" in ran.err


@needs_bubblewrap
def test_nothing_lives_on_when_bubblewrap_is_killed(tmp_path):
    token = f"token-{os.getpid()}-a"
    code = """if True:
        import os, time
        if os.fork() == 0:
            os.setsid()
            os.fork()
        print("up", flush=True)
        time.sleep(60)"""
    launch, process = start(TIERS["A"], tmp_path, code, token)
    try:
        assert process.stdout.readline() == b"up\n"
        assert count_processes(token) >= 2
        process.kill()
        process.wait()
        eventually(lambda: count_processes(token) == 0)
    finally:
        process.kill()
        process.communicate()
        launch.ended()


@needs_bubblewrap
def test_nothing_lives_on_when_the_host_is_killed(tmp_path):
    token = f"token-{os.getpid()}-b"
    host = f"""if True:
        import sys, time
        from pathlib import Path
        from tests.support.confined import TIERS, start
        code = "import os, time; os.fork(); print('up', flush=True); time.sleep(60)"
        launch, process = start(TIERS["A"], Path(sys.argv[1]), code, "{token}")
        process.stdout.readline()
        print("up", flush=True)
        time.sleep(60)"""
    env = {**os.environ, "PYTHONPATH": str(confined.SOURCE)}
    with subprocess.Popen(
        [sys.executable, "-c", host, str(tmp_path)], env=env, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.kill()
    eventually(lambda: count_processes(token) == 0)


@needs_bubblewrap
def test_the_kernel_inside_bubblewrap_can_be_interrupted(tmp_path):
    code = """if True:
        import time
        try:
            print("up", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")"""
    launch, process = start(TIERS["A"], tmp_path, code)
    try:
        process.stdout.readline()
        inner = inner_pid(process.pid)
        assert inner is not None
        os.kill(inner, signal.SIGINT)
        assert process.communicate(timeout=10)[0] == b"interrupted\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        launch.ended()


@needs_bubblewrap
def test_a_sandbox_started_in_a_short_thread_outlives_it(tmp_path):
    import threading

    started = []
    code = "import time; print('up', flush=True); time.sleep(0.3); print('still up')"
    thread = threading.Thread(target=lambda: started.append(start(TIERS["A"], tmp_path, code)))
    thread.start()
    thread.join()
    launch, process = started[0]
    out, _ = process.communicate(timeout=10)
    launch.ended()
    assert out == b"up\nstill up\n"


@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_only_the_descriptors_that_are_given_are_open(tier, tmp_path):
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    code = "import os\nfor n in range(3, 200):\n try: os.fstat(n); print(n)\n except OSError: pass"
    ran = run(TIERS[tier], tmp_path, code, fds=[writer])
    os.close(reader)
    os.close(writer)
    assert ran.out.split() == [str(writer)]


@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_a_thousand_inputs_are_readable_and_their_neighbours_are_not(tier, tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    names = [folder / f"{number}.txt" for number in range(1000)]
    for name in [*names, folder / "private.txt"]:
        name.write_text("x")
    code = """if True:
        import sys
        print(sum(len(open(f"{sys.argv[1]}/{number}.txt").read()) for number in range(1000)))
        open(sys.argv[1] + "/private.txt")"""
    ran = run(TIERS[tier], tmp_path, code, str(folder), read_only=names)
    assert ran.out.strip() == "1000"
    assert "PermissionError" in ran.err or "FileNotFoundError" in ran.err


def test_a_step_that_fails_ends_the_process_before_any_code_runs(tmp_path):
    ran = run(
        Layers(cgroup=False, landlock=True, uid=IS_ROOT),
        tmp_path,
        "print('ran')",
        limits=Limits(open_files=-5),
    )
    assert ran.code == 97
    assert "a part of its sandbox failed: limits" in ran.err
    assert ran.out == ""


# ── started as root ─────────────────────────────────────────────────────────────────────────────────


@needs_root
@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_root_can_read_and_remove_what_the_model_wrote(tier, tmp_path):
    run(
        TIERS[tier],
        tmp_path,
        "import os; os.mkdir('notes'); open('notes/a', 'w').write('x'); os.chmod('notes', 0)",
    )
    note = tmp_path / "workspace" / "notes" / "a"
    assert note.read_text() == "x"
    assert note.stat().st_uid == free_uid(tmp_path / "workspace") != 0
    note.unlink()


@needs_root
@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_what_root_puts_back_is_writable_for_the_model_again(tier, tmp_path):
    (tmp_path / "workspace" / "notes").mkdir(parents=True)
    (tmp_path / "workspace" / "notes" / "a").write_text("from a checkpoint")
    ran = run(TIERS[tier], tmp_path, "open('notes/a', 'a').write('!'); print(open('notes/a').read())")
    assert ran.out == "from a checkpoint!\n"


@needs_root
@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_a_workspace_that_is_open_to_its_owner_alone_works(tier, tmp_path):
    (tmp_path / "workspace").mkdir(mode=0o700)
    ran = run(TIERS[tier], tmp_path, "import os; open('a', 'w'); print(os.getcwd())")
    assert ran.out.strip() == str(tmp_path / "workspace"), ran.err


@needs_root
def test_handing_over_follows_no_link_and_leaves_files_with_other_names(tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    for name in ("linked", "pointed"):
        (tmp_path / name).write_text("mine")
    (workspace / "hard").hardlink_to(tmp_path / "linked")
    (workspace / "soft").symlink_to(tmp_path / "pointed")
    (workspace / "folder").symlink_to(tmp_path)
    hand_over(workspace, 12345)
    assert workspace.stat().st_uid == 12345
    assert (workspace / "soft").lstat().st_uid == 12345
    assert {(tmp_path / name).stat().st_uid for name in ("linked", "pointed", ".")} == {0}


@needs_root
@pytest.mark.parametrize("tier", TIER_PARAMETERS)
def test_a_workspace_that_only_root_may_come_to_works(tier, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "secret").write_text("x")
    (closed / "secret").chmod(0o644)
    ran = run(
        TIERS[tier], closed, "import os; open('a', 'w').write('x'); print(os.listdir('..'), os.getcwd())"
    )
    assert (closed / "workspace" / "a").read_text() == "x", ran
    assert "secret" not in ran.out
    assert (closed.stat().st_mode & 0o777) == 0o700


@needs_root
def test_an_input_that_only_root_may_read_is_named_before_anything_starts(tmp_path):
    (tmp_path / "input").touch(mode=0o600)
    with pytest.raises(EnvironmentFault, match="input is open to root only") as raised:
        start(TIERS["B"], tmp_path, "", read_only=[tmp_path / "input"])
    assert "chmod o+r" in raised.value.hint


# ── the report ──────────────────────────────────────────────────────────────────────────────────────

REPORT = """
import json, sys
from loop_runner.sandbox import probe as sandbox
print(json.dumps(sandbox.probe_anew(search_path=sys.argv[1]).as_dict()))
"""
ALL_TESTS = sorted({test for claim in tier_claims.CLAIMS for test in claim.tests})


def report_as_ordinary_user(before=None, search_path=None):
    python = confined.ordinary_python()
    if python is None:
        pytest.skip("ORDINARY USER UNTESTED: no Python that every user may run")
    path = os.environ["PATH"] if search_path is None else search_path
    ran = confined.host_as_ordinary_user(python, REPORT, path, before=before)
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


needs_namespaces = pytest.mark.skipif(not confined.can_unshare(), reason="NAMESPACES UNTESTED: none here")


@needs_bubblewrap
def test_with_bubblewrap_the_tier_is_a():
    report = probe.probe()
    assert report.tier == "A", report.how_to_improve
    assert report.how_to_improve == ()


@needs_bubblewrap
def test_a_temporary_folder_with_a_long_name_takes_nothing_away(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = "from loop_runner.sandbox import probe; print(probe.probe_anew().tier)"
    environment = {**os.environ, "TMPDIR": str(folder)}
    ran = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("A\n", "")
    assert list(folder.iterdir()) == []


@needs_bubblewrap
@needs_namespaces
def test_an_ordinary_user_gets_tier_a():
    assert report_as_ordinary_user()["tier"] == "A"


def test_without_bubblewrap_the_tier_is_b_and_the_report_says_what_to_install():
    report = report_as_ordinary_user(search_path="/nowhere")
    assert report["tier"] == "B"
    assert "install bubblewrap" in report["how_to_improve"][0]


@needs_root
def test_root_without_bubblewrap_gets_tier_b_and_is_not_root_inside():
    report = probe.probe(search_path="/nowhere")
    assert report.tier == "B"
    assert report.observations["not_root"] == report.observations["machine_settings"] == ""


@needs_bubblewrap
@needs_namespaces
def test_without_user_namespaces_the_tier_is_b():
    report = report_as_ordinary_user(confined.NO_NAMESPACES)
    assert report["tier"] == "B"
    assert "sysctl user.max_user_namespaces" in " ".join(report["how_to_improve"])
    # Without namespaces there is no root of its own, either: files outside are refused, not absent.
    assert "names, sizes and times of files outside can be seen" in report["not_enforced"]


@needs_bubblewrap
def test_where_a_filter_refuses_namespaces_the_tier_is_b():
    report = report_as_ordinary_user(confined.DOCKER_LIKE_FILTER)
    assert report["tier"] == "B"
    assert "failed" in report["how_to_improve"][0]


def test_without_landlock_too_the_tier_is_c_and_little_is_claimed():
    report = report_as_ordinary_user(confined.NO_LANDLOCK, search_path="/nowhere")
    assert report["tier"] == "C"
    assert "files outside the workspace can be read" in report["not_enforced"]
    assert "Landlock" in " ".join(report["how_to_improve"])


@needs_bubblewrap
@needs_namespaces
def test_without_landlock_bubblewrap_alone_still_makes_tier_a():
    assert report_as_ordinary_user(confined.NO_LANDLOCK)["tier"] == "A"


def test_what_is_not_enforced_is_one_short_line_and_the_report_has_every_sentence():
    everything = [claim.not_enforced for claim in tier_claims.CLAIMS]
    for failed in ([], ["total_memory"], ["stat_outside", "total_memory"], ALL_TESTS):
        seen = {test: "it happened" if test in failed else "" for test in ALL_TESTS}
        report = probe._report("B", Layers(), seen, ())
        line = report.summary()
        assert line.startswith("sandbox tier B; not enforced: ")
        assert line.endswith("(details: loop-runner doctor)")
        assert len(line) < 210
        assert not any(sentence in line for sentence in everything)
        assert ("total memory" in line) == (failed != [] and failed != ALL_TESTS)
        assert ("more" in line) == (len(report.not_enforced) > 5)


def test_every_claim_has_its_gap_in_a_few_words():
    gaps = [claim.gap for claim in tier_claims.CLAIMS]
    assert all(0 < len(gap) <= 30 for gap in gaps)
    assert len(set(gaps)) == len(gaps)


def _report(tier):
    return probe.SandboxReport(tier, (), ("the network can be used",), ("Install it.",), Layers())


@pytest.mark.parametrize(
    ("given_", "required", "is_enough"),
    [
        ("A", "A", True),
        ("B", "A", False),
        ("C", "A", False),
        ("B", "B", True),
        ("A", "B", True),
        ("C", "B", False),
        ("C", "C", True),
        ("A", "C", True),
        ("A", None, True),
        ("B", None, True),
        ("C", None, False),
    ],
)
def test_less_than_the_required_tier_is_refused_with_exit_code_4(given_, required, is_enough):
    if is_enough:
        probe.require_tier(_report(given_), required)
        return
    with pytest.raises(EnvironmentFault) as raised:
        probe.require_tier(_report(given_), required)
    assert raised.value.exit_code == 4
    assert "Install it." in raised.value.hint
    assert "the network can be used" in raised.value.why
    assert ("kernel.require_tier: C" in raised.value.hint) == (required is None)


@given(st.dictionaries(st.sampled_from(ALL_TESTS), st.sampled_from(["", "it happened"])))
def test_the_report_never_claims_what_the_probe_did_not_see(seen):
    report = probe._report("B", Layers(), seen, ())
    for claim in tier_claims.CLAIMS:
        held = all(test in seen and not seen[test] for test in claim.tests)
        assert (claim.enforced in report.enforced) == held
        assert (claim.not_enforced in report.not_enforced) != held


@given(
    st.dictionaries(st.sampled_from([*ALL_TESTS, *tier_claims.WORKS]), st.sampled_from(["", "it happened"]))
)
def test_a_tier_is_given_only_when_all_that_it_needs_was_seen(seen):
    for tier in "ABC":
        needed = {test for claim in tier_claims.CLAIMS if tier in claim.needed_for for test in claim.tests}
        held = all(seen.get(test) == "" for test in {*needed, *tier_claims.WORKS})
        assert (probe._why_not(tier, seen) == "") == held


def test_a_layer_that_is_not_put_on_is_not_claimed():
    bare = probe._observe(Layers(uid=IS_ROOT), None)
    report = probe._report("C", Layers(), bare, ())
    assert "there is no network, this machine's own services included" not in report.enforced
    assert "memory of all processes of the kernel together is limited" not in report.enforced
    assert {"tcp", "syscalls", "background"} <= {test for test, shown in bare.items() if shown}


def test_every_test_of_a_claim_is_really_run():
    seen = probe._observe(TIERS["B"], None)
    assert set(ALL_TESTS) - {"total_memory"} <= set(seen)


def test_control_groups_limit_all_processes_together_or_are_reported_missing(tmp_path):
    report = probe.probe()
    sentence = "memory of all processes of the kernel together is limited"
    assert (sentence in report.enforced) == report.layers.cgroup
    if not report.layers.cgroup:
        pytest.skip("TOTAL MEMORY UNTESTED: no control group can be made here")
    code = (
        "import os, time\npids = []\nfor _ in range(4):\n  pid = os.fork()\n"
        "  if not pid: a = b'x' * (30 << 20); time.sleep(1); os._exit(0)\n  pids.append(pid)\n"
        "print(sorted(os.waitpid(pid, 0)[1] for pid in pids))"
    )
    ran = run(report.layers, tmp_path, code, limits=Limits(total_memory_bytes=70 << 20, processes=16))
    assert "9" in ran.out or ran.code != 0, ran


def test_groups_of_runners_that_were_killed_are_removed():
    group = cgroup.create(1 << 30, 10)
    if group is None:
        pytest.skip("CONTROL GROUPS UNTESTED: none can be made here")
    stale = group.folders[0].parent / "loop-runner-999999999-dead"
    stale.mkdir()
    another = cgroup.create(1 << 30, 10)
    assert another is not None
    assert not stale.exists()
    assert group.folders[0].exists()
    folders = [*group.folders, *another.folders]
    group.remove()
    another.remove()
    assert not any(folder.exists() for folder in folders)


# ── the quota ───────────────────────────────────────────────────────────────────────────────────────


def test_the_quota_counts_many_small_files(tmp_path):
    quota = Quota(tmp_path, max_files=10)
    for number in range(10):
        (tmp_path / str(number)).touch()
    assert quota.check() is None
    (tmp_path / "one more").touch()
    assert quota.check() == "the workspace holds more than 10 files"


def test_the_quota_counts_what_is_on_disk_and_not_behind_links(tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (tmp_path / "outside").write_bytes(bytes(5 << 20))
    (workspace / "link").symlink_to(tmp_path / "outside")
    with (workspace / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    quota = Quota(workspace, max_bytes=1 << 20)
    assert quota.check() is None
    (workspace / "full").write_bytes(os.urandom(2 << 20))
    assert quota.check() == "the workspace holds more than 1 MiB"


def test_the_quota_survives_deep_folders_and_strange_names(tmp_path):
    here = tmp_path
    for _ in range(40):
        here /= "n" * 90
        here.mkdir()
    (tmp_path / "new\nline").touch()
    assert Quota(tmp_path).usage().files == 41
