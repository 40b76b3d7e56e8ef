"""Programs are pinned by hash and by bytes; later changes are noticed, and nothing leads out of the run."""

import json

import pytest

from loop_runner.errors import VerifierError
from loop_runner.records import Accepted, Broken
from loop_runner.verify import Gates, Programs
from loop_runner.verify.programs import INDEX
from tests.support.gates import made, submission


@pytest.fixture
def task_dir(tmp_path):
    folder = tmp_path / "task"
    (folder / "tests/data").mkdir(parents=True)
    (folder / "check.py").write_text("import helper\n")
    (folder / "helper.py").write_text("print('fine')\n")
    (folder / "secret.env").write_text("KEY=1\n")
    (folder / ".hidden.py").write_text("")
    (folder / "tests/test_a.py").write_text("")
    (folder / "tests/data/a.json").write_text("{}")
    return folder


def pinned(specs, task_dir, known=None):
    return Gates.of(specs, task_dir, known=known).checked().programs


def places(spec, task_dir):
    return sorted(file.place for file in pinned([spec], task_dir).files.values())


def test_a_script_is_pinned_with_the_code_beside_it_and_nothing_else(task_dir):
    assert places({"command": ["python3", "check.py"]}, task_dir) == ["task/check.py", "task/helper.py"]
    assert places({"python": "check.py"}, task_dir) == ["task/check.py", "task/helper.py"]


def test_a_folder_is_pinned_whole(task_dir):
    spec = {"command": ["python3", "-m", "pytest", "tests"]}
    assert places(spec, task_dir) == ["task/tests/data/a.json", "task/tests/test_a.py"]


def test_pin_names_more(task_dir):
    spec = {"command": {"run": ["make", "check"], "pin": ["tests/**/*.json", "check.py"]}}
    assert places(spec, task_dir) == ["task/check.py", "task/helper.py", "task/tests/data/a.json"]


def test_programs_elsewhere_are_pinned_and_the_systems_are_not(task_dir, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/check.py").write_text("raise SystemExit(0)\n")
    spec = {"command": ["/bin/sh", str(tmp_path / "shared/check.py")]}
    (place,) = places(spec, task_dir)
    assert place.startswith("outside/")
    assert place.endswith("/check.py")


def test_a_script_elsewhere_runs_from_its_pinned_bytes(task_dir, tmp_path):
    (tmp_path / "check.py").write_text("print('from outside')\n")
    verifier = made({"command": ["python3", "../check.py"]}, task_dir)
    assert verifier.verify(submission(tmp_path, "42")) == Accepted("from outside")


@pytest.mark.parametrize("name", ["check.py", "helper.py"])
def test_a_change_breaks_the_gate_with_a_clear_line(task_dir, tmp_path, name):
    verifier = made({"command": ["python3", "check.py"]}, task_dir)
    assert isinstance(verifier.verify(submission(tmp_path, "42")), Accepted)
    (task_dir / name).write_text("raise SystemExit(0)\n")
    assert verifier.verify(submission(tmp_path, "42")) == Broken(
        f"{name} has changed since the run began; put the old bytes back, or take the new ones with "
        "`loop-runner resume RUN --repin`"
    )


def test_files_that_are_gone_are_taken_from_the_run(task_dir, tmp_path):
    verifier = made({"command": ["python3", "check.py"]}, task_dir)
    (task_dir / "check.py").unlink()
    (task_dir / "helper.py").unlink()
    assert verifier.verify(submission(tmp_path, "42")) == Accepted("fine")


def test_pins_come_back_from_the_run_folder_as_they_were(task_dir):
    programs = pinned([{"command": ["python3", "check.py"]}], task_dir)
    assert Programs.from_files(programs.to_files().get) == programs
    assert Programs.from_files(dict[str, bytes]().get).files == {}


def test_what_was_missing_is_pinned_when_it_is_there_and_what_was_pinned_stays(task_dir):
    spec = [{"command": ["./late.sh"]}, {"command": ["python3", "check.py"]}]
    first = pinned(spec, task_dir)
    (task_dir / "late.sh").write_text("#!/bin/sh\n")
    (task_dir / "check.py").write_text("print('changed')\n")
    second = pinned(spec, task_dir, first)
    assert {file.place for file in second.files.values()} - {file.place for file in first.files.values()} == {
        "task/late.sh"
    }
    assert second.files[str(task_dir / "check.py")] == first.files[str(task_dir / "check.py")]


@pytest.mark.parametrize("place", ["../up", "task/../../up", "/etc/passwd", "other/x", "task//x"])
def test_an_index_that_leads_out_of_its_folder_is_refused(place):
    entry = {"source": "/x", "place": place, "sha256": "", "size": 0, "is_executable": False}
    index = json.dumps({"programs": [{**entry, "is_stored": False}]}).encode()
    with pytest.raises(ValueError, match="names"):
        Programs.from_files({INDEX: index}.get)


def test_bytes_that_are_not_what_the_index_says_are_refused(task_dir):
    files = pinned([{"python": "check.py"}], task_dir).to_files()
    with pytest.raises(ValueError, match="is not what"):
        Programs.from_files({**files, "gates/files/task/check.py": b"forged"}.get)


def test_too_many_files_are_refused(task_dir):
    for number in range(2001):
        (task_dir / f"tests/{number}").write_text("")
    with pytest.raises(VerifierError, match="more than 2000 files"):
        pinned([{"command": ["pytest", "tests"]}], task_dir)


@pytest.mark.parametrize("name", ["data.json", "lib/inner.txt", "lib", "büro.txt"])
def test_what_was_in_the_folder_when_the_run_began_is_known_after_a_restart(task_dir, name):
    (task_dir / "lib").mkdir(exist_ok=True)
    (task_dir / "lib/inner.txt").write_text("")
    for item in ("data.json", "büro.txt"):
        (task_dir / item).write_text("")
    begun = pinned([], task_dir)
    (task_dir / "later.json").write_text("")
    again = pinned([], task_dir, Programs.from_files(begun.to_files().get))
    assert again.was_there(task_dir / name, task_dir)
    assert not again.was_there(task_dir / "later.json", task_dir)
    assert name.encode() not in begun.to_files()["gates/pins.json"], "names are kept as hashes"


def test_a_file_that_became_a_folder_was_not_there(task_dir):
    (task_dir / "data.json").write_text("")
    begun = pinned([], task_dir)
    (task_dir / "data.json").unlink()
    (task_dir / "data.json").mkdir()
    assert not begun.was_there(task_dir / "data.json", task_dir)
