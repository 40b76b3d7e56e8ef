"""Notifications: who is told that a run ended, waits, crashed or has used most of its budget.

Owns what a target is, which events are sent, and the process that sends them. A notifier costs a run nothing:
each message goes to a process of its own that ends itself after 30 seconds, nobody waits for it, and whatever
becomes of it changes nothing in the run. Addresses and secrets go to that process through a pipe: they
are in no argument, event, log or commit.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import redaction
from loop_runner.errors import ConfigError
from loop_runner.events import Event
from loop_runner.text import one_line

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHARE = 0.8  # of a limit
_SENT_LIMITS = frozenset({"passes", "tokens", "tokens_in", "tokens_out", "usd", "wall", "subcalls"})
_ENDS = frozenset({"verified", "unverified", "broken", "blocked"})
_MAX_TARGETS = 20
_MAX_TEXT_CHARS = 500
_CHILD = Path(__file__).with_name("notify_process.py")
_REFERENCE = "docs/notifications.md"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes. ``kind`` is ``apprise``, ``command`` or ``webhook``."""

    kind: str
    address: str = ""  # of ``apprise`` and ``webhook``; ``${NAME}`` stands for a variable
    command: tuple[str, ...] = ()
    secret: str = ""  # the variable with the key that signs a webhook

    def shown(self) -> str:
        """What it is, without an address that may hold a secret."""
        if self.kind == "command":
            return f"command {one_line(self.command[0], 60)}"
        return f"{self.kind} {one_line(self.address.partition('://')[0], 20)}://…"


@dataclass(frozen=True, slots=True)
class Message:
    """One notification. ``event`` is ``verified``, ``crashed``, ``budget``, ... (docs/notifications.md)."""

    event: str
    run: str
    text: str


def parsed(specs: Sequence[Any], *, is_own: bool = False) -> tuple[Target, ...]:
    """The targets that ``specs`` describe. ``ConfigError`` for one that cannot work.

    ``is_own``: they are in the user's own settings, which no commit holds, so an address may be written out.
    """
    if len(specs) > _MAX_TARGETS:
        raise _fault(f"there are {len(specs)} targets of `notify`", f"at most {_MAX_TARGETS}")
    return tuple(_target(spec, is_own=is_own) for spec in specs)


def _target(spec: Any, *, is_own: bool) -> Target:
    if isinstance(spec, Target):
        return spec
    if isinstance(spec, str) and spec.strip():
        return _apprise(spec.strip(), is_own=is_own)
    if not isinstance(spec, Mapping) or len(kinds := spec.keys() & {"apprise", "command", "webhook"}) != 1:
        raise _fault(
            f"a target of `notify` is {one_line(repr(spec), 80)}",
            "give an address, {command: [PROGRAM, ...]} or {webhook: URL, secret: VARIABLE}",
        )
    (kind,) = kinds
    allowed = {kind} | ({"secret"} if kind == "webhook" else set())
    if unknown := sorted(set(map(str, spec)) - allowed):
        raise _fault(
            f"a {kind} of `notify` has no key {unknown[0]!r}", f"it has {', '.join(sorted(allowed))}"
        )
    if kind == "webhook":
        return _webhook(spec[kind], is_own=is_own, secret=spec.get("secret"))
    return _command(spec[kind]) if kind == "command" else _apprise(spec[kind], is_own=is_own)


def _apprise(address: Any, *, is_own: bool) -> Target:
    if not isinstance(address, str) or not (_VARIABLE.match(address) or "://" in address):
        raise _fault("an address of `notify` is no address", "for example `slack://...`, or `${MY_ADDRESS}`")
    if not is_own and not _VARIABLE.search(address):
        raise _fault(
            "an address of `notify` in a task is written out",
            "set it as a variable and write `${NAME}`, or put it into your own settings",
            why="a task is committed with the run, and such addresses hold tokens",
        )
    return Target("apprise", address)


def _command(command: Any) -> Target:
    words = [command] if isinstance(command, str) else command
    if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) for word in words):
        raise _fault(
            "a command of `notify` is no list of texts", "for example {command: [notify-send, loop-runner]}"
        )
    return Target("command", command=tuple(words))


