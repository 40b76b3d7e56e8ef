"""A store in a bare git repository, by path, ssh or https: refs for states, results and runs.

    refs/fleet/identity      a blob: which fleet
    refs/fleet/money         a blob: spent and held back
    refs/fleet/jobs/NAME     a blob: the state
    refs/fleet/results/NAME  a blob: the result
    refs/fleet/runs/NAME/*   the refs of the run folder

A state moves by ``push --atomic --force-with-lease`` together with the money, so of two workers one succeeds.
Each worker has a mirror of its own, from which everything is read. The user's git settings apply, because
they say how the store is reached; git never works in a run folder's files, but for the checkout of a run.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loop_runner import EnvironmentFault
from loop_runner.fleet.states import JobState, Money
from loop_runner.fleet.stores import (
    NOTHING,
    Extra,
    Identity,
    Kept,
    LostError,
    OverBudgetError,
    UnreachableError,
)
from loop_runner.process import kill_group

_TIMEOUT_S = 120.0
_TRIES = 40  # of a change that only others' money has overtaken
_IDENTITY, _MONEY = "refs/fleet/identity", "refs/fleet/money"
_JOBS, _RESULTS, _RUNS = "refs/fleet/jobs/", "refs/fleet/results/", "refs/fleet/runs/"
_KEPT = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY", "GIT_ASKPASS")
_OVERTAKEN = (
    "stale info",
    "fetch first",
    "non-fast-forward",
    "cannot lock ref",
    "atomic push failed",
    "rejected",
)
_REFUSED = ("unpacker error", "unpack failed", "hook declined", "no space left", "permission denied")
_PLAIN = ("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false")


def is_bare(path: Path) -> bool:
    """Whether ``path`` is a bare repository."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


