"""Twenty thousand forged messages of a kernel: the host neither crashes nor hangs nor believes one of them.

Real frames are recorded first and then changed (``tests/support/forgery.py``). Most go straight through what
reads and uses them, thousands over real lines to the real state machine, some out of a real kernel's cells.
``LOOP_RUNNER_SEED=n`` gives other frames; the seed is printed.
"""

import asyncio
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loop_runner.errors import KernelError
from loop_runner.kernel import checker, lm_handler, report
from loop_runner.kernel import kernel as kernel_module
from loop_runner.kernel.inside import wire
from loop_runner.kernel.inside.lm_client import LmClient
from loop_runner.kernel.kernel import Kernel
from loop_runner.kernel.kernel_process import MAX_HEADER_BYTES, KernelProcess
from loop_runner.kernel.lm_handler import LmHandler
from loop_runner.records import Answer, CellResult, Inputs, Snapshot, Variable
from loop_runner.sandbox.wrap import Launch
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.workspace import layout
from tests.support import forgery

SEED = int(os.environ.get("LOOP_RUNNER_SEED", "20"))
READ_DIRECTLY, OVER_THE_LM_LINE, OVER_THE_CONTROL_LINE, FROM_A_CELL = 16_000, 2_500, 1_420, 80
assert READ_DIRECTLY + OVER_THE_LM_LINE + OVER_THE_CONTROL_LINE + FROM_A_CELL == 20_000

CELLS = (
    "x = 1",
    "print('hello')\nnotes = {'a': [1, 2, {'b': None}]}\ndef f(n): return n + 1",
    "answer.update(content='forty-two ü', ready=True, sources=['a', {'page': 3}])",
    "print('y' * 50_000)\nraise ValueError('no \\x1b[31m')",
    "del x\nbuiltins = __import__('builtins'); builtins.len = None; print = 5",
)

DONE = {
    "type": "done", "number": 1, "end": "ok", "head": "", "tail": "", "missing": 0, "trace": "",
    "error": None, "answer": {"content": "", "ready": False, "extra": {}},
    "notices": [], "added": [], "removed": [],
}  # fmt: skip

SNAPSHOT = {"type": "snapshot", "max_bytes": 1 << 20, "seconds": 5, "full": False, "unloadable": {}}


@pytest.fixture(scope="module")
def real_frames(tmp_path_factory, loop):
    """What a real kernel said, as bytes: ``{"control": […], "lm": […]}``."""
    folder = tmp_path_factory.mktemp("recorded")
    kernel = Kernel(KernelSettings(timeout_s=20), Inputs(()), folder, QuietModel(), loop)
    process = KernelProcess(kernel._launch)
    try:
        output = [_answer_to(process, kernel._start_header(Snapshot()))]
        for number, code in enumerate(CELLS, 1):
            output.append(_answer_to(process, {"type": "cell", "number": number}, code.encode()))
            output.append(_answer_to(process, SNAPSHOT))
    finally:
        process.close()
        process.lm_line.close()
        kernel.close()
    output.append(wire.Frame({"type": "tried", "failed": [["x", "it ended the process"]]}))
    return {"control": [wire.encode(item.header, item.payload) for item in output], "lm": _recorded_queries()}


def _answer_to(process, header, payload=b""):
    deadline = time.monotonic() + 30
    process.send(header, payload)
    return process.receive(lambda: deadline - time.monotonic(), 1 << 24)


def _recorded_queries():
    host, child = socket.socketpair()
    with host, child:
        client = LmClient(child.fileno())
        asking = threading.Thread(target=client.ask, args=(["one", "zwei ü", "x" * 3000],))
        asking.start()
        decoder = wire.Decoder()
        frames = [wire.read_frame(host.fileno(), decoder) for _ in range(3)]
        for frame in filter(None, frames):
            host.sendall(wire.encode({"type": "reply", "id": frame.header["id"]}, b"fine"))
        asking.join()
        host.shutdown(socket.SHUT_RDWR)
        _join(("llm replies",))
    queries = [wire.encode(frame.header, frame.payload) for frame in frames if frame is not None]
    return [*queries, *_RICH_REQUESTS]


def _rich(kind, number, about, text=b""):
    more = wire.to_json(about).encode()
    return wire.encode({"type": kind, "id": number, "more": len(more)}, more + text)


_SESSION = {
    "question": "How many?",
    "texts": [["a", 3], ["b", 4]],
    "single": False,
    "inputs": False,
    "model": "",
}
_RICH_REQUESTS = [
    _rich("query", 3, {"schema": {"type": "integer"}, "model": "sub"}, b"one"),
    _rich("session", 4, _SESSION, "onezwöi"[:6].encode()),
    wire.encode({"type": "budget", "id": 5}),
]


