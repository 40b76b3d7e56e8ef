"""``doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from loop_runner import scratch
from loop_runner.cli import machine_checks, output
from loop_runner.cli.machine_checks import Check
from loop_runner.errors import LoopRunnerError

_MIN_GIT = (2, 28)  # `git init --initial-branch`
_MIN_FREE_GB = 2


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def doctor(as_json: bool) -> int:
    """Check what this machine has and what is missing. Exit code 4 if a run could not work.

    \b
    Example:  loop-runner doctor
    """
    checks = list(_checks())
    is_ok = all(check.is_ok is not False for check in checks)
    if as_json:
        output.write_json(
            {
                "ok": is_ok,
                "checks": [
                    {"name": item.name, "ok": item.is_ok, "found": item.state, "hint": item.hint}
                    for item in checks
                ],
            }
        )
    else:
        for check in checks:
            mark = {True: "ok", False: "MISSING", None: "-"}[check.is_ok]
            output.write(f"{mark:<8} {check.name:<12} {check.state}")
            for line in check.hint.splitlines():
                output.write(f"{'':<21} {line}")
    return 0 if is_ok else 4


def _checks() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", True, f"{version}, {sys.executable}")
    yield _git()
    yield _disk()
    yield from machine_checks.all_of(os.environ)
    yield from _models()
    sandbox = _guard("sandbox", _sandbox)  # first: it probes anew, and the kernel then uses the result
    yield _guard("kernel", _kernel)
    yield sandbox


def _git() -> Check:
    from loop_runner import process

    path = shutil.which("git")
    if path is None:
        return Check("git", False, "not found", "install git, 2.28 or later")
    result = process.run([path, "--version"], cwd=Path.cwd(), env={}, timeout_s=10)
    version = tuple(int(part) for part in result.output.split()[2].split(".")[:2])
    if version < _MIN_GIT:
        return Check("git", False, result.output.strip(), "install git 2.28 or later")
    return Check("git", True, result.output.strip())


def _disk() -> Check:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    hint = "" if free_gb >= _MIN_FREE_GB else "a run whose disk is full stops; what is committed is safe"
    return Check("disk", free_gb >= _MIN_FREE_GB, f"{free_gb:.0f} GB free here", hint)


def _models() -> Iterator[Check]:
    from loop_runner.model import catalog, registry
    from loop_runner.model.providers import fetch

    for entry in fetch.list_models(fetch.models_dir(os.environ)):
        hint = "" if entry.is_fetched else f"loop-runner models fetch {entry.name}"
        state = str(entry.path) if entry.is_fetched else "not fetched"
        yield Check(f"local:{entry.name}", True if entry.is_fetched else None, state, hint)
    for provider in catalog.load().providers.values():
        if provider.keys:
            key = next((name for name in provider.keys if os.environ.get(name)), None)
            state = f"{key} is set" if key else f"no key ({' or '.join(provider.keys)})"
            yield Check(provider.name, True if key else None, state)
    try:
        yield Check("default", True, registry.default_model(os.environ))
    except LoopRunnerError as error:
        yield Check("default", False, error.message, error.hint)


def _guard(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except LoopRunnerError as error:
        return Check(name, False, error.message, error.hint)


def _kernel() -> Check:
    """Start a kernel, run a cell in it, and check that it works."""
    import asyncio
    import threading

    from loop_runner.kernel.kernel import Kernel
    from loop_runner.records import Answer, Inputs, Snapshot
    from loop_runner.task.kernel_settings import KernelSettings

    class NoModel:
        async def query(self, prompt: str) -> str:
            raise NotImplementedError(prompt)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        with scratch.make("doctor") as folder:
            kernel = Kernel(KernelSettings(), Inputs(()), folder, NoModel(), loop)
            try:
                kernel.start(Snapshot(), Answer())
                result = kernel.run_cell("print(6 * 7)", 1)
            finally:
                kernel.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    works = result.end == "ok" and result.output.strip() == "42"
    return Check("kernel", works, "runs cells" if works else result.output)


def _sandbox() -> Check:
    """The tier that would confine the model's code, and what it leaves open."""
    from loop_runner.sandbox.probe import probe_anew

    report = probe_anew()
    gaps = [f"not enforced: {sentence}" for sentence in report.not_enforced]
    ways = [f"to improve: {sentence}" for sentence in report.how_to_improve]
    return Check("sandbox", report.tier != "C", f"tier {report.tier}", "\n".join([*gaps, *ways]))
