"""The filter's program is read as the machine would read it; each step of ``confine`` is tried alone."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.sandbox.inside import seccomp
from tests.support import confined

ALLOW, KILL = "allow", "kill"
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = Path("/usr/include")


def decide(program, number, *arguments, arch):
    """What the filter answers: allow, kill, or the error number."""
    args = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *(0,) * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, arch, 0, *args)
    at = value = 0
    while True:
        code, if_true, if_false, k = struct.unpack("<HBBI", program[at])
        at += 1
        if code == 0x20:
            value = struct.unpack_from("<I", data, k)[0]
        elif code == 0x54:
            value &= k
        elif code == 0x06:
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(k, k & 0xFFFF)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
            at += if_true if holds else if_false


@pytest.fixture(params=sorted(ARCHES))
def machine(request):
    return request.param


def asker(machine, **options):
    """A function that puts a named system call to the machine's filter."""
    program = seccomp.program(machine, **options)
    column = list(ARCHES).index(machine)

    def ask(name, *arguments):
        number = seccomp.NUMBERS[name][column]
        return 1 if number is None else decide(program, number, *arguments, arch=ARCHES[machine])

    return ask


def test_another_set_of_numbers_is_killed(machine):
    program = seccomp.program(machine, shared=False)
    assert decide(program, 0, arch=0x40000003) == KILL
    assert decide(program, 0, arch=ARCHES["aarch64" if machine == "x86_64" else "x86_64"]) == KILL


def test_read_and_write_are_allowed(machine):
    for shared in (False, True):
        program = seccomp.program(machine, shared=shared, signals_of=5, guard_truncate=True)
        for number in (63, 64) if machine == "aarch64" else (0, 1):
            assert decide(program, number, arch=ARCHES[machine]) == ALLOW


def test_what_is_newer_than_the_list_does_not_exist(machine):
    program = seccomp.program(machine, shared=False)
    for number in (463, 500, 0x40000000, 0x40000065, 0xFFFFFFFF):
        assert decide(program, number, arch=ARCHES[machine]) == 38


def test_every_name_of_the_deny_list_is_refused(machine):
    ask = asker(machine, shared=False)
    assert {ask(name) for name in seccomp._DENIED} == {1}
    assert ask("clone3") == 38


@given(st.integers(0, 2**64 - 1))
def test_clone_is_refused_exactly_when_it_asks_for_a_namespace(flags):
    ask = asker("x86_64", shared=False)
    asks = any(flags & bit for bit in (0x20000, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30))
    assert ask("clone", flags) == (1 if asks else ALLOW)


@given(st.integers(0, 2**64 - 1))
def test_the_high_half_of_an_argument_hides_nothing(high):
    ask = asker("x86_64", shared=False)
    assert ask("ioctl", 0, (high << 32) | 0x5412) == 1
    assert ask("socket", (high << 32) | 2) == 1


def test_sockets_are_local_in_tier_a_and_none_in_tier_b(machine):
    alone, shared = asker(machine, shared=False), asker(machine, shared=True)
    assert [alone("socket", family) for family in (1, 2, 10, 16, 17, 40)] == [ALLOW, 1, 1, 1, 1, 1]
    assert [shared("socket", family) for family in (1, 2, 10, 16)] == [1, 1, 1, 1]
    assert [shared(name) for name in ("connect", "bind", "listen", "accept", "accept4")] == [1] * 5
    stream, datagram, close_on_exec = 1, 2, 0o2000000
    assert shared("socketpair", 1, stream | close_on_exec) == ALLOW
    assert (
        shared("socketpair", 1, datagram)
        == shared("socketpair", 30, stream)
        == alone("socketpair", 30, stream)
        == 1
    )


def test_modes_and_times_are_accepted_and_ignored_in_tier_b_only(machine):
    assert asker(machine, shared=True)("fchmodat") == 0
    assert asker(machine, shared=True)("utimensat") == 0
    assert asker(machine, shared=False)("fchmodat") == ALLOW


def test_others_are_not_touched_where_landlock_cannot_say_so(machine):
    ask = asker(machine, shared=True, signals_of=77)
    assert [ask("kill", pid, 9) for pid in (77, 0, 78, -1, 1)] == [ALLOW, ALLOW, 1, 1, 1]
    assert [ask("tgkill", pid, 77, 6) for pid in (77, 78)] == [ALLOW, 1]
    assert ask("fcntl", 3, 8, 78) == ask("fcntl", 3, 15) == 1
    assert ask("fcntl", 3, 8, 77) == ask("fcntl", 3, 8, -77) == ask("fcntl", 3, 4, 78) == ALLOW
    assert [ask("prlimit64", pid) for pid in (0, 78)] == [ALLOW, 1]
    assert asker(machine, shared=True)("kill", 78, 9) == ALLOW


def test_emptying_a_file_while_reading_is_refused_where_landlock_overlooks_it(machine):
    ask = asker(machine, shared=True, guard_truncate=True)
    write, truncate, create = 1, 0o1000, 0o100
    assert ask("openat", 0, 0, truncate) == ask("openat", 0, 0, truncate | create) == ask("truncate") == 1
    assert ask("openat", 0, 0, truncate | write) == ask("openat", 0, 0, 0) == ALLOW
    assert ask("openat2") == 38


def test_a_processor_without_a_table_is_named():
    with pytest.raises(seccomp.UnknownMachine, match="riscv64"):
        seccomp.program("riscv64", shared=False)


def test_the_numbers_are_those_of_the_machine():
    header = HEADERS / "x86_64-linux-gnu/asm/unistd_64.h"
    if not header.exists():
        pytest.skip("NUMBERS UNTESTED: the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    wrong = {
        name: x86
        for name, (x86, _) in seccomp.NUMBERS.items()
        if name in defined and int(defined[name]) != x86
    }
    assert wrong == {}
    assert len(set(seccomp.NUMBERS) & set(defined)) > 100


