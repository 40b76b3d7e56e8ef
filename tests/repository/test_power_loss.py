"""A sample of `make power-loss`; the recording itself is checked against what is really on the disk."""

import random
import shutil
import subprocess
import sys

import pytest

from tests import power_loss
from tests.support.crash_states import Node, Recording, record, states

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]
STATES = 70


def on_disk(top):
    return {
        str(path.relative_to(top)): ("folder", b"") if path.is_dir() else ("file", path.read_bytes())
        for path in top.rglob("*")
    }


def test_nothing_acknowledged_is_missing_after_a_power_cut(tmp_path):
    try:
        recording, tree = power_loss.recorded(tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("strace may not trace here")
    everything = list(states(recording, [recording.moments], random.Random(1), 0))
    assert on_disk(tmp_path / "top") in [item.entries for item in everything], "the recording is true"
    assert len(recording.changes) > 400
    assert sum(line.startswith("paid") for _, line in recording.printed) == 24
    moments = random.Random(9).sample(recording.changes, STATES // 5)
    result = power_loss.try_all(recording, tree, moments, tmp_path, mixes=1, finish_each=9)
    print(result.tried)
    assert result.wrong == []
    assert result.tried.total() > STATES // 2
    assert result.finished > 3


CARELESS = """
import os, sys
top = sys.argv[1]
with open(top + "/new", "w") as file:
    file.write("safe?")
    {first}
os.rename(top + "/new", top + "/file")
{second}
print("done", flush=True)
"""
SYNC_FILE = "file.flush(); os.fsync(file.fileno())"
SYNC_FOLDER = "os.fsync(os.open(top, os.O_RDONLY))"


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (SYNC_FILE, SYNC_FOLDER, {b"safe?"}),
        ("pass", SYNC_FOLDER, {b"safe?", b"", bytes(5)}),  # the name is safe, the bytes are not
        (SYNC_FILE, "pass", {b"safe?", None}),  # the bytes are safe, the name is not
    ],
)
def test_a_writer_that_forgets_to_flush_is_found_out(tmp_path, first, second, left):
    top = tmp_path / "top"
    top.mkdir()
    script = tmp_path / "careless.py"
    script.write_text(CARELESS.format(first=first, second=second))
    try:
        recording = record([sys.executable, str(script), str(top)], top, tmp_path / "log", tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("strace may not trace here")
    (moment,) = [moment for moment, line in recording.printed if line == "done"]
    result = states(recording, [moment], random.Random(2), 20)
    assert {item.entries.get("file", ("", None))[1] for item in result} == left


def test_a_rename_is_kept_as_a_whole_or_not_at_all():
    node, root = Node("file", data=[(0, "write", 0, b"x")], syncs=[1]), Node("folder", syncs=[2])
    root.names = [(1, "old", node), (3, "new", node), (3, "old", None)]
    result = states(Recording(root, 4, [], [3]), [3], random.Random(3), 20)
    assert {tuple(sorted(item.entries)) for item in result} == {("new",), ("old",)}
