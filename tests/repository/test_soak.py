"""A sample of ``make soak``, in a process of its own: what other tests leave behind is not measured."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_three_hundred_turns_with_restarts_at_random_leave_nothing_behind():
    command = [sys.executable, "-m", "tests.soak", "--turns", "300", "--seed", "11"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