class GitStore:
    """See ``stores.Store``. ``mirror`` is a folder of this worker's own."""

    def __init__(self, address: str, mirror: Path) -> None:
        self.address = address
        self._mirror = mirror
        self._read: dict[str, Kept] = {}  # states, by the ids of their blobs
        self._pushed: dict[str, str] = {}  # refs of runs and results that the store is known to have

    def begin(self, identity: Identity) -> None:
        """Use the store for this fleet."""
        if not is_bare(self._mirror):
            self._mirror.parent.mkdir(parents=True, exist_ok=True)
            _git(["init", "-q", "--bare", str(self._mirror)], cwd=self._mirror.parent)
        self._fetch(_IDENTITY)
        if not self._refs(_IDENTITY):
            (oid,) = self._write([identity.to_json()])
            self._push({_IDENTITY: ("", oid)}, {}, None)  # another worker may be first
            self._fetch(_IDENTITY)
        (oid,) = self._refs(_IDENTITY).values()
        identity.check(self._blobs([oid])[oid], self.address)

    def states(self) -> Mapping[str, Kept]:
        """The state of every job that was ever taken, by name."""
        self._fetch(_JOBS, _MONEY)
        refs = self._refs(_JOBS)
        blobs = self._blobs(oid for oid in refs.values() if oid not in self._read)
        self._read = {
            oid: self._read.get(oid) or self._kept(ref, oid, blobs[oid]) for ref, oid in refs.items()
        }
        return {ref.removeprefix(_JOBS): self._read[oid] for ref, oid in refs.items()}

    def swap(self, name: str, was: Kept | None, state: JobState, extra: Extra = NOTHING) -> Kept:
        """Replace a state, durably and together with ``extra``."""
        ref, before = _JOBS + name, was.version if was else ""
        (oid,) = self._write([_unique(json.loads(state.to_json()))])
        others = self._others(name, extra)
        for attempt in range(_TRIES):
            held = self._refs(_MONEY).get(_MONEY, "")
            money = self._money(held).after(was.state if was else None, state)
            if extra.limit_usd is not None and money.committed_usd > extra.limit_usd:
                if attempt:
                    raise OverBudgetError(name)
                self._fetch(_MONEY)  # what the mirror has may be old
                continue
            (sum_oid,) = self._write([_unique(asdict(money))])
            if self._push({ref: (before, oid), _MONEY: (held, sum_oid)}, others, extra.run):
                self._set({ref: oid, _MONEY: sum_oid})
                self._pushed |= others
                return Kept(state, oid)
            time.sleep(random.uniform(0, 0.05 * min(attempt + 1, 20)))  # noqa: S311 - not for secrets
            self._fetch(ref, _MONEY)
            if (there := self._refs(ref).get(ref, "")) == oid:
                self._pushed |= others
                return Kept(state, oid)  # it was pushed, and the answer was lost on the way
            if there != before:
                raise LostError(name)
        raise EnvironmentFault(
            f"{self.address}: the state of the job {name!r} could not be changed in {_TRIES} tries",
            why="other workers change the money of the fleet all the time",
            hint="use fewer workers, or jobs that run longer",
        )

    def money(self) -> Money:
        """What the fleet has spent and holds back."""
        self._fetch(_MONEY)
        return self._money(self._refs(_MONEY).get(_MONEY, ""))

    def run_folder(self, name: str, at: Path) -> Path:
        """``at``/NAME, made from what was pushed of the run when another worker had it last."""
        folder, prefix = at / name, f"{_RUNS}{name}/"
        remote = self._remote(prefix)
        self._pushed |= remote
        if remote and not self._has(folder, remote.values()):
            shutil.rmtree(folder, ignore_errors=True)
            self._check_out(prefix, folder)
        return folder

    def results(self) -> Mapping[str, bytes]:
        """Every kept result, by the name of the job."""
        self._fetch(_RESULTS)
        refs = self._refs(_RESULTS)
        blobs = self._blobs(refs.values())
        return {ref.removeprefix(_RESULTS): blobs[oid] for ref, oid in refs.items()}

    # ── what is pushed ──────────────────────────────────────────────────────────────────────────────

    def _others(self, name: str, extra: Extra) -> dict[str, str]:
        """The refs that only the holder of a lease moves: the changed ones of the run, and the result."""
        refs = _refs_of(extra.run) if extra.run is not None else {}
        wanted = {f"{_RUNS}{name}/{ref.removeprefix('refs/')}": oid for ref, oid in refs.items()}
        if extra.result is not None:
            (wanted[_RESULTS + name],) = self._write([extra.result])
        return {ref: oid for ref, oid in wanted.items() if self._pushed.get(ref) != oid}

    def _push(
        self, leased: Mapping[str, tuple[str, str]], others: Mapping[str, str], run: Path | None
    ) -> bool:
        """Push all or nothing; False when a leased ref is not where it was."""
        leases = [f"--force-with-lease={ref}:{was}" for ref, (was, _) in leased.items()]
        moves = [f"{oid}:{ref}" for ref, (_, oid) in leased.items()]
        forced = [f"+{oid}:{ref}" for ref, oid in others.items()]
        objects = {} if run is None else {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(_objects_of(run))}
        try:
            self._git(["push", "-q", "--atomic", *leases, self.address, *moves, *forced], objects)
        except _GitError as error:
            if any(word in error.text.lower() for word in _REFUSED):
                raise self._refused(error) from error
            if any(word in error.text for word in _OVERTAKEN):
                return False
            raise self._unreachable(error) from error
        return True

    # ── the mirror ──────────────────────────────────────────────────────────────────────────────────

    def _fetch(self, *prefixes: str) -> None:
        """Bring the mirror's refs below ``prefixes`` to what the store has."""
        specs = [
            f"+{prefix}*:{prefix}*" if prefix.endswith("/") else f"+{prefix}:{prefix}" for prefix in prefixes
        ]
        known = [spec for spec, prefix in zip(specs, prefixes, strict=True) if prefix.endswith("/")]
        single = [prefix for prefix in prefixes if not prefix.endswith("/")]
        there = self._remote(*single) if single else {}
        known += [f"+{ref}:{ref}" for ref in there]
        if known:
            self._reach(
                ["fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", self.address, *known]
            )

    def _remote(self, *patterns: str) -> dict[str, str]:
        """The refs of the store that begin with one of ``patterns``."""
        wanted = [f"{pattern}*" if pattern.endswith("/") else pattern for pattern in patterns]
        lines = self._reach(["ls-remote", "--quiet", self.address, *wanted]).decode().splitlines()
        result = (line.split("\t", 1) for line in lines)
        return {ref: oid for oid, ref in result if ref.startswith(tuple(patterns))}

    def _refs(self, prefix: str) -> dict[str, str]:
        lines = self._git(["for-each-ref", "--format=%(refname) %(objectname)", prefix]).decode().splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def _set(self, refs: Mapping[str, str]) -> None:
        self._git(
            ["update-ref", "--stdin"], given="".join(f"update {ref} {oid}\n" for ref, oid in refs.items())
        )

    def _write(self, contents: Sequence[bytes]) -> list[str]:
        """The ids of new blobs."""
        return [self._git(["hash-object", "-w", "--stdin"], given=data).decode().strip() for data in contents]

    def _blobs(self, oids: Iterable[str]) -> dict[str, bytes]:
        """The contents of blobs, by id, with one git for all of them."""
        wanted = list(dict.fromkeys(oids))
        data = self._git(["cat-file", "--batch"], given="".join(f"{oid}\n" for oid in wanted))
        result: dict[str, bytes] = {}
        for oid in wanted:
            header, _, data = data.partition(b"\n")
            size = int(header.split()[-1])
            result[oid], data = data[:size], data[size + 1 :]
        return result

    def _kept(self, ref: str, oid: str, data: bytes) -> Kept:
        try:
            return Kept(JobState.from_json(data), oid)
        except ValueError as error:
            raise EnvironmentFault(
                f"{ref} in {self.address} cannot be read: {error}",
                why="whether the job runs, and what it has spent, is not known",
                hint=f"if no worker runs it: git push {self.address} :{ref}; the run is kept",
            ) from error

    def _money(self, oid: str) -> Money:
        if not oid:
            return Money()
        result = json.loads(self._blobs([oid])[oid])
        return Money(result["spent_usd"], result["reserved_usd"])

    # ── run folders ─────────────────────────────────────────────────────────────────────────────────

    def _has(self, folder: Path, oids: Iterable[str]) -> bool:
        """Whether a run folder holds every object of ``oids``, so that what it has is not older."""
        if not (folder / ".git").exists():
            return False
        given = "".join(f"{oid}\n" for oid in oids)
        answer = _git(["cat-file", "--batch-check"], cwd=folder / ".git", given=given, env={"GIT_DIR": "."})
        return b" missing" not in answer

    def _check_out(self, prefix: str, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git(["init", "-q", "-b", "main", str(folder)], cwd=folder.parent)
        # A model's .gitattributes must not decide which bytes are checked out.
        (folder / ".git" / "info").mkdir(exist_ok=True)
        (folder / ".git" / "info" / "attributes").write_text(
            "* -text -filter -ident -working-tree-encoding\n"
        )
        inside = {"GIT_DIR": ".git"}
        fetch = ["fetch", "-q", "--no-tags", "--update-head-ok", self.address, f"+{prefix}*:refs/*"]
        try:
            _git(fetch, cwd=folder, env=inside)
        except _GitError as error:
            raise self._unreachable(error) from error
        _git(["reset", "-q", "--hard", "HEAD"], cwd=folder, env=inside)

    def _reach(self, arguments: Sequence[str]) -> bytes:
        try:
            return self._git(arguments)
        except _GitError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: _GitError) -> UnreachableError:
        return UnreachableError(
            f"the store {self.address} cannot be reached: {error.text[-300:]}",
            why="workers meet in the store, and a job may only run under a lease from it",
            hint=f"try git ls-remote {self.address}; then run the fleet again",
        )

    def _refused(self, error: _GitError) -> EnvironmentFault:
        return EnvironmentFault(
            f"the store {self.address} takes no changes: {error.text[-300:]}",
            why="a job may only run under a lease, and its lease would be written there",
            hint="free space, or give this worker the right to push; then run the fleet again",
        )

    def _git(
        self, arguments: Sequence[str], env: Mapping[str, str] | None = None, given: str | bytes = b""
    ) -> bytes:
        return _git(arguments, cwd=self._mirror, env={"GIT_DIR": ".", **(env or {})}, given=given)


