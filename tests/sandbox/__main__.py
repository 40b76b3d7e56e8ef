"""Try every way out as the user who runs this and, when that is root, as an ordinary user too."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.confined import IS_ROOT, ORDINARY_UID, SOURCE, ordinary_python

_TESTS = ["-m", "pytest", str(SOURCE / "tests" / "sandbox"), "--ways-out", "-p", "no:cacheprovider"]


def main() -> int:
    """The worse exit code of both."""
    print(f"── as {'root' if IS_ROOT else 'an ordinary user'} ──", flush=True)
    first = subprocess.run([sys.executable, *_TESTS], cwd=SOURCE, check=False).returncode
    return max(first, _as_an_ordinary_user()) if IS_ROOT else first


def _as_an_ordinary_user() -> int:
    print("── as an ordinary user ──", flush=True)
    spec = importlib.util.find_spec("pytest")
    assert spec is not None
    assert spec.origin is not None
    with tempfile.TemporaryDirectory(prefix="loop-runner-ordinary-") as home:
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
            print("ORDINARY USER UNTESTED: no interpreter, or the source, is open to other users than root")
            return 0
        argv = [python, *_TESTS, f"--basetemp={home}/pytest"]
        return subprocess.run(argv, cwd="/", env=env, check=False, **who).returncode


if __name__ == "__main__":
    sys.exit(main())
