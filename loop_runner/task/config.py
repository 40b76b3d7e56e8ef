"""The task file, under the name that other modules know it by."""

from loop_runner.task.task import AgentSettings, History, InputSettings, NoProgress, Rates, SessionKind, Task
from loop_runner.task.task_file import dump_task, parse_override, parse_task, read_task
from loop_runner.task.task_schema import schema

__all__ = [
    "AgentSettings",
    "History",
    "InputSettings",
    "NoProgress",
    "Rates",
    "SessionKind",
    "Task",
    "dump_task",
    "parse_override",
    "parse_task",
    "read_task",
    "schema",
]
