"""The process with a local model: ``python -m evals.local_endpoint``, until its standard input ends.

Reads its settings as one JSON line and prints one with its address. Serves on loopback only, with a key.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Serve until the parent closes standard input."""
    import xllamacpp

    settings = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.n_ctx = settings["window"]
    params.n_parallel = 1
    threads = len(os.sched_getaffinity(0))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.sampling.temp = 0.0
    params.cache_ram_mib = 1024
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.warmup = False
    params.ui = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    sys.stdout.write(json.dumps({"url": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # the native threads may be inside a long computation


if __name__ == "__main__":
    main()
