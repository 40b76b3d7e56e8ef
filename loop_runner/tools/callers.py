"""What makes the calls of each kind of tool of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loop_runner import inputs
from loop_runner.task.config import Task
from loop_runner.tools.command_lines import CommandCaller
from loop_runner.tools.entries import Entry
from loop_runner.tools.fetching import FetchCaller
from loop_runner.tools.in_process import FunctionCaller
from loop_runner.tools.mcp_servers import McpCaller
from loop_runner.tools.pages import Pages
from loop_runner.tools.preparing import environment, for_programs
from loop_runner.tools.searching import SearchCaller
from loop_runner.tools.toolbox import Caller, PythonCaller


def of(entries: Sequence[Entry], task: Task, env: Mapping[str, str], pages: Pages) -> dict[str, Caller]:
    """A caller for each kind that ``entries`` have; nothing is started before the first call."""
    by_kind: dict[str, list[Entry]] = {}
    for entry in entries:
        by_kind.setdefault(entry.kind, []).append(entry)
    folder = task.base_dir.resolve()
    caller: dict[str, Caller] = {}
    for kind, group in by_kind.items():
        if kind == "python":
            caller[kind] = PythonCaller(folder, environment(group, env))
        elif kind == "command":
            caller[kind] = CommandCaller(
                folder, {entry.target["name"]: for_programs([entry], env) for entry in group}
            )
        elif kind == "fetch":
            caller[kind] = FetchCaller(pages, inputs.cache_dir(env), task.kernel.require_tier)
        elif kind == "mcp":
            servers = {item.target["name"]: (item.target, for_programs([item], env)) for item in group}
            caller[kind] = McpCaller(folder, servers)
        elif kind == "search":
            caller[kind] = SearchCaller(folder, environment(group, env))
        elif kind == "callable":
            caller[kind] = FunctionCaller(task.tool_functions)
    return caller
