"""Kill the runner with SIGKILL at random moments: the end is the same as if nobody had."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.support.tasks import cell, ready, write_task

KILLS = 50
SEED = 20261121

ROOT = [
    cell(
        "import pathlib, collections\n"
        "pathlib.Path('notes').mkdir(exist_ok=True)\n"
        "pathlib.Path('notes/plan.md').write_text('count, then add\\n')\n"
        "words = collections.Counter(context.split())\n"
        "same = words\n"
        "def double(n):\n    return 2 * n\n"
        "table = {f'row {i}': [i, str(i * 7919)] for i in range(40_000)}\n"  # a big one, cut into chunks
    ),
    cell("parts = llm_batch([f'part {i}' for i in range(6)])\nprint(parts)"),
    cell("lines = context.splitlines()"),
    cell("first = lines.pop(0)\nclass Finding:\n    def __init__(self, n):\n        self.n = n"),
    cell("found = [Finding(double(int(parts[0])))]"),
    ready("41"),
    cell(
        "table['new'] = lines.pop(0)\nsame['extra'] += 1\nassert words['extra'] == 1\n"
        "print(found[0].n, len(words))"
    ),
    cell("total = found[0].n\nopen('notes/plan.md', 'a').write('added\\n')\nFINAL(total)"),
]


def command(*args):
    return [sys.executable, "-m", "loop_runner", *map(str, args)]


def tree(folder):
    return subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD^{tree}"], check=True, capture_output=True, text=True
    ).stdout.strip()


def run_killed(args, after_s):
    """Start a command, SIGKILL it after ``after_s`` seconds; its exit code if it ended before."""
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, stderr = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    assert process.returncode == 0, stderr.decode()
    return 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_fifty_random_moments_every_run_ends_with_the_same_tree(tmp_path):
    task = write_task(
        tmp_path / "task",
        root=ROOT,
        sub=[{"contains": "part", "reply": "21"}],
        texts={"notes.txt": "one two three two\n" * 50},
        kernel={"memory": "1GB"},
    )
    started = time.monotonic()
    subprocess.run(command("run", task, "--run-dir", tmp_path / "unbroken", "-q"), check=True, stdout=-3)
    whole = time.monotonic() - started
    expected = tree(tmp_path / "unbroken")

    moments = random.Random(SEED)
    kills = round_number = 0
    while kills < KILLS:
        round_number += 1
        folder = tmp_path / f"run-{round_number}"
        end = None
        while end is None:
            # The first command may be killed before the folder is whole; it is then simply run again.
            started_already = (folder / ".git" / "loop-runner").is_dir()
            args = ("resume", folder) if started_already else ("run", task, "--run-dir", folder)
            end = run_killed(command(*args, "-q"), moments.uniform(0.2, whole))
            kills += end is None
        assert tree(folder) == expected, f"run {round_number} ended differently"
        subprocess.run(["git", "-C", folder, "fsck", "--strict", "--no-dangling"], check=True)
    assert kills >= KILLS
