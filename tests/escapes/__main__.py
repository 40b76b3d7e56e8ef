"""Try every way out as the user who runs this and, when that is root, as an ordinary user too."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tests.support.confined import IS_ROOT, SOURCE
from tests.support.machines import ordinary_user, ordinary_user_env, python_for_ordinary_user

_TESTS = ["-m", "pytest", str(SOURCE / "tests" / "escapes"), "--ways-out", "-p", "no:cacheprovider"]


def main() -> int:
    """The worse exit code of both, which run side by side."""
    if not IS_ROOT:
        print("── as an ordinary user ──", flush=True)
        return subprocess.run([sys.executable, *_TESTS], cwd=SOURCE, check=False).returncode
    with (
        tempfile.TemporaryDirectory(prefix="loop-runner-ordinary-") as home,
        tempfile.TemporaryFile() as output,
    ):
        other = _as_an_ordinary_user(home, output)
        print("── as root ──", flush=True)
        first = subprocess.run([sys.executable, *_TESTS], cwd=SOURCE, check=False).returncode
        print("── as an ordinary user ──", flush=True)
        if other is None:
            print("ORDINARY USER UNTESTED: no interpreter, or the source, is open to other users than root")
            return first
        second = other.wait()
        output.seek(0)
        sys.stdout.buffer.write(output.read())
        return max(first, second)


def _as_an_ordinary_user(home: str, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
    """The same tests, started as a user who owns nothing; None if no interpreter can be."""
    python = python_for_ordinary_user(Path(home))
    if python is None:
        return None
    argv = [python, *_TESTS, f"--basetemp={home}/pytest"]
    env = ordinary_user_env(Path(home))
    return subprocess.Popen(
        argv, cwd="/", env=env, stdout=output, stderr=subprocess.STDOUT, **ordinary_user()
    )


if __name__ == "__main__":
    sys.exit(main())