def _webhook(address: Any, *, is_own: bool, secret: Any) -> Target:
    if not isinstance(address, str) or not (
        address.startswith(("https://", "http://")) or _VARIABLE.match(address)
    ):
        raise _fault("a webhook of `notify` is no address", "it begins with https:// or http://")
    if not isinstance(secret, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", secret):
        raise _fault(
            "a webhook of `notify` names no variable with its secret",
            "add `secret: NAME`, and set the variable NAME to a random text that the receiver knows, too",
            why="without a signature anyone could send messages in the name of your runs",
        )
    if not is_own and re.search(r"://[^/]*@|[?]", address) and not _VARIABLE.search(address):
        raise _fault(
            "a webhook of `notify` in a task has a password or a query written out",
            "write `${NAME}` in its place",
            why="a task is committed with the run",
        )
    return Target("webhook", address, secret=secret)


def _fault(message: str, hint: str, why: str = "nobody would be notified") -> ConfigError:
    return ConfigError(message, why=why, hint=f"{hint}; see {_REFERENCE}")


def variables(targets: Sequence[Target]) -> tuple[str, ...]:
    """The variables that the targets name, which hold secrets."""
    names = [name for target in targets for name in _VARIABLE.findall(target.address)]
    return tuple(dict.fromkeys([*names, *(target.secret for target in targets if target.secret)]))


def missing(targets: Sequence[Target], env: Mapping[str, str]) -> tuple[str, ...]:
    """The variables among them that are not set."""
    return tuple(name for name in variables(targets) if not env.get(name))


class Notifier:
    """A listener of a run that sends a message for each event that a person elsewhere wants to know."""

    def __init__(self, run: str, targets: Sequence[Target], env: Mapping[str, str]) -> None:
        self._run = run
        self._targets = tuple(targets)
        self._env = dict(env)
        self._warned: set[str] = set()
        # What stands for a secret is never shown, whatever prints it.
        secrets = {f"{name}_SECRET": env.get(name, "") for name in variables(targets)}
        own = {
            f"NOTIFY_ADDRESS_{n}_SECRET": t.address for n, t in enumerate(targets) if "${" not in t.address
        }
        redaction.learn(secrets | own)

    def __call__(self, event: Event) -> None:
        """Send what ``event`` is worth a message for. Never raises and never waits."""
        if event.kind == "run_ended" and event.data.get("status") in _ENDS:
            self.send(str(event.data["status"]), event.text)
        elif event.kind == "waiting":
            self.send("waiting", event.text)
        for name, (used, limit) in event.budget.items():
            if name in _SENT_LIMITS and limit and used >= _SHARE * limit and name not in self._warned:
                self._warned.add(name)
                if not _says_it_already(event):
                    self.send("budget", f"{used / limit:.0%} of the limit on {name} is used")

    def crashed(self) -> None:
        """The run is resumed after its last process ended without a word."""
        self.send("crashed", "its last process was killed, or the machine stopped; it is resumed now")

    def send(self, event: str, text: str) -> None:
        """Hand a message for each target to a process of its own."""
        message = Message(event, self._run, one_line(redaction.clean(text), _MAX_TEXT_CHARS))
        for target in self._targets:
            with contextlib.suppress(OSError, ValueError):
                child = start(target, message, self._env)
                # Only to collect its exit code: nothing waits for this thread.
                threading.Thread(target=child.wait, name="loop-runner-notify", daemon=True).start()


def _says_it_already(event: Event) -> bool:
    """Whether a limit that is passed needs no message: at a start after one, and at the end of a run."""
    ends = event.kind == "run_ended" or (
        event.kind == "pass_ended" and event.data.get("outcome") == "accepted"
    )
    return ends or event.kind == "run_started"


def start(target: Target, message: Message, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the process that sends ``message``; it reads its job from a pipe, and ends by itself."""
    job = {
        "kind": target.kind,
        "address": _VARIABLE.sub(lambda match: env.get(match[1], ""), target.address),
        "command": list(target.command),
        "secret": env.get(target.secret, "") if target.secret else "",
        "message": {"event": message.event, "run": message.run, "text": message.text},
    }
    read, write = os.pipe()
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", str(_CHILD)],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=dict(env),
            start_new_session=True,
        )
        os.set_blocking(write, False)  # a job is far smaller than a pipe; one that is not is not sent
        with contextlib.suppress(BlockingIOError):
            os.write(write, json.dumps(job).encode())
        return child
    finally:
        os.close(read)
        os.close(write)
