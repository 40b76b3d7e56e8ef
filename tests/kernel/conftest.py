"""Real kernels on a real loop, closed after each test; a sub-model that answers from a function."""

import asyncio
import hashlib
import threading

import pytest

from loop_runner.kernel.kernel import Kernel
from loop_runner.kernel.lm_handler import SubCallError
from loop_runner.records import Answer, Inputs, InputText, Snapshot
from loop_runner.sandbox.wrap import inner_pid
from loop_runner.task.kernel_settings import KernelSettings


class EchoModel:
    """Answers ``echo: prompt``; a prompt with ``wait`` in it waits until it is cancelled."""

    def __init__(self):
        self.prompts = []
        self.cancelled = 0
        self.delay_s = 0.0
        self.refusal = ""

    async def query(self, prompt):
        self.prompts.append(prompt)
        try:
            await asyncio.sleep(60 if "wait" in prompt else self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.refusal and self.refusal in prompt:
            raise SubCallError("the budget of sub-calls is used up")
        return f"echo: {prompt}"


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def sub_model():
    return EchoModel()


@pytest.fixture
def inputs_of(tmp_path):
    """Inputs from name → text; one text under the name given alone is a single ``str``."""

    def make(texts, *, is_single=False):
        folder = tmp_path / "inputs"
        result = []
        for name, text in texts.items():
            data = text if isinstance(text, bytes) else text.encode()
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            result.append(InputText(name, path, len(data), hashlib.sha256(data).hexdigest()))
        return Inputs(tuple(result), is_single=is_single)

    return make


class Driver:
    """A started kernel that counts its cells."""

    def __init__(self, kernel, lost, number):
        self.kernel = kernel
        self.lost = lost  # what start() could not restore
        self.number = number

    def run(self, code):
        self.number += 1
        return self.kernel.run_cell(code, self.number)

    def value(self, expression):
        """What ``expression`` prints as."""
        result = self.run(f"print({expression})")
        assert result.end == "ok", result.output
        return result.output.rstrip("\n")

    def snapshot(self):
        return self.kernel.snapshot()

    @property
    def pid(self):
        process = self.kernel._life.process
        return inner_pid(process._process.pid) if process._launch.is_wrapped else process._process.pid


@pytest.fixture
def start(loop, sub_model, tmp_path):
    """Starts kernels; all are closed at the end."""
    kernels: list[Kernel] = []

    def begin(
        inputs=None,
        snapshot=None,
        answer=None,
        workspace=None,
        *,
        model=None,
        expect_lost=False,
        after=None,
        **settings,
    ):
        folder = workspace or tmp_path / f"workspace{len(kernels)}"
        folder.mkdir(exist_ok=True)
        settings = {"timeout_s": 10.0, "grace_s": 0.5, **settings}
        kernel = Kernel(KernelSettings(**settings), inputs or Inputs(()), folder, model or sub_model, loop)
        kernels.append(kernel)
        lost = kernel.start(snapshot or Snapshot(), answer or Answer())
        assert expect_lost or not lost
        return Driver(kernel, lost, after.number if after else 0)  # ``after``: whose cells it continues

    yield begin
    for kernel in kernels:
        kernel.close()


@pytest.fixture
def kernel(start):
    return start()
