"""What the probe found is remembered, and a memory that is wrong never makes a weaker sandbox."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loop_runner.errors import EnvironmentFault
from loop_runner.inputs import Converter, load
from loop_runner.kernel.kernel import Kernel
from loop_runner.records import Answer, Inputs, Snapshot
from loop_runner.sandbox import probe, remembered
from loop_runner.sandbox.wrap import Layers
from loop_runner.task.kernel_settings import KernelSettings
from tests.support.confined import IS_ROOT
from tests.verify.test_gate_machine import judge

NOWHERE = "/nowhere"


class Machine:
    """The probe with a cache of its own; counts what is tried."""

    def __init__(self, cache: Path, monkeypatch) -> None:
        self.tried = 0
        self.folder = cache / "sandbox"
        observe = probe._observe

        def counted(*args, **keys):
            self.tried += 1
            return observe(*args, **keys)

        monkeypatch.setattr(probe, "_observe", counted)

    def next_process(self) -> None:
        """Forget what this process knows, as a new one would."""
        probe._probe.cache_clear()
        probe._taken_as_remembered.clear()
        self.tried = 0

    def entry(self) -> Path:
        (path,) = self.folder.iterdir()
        return path

    def change(self, **result) -> None:
        """Write other findings into the only entry."""
        entry = json.loads(self.entry().read_text())
        entry["found"] |= result
        self.entry().write_text(json.dumps(entry))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOP_RUNNER_CACHE", str(tmp_path / "cache"))
    probe._probe.cache_clear()
    probe._taken_as_remembered.clear()
    yield Machine(tmp_path / "cache", monkeypatch)
    probe._probe.cache_clear()
    probe._taken_as_remembered.clear()


@pytest.mark.parametrize("places", [None, NOWHERE], ids=["this machine", "no bubblewrap"])
def test_the_next_process_tries_nothing_and_reports_the_same(machine, places):
    first = probe.probe(None, places)
    assert machine.tried
    machine.next_process()
    assert probe.probe(None, places) == first
    assert machine.tried == 0


def test_tiers_with_and_without_bubblewrap_are_remembered_apart(machine, tmp_path):
    bwrap = tmp_path / "bin" / "bwrap"
    bwrap.parent.mkdir()
    bwrap.write_text("#!/bin/sh\nexit 1\n")
    bwrap.chmod(0o755)
    probe.probe(None, NOWHERE)
    machine.next_process()
    report = probe.probe(None, str(bwrap.parent))
    assert machine.tried
    assert report.tier == "B"


def test_doctor_tries_everything_anew_and_replaces_what_was_remembered(machine):
    from loop_runner.cli import doctor

    first = probe.probe()
    machine.change(advice=["a text from the file"])
    machine.next_process()
    assert probe.probe().how_to_improve == ("a text from the file",)
    assert first.tier in doctor._sandbox().state
    assert machine.tried
    machine.next_process()
    assert probe.probe() == first


def test_tier_c_is_not_remembered(machine, monkeypatch):
    monkeypatch.setattr(probe, "_candidates", lambda *_, **__: iter([Layers(uid=IS_ROOT)]))
    assert probe.probe().tier == "C"
    assert not machine.folder.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_no_memory_is_kept_in_a_folder_that_others_may_write(machine, mode):
    machine.folder.mkdir(parents=True)
    machine.folder.chmod(mode)
    probe.probe()
    assert list(machine.folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(machine):
    machine.folder.parent.mkdir(parents=True)
    machine.folder.write_text("a file")
    assert probe.probe().tier in "AB"


# ── entries that must not be believed ───────────────────────────────────────────────────────────────


def _with_layers(**layers):
    def change(machine):
        result = json.loads(machine.entry().read_text())["found"]
        machine.change(layers=result["layers"] | layers)

    return change


def _failing(test):
    def change(machine):
        result = json.loads(machine.entry().read_text())["found"]
        machine.change(seen=result["seen"] | {test: "it happened"})

    return change


def _untested(test):
    def change(machine):
        result = json.loads(machine.entry().read_text())["found"]
        machine.change(seen={name: text for name, text in result["seen"].items() if name != test})

    return change


def _whole(**changes):
    def change(machine):
        machine.entry().write_text(json.dumps(json.loads(machine.entry().read_text()) | changes))

    return change


def _link(machine):
    target = machine.folder.parent / "elsewhere"
    machine.entry().rename(target)
    (machine.folder / remembered.circumstances([None, None])).unlink(missing_ok=True)
    (machine.folder / json.loads(target.read_text())["circumstances"]).symlink_to(target)


def _pipe(machine):
    name = machine.entry()
    name.unlink()
    os.mkfifo(name)


UNBELIEVABLE = {
    "no filter of system calls": _with_layers(syscalls=False),
    "neither landlock nor filter": _with_layers(landlock=False, syscalls=False, own_root=False),
    "another user or none": _with_layers(uid=not IS_ROOT),
    "a layer that is no truth value": _with_layers(landlock="yes"),
    "a control group that was not seen to work": lambda machine: (
        _with_layers(cgroup=True)(machine),
        _failing("total_memory")(machine),
    ),
    "an unknown layer is missing": lambda machine: machine.change(layers={}),
    "bubblewrap, where there is none": lambda machine: machine.change(bubblewrap=True),
    "a test that failed": _failing("read_outside"),
    "a test that was not run": _untested("tcp"),
    "no observations": lambda machine: machine.change(seen={}),
    "observations that are no texts": lambda machine: machine.change(seen={"tcp": 1}),
    "advice that is no list": lambda machine: machine.change(advice=3),
    "findings that are a list": _whole(found=[]),
    "other circumstances": _whole(circumstances="0" * 64),
    "an entry of yesterday": _whole(time=time.time() - 25 * 3600),
    "an entry of tomorrow": _whole(time=time.time() + 3600),
    "a time that is a text": _whole(time="now"),
    "half an entry": lambda machine: machine.entry().write_text(machine.entry().read_text()[:-30]),
    "no JSON": lambda machine: machine.entry().write_bytes(b"\xff\0"),
    "deep JSON": lambda machine: machine.entry().write_text("[" * 100_000),
    "a file that others may write": lambda machine: machine.entry().chmod(0o602),
    "a file that the group may write": lambda machine: machine.entry().chmod(0o620),
    "a folder that others may write": lambda machine: machine.folder.chmod(0o777),
    "a link": _link,
    "a pipe": _pipe,
    "a folder": lambda machine: (machine.entry().unlink(), (machine.folder / "x").mkdir()),
}


@pytest.mark.parametrize("what", UNBELIEVABLE)
def test_what_is_not_believed_is_found_out_anew(machine, what):
    first = probe.probe(None, NOWHERE)
    UNBELIEVABLE[what](machine)
    machine.next_process()
    assert probe.probe(None, NOWHERE) == first
    assert machine.tried


@pytest.mark.skipif(not IS_ROOT, reason="FOREIGN FILES UNTESTED: not run as root")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_belongs_to_another_user_is_not_read(machine, what):
    first = probe.probe(None, NOWHERE)
    os.chown(machine.entry() if what == "file" else machine.folder, 12345, 12345)
    machine.next_process()
    assert probe.probe(None, NOWHERE) == first
    assert machine.tried


# ── circumstances ───────────────────────────────────────────────────────────────────────────────────


def _circumstances_in(change):
    code = f"from loop_runner.sandbox import remembered\n{change}\nprint(remembered.circumstances([]))"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip()


@pytest.mark.parametrize(
    "change",
    [
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**9, 10**9))",
        "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",
        pytest.param(
            "import os; os.setgroups([77])", marks=pytest.mark.skipif(not IS_ROOT, reason="NOT ROOT")
        ),
        pytest.param("import os; os.setuid(1234)", marks=pytest.mark.skipif(not IS_ROOT, reason="NOT ROOT")),
    ],
    ids=["open files", "file size", "no new privileges", "groups", "user"],
)
def test_other_rights_and_limits_are_other_circumstances(change, tmp_path):
    usual = _circumstances_in("")
    assert usual == _circumstances_in("")
    assert _circumstances_in(change) != usual


@pytest.mark.parametrize("how", ["contents", "time", "another file", "mode", "gone"])
def test_a_changed_program_is_other_circumstances(tmp_path, how):
    program = tmp_path / "bwrap"
    program.write_text("1")
    before = remembered.circumstances([str(program)])
    if how == "contents":
        program.write_text("12")
    elif how == "time":
        os.utime(program, ns=(1, 1))
    elif how == "another file":
        (tmp_path / "new").write_text("1")
        (tmp_path / "new").rename(program)
    elif how == "mode":
        program.chmod(0o700)
    else:
        program.unlink()
    assert remembered.circumstances([str(program)]) != before


@pytest.mark.parametrize(
    "file", ["/proc/sys/kernel/random/boot_id", "/proc/self/cgroup", "/proc/self/uid_map"]
)
def test_another_boot_group_or_mapping_is_other_circumstances(monkeypatch, file):
    before = remembered.circumstances([])
    text = remembered._text
    monkeypatch.setattr(remembered, "_text", lambda path: "other" if path == file else text(path))
    assert remembered.circumstances([]) != before


# ── a memory that is wrong ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def wrong(machine, tmp_path, monkeypatch):
    """A memory that says tier A, on a machine whose bubblewrap does not work."""
    bwrap = tmp_path / "bin" / "bwrap"
    bwrap.parent.mkdir()
    bwrap.write_text("#!/bin/sh\necho bwrap: no permission >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bwrap.parent}:{os.environ['PATH']}")
    assert probe.probe().tier == "B"
    result = json.loads(machine.entry().read_text())["found"]
    seen = dict.fromkeys(result["seen"], "") | {"total_memory": "none"}
    machine.change(
        bubblewrap=True, seen=seen, advice=[], layers=result["layers"] | {"own_root": False, "cgroup": False}
    )
    machine.next_process()
    assert probe.probe().tier == "A"
    assert machine.tried == 0
    return machine


class NoModel:
    async def query(self, prompt):
        raise NotImplementedError(prompt)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def kernel(tmp_path, loop):
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace").chmod(0o755)
    made = []

    def make(**settings):
        made.append(Kernel(KernelSettings(**settings), Inputs(()), tmp_path / "workspace", NoModel(), loop))
        return made[-1]

    yield make
    for item in made:
        item.close()


def test_a_kernel_that_a_wrong_memory_kept_from_starting_starts_in_what_works(wrong, kernel):
    started = kernel()
    assert started.start(Snapshot(), Answer()) == ()
    assert started.run_cell("print(6 * 7)", 1).output.strip() == "42"
    assert started.sandbox().tier == "B"
    assert wrong.tried
    wrong.next_process()
    assert probe.probe().tier == "B"


def test_no_variable_is_lost_when_the_memory_was_wrong(machine, kernel, request):
    first = kernel()
    first.start(Snapshot(), Answer())
    first.run_cell("kept = [1, 2, 3]", 1)
    taken = first.snapshot()
    first.close()
    for path in machine.folder.iterdir():
        path.unlink()
    request.getfixturevalue("wrong")
    second = kernel()
    assert second.start(taken, Answer()) == ()
    assert second.run_cell("print(kept)", 2).output.strip() == "[1, 2, 3]"


def test_a_wrong_memory_does_not_stand_for_the_required_tier(wrong, kernel):
    with pytest.raises(EnvironmentFault, match="of tier B, and tier A is required"):
        kernel(require_tier="A").start(Snapshot(), Answer())


def test_a_gate_is_checked_in_what_works_when_the_memory_was_wrong(wrong, tmp_path):
    (tmp_path / "gate").mkdir()
    verdict = judge(tmp_path / "gate", "raise SystemExit(0)")
    assert type(verdict).__name__ == "Accepted", verdict
    assert wrong.tried


def test_documents_are_read_in_what_works_when_the_memory_was_wrong(wrong, tmp_path):
    (tmp_path / "page.html").write_text("<p>The answer is 42.</p>")
    texts = load(["page.html"], tmp_path, converter=Converter(tmp_path / "converted", None))
    assert "The answer is 42." in texts.texts[0].path.read_text()
    assert wrong.tried


def test_a_control_group_that_cannot_be_made_any_more_is_found_out_before_the_kernel_starts(
    machine, kernel, monkeypatch
):
    from loop_runner.sandbox import cgroup

    report = probe.probe()
    if not report.layers.cgroup:
        result = json.loads(machine.entry().read_text())["found"]
        _with_layers(cgroup=True)(machine)
        machine.change(seen=result["seen"] | {"total_memory": ""})
    monkeypatch.setattr(cgroup, "create", lambda *_: None)
    machine.next_process()
    started = kernel()
    started.start(Snapshot(), Answer())
    assert started.run_cell("print(6 * 7)", 1).output.strip() == "42"
    assert not started.sandbox().layers.cgroup


def test_what_is_worse_than_the_best_is_remembered_for_minutes_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    now = time.time()
    for name, is_best in ("best", True), ("worse", False):
        remembered.store(name, {"layers": name}, is_best=is_best)
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    assert remembered.load("best") == {"layers": "best"}
    assert remembered.load("worse") is None


def test_other_sets_of_layers_to_try_are_other_circumstances():
    assert remembered.circumstances([], ["a", "b"]) != remembered.circumstances([], ["b"])