def _join(names):
    for thread in threading.enumerate():
        if thread.name in names:
            thread.join(5)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


# ── straight through what reads them ────────────────────────────────────────────────────────────────


def test_forged_frames_are_read_as_something_sound_or_refused(real_frames, capsys):
    rng = random.Random(SEED)
    believed = refused = 0
    before = 0
    for number in range(READ_DIRECTLY):
        way, data = forgery.forge(rng, real_frames["control"])
        began = time.monotonic()
        try:
            for frame in _frames_of(data, rng):
                believed += _use(frame)
        except wire.WireError:
            refused += 1
        except BaseException:
            print(f"seed {SEED}, frame {number}, {way}: {data[:500]!r}")
            raise
        assert time.monotonic() - began < 5, (SEED, number, way)
        if number == 2000:
            before = resident_bytes()
    grown = resident_bytes() - before
    with capsys.disabled():
        print(f"\nseed {SEED}: {READ_DIRECTLY}: {refused} refused, {believed} read, {grown >> 20} MB more")
    assert refused > READ_DIRECTLY / 4
    assert believed > READ_DIRECTLY / 100, (
        "the changes are too coarse to reach what is behind the first check"
    )
    assert grown < 64 << 20


def _frames_of(data, rng):
    decoder = wire.Decoder(MAX_HEADER_BYTES, 1 << 24)
    for piece in _pieces(data, rng):
        decoder.feed(piece)
        while (frame := decoder.take()) is not None:
            yield frame


def _pieces(data, rng):
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 5))))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        yield data[start:end]


def _use(frame):
    """Read ``frame`` as each kind of report and do what the host does with it; how many it passed for."""
    believed = 0
    for use in (_use_done, _use_snapshot, _use_ready):
        try:
            use(frame)
            believed += 1
        except wire.WireError:
            continue
    return believed


def _use_done(frame):
    number = frame.header.get("number")
    done = report.read_done(frame, number if type(number) is int else 1)
    output, missing = report.compose_output(done, ("raw \x1b[0m", 0), 500)
    assert len(output) < 1000
    assert not set(output) & set("\x00\x07\x1b\u202e\ud800")
    assert missing >= 0
    assert (done.error is None) == (done.end == "ok")
    assert all("\n" not in line and len(line) <= 500 for line in done.notices)
    _answer_can_be_kept(done.answer)
    assert all(name.isidentifier() for name in (*done.added, *done.removed))


def _answer_can_be_kept(answer):
    """In the turn's commit, and in the first message to the next kernel."""
    files = layout.answer_files(answer, 1, 1)
    assert layout.answer_from(files["answer.md"], files["answer.json"]) == answer
    json.loads(files["answer.json"], parse_constant=pytest.fail)
    wire.encode({"answer": {"content": answer.content, "extra": dict(answer.extra)}})
    answer.content.encode()


def _use_snapshot(frame):
    before = Snapshot((Variable("old", "int", 5, "1", "saved", "", "0" * 64),), {"0" * 64: b"an earlier one"})
    taken = report.read_snapshot(frame, 1 << 20, before)
    for variable in taken.variables:
        assert variable.name.isidentifier()
        assert variable.status in {"saved", "lost"}
        assert variable.blob in taken.blobs or variable.status == "lost"
        assert len(variable.preview) + len(variable.reason) + len(variable.type) < 900
        assert (variable.preview + variable.type).isprintable()
        json.dumps(
            [variable.name, variable.type, variable.preview, variable.reason], ensure_ascii=False
        ).encode()


def _use_ready(frame):
    if frame.header.get("type") == "tried":
        failed = report.read_tried(frame)
    else:
        failed, names, python = report.read_ready(frame)
        assert all(name.isidentifier() for name in names)
        assert not python.strip("0123456789.")
    assert all(name == "" or name.isidentifier() for name in failed)
    assert all(len(why) <= 500 for why in failed.values())


# ── over the line to the models ─────────────────────────────────────────────────────────────────────


