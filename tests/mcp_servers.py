"""Call MCP servers that others wrote, through the runner's own client: `make test-mcp-servers`.

Installs them from PyPI and npm into .cache/mcp-servers, each with its own dependencies, and makes a few
calls. A server that cannot be installed here (no npm, say) is named and left out. Not a part of `make test`:
it needs the package registries.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner.errors import ConfigError
from loop_runner.tools.entries import read_entries
from loop_runner.tools.mcp_servers import McpCaller
from loop_runner.tools.preparing import for_programs, specs

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "mcp-servers"
PLACE = CACHE / "place"


@dataclass(frozen=True)
class Server:
    """One server: how it is installed and started, a call, and a word of its result."""

    package: str
    command: tuple[str, ...]
    tool: str
    arguments: Mapping[str, Any]
    expected: str
    is_node: bool = False
    needs: tuple[str, ...] = ()  # beside the package


def servers() -> Iterator[Server]:
    """The servers that are tried."""
    programs = CACHE / "python"
    repository, table = PLACE / "repository", PLACE / "data.db"
    yield Server(
        "mcp-server-git",
        (str(programs / "mcp-server-git/bin/mcp-server-git"), "--repository", str(repository)),
        "git_log",
        {"repo_path": str(repository), "max_count": 1},
        "first",
    )
    yield Server(
        "mcp-server-fetch",
        (str(programs / "mcp-server-fetch/bin/mcp-server-fetch"),),
        "fetch",
        {"url": "http://127.0.0.1:9/"},
        "Refused to fetch",  # it is asked for an address of this machine, and says no
    )
    yield Server(
        "mcp-server-sqlite",
        (str(programs / "mcp-server-sqlite/bin/mcp-server-sqlite"), "--db-path", str(table)),
        "list_tables",
        {},
        "[",
        needs=("mcp<2",),  # the older generation of the protocol
    )
    node = CACHE / "node/node_modules/.bin/mcp-server-filesystem"
    yield Server(
        "@modelcontextprotocol/server-filesystem",
        (str(node), str(PLACE)),
        "list_directory",
        {"path": str(PLACE)},
        "repository",
        is_node=True,
    )


def install(server: Server) -> str:
    """Install a server; why that is not possible, or ""."""
    mark = Path(server.command[0] + ".installed")
    if mark.exists():
        return ""
    why = _installed(server)
    if not why:
        mark.touch()
    return why


def _installed(server: Server) -> str:
    if server.is_node:
        if shutil.which("npm") is None:
            return "there is no npm"
        argv = ["npm", "install", "--silent", "--prefix", str(CACHE / "node"), server.package]
        return _last_line(argv)
    folder = Path(server.command[0]).parent.parent
    return _last_line([sys.executable, "-m", "venv", str(folder)]) or _last_line(
        [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", server.package, *server.needs]
    )


def _last_line(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]


def prepare() -> None:
    """What the servers are asked about."""
    shutil.rmtree(PLACE, ignore_errors=True)
    (PLACE / "repository").mkdir(parents=True)
    git = ["git", "-C", str(PLACE / "repository"), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)


def call(server: Server) -> str:
    """What the server's tool returns, or how it failed; as text."""
    entry = {"mcp": {"name": "server", "command": list(server.command), "timeout_s": 60}}
    (read,) = read_entries([entry])
    env = for_programs([read], os.environ)
    try:
        known = {spec.target["tool"]: spec for spec in specs([read], PLACE, os.environ, {})}
    except ConfigError as error:
        return error.message

    async def run() -> str:
        caller = McpCaller(PLACE, {"server": (read.target, env)})
        try:
            return str(await caller.call(known[server.tool], server.arguments))
        except Exception as error:  # noqa: BLE001 - a tool that fails is a result, too
            return f"{type(error).__name__}: {error}"
        finally:
            await caller.close()

    return f"{len(known)} tools; {asyncio.run(run())}"


def main() -> int:
    """Try each; 1 when one of those that could be installed does not answer as it should."""
    CACHE.mkdir(parents=True, exist_ok=True)
    prepare()
    failed = 0
    for server in servers():
        if why := install(server):
            print(f"{server.package}: left out ({why})")
            continue
        reply_text = call(server)
        is_right = server.expected in reply_text
        failed += not is_right
        print(f"{server.package}: {'works' if is_right else 'FAILS'}: {' '.join(reply_text.split())[:160]}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
