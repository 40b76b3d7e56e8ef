"""A run that calls a tool of each kind, to be broken at every step of a call; see ``tests.crash.tool_walk``.

Each call of a tool leaves its name in a log. A turn calls one tool of each kind, and one of them in a batch;
the next turn, which reads the page that the first one fetched, calls three again.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loop_runner.runs import status
from loop_runner.workspace.called_tools import is_made, is_unknown
from loop_runner.workspace.history import History
from loop_runner.workspace.journal import calls
from tests.crash.forker import Ended, Forker
from tests.crash.scenario import MODEL, Scene, Stage, kept, unbroken
from tests.support.model_server import ModelServer, Received
from tests.support.tasks import cell, write_task
from tests.tools.web import Web, text

# No result is printed: the next request is the same one, whatever call is unknown.
_CELLS = {
    1: """
results = []
for call in (lambda: act('p1'), lambda: peek('p2'), lambda: program('c1'), lambda: look('c2'),
             lambda: srv.act('m1'), lambda: fetch_url('URL/f1'), lambda: web_search('s1')):
    try: results.append(call())
    except ToolUnknown: pass
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    kept = tool_batch(act, ['b1', 'b2', 'b3'])
""",
    3: """
page = context['127.0.0.1/f1']
for call in (lambda: act('p3'), lambda: fetch_url('URL/f2'), lambda: srv.act('m2')):
    try: results.append(call())
    except ToolUnknown: pass
assert page == 'page f1\\n'
FINAL('42')
""",
}
_TOOLS = """
def act(name: str) -> str:
    with open("acted.log", "a") as file: file.write(f"{name}\\n")
    return name

peek = act
"""
# Of the older generation of the protocol, and without the SDK: it starts in no time.
_SERVER = """
import json, sys
TOOL = {"name": "act", "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
for line in sys.stdin:
    request = json.loads(line)
    answer = {"error": {"code": -32601, "message": "no such method"}}
    if request.get("method") == "initialize":
        version = request["params"]["protocolVersion"]
        about = {"name": "srv", "version": "1"}
        answer = {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}}
    elif request.get("method") == "tools/list":
        answer = {"result": {"tools": [TOOL]}}
    elif request.get("method") == "tools/call":
        name = request["params"]["arguments"]["name"]
        with open("acted.log", "a") as file: file.write(f"{name}\\n")
        answer = {"result": {"content": [{"type": "text", "text": name}]}}
    if "id" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}), flush=True)
"""
_LOGS = "printf '%s\\n' \"$1\" >>acted.log; printf '%s' \"$1\""
_FINDS = 'printf \'%s\\n\' "$1" >>acted.log; printf \'[{"title": "%s", "url": "http://a.example/"}]\' "$1"'
_NAME = {"name": {"type": "string"}}
IDEMPOTENT = frozenset({"p2", "c2", "f1", "f2", "s1"})


def _entries() -> list[dict[str, object]]:
    run = ["sh", "-c", _LOGS, "sh", "{name}"]
    return [
        {"python": "tools.py:act"},
        {"python": "tools.py:peek", "idempotent": True},
        {"command": {"name": "program", "run": run, "parameters": _NAME}},
        {"command": {"name": "look", "run": run, "parameters": _NAME}, "idempotent": True},
        {"mcp": {"name": "srv", "command": [sys.executable, "-S", "server.py"]}},
        {"fetch": {"allow": ["127.0.0.1"], "private_addresses": True}},
        {"search": {"provider": "command", "run": ["sh", "-c", _FINDS, "sh", "{query}"]}},
    ]


@dataclass(frozen=True)
class Command:
    """What a command of the run did: the tools that acted, and the results that were safe at its end."""

    acted: tuple[str, ...]
    safe: frozenset[str]


class ToolScene(Scene):
    """A place to break calls of tools in."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.run = place / "run"
        self.web = Web({f"/{name}": text(f"page {name}\n") for name in ("f1", "f2")})
        self.task = write_task(
            place / "task",
            root=[],
            model=MODEL,
            budget={"passes": 1},
            tools=_entries(),
            kernel={"memory": "1GB"},
        )
        (place / "task/tools.py").write_text(_TOOLS)
        (place / "task/server.py").write_text(_SERVER)
        self.server = ModelServer()
        self.server.answer_with(self._reply)
        self.forker = Forker(
            place / "scratch", "mcp", "loop_runner.tools.mcp_servers", "loop_runner.runs.tooling"
        )
        self.commands: list[Command] = []

    def _reply(self, request: Received) -> str:
        return cell(_CELLS[len(request.messages)].replace("URL", self.web.url))

    def close(self) -> None:
        super().close()
        self.web.close()

    def begin(self, stage: Stage) -> None:
        super().begin(stage)
        self.commands = []
        self.web.requests.clear()

    def take(self, stage: Stage, *more: str, failpoint: str = "") -> Ended:
        before = Counter(self.acted())
        ended = super().take(stage, *more, failpoint=failpoint)
        acted = Counter(self.acted()) - before
        self.commands.append(Command(tuple(acted.elements()), frozenset(recorded(self.run))))
        return ended

    def acted(self) -> list[str]:
        """What all tools did, fetched pages among them."""
        return [*super().acted(), *(path.strip("/") for path, _, _ in self.web.requests)]

    def acted_once(self) -> list[str]:
        """What the tools did that must not be called twice."""
        return [name for name in self.acted() if name not in IDEMPOTENT]

    def stages(self) -> list[Stage]:
        """A fresh run, and the same run continued after its first turn was killed before the commit."""
        fresh = unbroken(self, Stage("tools", (), None))
        self.begin(fresh)
        assert self.take(fresh, failpoint="turn.saved:1:kill").was_killed
        (self.place / "templates").mkdir()
        died = kept(self, self.place / "templates/died")
        resumed = unbroken(self, Stage("tools, resumed", (), died))
        assert resumed.tree == fresh.tree
        assert sorted(resumed.acted) == ["f2", "m2", "p3"], "a recorded result was not served"
        return [fresh, resumed]


def name_in(prompt: str) -> str:
    """The name that a call of a tool was given, from its arguments as they are recorded."""
    return prompt.rpartition('"')[0].rpartition('"')[2].rpartition("/")[2]


def recorded(folder: Path) -> dict[str, str]:
    """The result of each call whose result is safe now, committed or journalled."""
    if not (folder / ".git").is_dir():
        return {}
    with History(folder) as history:
        made = [*history.calls(), *calls(folder / ".git/loop-runner/journal", history.since_checkpoint())]
    return {name_in(call.prompt): call.reply.text for call in made if is_made(call) and not is_unknown(call)}


def unknown(folder: Path) -> list[str]:
    """The names of the calls that may have happened; what `status` names is the same."""
    with History(folder) as history:
        names = [name_in(call.prompt) for call in history.unknown_tool_calls()]
    shown = [name_in(line) for line in status.of_run(folder).unknown_calls]
    assert names == shown, (names, shown)
    return names