class QuietModel:
    """Answers at once."""

    def __init__(self):
        self.frames_sent = 0

    async def query(self, prompt):
        assert type(prompt) is str
        self.frames_sent += 1
        return "fine"

    async def query_as(self, prompt, schema, model):
        assert (type(prompt), type(model)) == (str, str)
        assert schema is None or type(schema) is dict
        self.frames_sent += 1
        return "fine"

    async def query_with_tools(self, prompt, schema, model, tools):
        assert (type(prompt), type(model)) == (str, str)
        assert all(type(name) is str for name in tools)
        self.frames_sent += 1
        return "fine"

    async def query_with_images(self, prompt, schema, model, images):
        assert (type(prompt), type(model)) == (str, str)
        assert all(type(image) in (str, bytes) for image in images)
        self.frames_sent += 1
        return "fine"

    async def tool(self, name, arguments):
        assert (type(name), type(arguments)) == (str, str)
        self.frames_sent += 1
        return "fine"

    async def session(self, task):
        assert all(type(name) is str and type(data) is bytes for name, data in task.texts)
        assert {type(task.question), type(task.model)} == {str}
        assert {type(task.is_single), type(task.has_inputs)} == {bool}
        self.frames_sent += 1
        return "fine", "noted"

    async def past(self, pass_number, turn):
        assert (type(pass_number), type(turn)) == (int, int)
        self.frames_sent += 1
        return "{}"

    async def check(self, content):
        assert type(content) is str
        self.frames_sent += 1
        return "fine"

    def left(self):
        self.frames_sent += 1
        return {"passes": 1}


