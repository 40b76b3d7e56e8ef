"""External stop hooks: programs that speak the agent clients' protocol and run after the verifiers.

Owns the input of such a program and the meaning of its reply. Here a hook fails closed: one that crashes,
prints something else or does not end is a broken gate, and the run stops without judging the answer. A
program runs as ``command`` verifiers do: from its pinned files, in the same sandbox, without a shell and
without the runner's environment.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner import process
from loop_runner.errors import HookError, VerifierError
from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.text import cut_middle, one_line
from loop_runner.verify import NO_MEANS, BaseVerifier, Means, Need, Programs, Submission
from loop_runner.verify.evidence import LEVELS, Evidence, level, limited
from loop_runner.verify.options import Options, one_of

if TYPE_CHECKING:
    from loop_runner.verify.command import Command

_REASON_CHARS = 6000
_KEYS = ("timeout_s", "network", "pin", "show")


@dataclass(frozen=True, slots=True)
class ExternalHook(BaseVerifier):
    """One program of ``stop_hooks:``; it takes the place of a verifier in the loop."""

    runs_code = True
    program: Command
    evidence: Evidence = "full"
    says: str = ""  # its requirement in the prompt; "": that it must let the session end

    @property
    def name(self) -> str:
        """See ``Verifier``."""
        return self.program.name

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return self.says or f"the stop hook `{one_line(shlex.join(self.program.argv), 200)}` must let it end"

    @property
    def label(self) -> str:
        """See ``Verifier``."""
        return "stop_hooks"

    @property
    def network(self) -> bool:  # type: ignore[override]
        """See ``Verifier``."""
        return self.program.network

    def sources(self) -> list[Path]:
        """See ``Verifier``."""
        return self.program.sources()

    def needs(self, pins: Programs) -> Iterator[Need]:
        """See ``Verifier``."""
        return self.program.needs(pins)

    def fault(self, pins: Programs) -> str:
        """See ``Verifier``."""
        return self.program.fault(pins)

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Rejected`` with the hook's reason; ``Broken`` when its reply does not follow the protocol."""

        def payload_for(checkout: Path) -> bytes:
            return json.dumps(payload(submission, checkout)).encode()

        ended = self.program.run(submission, means, payload_for)
        return (
            ended
            if isinstance(ended, Broken | Rejected)
            else limited(_verdict(self.name, *ended), self.evidence)
        )


def payload(submission: Submission, checkout: Path) -> dict[str, object]:
    """A hook's input: the fields that Claude Code and Codex send at a stop, about the committed answer."""
    return {
        "hook_event_name": "Stop",
        "session_id": "loop-runner",
        "cwd": str(checkout / "workspace"),
        "transcript_path": None,
        "permission_mode": "default",
        "stop_hook_active": False,
        "last_assistant_message": submission.answer,
    }


Spec = str | Sequence[str] | Mapping[str, Any]


def makers(specs: Sequence[Spec], base_dir: Path) -> Iterator[Callable[[], ExternalHook]]:
    """The maker of a task's hooks, for ``Gates.of``; raises ``HookError`` for one that cannot run."""
    return (partial(_hook, spec, base_dir.resolve()) for spec in specs)


def build(specs: Sequence[Spec], base_dir: Path) -> tuple[ExternalHook, ...]:
    """The hooks of a task. Raises ``HookError`` for one that cannot run."""
    return tuple(make() for make in makers(specs, base_dir))


def _hook(spec: Spec, base_dir: Path) -> ExternalHook:
    data: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"command": spec}
    command, name = data.pop("command", None), data.pop("name", None)
    evidence, says = data.pop("evidence", "full"), data.pop("says", "")
    if set(data) - set(_KEYS) or not isinstance(name, str | None) or command is None:
        raise _no_hook(spec)
    if not isinstance(says, str):
        raise _no_hook(spec)
    from loop_runner.verify.command import Command
    from loop_runner.verify.command_line import NeedsShell

    try:
        shown = level("stop_hooks", evidence)
        options = Options("stop_hooks", {**data, "run": command}, ("run", *_KEYS))
        made = Command.from_options(name or "", options, base_dir)
    except VerifierError as error:
        if isinstance(error.__cause__, NeedsShell):
            raise HookError(f"stop_hooks: {error.message}", why=error.why, hint=error.hint) from error
        raise _no_hook(spec) from error
    label = name or one_line(f"stop hook {shlex.join(made.argv)}", 80)
    return ExternalHook(replace(made, name=label, kind="stop_hooks"), shown, " ".join(says.split()))


def schema() -> dict[str, Any]:
    """An entry of ``stop_hooks:``, as JSON Schema."""
    from loop_runner.verify.command import Command

    run = Command.KEYS["run"]
    settings = {
        "command": run,
        "name": {"type": ["string", "null"]},
        "evidence": one_of(LEVELS),
        "says": {"type": "string"},
        **{key: Command.KEYS[key] for key in _KEYS},
    }
    mapping = {
        "type": "object",
        "properties": settings,
        "required": ["command"],
        "additionalProperties": False,
    }
    return {"anyOf": [*run["anyOf"], mapping]}


def _no_hook(spec: Spec) -> HookError:
    return HookError(
        f"stop_hooks: {spec!r} is not a hook",
        why="a hook that never runs cannot stop anything",
        hint="write a program with its arguments, or {command: [...], name: ..., timeout_s: 60}",
    )


def _verdict(name: str, ended: process.Finished, record: Mapping[str, Any]) -> Verdict:
    last_words = one_line(ended.output[-300:], 300)
    if ended.timed_out:
        return Broken(f"{name} did not end in time; its output: {last_words}")
    if ended.exit_code is None:
        return Broken(f"{name} could not be started: {last_words}")
    answer = _object(ended.output)
    if answer is None and ended.exit_code == 2:  # the clients' other way to block, with the reason as text
        return Rejected(cut_middle(ended.output.strip(), _REASON_CHARS) or "it gave no reason", record=record)
    if ended.exit_code not in (0, 2):
        return Broken(f"{name} ended with exit code {ended.exit_code}: {last_words}")
    if answer is None:
        return (
            Accepted(record=record)
            if not ended.output.strip()
            else Broken(f"{name} printed no JSON object: {last_words}")
        )
    if answer.get("decision") in ("block", "deny") or answer.get("continue") is False:
        reason = answer.get("reason") or answer.get("stopReason") or "it gave no reason"
        return Rejected(cut_middle(str(reason), _REASON_CHARS), record=record)
    if isinstance(answer.get("followup_message"), str):
        return Rejected(cut_middle(answer["followup_message"], _REASON_CHARS), record=record)
    return Accepted(record=record)


def _object(output: str) -> dict[str, Any] | None:
    """The JSON object that the output is, or that its last line is."""
    for part in (output.strip(), output.strip().rsplit("\n", 1)[-1]):
        try:
            data = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            return data
    return None
