"""Stop hooks of others: programs that speak the clients' protocol, asked after the verifiers.

Owns what such a program is given and what its answer means. Here a hook fails closed: one that crashes,
prints something else or does not end is a broken gate, and the run stops without judging the answer. A
program is run as ``command`` verifiers are: without a shell and without the runner's environment.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import process, scratch
from loop_runner.errors import HookError
from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.text import cut_middle, one_line
from loop_runner.verify import Submission

_REASON_CHARS = 6000


@dataclass(frozen=True, slots=True)
class ExternalHook:
    """One program of ``stop_hooks:``; meets the loop where a verifier does."""

    name: str
    argv: tuple[str, ...]
    task_dir: Path
    timeout_s: float = 60.0

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"the stop hook `{one_line(shlex.join(self.argv), 200)}` must let it end"

    def verify(self, submission: Submission) -> Verdict:
        """``Rejected`` with the hook's reason, ``Broken`` when it does not answer as the protocol says."""
        with scratch.make("hook") as folder:
            ended = process.run(
                self._resolved(),
                cwd=submission.checkout,
                env=self._environment(folder, submission),
                timeout_s=self.timeout_s,
                stdin=json.dumps(payload(submission)).encode(),
            )
        return _verdict(self.name, ended)

    def _resolved(self) -> list[str]:
        found = [
            str(self.task_dir / word) if (self.task_dir / word).is_file() else word for word in self.argv
        ]
        return [*found]

    def _environment(self, folder: Path, submission: Submission) -> dict[str, str]:
        return {
            "PATH": os.pathsep.join(os.get_exec_path()),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "LANG": "C.UTF-8",
            "LOOP_ANSWER": str(submission.checkout / "answer.md"),
            "LOOP_WORKSPACE": str(submission.checkout / "workspace"),
            "LOOP_TASK_DIR": str(self.task_dir),
        }


def payload(submission: Submission) -> dict[str, object]:
    """What a hook reads: the fields that Claude Code and Codex send at a stop, about the committed answer."""
    return {
        "hook_event_name": "Stop",
        "session_id": "loop-runner",
        "cwd": str(submission.checkout / "workspace"),
        "transcript_path": None,
        "permission_mode": "default",
        "stop_hook_active": False,
        "last_assistant_message": submission.answer,
    }


Spec = str | Sequence[str] | Mapping[str, Any]


def build(specs: Sequence[Spec], base_dir: Path) -> tuple[ExternalHook, ...]:
    """The hooks of a task. Raises ``HookError`` for one that cannot be run."""
    return tuple(_hook(spec, base_dir) for spec in specs)


def _hook(spec: Spec, base_dir: Path) -> ExternalHook:
    data: dict[str, Any] = dict(spec) if isinstance(spec, Mapping) else {"command": spec}
    command, name, timeout = data.pop("command", None), data.pop("name", None), data.pop("timeout_s", 60)
    try:
        words = shlex.split(command) if isinstance(command, str) else command
    except ValueError:
        words = None
    is_list = (
        isinstance(words, list) and bool(words) and all(isinstance(word, str) and word for word in words)
    )
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout > 0
    if data or not is_list or not is_number or not isinstance(name, str | None):
        raise HookError(
            f"stop_hooks: {spec!r} is not a hook",
            why="a hook that is never asked could not stop anything",
            hint="write a program with its arguments, or {command: [...], name: ..., timeout_s: 60}",
        )
    assert isinstance(words, list)
    label = name or one_line(f"stop hook {shlex.join(words)}", 80)
    return ExternalHook(label, tuple(words), base_dir, float(timeout))


def _verdict(name: str, ended: process.Finished) -> Verdict:
    said = one_line(ended.output[-300:], 300)
    if ended.timed_out:
        return Broken(f"{name} did not end in time; it said: {said}")
    if ended.exit_code is None:
        return Broken(f"{name} could not be started: {said}")
    answer = _object(ended.output)
    if answer is None and ended.exit_code == 2:  # the clients' other way to say no, with the reason as text
        return Rejected(cut_middle(ended.output.strip(), _REASON_CHARS) or "it gave no reason")
    if ended.exit_code not in (0, 2):
        return Broken(f"{name} ended with exit code {ended.exit_code}: {said}")
    if answer is None:
        return Accepted() if not ended.output.strip() else Broken(f"{name} printed no JSON object: {said}")
    if answer.get("decision") in ("block", "deny") or answer.get("continue") is False:
        reason = answer.get("reason") or answer.get("stopReason") or "it gave no reason"
        return Rejected(cut_middle(str(reason), _REASON_CHARS))
    if isinstance(answer.get("followup_message"), str):
        return Rejected(cut_middle(answer["followup_message"], _REASON_CHARS))
    return Accepted()


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
