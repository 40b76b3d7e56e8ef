"""Try every way out as the user who runs this and, when that is root, as an ordinary user too."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from tests.support.confined import IS_ROOT, ORDINARY_UID, SOURCE, ordinary_python

_TESTS = ["-m", "pytest", str(SOURCE / "tests" / "sandbox"), "--ways-out", "-p", "no:cacheprovider"]


def main() -> int:
    """The worse exit code of both, which run side by side."""
    if not IS_ROOT:
        print("── as an ordinary user ──", flush=True)
        return subprocess.run([sys.executable, *_TESTS], cwd=SOURCE, check=False).returncode
    with (
        tempfile.TemporaryDirectory(prefix="loop-runner-ordinary-") as home,
        tempfile.TemporaryFile() as said,
    ):
        other = _as_an_ordinary_user(home, said)
        print("── as root ──", flush=True)
        first = subprocess.run([sys.executable, *_TESTS], cwd=SOURCE, check=False).returncode
        print("── as an ordinary user ──", flush=True)
        if other is None:
            print("ORDINARY USER UNTESTED: no interpreter, or the source, is open to other users than root")
            return first
        second = other.wait()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        return max(first, second)


def _as_an_ordinary_user(home: str, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
    """The same tests, started as somebody who owns nothing; None where nobody can."""
    spec = importlib.util.find_spec("pytest")
    assert spec is not None
    assert spec.origin is not None
    Path(home).chmod(0o777)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "PYTHONPATH": f"{SOURCE}:{Path(spec.origin).parents[1]}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    who: dict[str, Any] = {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
    python = ordinary_python()
    if (
        python is None
        or subprocess.run([python, "-c", "import pytest, tests"], env=env, check=False, **who).returncode
    ):
        return None
    argv = [python, *_TESTS, f"--basetemp={home}/pytest"]
    return subprocess.Popen(argv, cwd="/", env=env, stdout=output, stderr=subprocess.STDOUT, **who)


if __name__ == "__main__":
    sys.exit(main())
