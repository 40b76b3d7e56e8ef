"""Turns the entries of a task into the tools of a run, before anything is created.

Starts the process of the Python tools once, to have their signatures, and the MCP servers, to have their
lists. ``faults`` looks without starting anything.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.kernel.inside.helpers import ALSO_CALLED, OFFERED
from loop_runner.tools.entries import Entry
from loop_runner.tools.python_process import PythonProcess, ToolDiedError, ToolRaisedError
from loop_runner.tools.spec import ToolSpec

_DESCRIBE_S = 60.0
_OWN_NAMES = frozenset(
    {
        *(*OFFERED, *ALSO_CALLED, "context", "input_data", "answer", "last_output", "LLMError"),
        *("tool_batch", "TOOLS", "ToolError", "ToolUnknown"),
    }
)
_DESCRIPTION = {
    "fetch": "Fetch a page or document and add its text to `context`, so that it can be searched and cited.",
    "search": "Search the web. Returns a list of dicts with `title`, `url` and `snippet`.",
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "fetch": {"url": {"type": "string"}},
    "search": {"query": {"type": "string"}},
}


def environment(entries: Sequence[Entry], env: Mapping[str, str]) -> dict[str, str]:
    """What tools see of the environment: the search path, and what their entries name."""
    names = dict.fromkeys(name for entry in entries for name in entry.variables)
    kept = {"LANG": "C.UTF-8"} | ({"PATH": env["PATH"]} if "PATH" in env else {})
    return kept | {name: env[name] for name in names if name in env}


def for_programs(entries: Sequence[Entry], env: Mapping[str, str]) -> dict[str, str]:
    """What programs and servers see: as above, and whose they are, which many need to start at all."""
    own = {name: env[name] for name in ("HOME", "USER", "LOGNAME", "TMPDIR") if name in env}
    return own | environment(entries, env)


def faults(
    entries: Sequence[Entry], base_dir: Path, env: Mapping[str, str], functions: Mapping[str, Any]
) -> Iterator[ConfigError]:
    """What would keep tools from working, as far as it is seen without starting anything."""
    for entry in entries:
        for name in entry.variables:
            if not env.get(name):
                yield _fault(
                    entry, f"the environment has no {name}", f"export {name}=..., or remove it from the task"
                )
        if entry.kind == "callable" and entry.target["function"] not in functions:
            yield _fault(
                entry,
                "the function is not here: it was in the memory of the program that began the run",
                f"resume with lr.resume(RUN, tools=[{entry.target['name']}])",
            )
        if entry.kind == "python" and (why := _fault_of_file(entry, base_dir)):
            yield _fault(entry, why, "write FILE.py:FUNCTION, relative to the task file, or MODULE:FUNCTION")


def _fault_of_file(entry: Entry, base_dir: Path) -> str:
    place, attribute = entry.target["place"], entry.target["attribute"]
    if not place.endswith(".py"):
        return ""
    path = base_dir / place
    if not path.is_file():
        return f"there is no file {path}"
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError) as error:
        return f"{place} cannot be read: {error}"
    named = {getattr(node, "name", "") for node in tree.body}
    is_plain = all(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Import | ast.ImportFrom | ast.Expr)
        for node in tree.body
    )
    if is_plain and "." not in attribute and attribute not in named | _imported(tree):
        return f"{place} has no function `{attribute}`"
    return ""


def _imported(tree: ast.Module) -> set[str]:
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


def _fault(entry: Entry, what: str, hint: str) -> ConfigError:
    return ConfigError(
        f"the tool `{entry.label}`: {what}", why="the model's code could not call it", hint=hint
    )


def sources(entries: Sequence[Entry], base_dir: Path) -> list[Path]:
    """The files of the task's folder that tools are made of, which are pinned as verifiers' programs are."""
    path: list[Path] = []
    for entry in entries:
        if entry.kind == "python":
            path += _files_of(entry.target["place"], base_dir)
        for word in (*entry.target.get("run", ()), *(entry.target.get("command") or ())):
            if "{" not in word and (base_dir / word).is_file() and not Path(word).is_absolute():
                path.append(base_dir / word)
    return path


def _files_of(place: str, base_dir: Path) -> list[Path]:
    if place.endswith(".py"):
        return [base_dir / place]
    path = base_dir.joinpath(*place.split("."))
    top = base_dir / place.split(".", maxsplit=1)[0]
    return [item for item in (path.with_suffix(".py"), top.with_suffix(".py"), top) if item.exists()]


# ── the tools of a run ──────────────────────────────────────────────────────────────────────────────


def specs(
    entries: Sequence[Entry],
    base_dir: Path,
    env: Mapping[str, str],
    functions: Mapping[str, Callable[..., Any]],
) -> tuple[ToolSpec, ...]:
    """Every tool, described. Raises ``ConfigError`` for one that is not as its entry says."""
    if not entries:
        return ()
    with ThreadPoolExecutor(
        1, thread_name_prefix="tools"
    ) as pool:  # the caller may have a loop that is running
        result = pool.submit(asyncio.run, _specs(entries, base_dir, env, functions)).result()
    _refuse_names(result)
    return result


async def _specs(
    entries: Sequence[Entry],
    base_dir: Path,
    env: Mapping[str, str],
    functions: Mapping[str, Callable[..., Any]],
) -> tuple[ToolSpec, ...]:
    described = await _described([entry for entry in entries if entry.kind == "python"], base_dir, env)
    tool_spec: list[ToolSpec] = []
    for entry in entries:
        if entry.kind == "python":
            tool_spec.append(_of_function(entry, described[entry.target["function"]]))
        elif entry.kind == "callable":
            tool_spec.append(_of_function(entry, _of_callable(functions[entry.target["function"]])))
        elif entry.kind == "mcp":
            from loop_runner.tools import mcp_servers

            tool_spec += await mcp_servers.listed(entry, base_dir, for_programs([entry], env))
        else:
            tool_spec.append(_built_in(entry))
    return tuple(tool_spec)


async def _described(
    entries: Sequence[Entry], base_dir: Path, env: Mapping[str, str]
) -> dict[str, Mapping[str, Any]]:
    if not entries:
        return {}
    process = PythonProcess(base_dir, environment(entries, env))
    places = [[entry.target["place"], entry.target["attribute"]] for entry in entries]
    try:
        answers = await process.call({"describe": places}, _DESCRIBE_S)
    except (TimeoutError, ToolDiedError, ToolRaisedError) as error:
        raise _fault(
            entries[0], str(error) or "its module takes too long to import", "see that it can be imported"
        ) from error
    finally:
        await process.close()
    return {entry.target["function"]: answer for entry, answer in zip(entries, answers, strict=True)}


def _of_callable(function: Callable[..., Any]) -> Mapping[str, Any]:
    from loop_runner.tools import function_server

    try:
        return function_server.describe(function)
    except function_server.ToolFault as error:
        return {"error": str(error)}


def _of_function(entry: Entry, described: Mapping[str, Any]) -> ToolSpec:
    if "error" in described:
        raise _fault(entry, str(described["error"]), "docs/tools.md says what a tool may be")
    return ToolSpec(
        entry.target["name"],
        entry.kind,
        entry.target,
        described["description"],
        described["parameters"],
        described["returns"],
        entry.settings,
    )


def _built_in(entry: Entry) -> ToolSpec:
    properties = dict(entry.target.get("parameters", _PARAMETERS.get(entry.kind, {})))
    schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name, about in properties.items() if "default" not in about],
        "additionalProperties": False,
    }
    description = entry.target.get("description", _DESCRIPTION.get(entry.kind, ""))
    return ToolSpec(entry.target["name"], entry.kind, entry.target, description, schema, None, entry.settings)


def _refuse_names(tool_spec: Sequence[ToolSpec]) -> None:
    seen: set[str] = set()
    groups = {spec.name.partition(".")[0] for spec in tool_spec if "." in spec.name}
    for spec in tool_spec:
        top, dot, _ = spec.name.partition(".")
        if top in _OWN_NAMES or hasattr(builtins, top):
            raise _name_taken(spec.name, "is a name of the REPL")
        if spec.name in seen or (not dot and spec.name in groups):
            raise _name_taken(spec.name, "is defined twice")
        seen.add(spec.name)


def _name_taken(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"a tool cannot be called `{name}`: it {why}",
        why="the model's code would call the one and mean the other",
        hint="give the tool another name",
    )
