"""The folders that stand for the settings of run folders."""

import os
import subprocess
import sys
from pathlib import Path

from loop_runner.workspace.git.settings import common_dir


def _open_files():
    return len(os.listdir("/proc/self/fd"))


def test_many_run_folders_cost_no_open_file_each(tmp_path):
    common_dir(tmp_path / "first")
    before = _open_files()
    folders = {common_dir(tmp_path / str(number)) for number in range(50)}
    assert len(folders) == 50
    assert _open_files() == before


def test_a_run_folder_keeps_its_folder_of_settings(tmp_path):
    assert common_dir(tmp_path) == common_dir(tmp_path)


def test_a_folder_of_settings_that_was_removed_is_made_anew(tmp_path):
    made = common_dir(tmp_path)
    for name in os.listdir(made):
        (made / name).unlink()
    made.rmdir()
    assert (common_dir(tmp_path) / "config").is_file()


def test_a_room_that_was_removed_is_made_anew(tmp_path):
    made = common_dir(tmp_path)
    moved = made.parent.rename(tmp_path / "moved")
    try:
        assert (common_dir(tmp_path) / "config").is_file()
    finally:
        moved.rename(made.parent)


def test_a_folder_of_settings_goes_with_the_process(tmp_path):
    code = "import sys; from pathlib import Path; from loop_runner.workspace.git.settings import common_dir"
    code += "; made = common_dir(Path(sys.argv[1])); assert made.is_dir(); print(made)"
    argv = [sys.executable, "-c", code, str(tmp_path)]
    made = Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())
    assert made.name
    assert not made.parent.exists()