def test_forged_queries_are_answered_or_end_the_line(real_frames, loop, capsys):
    rng = random.Random(SEED + 1)
    before = (0, 0, 0)
    violations = answered = 0
    for number in range(OVER_THE_LM_LINE):
        way, data = forgery.forge(rng, real_frames["lm" if rng.random() < 0.9 else "control"])
        shown: list[str] = []
        model = QuietModel()
        replies = _line_driven(data, loop, model, shown)
        violations += len(shown)
        answered += len(replies)
        assert len(shown) <= 1, (SEED, number, way, shown)
        assert len(replies) <= model.frames_sent, (SEED, number, way)
        assert {reply.header["type"] for reply in replies} <= {"reply"}, (SEED, number, way)
        if number == 300:
            before = resident_bytes(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    after = resident_bytes(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    with capsys.disabled():
        print(f"\nseed {SEED}: {OVER_THE_LM_LINE} streams, {violations} ended, {answered} queries answered")
    assert after[0] - before[0] < 32 << 20
    assert after[1:] == before[1:]
    assert violations > OVER_THE_LM_LINE / 4
    assert answered > OVER_THE_LM_LINE / 10


def _line_driven(data, loop, model, shown):
    """Send ``data``, end the line, and return the replies; the handler closes in time."""
    host, child = socket.socketpair()
    with child:
        handler = LmHandler(host, model, loop, on_violation=shown.append)
        child.settimeout(10)
        replies = []
        try:
            child.sendall(data)
            child.shutdown(socket.SHUT_WR)
            decoder = wire.Decoder()
            while piece := child.recv(1 << 16):
                decoder.feed(piece)
                while (frame := decoder.take()) is not None:
                    replies.append(frame)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the host refused it half-way
        handler.close()
    return replies


def test_a_kernel_that_never_reads_its_replies_is_not_read_from_for_ever(loop):
    host, child = socket.socketpair()
    with child:
        handler = LmHandler(host, QuietModel(), loop, on_violation=pytest.fail)
        child.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _send_queries(child, b"x", 200_000)
        handler.close()


def _send_queries(child, prompt, count):
    for number in range(count):
        child.sendall(wire.encode({"type": "query", "id": number}, prompt))


def test_open_prompts_are_bounded_in_bytes(loop, sub_model, monkeypatch):
    monkeypatch.setattr(lm_handler, "MAX_OPEN_BYTES", 1 << 20)
    host, child = socket.socketpair()
    with child:
        handler = LmHandler(host, sub_model, loop, on_violation=pytest.fail)
        child.settimeout(0.5)
        with pytest.raises(TimeoutError):
            _send_queries(child, b"wait" * 50_000, 100)
        assert len(sub_model.prompts) <= 7
        handler.close()
    assert sub_model.cancelled == len(sub_model.prompts)


def test_prompts_that_had_to_wait_are_answered_when_there_is_room(loop, sub_model, monkeypatch):
    monkeypatch.setattr(lm_handler, "MAX_OPEN_BYTES", 1000)
    sub_model.delay_s = 0.005
    host, child = socket.socketpair()
    with child:
        handler = LmHandler(host, sub_model, loop, on_violation=pytest.fail)
        client = LmClient(child.fileno())
        replies = client.ask(["x" * 900] * 20)
        handler.close()
        _join(("llm replies",))
    assert replies == ["echo: " + "x" * 900] * 20


# ── over the control line ───────────────────────────────────────────────────────────────────────────


class ForgingKernel(Kernel):
    """A real host's side. Its process does nothing; what it "says" is written by ``answer_to``."""

    answer_to: Callable[[dict[str, Any]], bytes]

    def _launch(self, control_fd, lm_fd, life_fd):
        line = socket.socket(fileno=os.dup(control_fd))
        threading.Thread(target=self._play, args=(line,), name="forger").start()
        deaf = "trap '' INT; exec sleep 100"
        return Launch(("sh", "-c", deaf), {"PATH": os.environ["PATH"]}, {"start_new_session": True})

    def _play(self, line):
        decoder = wire.Decoder()
        with line:
            try:
                while (frame := wire.read_frame(line.fileno(), decoder)) is not None:
                    line.sendall(self.answer_to(frame.header))
            except OSError:
                return  # the host hung up


def honest(header):
    if header["type"] == "start":
        return wire.encode({"type": "ready", "failed": [], "names": [], "python": "3.11.2"})
    if header["type"] == "try":
        return wire.encode({"type": "tried", "failed": []})
    if header["type"] == "snapshot":
        return wire.encode(
            {"type": "snapshot", "variables": [], "unchanged": [], "blobs": [], "python": "3.11.2"}
        )
    return wire.encode({**DONE, "number": header["number"], "head": "honest\n"})


@pytest.mark.timeout(400)
def test_the_host_survives_every_forged_dialogue(real_frames, loop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kernel_module, "START_TIMEOUT_S", 0.05)
    monkeypatch.setattr(checker, "_START_TIMEOUT_S", 0.05)
    monkeypatch.setattr(checker, "_SLACK_S", 0.05)
    rng = random.Random(SEED + 2)
    settings = KernelSettings(timeout_s=0.05, grace_s=0.03, max_output_chars=500)
    saved = Snapshot((Variable("x", "int", 1, "1", "saved", "", "ab"),), {"ab": b"opaque"})
    ends: dict[str, int] = {}
    before = (0, 0)
    with ForgingKernel(settings, Inputs(()), tmp_path, QuietModel(), loop) as kernel:
        kernel.answer_to = honest
        kernel.start(Snapshot(), Answer())
        for number in range(OVER_THE_CONTROL_LINE):
            way, data = forgery.forge(rng, real_frames["control"])
            kind = rng.choice(("cell", "cell", "cell", "snapshot", "snapshot", "start", "try"))
            began = time.monotonic()
            try:
                end = _one_dialogue(kernel, kind, data, saved)
                _goes_on(kernel, honest)
            except BaseException:
                print(f"seed {SEED}, dialogue {number}, {kind}, {way}: {data[:500]!r}")
                raise
            ends[end] = ends.get(end, 0) + 1
            assert time.monotonic() - began < 12, (SEED, number, kind, way)
            if number == 200:
                before = resident_bytes(), len(os.listdir("/proc/self/fd"))
        after = resident_bytes(), len(os.listdir("/proc/self/fd"))
    _join(("forger",))
    with capsys.disabled():
        print(f"\nseed {SEED}: {OVER_THE_CONTROL_LINE} dialogues: {ends}")
    assert after[0] - before[0] < 64 << 20
    assert after[1] <= before[1] + 2  # a forger's end of the line that is just being closed
    assert ends["died"] > OVER_THE_CONTROL_LINE / 10
    assert ends["timed_out"] > OVER_THE_CONTROL_LINE / 100


def _one_dialogue(kernel, kind, data, saved):
    """Answer one request of ``kind`` with ``data``; how it ended."""
    forged = [data]

    def answer_to(header):
        if kind == "try" and header["type"] == "snapshot":
            return _one_variable(os.urandom(20))
        return forged.pop() if header["type"] == kind and forged else honest(header)

    kernel.answer_to = answer_to
    if kind == "cell":
        result = kernel.run_cell("x = 1", 1)
        assert type(result) is CellResult
        _answer_can_be_kept(result.answer)
        assert not result.answer.is_ready or _first_header(data)["answer"]["ready"] is True
        assert result.end in {"died", "timed_out"} or _first_header(data)["number"] == 1
        return result.end
    if kind in {"snapshot", "try"}:
        taken = kernel.snapshot()
        assert set(taken.blobs) >= {item.blob for item in taken.variables if item.status == "saved"}
        return kind
    lost = kernel.start(saved, Answer("draft"))
    assert {item.status for item in lost} <= {"lost"}
    return "start"


def _one_variable(blob):
    row = {"name": "x", "type": "int", "size": 1, "preview": "1", "status": "saved", "reason": "", "blob": 0}
    header = {
        "type": "snapshot",
        "variables": [row],
        "unchanged": [],
        "blobs": [{"bytes": len(blob)}],
        "python": "3.11.2",
    }
    return wire.encode(header, blob)


def _first_header(data):
    return json.loads(data[8 : 8 + int.from_bytes(data[:4], "big")])


def _goes_on(kernel, honest):
    """What was left on the line may cost one more cell, and no more than that."""
    kernel.answer_to = honest
    ends = [kernel.run_cell("x = 2", 2).end for _ in range(3)]
    assert ends[1:] == ["ok", "ok"], ends


def test_a_kernel_that_never_gets_ready_is_an_error_with_a_hint(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_module, "START_TIMEOUT_S", 0.05)
    with ForgingKernel(KernelSettings(), Inputs(()), tmp_path, QuietModel(), loop) as kernel:
        for data in (b"", b"\0", b"garbage ! garbage !", wire.encode({"type": "ready"})):
            kernel.answer_to = partial(_whatever, data)
            with pytest.raises(KernelError, match="does not start"):
                kernel.start(Snapshot(), Answer())
    _join(("forger",))


def _whatever(data, _header):
    return data


def test_a_report_that_brings_a_gigabyte_along_is_refused_before_it_is_read(loop, tmp_path):
    with ForgingKernel(KernelSettings(timeout_s=20), Inputs(()), tmp_path, QuietModel(), loop) as kernel:
        kernel.answer_to = honest
        kernel.start(Snapshot(), Answer())
        kernel.answer_to = lambda header: (
            b"\0\0\0\2\x3f\0\0\0{}" if header["type"] == "cell" else honest(header)
        )
        began = time.monotonic()
        result = kernel.run_cell("x", 1)
        assert (result.end, time.monotonic() - began < 5) == ("died", True)
        assert result.error is not None
        assert "over the cap" in result.error
    _join(("forger",))


@pytest.mark.parametrize("key", ["head", "tail", "trace"])
def test_megabytes_of_text_are_cut_before_they_are_looked_at(key):
    began = time.monotonic()
    done = report.read_done(wire.Frame({**DONE, "number": 1, key: "\x1b" * 15_000_000}), 1)
    output, missing = report.compose_output(done, ("", 0), 1000)
    assert time.monotonic() - began < 2
    assert len(output) < 1300
    assert missing >= 15_000_000 - 1000


# ── out of a real kernel's cells ────────────────────────────────────────────────────────────────────

FORGE = """
import os, socket, stat, time
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
lm = llm_query.__self__._models._fd
control = next(fd for fd in range(3, 99) if is_socket(fd) and fd != lm)
"""


def test_forged_frames_out_of_a_cell_cost_no_more_than_that_cell(real_frames, start, capsys):
    rng = random.Random(SEED + 3)
    kernel = start(timeout_s=0.3, grace_s=0.2)
    kernel.run("kept = ['kept']")
    kernel.snapshot()
    ends: dict[str, int] = {}
    for number in range(FROM_A_CELL):
        line = rng.choice(("control", "control", "lm"))
        way, data = forgery.forge(rng, real_frames[line])
        result = kernel.run(f"{FORGE}\nos.write({line}, {data[:50_000]!r})\ntime.sleep(0.02)")
        ends[result.end] = ends.get(result.end, 0) + 1
        last = [kernel.run("kept.append(1); kept.pop(); print(kept)") for _ in range(2)][-1]
        assert (last.end, last.output) == ("ok", "['kept']\n"), (SEED, number, line, way, result, last)
    with capsys.disabled():
        print(f"\nseed {SEED}: {FROM_A_CELL} cells that forge: {ends}")
    assert ends["died"] > FROM_A_CELL / 4


def test_a_loop_of_refused_queries_is_still_over_time(start, sub_model):
    sub_model.refusal = "x"
    kernel = start(timeout_s=1.0, grace_s=0.5)
    result = kernel.run("while True:\n    try: llm_batch(['x'] * 2000)\n    except LLMError: pass")
    assert result.end == "timed_out"


def test_the_loop_that_serves_the_queries_is_free_again(loop):
    """Nothing of the above is left over on it."""
    assert asyncio.run_coroutine_threadsafe(_tasks(), loop).result(5) == 1


async def _tasks():
    return len(asyncio.all_tasks())
