"""What makes the calls of each kind of tool of a run. A kind that a task does not have is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loop_runner import inputs
from loop_runner.task.config import Task
from loop_runner.tools.entries import Entry
from loop_runner.tools.pages import Pages
from loop_runner.tools.preparing import environment, for_programs
from loop_runner.tools.toolbox import Caller, PythonCaller


def of(entries: Sequence[Entry], task: Task, env: Mapping[str, str], pages: Pages) -> dict[str, Caller]:
    """A caller for each kind that ``entries`` have; nothing is started before the first call."""
    folder = task.base_dir.resolve()

    def python(group: Sequence[Entry]) -> Caller:
        return PythonCaller(folder, environment(group, env))

    def command(group: Sequence[Entry]) -> Caller:
        from loop_runner.tools.command_lines import CommandCaller

        return CommandCaller(folder, {entry.target["name"]: for_programs([entry], env) for entry in group})

    def fetch(_: Sequence[Entry]) -> Caller:
        from loop_runner.tools.fetching import FetchCaller

        return FetchCaller(pages, inputs.cache_dir(env), task.kernel.require_tier)

    def mcp(group: Sequence[Entry]) -> Caller:
        from loop_runner.tools.mcp_servers import McpCaller

        return McpCaller(
            folder, {item.target["name"]: (item.target, for_programs([item], env)) for item in group}
        )

    def search(group: Sequence[Entry]) -> Caller:
        from loop_runner.tools.searching import SearchCaller

        return SearchCaller(folder, for_programs(group, env))

    def in_program(_: Sequence[Entry]) -> Caller:
        from loop_runner.tools.in_process import FunctionCaller

        return FunctionCaller(task.tool_functions)

    made: dict[str, Callable[[Sequence[Entry]], Caller]] = {
        "python": python,
        "command": command,
        "fetch": fetch,
        "mcp": mcp,
        "search": search,
        "callable": in_program,
    }
    kinds = dict.fromkeys(entry.kind for entry in entries)
    return {kind: made[kind]([entry for entry in entries if entry.kind == kind]) for kind in kinds}
