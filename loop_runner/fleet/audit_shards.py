"""Spreads an audit over the workers of a Dask cluster, by files.

Each worker runs ``loop-runner audit --shard I/N`` in a process of its own. The same audit without a shard
then finds the replies of all of them in the folder of run folders, and so merges findings, reports and
baseline: they are those of an undivided audit. What a worker has not judged, that last audit judges itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from loop_runner.fleet.executors import client_of

_MOST = 64
_FINE = (0, 1)
_SHOWN_CHARS = 300


def run_shards(executor: str, command: Sequence[str]) -> Iterator[str]:
    """Run ``loop-runner audit`` with these arguments once for each worker; a sentence for each that failed.

    The current folder and the folder of run folders must be at the same path on every worker.
    """
    with client_of(executor) as client:
        from distributed import as_completed

        count = min(max(sum(client.ncores().values()), 1), _MOST)
        parts = {
            client.submit(_audit, f"{index}/{count}", tuple(command), str(Path.cwd()), pure=False): index
            for index in range(count)
        }
        for future in as_completed(parts):
            if future.status == "error":
                yield f"shard {parts[future]}/{count}: its worker was lost: {future.exception()}"
            elif problem := future.result():
                yield f"shard {parts[future]}/{count}: {problem}"


def _audit(shard: str, command: Sequence[str], folder: str) -> str:
    """On a worker: judge a part; why it is incomplete, or ""."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "loop_runner",
            "audit",
            "--shard",
            shard,
            "--fail-on",
            "never",
            "-q",
            *command,
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ended.returncode in _FINE:
        return ""
    words = ended.stderr.decode("utf-8", "replace").strip() or f"exit code {ended.returncode}"
    return words[-_SHOWN_CHARS:]
