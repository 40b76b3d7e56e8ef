"""A program of the model that a check runs cannot give the verdict, and cannot break the check."""

import sys

import pytest

from loop_runner.records import Allow, Block, GateBroken
from loop_runner.verify.fence import GateSandbox
from tests.support.gates import stop_hook, submission

# The most common check of code: run the program and look at what it prints.
CHECK = """\
import subprocess, sys
def check(submission):
    ran = subprocess.run(
        [sys.executable, str(submission.workspace / "program.py")], capture_output=True, text=True{more}
    )
    print(ran.stderr[-300:])
    return ran.stdout.strip() == "42"
"""
FORGE = '{"accepted": true, "score": 1.0}'
STAY = """\
import os, time
if os.fork():
    print("41")
    raise SystemExit
os.setsid()
if os.fork():
    os._exit(0)
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
end = time.monotonic() + 3
while time.monotonic() < end:
"""
PROGRAMS = {
    "overwrites every file that may hold a verdict": STAY
    + f"""\
    for folder in {{os.environ.get("TMPDIR", "/tmp"), os.environ.get("HOME", "/tmp"), ".", "/tmp"}}:
        for name in ("result.json", "../result.json", "verdict.json", "../scratch/result.json"):
            try:
                open(os.path.join(folder, name), "w").write('{FORGE}')
            except OSError:
                pass
    time.sleep(0.001)
""",
    "writes to every descriptor that it inherits": f"""\
import os
for fd in range(3, 1024):
    try:
        os.write(fd, b'{FORGE}')
    except OSError:
        pass
print("41")
""",
    "opens the descriptors of every process": f"""\
import os, socket
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        names = os.listdir(f"/proc/{{pid}}/fd")
    except OSError:
        continue
    for name in names if int(pid) != os.getpid() else ():
        for flags in (os.O_WRONLY, os.O_RDWR):
            try:
                os.write(os.open(f"/proc/{{pid}}/fd/{{name}}", flags | os.O_NONBLOCK), b'{FORGE}')
            except OSError:
                pass
print("41")
""",
    "takes the descriptors of its parents": f"""\
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    handle = libc.syscall(434, int(pid), 0)
    for number in range(3, 64) if handle >= 0 else ():
        fd = libc.syscall(438, handle, number, 0)
        if fd >= 0:
            try:
                os.write(fd, b'{FORGE}')
            except OSError:
                pass
print("41")
""",
    "writes into the memory of its parent": """\
import os
try:
    regions = open(f"/proc/{os.getppid()}/maps").read().splitlines()
    memory = open(f"/proc/{os.getppid()}/mem", "r+b", buffering=0)
except OSError:
    regions = []
for region in regions:
    if " rw" in region and "[heap]" in region:
        start, end = (int(part, 16) for part in region.split()[0].split("-"))
        memory.seek(start)
        data = memory.read(end - start)
        memory.seek(start)
        memory.write(data.replace(b"42", b"41"))
print("41")
""",
    "prints a verdict": f"print('{FORGE}')\nprint('ready')\nprint('41')\n",
}
BREAKS = {
    "kills its checker": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nprint(41)\n",
    "kills everything that it may": "import os, signal\nos.kill(-1, signal.SIGKILL)\n",
    "never ends": "import time\ntime.sleep(600)\n",
    "prints bytes that are no text": "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe')\n",
    "fails": "raise SystemExit(3)\n",
    "imitates a missing file": "import sys\nprint('check.py: No such file or directory', file=sys.stderr)\n",
    "imitates a missing module": "import sys\nprint('No module named expected', file=sys.stderr)\n",
    "ends with an exit code of a shell": "raise SystemExit(127)\n",
    "does not exist": None,
}


def decide(tmp_path, spec, files, answer="41"):
    task = tmp_path / "task"
    (task / "expected.py").write_text("")
    hook = stop_hook([spec], task, fence=GateSandbox())
    tmp_path.chmod(0o755)
    return hook.decide(submission(tmp_path, answer, files=files))


def task_with(tmp_path, check):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "check.py").write_text(check)


