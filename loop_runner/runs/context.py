"""What a caller gives to a run from outside, and what a replay puts in the place of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_runner.budget import Ledger
from loop_runner.events import Listener
from loop_runner.kernel.kernel import Kernel
from loop_runner.loop.loop import PassFiles
from loop_runner.model.client import ModelClient
from loop_runner.model.limiter import Policy
from loop_runner.model.switchboard import FindRecorded
from loop_runner.records import (
    Inputs,
)
from loop_runner.session.operator import Clock, Source
from loop_runner.verify import Means, Verifier
from loop_runner.verify.stop_hook import StopHook


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run is given from outside."""

    env: Mapping[str, str]
    listeners: tuple[Listener, ...] = ()
    should_stop: Callable[[], bool] = lambda: False
    policy: Policy | None = None  # of tries that failed; None: the usual patience
    # The functions that verifiers of a resumed run call; a new run has them in its task.
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    tool_functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # and its tools
    notify: tuple[Any, ...] = ()  # targets besides the task's and the user's: those of a trusted project


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """What a replay puts in the place of the models, the ledger, the gates and other parts."""

    open_client: Callable[[str], ModelClient] | None  # None: the providers' own
    ledger: Ledger
    stop_hook: Callable[[Sequence[Verifier], Means], StopHook]
    pass_files: PassFiles
    kernel: type[Kernel] = Kernel
    recorded: FindRecorded | None = None
    clock: Clock = field(default_factory=Clock)
    requests: Source | None = None  # what the operator asked then; None: what they ask now
    stored: Callable[[str], bytes | None] | None = None  # a file of the record


@dataclass(frozen=True, slots=True)
class StartingFiles:
    """What a caller has made ready for a new run: its texts, and the first files of ``workspace/``."""

    texts: Inputs
    files: Mapping[str, bytes] = field(default_factory=dict)
