"""Every error that loop-runner raises on purpose, in one tree.

    LoopRunnerError
     ├─ ConfigError       the task file, a flag, an input: the user can fix it        exit 2
     ├─ WorkspaceError    the run folder: locked, damaged, newer, unwritable           exit 2, 4 or 5
     ├─ EnvironmentFault  the machine lacks something: git, disk space, a sandbox tier exit 4
     ├─ ModelError        a provider refused or stayed unreachable                     exit 4
     ├─ KernelError       the kernel could not be started or kept alive                exit 4
     ├─ VerifierError     a verifier is set up wrongly                                 exit 2
     ├─ HookError         a stop hook is set up wrongly                                exit 2
     └─ NotVerifiedError  only ``Result.raise_for_status`` of the library raises it    exit 3

Whose fault decides the branch. Three things are *not* errors: a cell that raised (``CellResult.error``),
a rejected answer (``Rejected``) and a spent budget (``Stopped``). Relies on ``redaction``: no error shows a
secret of the environment. Never prints or exits.
"""

from __future__ import annotations

from loop_runner.redaction import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class LoopRunnerError(Exception):
    """What happened, why it matters, what to do. ``exit_code`` is the table's in the README.

    ``run`` is the folder of the run that it ended, which can be continued; None when there is none.
    """

    exit_code = 5
    run: Path | None = None

    def __init__(self, message: str, *, why: str = "", hint: str = "", exit_code: int | None = None) -> None:
        message = clean(message)
        super().__init__(message)
        self.message = message
        self.why = clean(why)
        self.hint = clean(hint)
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        parts = [self.message]
        if self.why:
            parts.append(f"  why it matters: {self.why}")
        if self.hint:
            parts.append(f"  what to do: {self.hint}")
        return "\n".join(parts)


class ConfigError(LoopRunnerError):
    """The task file, a flag or an input is wrong; nothing was started."""

    exit_code = 2


def together(subject: str, faults: Sequence[ConfigError], reference: str) -> ConfigError:
    """One error for every fault of ``subject``; ``reference`` says where its format is described."""
    if len(faults) == 1:
        return faults[0]
    listed = "\n".join(f"  {fault.message}; {fault.hint}" for fault in faults)
    return ConfigError(f"{subject} has {len(faults)} faults:\n{listed}", why=faults[0].why, hint=reference)


class WorkspaceError(LoopRunnerError):
    """The run folder cannot be used as it is; what it holds was left alone."""

    exit_code = 2


class EnvironmentFault(LoopRunnerError):  # noqa: N818 - "EnvironmentError" is a builtin's name
    """The machine lacks something that the run needs (git, disk space, a sandbox tier)."""

    exit_code = 4


class ModelError(LoopRunnerError):
    """A provider refused, or stayed unreachable after its retries.

    ``paid`` is True when the provider may have billed the request all the same. ``ends_run`` is True when no
    other request can succeed either: a refused key, an account that cannot pay, a spend limit.
    """

    exit_code = 4

    def __init__(
        self, message: str, *, why: str = "", hint: str = "", paid: bool = False, ends_run: bool = False
    ) -> None:
        super().__init__(
            message,
            why=why
            or "the run cannot continue without a reply; earlier replies are kept and not requested again",
            hint=hint or "fix the problem above, then run `loop-runner resume RUN`",
        )
        self.paid = paid
        self.ends_run = ends_run


class StoppedError(ModelError):
    """A request was not sent, or its reply not waited for, because the run was asked to stop."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__(
            "no request was sent: the run was asked to stop",
            why="every committed turn and every reply that has arrived is kept",
            hint="continue with: loop-runner resume RUN",
            ends_run=True,
        )


class KernelError(LoopRunnerError):
    """The kernel process could not be started, or died faster than it could be restarted."""

    exit_code = 4


class VerifierError(LoopRunnerError):
    """A verifier's settings make no sense. A verifier that fails to *run* gives ``Broken`` instead."""

    exit_code = 2


class HookError(LoopRunnerError):
    """A stop hook's settings or payload make no sense."""

    exit_code = 2


class NotVerifiedError(LoopRunnerError):
    """A run ended without a verified answer, and the caller asked for an exception."""

    exit_code = 3
