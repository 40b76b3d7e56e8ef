"""SIGKILL at system calls of the runner and of its gits: a sample of what ``make test-crash-full`` takes."""

import os
import shutil
import subprocess

import pytest

from tests.crash.sweep import RUNNER, sweep, table

SAMPLE = int(os.environ.get("CRASH_SWEEP_SAMPLE", "120"))


@pytest.mark.timeout(900)
def test_killed_at_any_system_call_a_run_ends_as_if_it_had_not_been(tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("SYSTEM CALLS UNTESTED: no strace (Debian and Ubuntu: apt-get install strace)")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"SYSTEM CALLS UNTESTED: strace does not work here: {tried.stderr.strip()}")
    count, results = sweep(tmp_path, SAMPLE)
    output = "\n".join(table(results))
    assert count >= 2000, "fewer points than the sweep is worth"
    assert not any(result.problems for result in results), output
    assert {result.point.process == RUNNER for result in results} == {True, False}
    # Not all are: gits of the background are numbered as they happen to start.
    assert sum(result.was_reached for result in results) > 0.5 * len(results), output
