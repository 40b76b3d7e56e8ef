"""Reads the files of one commit through git's plumbing: no checkout, no filter, no hook.

This git sees the repository and the system's libraries, and no network.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from loop_runner.inputs.inside import paths, runs
from loop_runner.inputs.inside.archives import Meter
from loop_runner.inputs.inside.sink import Refused, Sink, TooMuch

_MODES = (b"100644", b"100755", b"100664")


def read(
    request: Mapping[str, Any],
    sink: Sink,
    meter: Meter,
    take: Callable[[str, bytes, str], None],
    wanted: Callable[[str], str],
) -> None:
    """Pass on every file of the commit as (path, bytes, SHA-256); ``wanted`` gives a reason to skip one.

    ``request``: ``argv`` (git and its settings), ``env``, ``cwd``, ``revision``.
    """
    commit = _commit(request)
    sink.frame(type="commit", commit=commit)
    chosen = list(_chosen(request, commit, sink, meter, wanted))
    with _start(request, "cat-file", "--batch") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for oid, path in chosen:
            process.stdin.write(oid + b"\n")
            process.stdin.flush()
            data = _object(process.stdout, meter)
            if data is None:
                sink.skip(
                    path, "broken: the repository does not have it (its objects may lie in another one)"
                )
                continue
            try:
                take(path, data, hashlib.sha256(data).hexdigest())
            except TooMuch:
                raise
            except Refused as refusal:
                sink.skip(path, str(refusal))
        process.stdin.close()


def _commit(request: Mapping[str, Any]) -> str:
    name = f"{request['revision']}^{{commit}}"
    with _start(request, "rev-parse", "--verify", "--end-of-options", name) as process:
        out, err = process.communicate()
    commit_id = out.strip().decode("ascii", "replace")
    if process.returncode or not commit_id:
        why = err.decode("utf-8", "replace").strip().splitlines()[-1:] or ["git gave no reason"]
        raise Refused(f"no revision {request['revision']!r}: {why[0][:200]}")
    return commit_id


def _chosen(
    request: Mapping[str, Any], commit: str, sink: Sink, meter: Meter, wanted: Callable[[str], str]
) -> Iterator[tuple[bytes, str]]:
    with _start(request, "ls-tree", "-r", "-z", "-l", "--full-tree", commit) as process:
        out, err = process.communicate()
    if process.returncode:
        raise Refused(f"broken: {err.decode('utf-8', 'replace').strip()[:200]}")
    entries = [entry.partition(b"\t") for entry in out.split(b"\0") if entry]
    # All paths of the commit, even unwanted ones: a run folder is recognised by its other files.
    left_out = runs.left_out(raw.decode("utf-8", "surrogateescape") for _, _, raw in entries)
    reported = set()
    for head, _, raw in entries:
        mode, _, oid, size = head.split()
        path = raw.decode("utf-8", "surrogateescape")
        why = wanted(path)
        if why == "-":
            continue
        if path in left_out:
            if left_out[path] not in reported:
                sink.skip(paths.shown(left_out[path][0]), left_out[path][1])
            reported.add(left_out[path])
            continue
        meter.member()
        why = why or _why_not(mode, size, path, meter)
        if why:
            sink.skip(paths.shown(path), why)
        else:
            yield oid, path


def _why_not(mode: bytes, size: bytes, path: str, meter: Meter) -> str:
    if mode not in _MODES:
        return "a link" if mode == b"120000" else "not a regular file"
    if size.isdigit() and int(size) > meter.limits.total_bytes:
        return f"too large: it has {int(size):,} bytes"
    return paths.why_not(path, meter.limits)


def _object(stream: IO[bytes], meter: Meter) -> bytes | None:
    header = stream.readline(1000).split()
    if len(header) != 3 or not header[2].isdigit():
        return None
    size = int(header[2])
    meter.bytes(size)
    data = stream.read(size + 1)
    if len(data) != size + 1:
        raise Refused("broken: git ended while it was read")
    return data[:-1]


def _start(request: Mapping[str, Any], *command: str) -> subprocess.Popen[bytes]:
    # The standard error of ``cat-file`` is not read while it runs, so it must not be a pipe that can fill.
    error = subprocess.DEVNULL if command[0] == "cat-file" else subprocess.PIPE
    return subprocess.Popen(
        [*request["argv"], *command],
        env=dict(request["env"]),
        cwd=request["cwd"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=error,
    )
