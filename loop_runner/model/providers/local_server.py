"""The process that holds a local model: ``python -m loop_runner.model.providers.local_server``.

Owns the model's memory and its threads, so that a crash in native code costs one request and never the
runner. Reads its settings as one JSON line on stdin, prints one JSON line with its address, then serves
OpenAI-style chat completions on loopback until stdin ends. Relies on xllamacpp.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from loop_runner import linux


def main() -> None:
    """Serve until the parent closes our stdin or dies."""
    linux.die_with_parent()
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
    threads = linux.usable_processors()
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


if __name__ == "__main__":
    main()