class _GitError(Exception):
    """Git has failed; ``text`` is what it printed."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _unique(data: Mapping[str, Any]) -> bytes:
    """``data`` as a blob that no other worker writes: git takes a push of the same bytes for none at all."""
    return json.dumps({**data, "nonce": secrets.token_hex(8)}, ensure_ascii=False).encode("utf-8", "replace")


def _objects_of(run: Path) -> Path:
    return run.absolute() / ".git" / "objects"


def _refs_of(run: Path) -> dict[str, str]:
    """The refs of a run folder."""
    listed = ["for-each-ref", "--format=%(refname) %(objectname)"]
    lines = _git(listed, cwd=run / ".git", env={"GIT_DIR": "."}).decode().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def _git(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, given: str | bytes = b""
) -> bytes:
    """What git prints. Raises ``_GitError``, also after two minutes."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in _KEPT}
    result = kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"} | dict(env or {})
    data = given.encode() if isinstance(given, str) else given
    try:
        process = subprocess.Popen(
            ["git", *_PLAIN, *arguments],
            cwd=cwd,
            env=result,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _GitError(str(error)) from error
    try:
        output, errors = process.communicate(data, _TIMEOUT_S)
    except BaseException as error:
        # Also the programs that git has started: an ssh without a network would hold the pipes for hours.
        kill_group(process.pid)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise _GitError(f"git {arguments[0]} has not ended after {_TIMEOUT_S:.0f} s") from error
        raise
    if process.returncode:
        raise _GitError(errors.decode("utf-8", "replace").strip())
    return output
