"""MCP servers for tests, run as programs: ``good`` ones made with the SDK, and those that misbehave."""

from __future__ import annotations

import json
import os
import sys
import time


def good() -> None:
    """A server of the SDK, on standard streams or on the port in ``sys.argv[2]``."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("good")

    @server.tool()
    def add(a: int, b: int = 1) -> int:
        """Add two numbers."""
        return a + b

    @server.tool(name="get-text")
    def get_text(name: str) -> str:
        """A text."""
        with open(os.environ.get("CALLS", os.devnull), "a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        return f"text of {name}"

    @server.tool()
    def fail() -> str:
        """Always fails."""
        raise ValueError("there is no such thing")

    if len(sys.argv) > 2:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")


def answer(request: dict[str, object], result: object) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)


TOOLS = [
    {"name": "act", "description": "Acts.", "inputSchema": {"type": "object", "properties": {}}},
    {
        "name": "lie",
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
]


def bad(how: str) -> None:
    """A server of the older generation that misbehaves when ``act`` is called."""
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if method == "initialize":
            about = {"name": "bad", "version": "1"}
            version = request["params"]["protocolVersion"]
            answer(request, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about})
        elif method == "tools/list":
            answer(request, {"tools": TOOLS})
        elif method == "tools/call" and request["params"]["name"] == "lie":
            answer(request, {"content": [], "structuredContent": {"n": "not a number"}})
        elif method == "tools/call":
            misbehave(how, request)
        elif "id" in request:
            error = {"code": -32601, "message": "no such method"}
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}), flush=True)


def misbehave(how: str, request: dict[str, object]) -> None:
    if how == "hang":
        time.sleep(600)
    elif how == "die":
        print("cannot go on", file=sys.stderr)
        os._exit(3)
    elif how == "huge":
        answer(request, {"content": [{"type": "text", "text": "x" * 100_000_000}]})
    elif how == "flood":
        note = {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": "x" * 50_000},
        }
        while True:
            print(json.dumps(note))
    elif how == "noise":
        print("no message at all", flush=True)
        answer(request, {"content": [{"type": "text", "text": "after the noise"}]})
    elif how == "shape":
        answer(request, {"content": "no list"})


if __name__ == "__main__":
    good() if sys.argv[1] == "good" else bad(sys.argv[1])
