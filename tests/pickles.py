"""Kill and restore runs beside several versions of cloudpickle, and with none: no version may change a run.

    python -m tests.pickles                # every version: twelve minutes and more
    python -m tests.pickles --only newest  # one of them

Snapshots were once written by cloudpickle, and a release of it broke them. Each version is installed into a
temporary folder that comes first on the path. Prints one line per version; ends with 1 if any of them failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = {
    "lowest": "cloudpickle==3.1.0",
    "last before <dynamic-code>": "cloudpickle==3.1.2",
    "newest": "cloudpickle",
    "none": "",
}
TESTS = (
    "tests/loop/test_crash.py",
    "tests/crash/test_walk.py",
    "tests/crash/test_sweep.py",
    "tests/kernel/test_versions.py",
)
SAMPLES = {"CRASH_SAMPLE": "60", "CRASH_SWEEP_SAMPLE": "60"}
_ABSENT = "raise ImportError('cloudpickle is hidden by tests.pickles')\n"


def main() -> int:
    """Run the tests beside every version; 1 if any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=VERSIONS)
    parser.add_argument("tests", nargs="*", default=TESTS, help="what pytest is given")
    given = parser.parse_args()
    names = [given.only] if given.only else list(VERSIONS)
    return max([_run(name, VERSIONS[name], given.tests) for name in names])


def _run(name: str, requirement: str, tests: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        version = _install(requirement, Path(folder))
        path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH", ""))))
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *tests]
        ended = subprocess.run(command, env={**SAMPLES, **os.environ, "PYTHONPATH": path}, check=False)
    outcome = "passed" if ended.returncode == 0 else f"FAILED (pytest ended with {ended.returncode})"
    print(f"cloudpickle {version} ({name}): {outcome}", flush=True)
    return int(ended.returncode != 0)


def _install(requirement: str, folder: Path) -> str:
    """Put that version into ``folder``, or what hides any other; the version."""
    if not requirement:
        (folder / "cloudpickle.py").write_text(_ABSENT, encoding="utf-8")
        return "absent"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), requirement], check=True)
    return next(folder.glob("cloudpickle-*.dist-info")).name.split("-")[1].removesuffix(".dist")


if __name__ == "__main__":
    sys.exit(main())
