"""Run a model unattended until a verifier, not the model, says that the work is done.

    import loop_runner as lr

    result = lr.ask("Which port?", ["src/"], model="local:coder")
    result.status, result.answer, result.citations, result.proof

``docs/api.md`` describes every name of this package; what ``__all__`` does not name may change. The folders,
in the order in which a run needs them: ``task`` what is asked, ``inputs`` the texts, ``loop`` the passes,
``session`` a conversation with the model, ``kernel`` the process that runs its code, ``verify`` the checks,
``workspace`` the run folder, ``runs`` a run as a whole, ``api`` this library, ``cli`` the command.

Importing this package imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # ``typing`` itself would cost a hook more than its work
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from loop_runner.api import installed as installed
    from loop_runner.api import types as types
    from loop_runner.api.auditing import audit
    from loop_runner.api.checked_task import Submission, Task, data
    from loop_runner.api.controls import Placed as Placed
    from loop_runner.api.detached import Launcher as Launcher
    from loop_runner.api.detached import LocalLauncher as LocalLauncher
    from loop_runner.api.detached import list_runs, start
    from loop_runner.api.makers import (
        agreement,
        all_of,
        any_of,
        citations,
        command,
        contains,
        human,
        judge,
        python,
        regex,
        schema,
        stable,
    )
    from loop_runner.api.record import Record as Record
    from loop_runner.api.record import RecordedPass as RecordedPass
    from loop_runner.api.record import RecordedTurn as RecordedTurn
    from loop_runner.api.result import Result, Run
    from loop_runner.api.result import open_run as open  # noqa: A004 - lr.open, as in gzip.open
    from loop_runner.api.rlm import RLM
    from loop_runner.api.running import aask, aresume, arun, ask, fork, resume, run, verify
    from loop_runner.api.stream import stream
    from loop_runner.api.typed_events import Event as Event
    from loop_runner.api.views import RunView as RunView
    from loop_runner.api.views import Status as Status
    from loop_runner.budget import Budget
    from loop_runner.errors import ConfigError as ConfigError
    from loop_runner.errors import EnvironmentFault as EnvironmentFault
    from loop_runner.errors import KernelError as KernelError
    from loop_runner.errors import LoopRunnerError, NotVerifiedError
    from loop_runner.errors import ModelError as ModelError
    from loop_runner.errors import StoppedError as StoppedError
    from loop_runner.errors import VerifierError as VerifierError
    from loop_runner.errors import WorkspaceError as WorkspaceError
    from loop_runner.loop.stopping import Stop
    from loop_runner.records import Accepted, Broken, Rejected
    from loop_runner.records import Usage as Usage

__version__ = "0.1.0"

_HOMES = {
    "api.auditing": "audit",
    "api.controls": "Placed",
    "api.detached": "Launcher LocalLauncher list_runs start",
    "api.typed_events": "Event",
    "api.views": "RunView Status",
    "api.makers": "agreement all_of any_of citations command contains human judge python regex schema stable",
    "api.record": "Record RecordedPass RecordedTurn",
    "api.result": "Result Run open",
    "api.rlm": "RLM",
    "api.running": "aask aresume arun ask fork resume run verify",
    "api.stream": "stream",
    "api.installed": "installed",
    "api.types": "types",
    "api.checked_task": "Submission Task data",
    "budget": "Budget",
    "errors": (
        "ConfigError EnvironmentFault KernelError LoopRunnerError ModelError NotVerifiedError StoppedError"
        " VerifierError WorkspaceError"
    ),
    "loop.stopping": "Stop",
    "records": "Accepted Broken Rejected Usage",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}
_CALLED = {"open": "open_run"}
_MODULES = ("installed", "types")
# These work here, too, and are listed in ``types``: few programs name them.
_FURTHER = (
    *("ConfigError", "EnvironmentFault", "Event", "KernelError", "Launcher", "LocalLauncher", "ModelError"),
    *("Placed", "Record", "RecordedPass", "RecordedTurn", "RunView", "Status", "StoppedError", "Usage"),
    *("VerifierError", "WorkspaceError"),
)
_FOLDERS = ("audit", "verify")  # names of functions and of folders

__all__ = [
    "RLM",
    "Accepted",
    "Broken",
    "Budget",
    "LoopRunnerError",
    "NotVerifiedError",
    "Rejected",
    "Result",
    "Run",
    "Stop",
    "Submission",
    "Task",
    "aask",
    "agreement",
    "all_of",
    "any_of",
    "aresume",
    "arun",
    "ask",
    "audit",
    "citations",
    "command",
    "contains",
    "data",
    "fork",
    "human",
    "installed",
    "judge",
    "list_runs",
    "open",
    "python",
    "regex",
    "resume",
    "run",
    "schema",
    "stable",
    "start",
    "stream",
    "types",
    "verify",
]


if not TYPE_CHECKING:
    ModuleType = type(sys)


class _Folder(ModuleType):
    """A folder of this package whose name is a function of the library, too: it can be called."""

    def __call__(self, *args: Any, **keys: Any) -> Any:
        return _load(self.__name__.rpartition(".")[2])(*args, **keys)


class _Package(ModuleType):
    """This package. Importing a folder sets it as an attribute: ``lr.verify`` stays callable."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FOLDERS and type(value) is ModuleType:
            value.__class__ = _Folder
        super().__setattr__(name, value)


def _load(name: str) -> Any:
    from importlib import import_module

    home = import_module(f"{__name__}.{_HOME[name]}")
    return home if name in _MODULES else getattr(home, _CALLED.get(name, name))


if not TYPE_CHECKING:  # a type checker would take any name for one of this package

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name in _FOLDERS:
            from importlib import import_module

            return import_module(f"{__name__}.{name}")
        globals()[name] = value = _load(name)
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


sys.modules[__name__].__class__ = _Package
