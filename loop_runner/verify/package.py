"""The verifier that an installed package adds: pinned, and run in the sandbox as ``python`` gates are.

Owns the requests to such a verifier and the meaning of its replies; ``package_child.py`` calls it. None of
its code runs in the runner's process, not even to ask what it requires. Relies on ``package_files`` for its
files and on ``ModelLine`` for its models. See docs/verifiers.md.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import loop_runner
from loop_runner import process, scratch
from loop_runner.errors import LoopRunnerError, VerifierError
from loop_runner.records import Accepted, Broken, Inputs, Rejected, Verdict
from loop_runner.text import cut_middle
from loop_runner.verify import gate, machine, package_files
from loop_runner.verify.command import about, why_broken
from loop_runner.verify.gate import GateFault
from loop_runner.verify.model_line import ModelLine
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.package_files import Package
from loop_runner.verify.programs import Pinning, Program
from loop_runner.verify.verdict_channel import VerdictChannel
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Fence, Means, Submission

_CHILD = Path(__file__).with_name("package_child.py")
_PACKAGE_DIR = Path(loop_runner.__file__).parent
_TIMEOUT_S = 60.0
_TIMEOUT_WITH_MODELS_S = 900.0  # includes waiting for replies
_MAX_TIMEOUT_S = 24 * 3600.0
_EVIDENCE_CHARS = 6000
_REASON_CHARS = 2000


@dataclass(frozen=True, slots=True)
class PackageVerifier(BaseVerifier):
    """Accepts when the package's ``verify`` returns ``Accepted``."""

    runs_code = True
    name: str
    kind: str
    settings_given: Any
    task_dir: Path
    requirement: str
    network: bool = False
    declared_models: tuple[str, ...] = ()  # models
    files: tuple[str, ...] = ()  # of the task's folder; the verifier is made of them
    timeout_s: float = _TIMEOUT_S
    has_refusals: bool = False
    package: str = ""  # name and version
    means_to_start: Means = NO_MEANS  # used to describe it

    @classmethod
    def of(
        cls, kind: str, value: Any, name: str, task_dir: Path, pinning: Pinning, fence: Fence | None
    ) -> PackageVerifier:
        """The verifier as it describes itself in ``fence``; without one, nothing is started.

        Raises ``VerifierError`` when it refuses its settings, or describes itself in an unusable way.
        """
        if not pinning.is_frozen and package_files.pinned(kind, pinning.programs) is None:
            package_files.pin(kind, pinning)
        blank = cls(name or kind, kind, value, task_dir, f"the verifier `{kind}` must accept the answer")
        if fence is None:
            return blank
        description = blank.describe(name, Means(fence, programs=pinning.programs), is_last=False)
        if "requirement" not in description:  # it needs its files before it can describe itself further
            if not pinning.is_frozen:
                pinning.add(task_dir / file for file in _files(kind, description))
            files = _files(kind, description)
            means = Means(fence, programs=pinning.programs)
            description = blank.describe(name, means, is_last=True, files=files)
        return cls(
            _text(kind, "name", description),
            kind,
            value,
            task_dir,
            _text(kind, "requirement", description),
            _flag(kind, "network", description),
            _models(kind, description),
            _files(kind, description),
            _seconds(kind, description),
            description.get("refuses") is True,
            package_files.pinned_name(kind, pinning.programs),
            Means(fence, programs=pinning.programs),
        )

    @property
    def is_repeatable(self) -> bool:  # type: ignore[override]
        """Not repeatable where every try would have to be paid for."""
        return not self.declared_models

    @property
    def label(self) -> str:
        """See ``Verifier``."""
        return f"verifier {self.name!r} ({self.package})" if self.package else f"verifier {self.name!r}"

    def sources(self) -> list[Path]:
        """Its files in the task's folder; the package itself is pinned already."""
        return [self.task_dir / file for file in self.files]

    def models(self) -> tuple[str, ...]:
        """The models that it declares."""
        return self.declared_models

    def describe(
        self, name: str, means: Means, *, is_last: bool, files: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        """Its description of itself; ``is_last``: even with files missing."""
        job = {"do": "describe", "is_last": is_last}
        return self._said_of_settings(name, means, job, Inputs(()), files)

    def refuse(self, inputs: Inputs) -> None:
        """Raise ``VerifierError`` if the package refuses these inputs."""
        if self.has_refusals:
            self._said_of_settings(self.name, self.means_to_start, {"do": "refuse"}, inputs, self.files)

    def _said_of_settings(
        self, name: str, means: Means, job: Mapping[str, Any], inputs: Inputs, files: Sequence[str]
    ) -> Mapping[str, Any]:
        """The package's reply before there is an answer. Raises ``VerifierError`` for a refusal."""
        with scratch.make("package") as folder:
            checkout = gate.checkout_of(folder / "checkout", "")
            run = _Run(self, name, means, Submission("", checkout, inputs), _TIMEOUT_S, files)
            ended = run.ended(job)
        if isinstance(ended, Broken):
            raise _refused(self.kind, ended.reason)
        if ended.reply is None:
            raise _refused(self.kind, f"it ended without a reply{_last_words(ended.finished)}")
        for key in ("broken", "refused"):
            if key in ended.reply:
                raise _refused(self.kind, exact_line(str(ended.reply[key]), 600))
        return ended.reply

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when the package is missing or changed, crashes, or returns something else."""
        run = _Run(self, self.name, means, submission, self.timeout_s, self.files)
        ended = run.ended({"do": "verify", "prompt": submission.prompt, "earlier": list(submission.earlier)})
        if isinstance(ended, Broken):
            return ended
        verdict = why_broken(ended.finished, self.kind, self.timeout_s) or ended.verdict(self.kind, means)
        return machine.excused(verdict, means.fence, run.words())


@dataclass(frozen=True, slots=True)
class _Ended:
    """How the child ended: its process, its reply, its record for the proof, and its model requests."""

    finished: process.Finished
    reply: Mapping[str, Any] | None
    record: dict[str, Any]
    line: ModelLine

    def verdict(self, kind: str, means: Means) -> Verdict:
        """The verdict that was sent."""
        reply, record = self.reply, self.record
        if reply is None or self.finished.exit_code:
            return self._broken(f"`{kind}` ended without a verdict{_last_words(self.finished)}")
        evidence = means.as_seen(cut_middle(str(reply.get("evidence") or ""), _EVIDENCE_CHARS))
        statement = exact_line(str(reply.get("statement") or ""), 300)
        match reply.get("verdict"):
            case "accepted":
                return Accepted(evidence, _share(reply.get("score"), 1.0), record, statement)
            case "rejected":
                reason = str(reply.get("reason") or "").strip() or f"`{kind}` did not accept the answer"
                reason = means.as_seen(cut_middle(reason, _REASON_CHARS))
                return Rejected(reason, evidence, _share(reply.get("score"), 0.0), record)
        return self._broken(exact_line(str(reply.get("broken") or "it sent no verdict"), 600))

    def _broken(self, reason: str) -> Broken:
        if self.line.spent:
            return Broken(
                f"no model can be asked: the budget of {self.line.spent} is used up", self.line.spent
            )
        return Broken(
            f"a model did not answer: {exact_line(self.line.error, 400)}" if self.line.error else reason
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """One process of a package's verifier."""

    verifier: PackageVerifier
    name: str
    means: Means
    submission: Submission
    timeout_s: float
    files: Sequence[str]

    def ended(self, job: Mapping[str, Any]) -> _Ended | Broken:
        """Run it to its end, from the pinned files."""
        pins, kind = self.means.programs, self.verifier.kind
        package = package_files.pinned(kind, pins)
        if package is None:
            return Broken(
                f"the package that adds `{kind}` was not pinned; `loop-runner resume RUN --repin` does it"
            )
        mine = [*package.files, *pins.relied_on(self.verifier.task_dir / file for file in self.files)]
        if changed := pins.changed(mine):
            return Broken(f"{package.name}: {changed}")
        try:
            return self._run(package, mine, job)
        except GateFault as fault:
            return Broken(exact_line(str(fault), 400))
        except LoopRunnerError as error:
            if job["do"] == "verify":
                return Broken(exact_line(error.message, 400))
            raise  # before a run begins: the machine's fault, with its own hint

    def _run(self, package: Package, mine: Sequence[Program], job: Mapping[str, Any]) -> _Ended:
        pins, verifier = self.means.programs, self.verifier
        with ExitStack() as stack:
            here = stack.enter_context(
                gate.prepared(self.submission, self.means.fence, lambda into: pins.lay_out(mine, into))
            )
            channel = stack.enter_context(VerdictChannel())
            line = stack.enter_context(ModelLine(self.means.panel, verifier.declared_models))
            installed = package_files.installed_folders(verifier.kind)
            has_models = bool(verifier.declared_models) and job["do"] == "verify"
            request = {
                **job,
                "name": self.name,
                "settings": verifier.settings_given,
                "value": package.value,
                "base_dir": str(here.programs / "task"),
                "paths": [str(here.programs / root) for root in package.roots],
                "installed": installed,
                "inputs": [
                    [text.name, str(text.path), text.size_bytes, text.sha256] for text in here.inputs.texts
                ],
                "model": line.model if has_models else None,
            }
            python = gate.find_program(sys.executable)
            # -P and -s: neither the start folder nor a user's site-packages affects what is imported.
            argv = [python, "-P", "-s", "-B", "-X", "utf8", str(_CHILD), str(_PACKAGE_DIR), str(channel.fd)]
            finished = here.run(
                [*argv, str(line.fd) if has_models else ""],
                timeout_s=self.timeout_s,
                stdin=json.dumps(request, default=str).encode(),
                network=verifier.network,
                shown=[_PACKAGE_DIR, *map(Path, installed)],
                fds=[channel.fd, *([line.fd] if has_models else [])],
            )
            reply = channel.verdict()
            record = about(finished, mine, python, here)
            if reply is not None:
                reply = {
                    key: here.without_paths(text) if isinstance(text, str) else text
                    for key, text in reply.items()
                }
        if line.replies:
            record["requests"] = list(line.replies)
        # A re-run from a run folder uses the pinned files, whatever is installed, and reports a difference.
        is_rerun = pins.is_frozen and not self.means.is_agent and job["do"] == "verify"
        if is_rerun and (why := package_files.differs(verifier.kind, pins)):
            record["installed"] = why
        return _Ended(finished, reply, record, line)

    def words(self) -> list[str]:
        """Everything that the package's author wrote."""
        package = package_files.pinned(self.verifier.kind, self.means.programs)
        return [
            (program.data or b"").decode("utf-8", "replace") for program in (package.files if package else ())
        ]


def _refused(kind: str, reason: str) -> VerifierError:
    return VerifierError(
        f"verifier `{kind}`: {reason}",
        why="without it, the check would do something else than you meant, or nothing",
        hint="the documentation of the package that adds the verifier says how to set it",
    )


def _last_words(finished: process.Finished) -> str:
    last = exact_line(finished.output.strip().rsplit("\n", 1)[-1])
    return f"; its last line: {last}" if last else ""


# ── a package's description of its verifier ─────────────────────────────────────────────────────────


def _text(kind: str, key: str, description: Mapping[str, Any]) -> str:
    value = description.get(key)
    if not isinstance(value, str) or not value.strip() or (key == "name" and not value.isprintable()):
        raise _refused(
            kind, f"its `{key}` is {_shown(description, key)}; it must be a text that is not empty"
        )
    return value


def _flag(kind: str, key: str, description: Mapping[str, Any]) -> bool:
    if not isinstance(description.get(key), bool):
        raise _refused(kind, f"its `{key}` is {_shown(description, key)}; it must be True or False")
    return bool(description[key])


def _texts(kind: str, key: str, description: Mapping[str, Any]) -> tuple[str, ...]:
    value = description.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _refused(kind, f"its `{key}()` is {_shown(description, key)}; it must be a list of texts")
    return tuple(value)


def _models(kind: str, description: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_texts(kind, "models", description)))


def _files(kind: str, description: Mapping[str, Any]) -> tuple[str, ...]:
    """Files in the task's folder only: the runner reads the named files, outside any sandbox."""
    files = _texts(kind, "sources", description)
    for file in files:
        if os.path.isabs(file) or ".." in Path(file).parts or "\0" in file:  # noqa: PTH117
            raise _refused(kind, f"its `sources()` names {file!r}, which is not in the task's folder")
    return files


def _seconds(kind: str, description: Mapping[str, Any]) -> float:
    value = description.get("timeout_s")
    if value is None:
        return _TIMEOUT_WITH_MODELS_S if description.get("models") else _TIMEOUT_S
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MAX_TIMEOUT_S:
        raise _refused(
            kind, f"its `timeout_s` is {_shown(description, 'timeout_s')}; it must be a number of seconds"
        )
    return float(value)


def _shown(description: Mapping[str, Any], key: str) -> str:
    """A value as it is; if it is not JSON, the child's description of it."""
    return exact_line(repr(cast("Any", description.get(key))), 200)


def _share(value: object, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return min(max(float(value), 0.0), 1.0)