def test_the_numbers_are_those_of_arm():
    header = HEADERS / "asm-generic/unistd.h"
    if not header.exists():
        pytest.skip("NUMBERS UNTESTED: the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", header.read_text()))
    wrong = {
        name: arm
        for name, (_, arm) in seccomp.NUMBERS.items()
        if name in defined and int(defined[name]) != arm
    }
    assert wrong == {}
    assert len(set(seccomp.NUMBERS) & set(defined)) > 80


# ── step by step, in real processes ─────────────────────────────────────────────────────────────────

CHILD = """
import json, os, sys
from loop_runner.sandbox.inside import confine
plan, code, abi = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
if abi is not None:
    confine._landlock_abi = lambda libc: abi  # an older kernel, as far as confine knows
print(json.dumps(confine.apply(plan)), flush=True)
try:
    exec(code)
except Exception as error:
    print(type(error).__name__)
else:
    print("IT WORKED")
"""


def confine(plan, code="pass", abi=None):
    """What each step said, and how ``code`` ended after it."""
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(plan), code, json.dumps(abi)],
        env={"PYTHONPATH": str(confined.SOURCE), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        start_new_session=True,
    )
    lines = ran.stdout.splitlines()
    return json.loads(lines[0]) if lines else ran.stderr, lines[-1] if len(lines) > 1 else str(ran.returncode)


FILTER = {"privileges": True, "syscalls": {"shared": True}}
ALL_FILES = {"run": ["/"], "write": [], "read": [], "devices": []}


def test_nothing_asked_for_is_nothing_done():
    assert confine({}) == ({}, "IT WORKED")


def test_each_step_tells_that_it_was_done():
    plan = {**FILTER, "limits": {"CORE": 0}, "landlock": ALL_FILES}
    assert confine(plan)[0] == {"limits": "", "privileges": "", "landlock": "", "syscalls": ""}


def test_a_filter_without_the_promise_of_no_new_privileges_is_reported_as_missing():
    if confined.IS_ROOT:
        pytest.skip("UNTESTED as root, who may install a filter without that promise")
    assert "Permission denied" in confine({"syscalls": {"shared": False}})[0]["syscalls"]


def test_a_limit_that_does_not_exist_is_a_reason_and_not_a_crash():
    outcome, _ = confine({"limits": {"OPEN": 5}})
    assert outcome["limits"]


def test_without_landlock_the_step_says_so():
    outcome, end = confine({"landlock": ALL_FILES}, "open('/etc/passwd')", abi=0)
    assert outcome == {"landlock": "this kernel has no Landlock"}
    assert end == "IT WORKED"


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, None])
def test_every_version_of_landlock_keeps_files_from_being_written_or_emptied(abi, tmp_path):
    (tmp_path / "file").write_text("kept")
    for code in (
        f"open({str(tmp_path / 'file')!r}, 'w')",
        f"os.truncate({str(tmp_path / 'file')!r}, 0)",
        f"os.open({str(tmp_path / 'file')!r}, os.O_RDONLY | os.O_TRUNC)",
        f"os.unlink({str(tmp_path / 'file')!r})",
    ):
        outcome, end = confine({**FILTER, "landlock": ALL_FILES}, code, abi)
        assert set(outcome.values()) == {""}
        assert end == "PermissionError"
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("abi", [1, 5, None])
def test_with_every_version_of_landlock_others_cannot_be_signalled(abi):
    plan = {**FILTER, "landlock": ALL_FILES}
    for code in (f"os.kill({os.getpid()}, 0)", "os.kill(os.getppid(), 0)"):
        assert confine(plan, code, abi)[1] == "PermissionError"
    own_descriptor = f"import fcntl; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, {os.getpid()})"
    if abi is not None:
        assert confine(plan, own_descriptor, abi)[1] == "PermissionError"


@pytest.mark.parametrize("abi", [1, None])
def test_a_process_can_still_have_its_own_group_killed_through_a_descriptor(abi):
    """The kernel dies with its host that way, and sets it up after the sandbox is closed."""
    code = """if True:
        import fcntl, signal, time
        r, w = os.pipe()
        fcntl.fcntl(r, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(r, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        os.close(w)
        time.sleep(5)"""
    assert confine({**FILTER, "landlock": ALL_FILES}, code, abi)[1] == "-9"


def test_the_filter_holds_for_programs_that_are_started():
    inner = "import socket; socket.socket()"
    code = f"import subprocess; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    assert confine(FILTER, code)[1] == "CalledProcessError"


def test_the_user_id_is_really_given_up():
    if not confined.IS_ROOT:
        pytest.skip("ROOT START UNTESTED: these tests do not run as root")
    code = "assert {*os.getresuid()} == {*os.getresgid()} == {4321} and not os.getgroups(); os.setuid(0)"
    outcome, end = confine({"ids": {"uid": 4321, "gid": 4321}}, code)
    assert (outcome, end) == ({"ids": ""}, "PermissionError")
    caps = "assert [l.split()[1] for l in open('/proc/self/status') if l[:3] == 'Cap'] == ['0' * 16] * 5"
    assert confine({"ids": {"uid": 4321, "gid": 4321}}, caps)[1] == "IT WORKED"


def test_an_ordinary_user_cannot_become_another_and_is_told():
    if confined.IS_ROOT:
        pytest.skip("UNTESTED as root")
    assert "not permitted" in confine({"ids": {"uid": 4321, "gid": 4321}})[0]["ids"]
