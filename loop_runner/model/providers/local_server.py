"""The process that holds a local model: ``python -m loop_runner.model.providers.local_server``.

Owns the model's memory and its threads, so that a crash in native code costs one request and never the
runner. Reads its settings as one JSON line on stdin, prints one JSON line with its address, then serves
OpenAI-style chat completions on loopback until stdin ends. Relies on xllamacpp.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_CPU_FOLDER = Path("/sys/devices/system/cpu")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def main() -> None:
    """Serve until the parent closes our stdin or dies."""
    _die_with_parent()
    settings = json.loads(sys.stdin.readline())
    server = _start(settings)
    sys.stdout.write(json.dumps({"url": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    # The native threads may be inside a long computation; nothing here is worth waiting for.
    os._exit(0)


def _start(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.n_ctx = settings["n_ctx"]
    # One request at a time: on processors, parallel slots made eight calls slower than one after another.
    params.n_parallel = 1
    threads = usable_processors()
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.sampling.temp = 0.0
    params.cache_ram_mib = settings[
        "cache_mb"
    ]  # prefixes of other conversations, so that they can be taken up again
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["api_key"]]  # other users of this machine can reach loopback too
    params.warmup = False
    params.ui = False
    params.verbosity = 0
    return xllamacpp.Server(params)


def usable_processors() -> int:
    """How many threads can really run at once: physical cores that we may use, within a container's quota.

    More threads than that make llama.cpp wait at barriers and slow it down many times over.
    """
    allowed = os.sched_getaffinity(0)
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota()))


def _siblings(cpu: int) -> str:
    """The hardware threads that share a core with ``cpu``, as the kernel writes them; they count once."""
    try:
        return (_CPU_FOLDER / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota() -> int:
    try:
        quota, period = _CGROUP_QUOTA.read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return 1 << 16


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, even in native code that reads no stdin."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


if __name__ == "__main__":
    main()
