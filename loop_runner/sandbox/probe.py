"""Finds the sandbox that this machine can give a kernel by trying it, and reports exactly what held.

A throw-away child is wrapped exactly as a kernel would be and tries what must not be possible (``effects``);
the host watches from outside. A layer counts for its observed effect, never for being installed. Three
tiers: A has its own namespaces (bubblewrap), B shares the machine's but sees only its paths and calls
(Landlock and a filter of system calls), C limits amounts and little else.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loop_runner import linux, scratch
from loop_runner.errors import EnvironmentFault
from loop_runner.process import kill_group
from loop_runner.records import SandboxTier as Tier
from loop_runner.sandbox import remembered
from loop_runner.sandbox.advice import advice
from loop_runner.sandbox.mounts import python_paths
from loop_runner.sandbox.neighbours import TRY, Neighbours
from loop_runner.sandbox.tier_claims import CLAIMS, NEVER_TRIED, WORKS
from loop_runner.sandbox.wrap import MIB, Launch, Layers, Limits, wrap

_TIERS: tuple[Tier, ...] = ("A", "B", "C")
_TIMEOUT_S = 30.0
_NEEDS_LINUX = "The sandbox needs Linux with /proc: use a virtual machine or a container."
_MESSAGE_CHARS = 300

_PROBE = "import sys\nfrom loop_runner.sandbox.inside.effects import main\nmain(sys.argv[1])\n"


_GAPS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """The sandbox of this machine, as observed. All texts are whole sentences or clauses."""

    tier: Tier
    enforced: tuple[str, ...]
    not_enforced: tuple[str, ...]
    how_to_improve: tuple[str, ...]
    layers: Layers
    observations: Mapping[str, str] = field(default_factory=dict)  # test → "" (it held) or what happened

    def summary(self) -> str:
        """The tier and what it does not enforce, in one short line; ``doctor`` prints the sentences."""
        short = {claim.not_enforced: claim.gap for claim in CLAIMS} | NEVER_TRIED
        gaps = [short.get(sentence, sentence) for sentence in self.not_enforced]
        more = f" and {len(gaps) - _GAPS_SHOWN} more" if len(gaps) > _GAPS_SHOWN else ""
        shown = f"not enforced: {', '.join(gaps[:_GAPS_SHOWN])}{more}"
        return f"sandbox tier {self.tier}; {shown} (details: loop-runner doctor)"

    def as_dict(self) -> dict[str, Any]:
        """For ``pass.json`` and ``doctor``."""
        return {
            "tier": self.tier,
            "enforced": list(self.enforced),
            "not_enforced": list(self.not_enforced),
            "how_to_improve": list(self.how_to_improve),
        }


def probe(python: str | None = None, search_path: str | None = None) -> SandboxReport:
    """The best sandbox for a kernel in the interpreter ``python``; determined once per process.

    None is the runner's own interpreter without its packages, as ``launch`` starts it. bubblewrap is
    searched for in ``search_path``, as in PATH. An earlier process's result for the same circumstances is
    reused (``remembered``). ``EnvironmentFault`` when not even limits work, or when the runner is root and
    the kernel cannot become another user.
    """
    return _probe(python, _places(search_path)) if linux.has_sandbox() else _without_sandbox()


def probe_anew(python: str | None = None, search_path: str | None = None) -> SandboxReport:
    """``probe``, but try everything now, ignoring earlier results."""
    if not linux.has_sandbox():
        return _without_sandbox()
    circumstances = _circumstances(python, _places(search_path))
    remembered.remove(circumstances)
    _probe.cache_clear()
    _taken_as_remembered.clear()
    return _probe(python, _places(search_path))


def forget() -> bool:
    """Drop results that this process did not find itself; False if there are none.

    Call it when a process could not be confined: the next ``probe`` tries everything.
    """
    if not _taken_as_remembered:
        return False
    for circumstances in _taken_as_remembered:
        remembered.remove(circumstances)
    _taken_as_remembered.clear()
    _probe.cache_clear()
    return True


_taken_as_remembered: set[str] = set()  # circumstances of reports that an earlier process made


def _places(search_path: str | None) -> str:
    return os.environ.get("PATH", os.defpath) if search_path is None else search_path


def _circumstances(python: str | None, search_path: str) -> str:
    bubblewrap = shutil.which("bwrap", path=search_path)
    choices = map(repr, _candidates(bubblewrap, as_root=os.geteuid() == 0))
    return remembered.circumstances([bubblewrap, python], choices)


@functools.lru_cache(maxsize=8)
def _probe(python: str | None, search_path: str) -> SandboxReport:
    python_paths(python or sys.executable, has_packages=python is not None)  # raises when it cannot run
    circumstances = _circumstances(python, search_path)
    bubblewrap = shutil.which("bwrap", path=search_path)
    if (report := _as_remembered(remembered.load(circumstances), bubblewrap)) is not None:
        _taken_as_remembered.add(circumstances)
        return report
    report = _tried(python, bubblewrap)
    if report.tier != "C":  # C is refused, so it must not outlive its cause
        best = next(iter(_candidates(bubblewrap, as_root=os.geteuid() == 0)))
        is_best = replace(report.layers, cgroup=best.cgroup) == best
        remembered.store(circumstances, _to_remember(report), is_best=is_best)
    return report


def _tried(python: str | None, bubblewrap: str | None) -> SandboxReport:
    """Try the sets of layers, best first; the report on the first that does what its tier needs."""
    failures: dict[str, str] = {}
    as_root = os.geteuid() == 0
    for layers in _candidates(bubblewrap, as_root=as_root):
        tier = _tier_of(layers)
        seen = _observe(layers, python)
        tier_failure = _why_not(tier, seen)
        if tier_failure:
            failures[tier] = tier_failure  # of the simplest form of the tier: more machines have it
            continue
        layers, seen = _with_group(layers, seen, python)  # noqa: PLW2901 - the same layers and one more
        return _report(tier, layers, seen, advice(tier, failures, bubblewrap))
    raise EnvironmentFault(
        "no sandbox works here: " + "; ".join(f"tier {tier}: {why}" for tier, why in failures.items()),
        why="the model's code runs unattended, and never as root",
        hint=" ".join(advice("C", failures, bubblewrap)) or "start loop-runner as an ordinary user",
    )


def _without_sandbox() -> SandboxReport:
    """The report where no part of a sandbox is available, so nothing was tried."""
    if os.geteuid() == 0:
        raise EnvironmentFault(
            "loop-runner was started as root on a system where it has no sandbox",
            why="the model's code runs unattended, and never as root",
            hint="start loop-runner as an ordinary user",
        )
    gaps = (*(claim.not_enforced for claim in CLAIMS), *NEVER_TRIED)
    return SandboxReport("C", (), gaps, (_NEEDS_LINUX,), Layers(is_bare=True))


def refuse_without_sandbox(tier: Tier | None) -> None:
    """``EnvironmentFault`` on a system that has no sandbox at all, unless tier C was asked for."""
    if tier == "C" or linux.has_sandbox():
        return
    raise EnvironmentFault(
        f"there is no sandbox on this system ({sys.platform}): model code and command gates need"
        " kernel.require_tier: C here",
        why="they would run with all of your rights",
        hint="to allow that, in a machine of its own: --set kernel.require_tier=C (`verify`: --allow tier=C)."
        f" {_NEEDS_LINUX}",
    )


def _tier_of(layers: Layers) -> Tier:
    return "A" if layers.bubblewrap else "B" if layers.landlock else "C"


def _to_remember(report: SandboxReport) -> dict[str, Any]:
    """Choices and observations; sentences and the path of bubblewrap are never taken from a file."""
    chosen = {name: getattr(report.layers, name) for name in _CHOSEN}
    return {
        "bubblewrap": report.layers.bubblewrap is not None,
        "layers": chosen,
        "seen": dict(report.observations),
        "advice": list(report.how_to_improve),
    }


_CHOSEN = ("landlock", "syscalls", "cgroup", "uid", "own_root")


def _as_remembered(stored: Mapping[str, Any] | None, bubblewrap: str | None) -> SandboxReport | None:
    """The report that the stored result describes; None unless the probe could make it here."""
    if stored is None:
        return None
    try:
        chosen = {name: stored["layers"][name] for name in _CHOSEN}
        layers = Layers(bubblewrap if stored["bubblewrap"] else None, **chosen)
        seen, advice = stored["seen"], stored["advice"]
        texts = [*seen, *seen.values(), *advice]
        is_candidate = replace(layers, cgroup=False) in _candidates(bubblewrap, as_root=os.geteuid() == 0)
    except (KeyError, TypeError, AttributeError):
        return None
    tier = _tier_of(layers)
    is_candidate = is_candidate and stored["bubblewrap"] is (layers.bubblewrap is not None)
    if not is_candidate or tier == "C" or not all(isinstance(text, str) for text in texts):
        return None
    if layers.cgroup is not (seen.get("total_memory") == "") or _why_not(tier, seen):
        return None
    return _report(tier, layers, seen, tuple(advice))


def require_tier(report: SandboxReport, tier: Tier | None = None) -> None:
    """``EnvironmentFault`` (exit code 4) when the machine offers less than ``tier``.

    None asks for the default: A or B. Tier C must be requested by name.
    """
    refuse_without_sandbox(tier)
    wanted: Tier = tier or "B"
    if _TIERS.index(report.tier) <= _TIERS.index(wanted):
        return
    improve = " ".join(report.how_to_improve)
    allow = (
        " Or set kernel.require_tier: C to run without protection, in a machine of its own."
        if tier is None
        else ""
    )
    raise EnvironmentFault(
        f"the sandbox here is of tier {report.tier}, and tier {wanted} is required",
        why="not enforced: " + "; ".join(report.not_enforced),
        hint=improve + allow,
    )


def launch(
    report: SandboxReport,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    workspace: Path,
    private_dir: Path,
    read_only: Iterable[Path | str] = (),
    fds: Sequence[int] = (),
    limits: Limits | None = None,
) -> Launch:
    """The command of a kernel, ``[python, …, "-c", CODE, …]``, in the sandbox that ``report`` describes."""
    return wrap(
        report.layers,
        argv,
        env,
        workspace=workspace,
        private_dir=private_dir,
        read_only=read_only,
        fds=fds,
        limits=limits,
    )


def _candidates(bubblewrap: str | None, *, as_root: bool) -> Iterator[Layers]:
    """Sets of layers to try, best first."""
    if bubblewrap:
        yield Layers(bubblewrap, landlock=True, syscalls=True, uid=as_root)
        yield Layers(bubblewrap, syscalls=True, uid=as_root)
    yield Layers(landlock=True, syscalls=True, uid=as_root, own_root=True)
    yield Layers(landlock=True, syscalls=True, uid=as_root)
    yield Layers(syscalls=True, uid=as_root)
    yield Layers(uid=as_root)


# ── trying ──────────────────────────────────────────────────────────────────────────────────────────


def _observe(layers: Layers, python: str | None, *, only_memory: bool = False) -> dict[str, str]:
    """Run the tests under ``layers``: test → "" or what happened; under "start": why nothing ran."""
    try:
        with (
            scratch.make("probe") as folder,
            Neighbours(folder) as neighbours,
        ):
            seen = _run(_wrapped_tests(layers, python, neighbours, only_memory=only_memory))
            return {**seen, **neighbours.seen(seen)} if "start" not in seen else seen
    except EnvironmentFault as error:
        return {"start": error.message}
    except OSError as error:
        return {"start": str(error)}


def _wrapped_tests(
    layers: Layers, python: str | None, neighbours: Neighbours, *, only_memory: bool
) -> Launch:
    settings = {**neighbours.settings(), "only_memory": only_memory}
    interpreter = [sys.executable, "-S"] if python is None else [python]
    argv = [*interpreter, "-P", "-s", "-X", "utf8", "-c", _PROBE, json.dumps(settings)]
    return wrap(
        layers,
        argv,
        {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
        workspace=neighbours.workspace,
        private_dir=neighbours.private,
        read_only=[neighbours.input],
        limits=replace(TRY, memory_bytes=4096 * MIB) if only_memory else TRY,
    )


def _run(wrapped: Launch) -> dict[str, str]:
    try:
        process = wrapped.start(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return {"start": f"it did not end within {_TIMEOUT_S:g} s"}
        finally:
            kill_group(process.pid)
            process.communicate()
    finally:
        wrapped.ended()
    try:
        seen: dict[str, str] = json.loads(out)
    except ValueError:
        lines = err.decode("utf-8", "replace").strip().splitlines() or [f"exit code {process.returncode}"]
        return {"start": lines[-1][:_MESSAGE_CHARS]}
    return seen


def _why_not(tier: str, seen: Mapping[str, str]) -> str:
    """Why these observations are not enough for ``tier``; "" when they are."""
    if "start" in seen:
        return seen["start"]
    needed = [test for claim in CLAIMS if tier in claim.needed_for for test in claim.tests]
    failed = [seen.get(test, f"{test} was not tried") for test in (*WORKS, *needed)]
    return "; ".join(text for text in failed if text)


def _with_group(layers: Layers, seen: Mapping[str, str], python: str | None) -> tuple[Layers, dict[str, str]]:
    """The same with a control group, if one can be made and was seen to limit memory."""
    grouped = replace(layers, cgroup=True)
    observed = _observe(grouped, python, only_memory=True)
    if "start" in observed or observed.get("total_memory"):
        return layers, {**seen, "total_memory": observed.get("start") or observed["total_memory"]}
    return grouped, {**seen, **observed}


# ── reporting ───────────────────────────────────────────────────────────────────────────────────────


def _report(tier: Tier, layers: Layers, seen: Mapping[str, str], advice: tuple[str, ...]) -> SandboxReport:
    held = [all(seen.get(test) == "" for test in claim.tests) for claim in CLAIMS]
    enforced = tuple(claim.enforced for claim, holds in zip(CLAIMS, held, strict=True) if holds)
    missing = tuple(claim.not_enforced for claim, holds in zip(CLAIMS, held, strict=True) if not holds)
    return SandboxReport(tier, enforced, (*missing, *NEVER_TRIED), advice, layers, dict(seen))