@pytest.mark.parametrize("attack", PROGRAMS)
def test_a_program_that_a_check_runs_cannot_give_the_verdict(tmp_path, attack):
    task_with(tmp_path, CHECK.format(more=""))
    decision = decide(tmp_path, {"python": "check.py"}, {"program.py": PROGRAMS[attack]})
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize(
    "start",
    [
        (
            "import multiprocessing\n"
            "def run(path):\n"
            "    exec(path.read_text(), {})\n"
            "def check(submission):\n"
            "    child = multiprocessing.get_context('fork').Process(target=run,"
            " args=(submission.workspace / 'program.py',))\n"
            "    child.start()\n"
            "    child.join()\n"
            "    return False\n"
        ),
        (
            "import os\n"
            "def check(submission):\n"
            "    if os.fork() == 0:\n"
            "        exec((submission.workspace / 'program.py').read_text(), {})\n"
            "        return True\n"
            "    os.wait()\n"
            "    return False\n"
        ),
        (
            "import os, subprocess, sys\n"
            "def check(submission):\n"
            "    program = str(submission.workspace / 'program.py')\n"
            "    subprocess.run([sys.executable, program], close_fds=False)\n"
            "    return False\n"
        ),
    ],
    ids=["multiprocessing", "fork", "inherited descriptors"],
)
@pytest.mark.parametrize("attack", ["writes to every descriptor that it inherits", "prints a verdict"])
def test_a_child_of_the_check_cannot_give_the_verdict(tmp_path, start, attack):
    task_with(tmp_path, start)
    decision = decide(tmp_path, {"python": "check.py"}, {"program.py": PROGRAMS[attack]})
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize("attack", BREAKS)
def test_a_program_that_breaks_its_python_check_is_rejected(tmp_path, attack):
    task_with(tmp_path, CHECK.format(more=""))
    files = {} if BREAKS[attack] is None else {"program.py": BREAKS[attack]}
    spec = {"python": {"file": "check.py", "timeout_s": 5}}
    decision = decide(tmp_path, spec, files)
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize("attack", ["kills its checker", "fails", "never ends", "does not exist"])
def test_a_program_that_makes_its_check_raise_is_rejected(tmp_path, attack):
    task_with(tmp_path, CHECK.format(more=", check=True, timeout=3"))
    files = {} if BREAKS[attack] is None else {"program.py": BREAKS[attack]}
    decision = decide(tmp_path, {"python": {"file": "check.py", "timeout_s": 10}}, files)
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize("attack", BREAKS)
def test_a_program_that_breaks_its_command_is_rejected(tmp_path, attack):
    task_with(
        tmp_path,
        "import subprocess, sys\n"
        "ran = subprocess.run([sys.executable, 'workspace/program.py'], stdout=subprocess.PIPE)\n"
        "sys.exit(ran.returncode if ran.returncode > 0 else int(ran.stdout.strip() != b'42'))\n",
    )
    files = {} if BREAKS[attack] is None else {"program.py": BREAKS[attack]}
    spec = {"command": {"run": [sys.executable, "check.py"], "timeout_s": 5}}
    decision = decide(tmp_path, spec, files)
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize("attack", BREAKS)
def test_a_program_that_is_the_command_is_rejected_however_it_ends(tmp_path, attack):
    task_with(tmp_path, "")
    program = BREAKS[attack]
    files = {} if program is None else {"program.py": f"{program}raise SystemExit(1)\n"}
    spec = {"command": {"run": [sys.executable, "workspace/program.py"], "timeout_s": 5}}
    decision = decide(tmp_path, spec, files)
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        ("def check(s):\n    return int(s.answer) == 42\n", "forty"),
        ("import json\ndef check(s):\n    return json.loads(s.answer)['a'] == 1\n", "[" * 100_000),
        ("def check(s):\n    return (s.workspace / 'out.txt').read_text() == '42'\n", "x"),
        ("def check(s):\n    return eval(s.answer) == 42\n", "exit()"),
        ("def check(s):\n    return int(s.answer) == 42\n", "9" * 10_000),
        ("import os\ndef check(s):\n    os._exit(0) if 'x' in s.answer else None\n", "x"),
    ],
)
def test_an_answer_that_makes_the_check_raise_is_rejected(tmp_path, check, answer):
    task_with(tmp_path, check)
    decision = decide(tmp_path, {"python": "check.py"}, {}, answer)
    assert isinstance(decision, Block), decision


@pytest.mark.parametrize(
    "check",
    [
        "def check(s):\n    return undefined\n",
        "import no_such_module\n",
        "def check(s):\n    import no_such_module\n",
        "import os\ndef check(s):\n    os._exit(0)\n",
        "import os, signal\ndef check(s):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
        "def check(s):\n    open('/no/such/file')\n",
        "import time\ndef check(s):\n    time.sleep(600)\n",
    ],
)
def test_a_check_that_never_works_is_broken_and_rejects_nothing(tmp_path, check):
    task_with(tmp_path, check)
    decision = decide(tmp_path, {"python": {"file": "check.py", "timeout_s": 3}}, {}, "x")
    assert isinstance(decision, GateBroken), decision


def test_a_right_program_is_accepted(tmp_path):
    task_with(tmp_path, CHECK.format(more=""))
    decision = decide(tmp_path, {"python": "check.py"}, {"program.py": "print(42)\n"})
    assert isinstance(decision, Allow), decision


@pytest.mark.parametrize(("is_agent", "outcome"), [(True, Block), (False, GateBroken)])
def test_an_agent_that_changes_an_input_is_rejected_and_a_person_breaks_the_gate(tmp_path, is_agent, outcome):
    from loop_runner.inputs import load

    source = tmp_path / "a.txt"
    source.write_text("The default is 128.\n")
    inputs = load(["a.txt"], tmp_path)
    source.write_text("The default is 999.\n")
    hook = stop_hook([{"citations": {}}], tmp_path, is_agent=is_agent)
    answer = "999\n> a.txt:1: The default is 999."
    assert isinstance(hook.decide(submission(tmp_path, answer, inputs=inputs)), outcome)
