"""``python -m tests.clients --compare``: the same scenarios for loop-runner and for the peer's behaviour.

Drives the real Claude Code twice, and prints the rows of the table in docs/compared.md as it saw them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.clients import fetch, peer_hook
from tests.clients.conftest import Place
from tests.clients.server import Provider, Refused, Reply

PEER = f'{sys.executable} "{Path(peer_hook.__file__).resolve()}"'
Row = tuple[str, str, str]


class Both:
    """A scenario's two sides, each in a place of its own."""

    def __init__(self, folder: Path, provider: Provider, claude: str) -> None:
        self.place: Any = Place(folder, provider)
        self.provider, self.claude = provider, claude
        self.project = folder / "project"
        self.project.mkdir()
        hook = {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": PEER}]}]}}
        (folder / "peer.json").write_text(json.dumps(hook))
        self.settings = str(folder / "peer.json")

    def loop_runner_result(
        self, replies: list[Reply], *, settings: str = "{settings}", env: tuple[str, ...] = (), **keys: Any
    ) -> Any:
        """One of our runs: its outcome."""
        self.provider.replies = list(replies)
        command = [*(("env", *env) if env else ()), self.claude, "-p", "--settings", settings]
        return self.place.run(self.place.task([*command, "--output-format", "json"], **keys))

    def peer(
        self, replies: list[Reply], *, start: bool = True, settings: str | None = None
    ) -> dict[str, Any]:
        """A session with the peer's hook: what the client printed."""
        self.provider.replies = list(replies)
        if start:
            peer_hook.start(self.project, "Make it 42.", "DONE", 30)
        argv = [self.claude, "-p", "go", "--settings", settings or self.settings, "--output-format", "json"]
        done = self.place.call(argv, cwd=self.project)
        return {"code": done.returncode, **json.loads(done.stdout)}

    @property
    def state(self) -> str:
        """What the peer left behind."""
        path = self.project / peer_hook.STATE
        if not path.exists():
            return "no state left"
        return "state left at " + path.read_text().split("\n")[1]


def many_passes(both: Both) -> Row:
    texts: list[Reply] = [f"it is {number}" for number in range(25)]
    outcome = both.loop_runner_result([*texts, "it is 42"])
    before = len(both.provider.requests)
    output = both.peer([*texts, "<promise>DONE</promise>"])
    requests = len(both.provider.requests) - before
    return (
        "25 passes of text only, then the right answer",
        f"{outcome.status} after {outcome.spend.passes} passes",
        f"{requests} requests, exit {output['code']}, result {output['result']!r}, {both.state}",
    )


def next_session(both: Both) -> Row:
    both.loop_runner_result(["it is 1"], passes=1)
    both.provider.replies = ["hello"]
    before = len(both.provider.requests)
    argv = [both.claude, "-p", "hi", "--output-format", "json"]
    both.place.loop_runner("hook", "install", "claude")
    both.place.call(argv, cwd=both.place.run_folder)
    own = len(both.provider.requests) - before
    both.place.loop_runner("hook", "uninstall", "claude")
    peer_hook.start(both.project, "Make it 42.", "DONE", 4)
    before = len(both.provider.requests)
    both.peer(["hello", "what?", "what do you want?", "leave me", "alone"], start=False)
    peer = len(both.provider.requests) - before
    return (
        "another session in the folder of a loop that was not finished",
        f"{own} request: it is let alone",
        f"{peer} requests: it was made to work on the other's prompt",
    )


def false_claim(both: Both) -> Row:
    outcome = both.loop_runner_result(["<promise>DONE</promise> all tests pass", "it is 42"])
    before = len(both.provider.requests)
    both.peer(["<promise>DONE</promise> all tests pass", "it is 42"])
    requests = len(both.provider.requests) - before
    return (
        "the model says at once that it is done, and is not",
        f"rejected; {outcome.status} after {outcome.spend.passes} passes",
        f"accepted after {requests} request",
    )


def what_is_told(both: Both) -> Row:
    both.loop_runner_result(["it is 41", "it is 42"])
    own = both.provider.texts()[-1]
    both.peer(["it is 41", "<promise>DONE</promise>"])
    peer = both.provider.texts()[-1]
    shown = "the answer does not contain"
    return (
        "what the next pass is told",
        "the prompt and what failed" if shown in own and "Make it 42." in own else "?",
        "the prompt" if "Make it 42." in peer and shown not in peer else "?",
    )


def crashed_hook(both: Both) -> Row:
    crash = json.dumps({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "exit 1"}]}]}})
    outcome = both.loop_runner_result(["it is 41", "it is 42"], settings=crash)
    output = both.peer(["it is 41"], settings=crash)
    noticed, passes = both.place.endings()[0], outcome.spend.passes
    return (
        "the hook crashes at every stop",
        f"noticed ({noticed}), a new client; {outcome.status} after {passes} passes",
        f"the client ended with {output['result']!r}, exit {output['code']}, {both.state}",
    )


def capped(both: Both) -> Row:
    texts: list[Reply] = ["it is 1", "it is 2", "it is 3", "it is 4"]
    outcome = both.loop_runner_result([*texts, "it is 42"], env=("CLAUDE_CODE_STOP_HOOK_BLOCK_CAP=2",))
    return (
        "the client gives up on blocks (its cap set to 2)",
        f"noticed ({', '.join(sorted(set(filter(None, both.place.endings()))))}); {outcome.status}",
        "not run by itself: it is what the first row shows, with the client's own cap (8)",
    )


def api_error(both: Both) -> Row:
    def listen(event: Any) -> None:
        if "api error" in event.text:
            both.provider.replies = ["it is 42"]

    both.provider.replies = [Refused()] * 50
    task = both.place.task([both.claude, "-p", "--settings", "{settings}", "--output-format", "json"])
    outcome = both.place.run(task, listen=listen)
    output = both.peer([Refused()] * 50)
    return (
        "the provider refuses a request",
        f"noticed (api error), tried again; {outcome.status} after {outcome.spend.passes} pass",
        f"the client ended with exit {output['code']} ({output.get('terminal_reason')}), {both.state}",
    )


SCENARIOS: tuple[Callable[[Both], Row], ...] = (
    many_passes,
    capped,
    next_session,
    false_claim,
    what_is_told,
    crashed_hook,
    api_error,
)


def main() -> None:
    """Print one row for each scenario."""
    claude = str(fetch.path_of("claude"))
    for scenario in SCENARIOS:
        with tempfile.TemporaryDirectory() as folder, Provider() as provider:
            print("| " + " | ".join(scenario(Both(Path(folder), provider, claude))) + " |", flush=True)
