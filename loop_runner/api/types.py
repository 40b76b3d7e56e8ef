"""The further types of the library: what its functions and methods take, return and raise.

For annotations, ``isinstance`` and ``except``; ``lr`` itself has the types that a program makes.
"""

# ruff: noqa: PLC0414 - the alias says that a name is exported

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop_runner.api.auditing import AuditResult as AuditResult
    from loop_runner.api.auditing import AuditStatus as AuditStatus
    from loop_runner.api.auditing import NoKeyError as NoKeyError
    from loop_runner.api.checked_task import Checked as Checked
    from loop_runner.api.checked_task import Data as Data
    from loop_runner.api.checked_task import Input as Input
    from loop_runner.api.checked_task import Settings as Settings
    from loop_runner.api.checked_task import Verifier as Verifier
    from loop_runner.api.controls import Placed as Placed
    from loop_runner.api.detached import Launcher as Launcher
    from loop_runner.api.detached import LocalLauncher as LocalLauncher
    from loop_runner.api.record import Record as Record
    from loop_runner.api.record import RecordedPass as RecordedPass
    from loop_runner.api.record import RecordedTurn as RecordedTurn
    from loop_runner.api.result import RunState as RunState
    from loop_runner.api.stream import Events as Events
    from loop_runner.api.typed_events import CellFinished as CellFinished
    from loop_runner.api.typed_events import ChildFinished as ChildFinished
    from loop_runner.api.typed_events import ChildStarted as ChildStarted
    from loop_runner.api.typed_events import ChildTurn as ChildTurn
    from loop_runner.api.typed_events import Event as Event
    from loop_runner.api.typed_events import Notice as Notice
    from loop_runner.api.typed_events import OnEvent as OnEvent
    from loop_runner.api.typed_events import OperatorRequest as OperatorRequest
    from loop_runner.api.typed_events import PassEnded as PassEnded
    from loop_runner.api.typed_events import PassStarted as PassStarted
    from loop_runner.api.typed_events import Paused as Paused
    from loop_runner.api.typed_events import ReplyReceived as ReplyReceived
    from loop_runner.api.typed_events import Resumed as Resumed
    from loop_runner.api.typed_events import Retried as Retried
    from loop_runner.api.typed_events import RunEnded as RunEnded
    from loop_runner.api.typed_events import RunStarted as RunStarted
    from loop_runner.api.typed_events import SubcallFinished as SubcallFinished
    from loop_runner.api.typed_events import SubcallsProgress as SubcallsProgress
    from loop_runner.api.typed_events import ToolFinished as ToolFinished
    from loop_runner.api.typed_events import TurnCommitted as TurnCommitted
    from loop_runner.api.typed_events import TurnStarted as TurnStarted
    from loop_runner.api.typed_events import Verifying as Verifying
    from loop_runner.api.typed_events import Waiting as Waiting
    from loop_runner.api.views import RunView as RunView
    from loop_runner.audit.findings import Finding as Finding
    from loop_runner.audit.outputs import ReportKind as ReportKind
    from loop_runner.errors import ConfigError as ConfigError
    from loop_runner.errors import EnvironmentFault as EnvironmentFault
    from loop_runner.errors import KernelError as KernelError
    from loop_runner.errors import ModelError as ModelError
    from loop_runner.errors import StoppedError as StoppedError
    from loop_runner.errors import VerifierError as VerifierError
    from loop_runner.errors import WorkspaceError as WorkspaceError
    from loop_runner.records import Checkpoint as Checkpoint
    from loop_runner.records import RunStatus as RunStatus
    from loop_runner.records import Spend as Spend
    from loop_runner.records import Usage as Usage
    from loop_runner.records import Variable as Variable
    from loop_runner.records import VerifierReport as VerifierReport
    from loop_runner.runs.bisect import SearchResult as SearchResult
    from loop_runner.runs.bisect import Step as Step
    from loop_runner.runs.committed import RecordedCall as RecordedCall
    from loop_runner.runs.committed import RecordedRequest as RecordedRequest
    from loop_runner.runs.compare import Comparison as Comparison
    from loop_runner.runs.compare import FileChange as FileChange
    from loop_runner.runs.compare import VariableChange as VariableChange
    from loop_runner.runs.cost import Cost as Cost
    from loop_runner.runs.cost import CostLine as CostLine
    from loop_runner.runs.exporting import Export as Export
    from loop_runner.runs.fork import Forked as Forked
    from loop_runner.runs.integrity import Checkup as Checkup
    from loop_runner.runs.recorded import Difference as Difference
    from loop_runner.runs.recorded import Missing as Missing
    from loop_runner.runs.replay import Replayed as Replayed
    from loop_runner.runs.reverify import Recheck as Recheck
    from loop_runner.runs.rewind import Rewound as Rewound
    from loop_runner.runs.status import Status as Status
    from loop_runner.runs.story import LogEntry as LogEntry
    from loop_runner.verify import LocatedCitation as LocatedCitation
    from loop_runner.verify.findings import Severity as Severity

_HOMES = {
    "api.controls": "Placed",
    "api.detached": "Launcher LocalLauncher",
    "api.views": "RunView",
    "api.record": "Record RecordedPass RecordedTurn",
    "errors": "ConfigError EnvironmentFault KernelError ModelError StoppedError VerifierError WorkspaceError",
    "api.auditing": "AuditResult AuditStatus NoKeyError",
    "api.checked_task": "Checked Data Input Settings Verifier",
    "api.result": "RunState",
    "api.stream": "Events",
    "api.typed_events": (
        "CellFinished ChildFinished ChildStarted ChildTurn Event Notice OnEvent OperatorRequest PassEnded"
        " PassStarted Paused ReplyReceived Resumed Retried RunEnded RunStarted SubcallFinished"
        " SubcallsProgress ToolFinished TurnCommitted TurnStarted Verifying Waiting"
    ),
    "audit.findings": "Finding",
    "audit.outputs": "ReportKind",
    "records": "Checkpoint RunStatus Spend Usage Variable VerifierReport",
    "runs.bisect": "SearchResult Step",
    "runs.committed": "RecordedCall RecordedRequest",
    "runs.compare": "Comparison FileChange VariableChange",
    "runs.cost": "Cost CostLine",
    "runs.exporting": "Export",
    "runs.fork": "Forked",
    "runs.integrity": "Checkup",
    "runs.recorded": "Difference Missing",
    "runs.replay": "Replayed",
    "runs.reverify": "Recheck",
    "runs.rewind": "Rewound",
    "runs.status": "Status",
    "runs.story": "LogEntry",
    "verify": "LocatedCitation",
    "verify.findings": "Severity",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker would take any name for one of this module

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        result = getattr(import_module(f"loop_runner.{_HOME[name]}"), name)
        globals()[name] = result
        return result


def __dir__() -> list[str]:
    return sorted(_HOME)
