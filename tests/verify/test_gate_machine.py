"""A gate that fails because of the machine is broken, never rejected; what the machine allows works."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from loop_runner.errors import EnvironmentFault
from loop_runner.records import Accepted, Broken, Rejected
from loop_runner.sandbox import probe
from loop_runner.verify import fence
from loop_runner.verify.fence import GateSandbox
from tests.support import desktop
from tests.support.confined import BUBBLEWRAP, DOCKER_LIKE_FILTER, IS_ROOT, SOURCE
from tests.support.gates import made, submission

# What each program needs of the machine; each accepts if it is there.
CHECKS = {
    "a pool of processes": (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: assert pool.map(abs, [-1]) == [1]"
    ),
    "a lock between processes": "import multiprocessing; multiprocessing.get_context('fork').Lock()",
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "block = SharedMemory(create=True, size=9); block.close(); block.unlink()"
    ),
    "an executor": (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as pool: list(pool.map(abs, [1]))"
    ),
    "git": "import subprocess; subprocess.run(['git', 'init', '-q', '.'], cwd=TMP, check=True)",
    "git without its environment": (
        "import subprocess; subprocess.run(['git', 'init', '-q', '.'], cwd=TMP, check=True,"
        " env={'PATH': os.environ['PATH'], 'HOME': TMP})"
    ),
    "types of files": "import mimetypes; assert mimetypes.guess_type('a.html')[0]",
    "the name of the user": "import getpass; assert getpass.getuser()",
    "services": "import socket; assert socket.getservbyname('http') == 80",
}
NEEDS_SEMAPHORES = list(CHECKS)[:4]
PROGRAM = "import os\nTMP = os.environ['TMPDIR']\n{code}\nprint('fine')\n"


def judge(folder, code, *, files=None, **settings):
    """The verdict of the command `python3 check.py`, whose file has ``code``, in the gates' own sandbox."""
    folder.chmod(0o755)
    task = folder / "task"
    task.mkdir()
    (task / "check.py").write_text(PROGRAM.format(code=code))
    spec = {"command": {"run": ["/usr/bin/python3", "check.py"], **settings}}
    verifier = made(spec, task, fence=GateSandbox())
    return verifier.verify(submission(folder / "submission", "42", files=files))


@pytest.fixture(params=["A", "B with its own root", "B"])
def tier(request, monkeypatch, tmp_path_factory):
    """The gates' sandbox in one tier, whatever else this machine gives."""
    if not shutil.which("/usr/bin/python3"):
        pytest.skip("GATES UNTESTED: no Python of the system")
    if request.param == "A" and not BUBBLEWRAP:
        pytest.skip("TIER A UNTESTED: no bubblewrap")
    if request.param == "B with its own root" and not desktop.can_be_made():
        pytest.skip("OWN ROOT UNTESTED: this user may not make mounts")
    candidates = probe._candidates

    def chosen(bubblewrap, *, as_root):
        for layers in candidates(bubblewrap, as_root=as_root):
            if request.param == "A" or not (
                layers.bubblewrap or layers.own_root != (request.param != "B") or not layers.landlock
            ):
                yield layers

    monkeypatch.setattr(probe, "_candidates", chosen)
    monkeypatch.setenv("LOOP_RUNNER_CACHE", str(tmp_path_factory.mktemp("cache")))  # not to be found later
    probe._probe.cache_clear()
    yield request.param
    probe._probe.cache_clear()


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_gets_what_it_needs_or_is_broken_with_the_reason(check, tier, tmp_path):
    verdict = judge(tmp_path, CHECKS[check])
    if tier == "B" and check in NEEDS_SEMAPHORES:
        assert isinstance(verdict, Broken), verdict
        assert "POSIX semaphores cannot be made here" in verdict.reason
        assert "user namespaces" in verdict.reason
    else:
        assert isinstance(verdict, Accepted), verdict


def test_a_check_that_may_write_its_copy_works(tier, tmp_path):
    code = "open('workspace/new', 'w'); os.mkdir('workspace/sub/d'); open('answer.md', 'a').write('x')"
    verdict = judge(tmp_path, code, files={"sub/a": "1"}, writable=True)
    assert isinstance(verdict, Accepted), verdict


# Nothing of this may turn a rejection into "broken": the judged side wrote it, and the check did not.
JUDGED = {
    "a word of the answer's files": ("print(open('workspace/m.py').read())", "import multiprocessing"),
    "a lock that the model's code asks for": (
        "exec(open('workspace/m.py').read())",
        "import importlib; importlib.import_module('multi' 'processing').Lock()",
    ),
    "a forged message of the sandbox": (
        "exec(open('workspace/m.py').read())",
        "print('the kernel was not started, because a part of its sandbox failed: x')",
    ),
    "the exit code of a refused sandbox": ("exec(open('workspace/m.py').read())", "raise SystemExit(97)"),
    "writing to every open file": (
        "exec(open('workspace/m.py').read())",
        "import os\nfor n in range(3, 99):\n try: os.write(n, b'x')\n except OSError: pass",
    ),
    "closing every open file": (
        "exec(open('workspace/m.py').read())",
        "import os\nos.closerange(3, 99)",
    ),
}


@pytest.mark.parametrize("what", JUDGED)
def test_what_the_judged_side_writes_never_turns_a_rejection_into_broken(what, tier, tmp_path):
    code, written = JUDGED[what]
    verdict = judge(tmp_path, f"{code}\nraise SystemExit(1)", files={"m.py": written})
    assert isinstance(verdict, Rejected), verdict


def test_a_sandbox_that_cannot_be_built_is_broken(tier, tmp_path, monkeypatch):
    monkeypatch.setattr(fence, "_LIMITS", replace(fence._LIMITS, open_files=-5))
    verdict = judge(tmp_path, "pass")
    assert isinstance(verdict, Broken), verdict
    assert "the sandbox of the check could not be built" in verdict.reason


DOCKER = f"""
import sys
from pathlib import Path
{DOCKER_LIKE_FILTER}
from loop_runner.sandbox import probe as sandbox
from tests.verify.test_gate_machine import judge
report = sandbox.probe_anew()
verdict = judge(Path(sys.argv[1]), sys.argv[2], files={{"sub/a": "1"}}, writable=sys.argv[3] == "yes")
print(report.tier, report.layers.own_root, type(verdict).__name__, verdict)
"""


@pytest.mark.skipif(not IS_ROOT, reason="ROOT START UNTESTED: not run as root")
@pytest.mark.parametrize("writable", ["yes", "no"])
def test_a_root_user_that_may_not_mount_can_judge(writable):
    env = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE)}
    code = "open('answer.md', 'a').write('x')" if writable == "yes" else "pass"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # every user may enter it
        argv = [sys.executable, "-c", DOCKER, folder, code, writable]
        done = subprocess.run(argv, env=env, cwd=SOURCE, capture_output=True, text=True, check=False)
    if closed := _closed_to_others(Path(sys.executable).resolve()):
        assert f"ways: {closed} is open to root only, and this root may not make mounts" in done.stderr
        assert "Install Python and loop-runner in a folder that every user may enter" in done.stderr
    else:
        assert done.stdout.startswith("B False Accepted"), (done.stdout, done.stderr)


def _closed_to_others(path):
    """The folder above ``path`` that only root may enter; None: there is none."""
    return next((str(above) for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)


def test_a_machine_without_any_sandbox_is_a_fault_and_no_verdict(monkeypatch):
    monkeypatch.setattr(probe, "_candidates", lambda *_, **__: iter(()))
    with pytest.raises(EnvironmentFault):
        probe.probe_anew()
    probe._probe.cache_clear()
