"""The agent clients that a run can start by their name: one file per client (``claude``, ``codex``).

Owns which client is used when the user names none. Reads the environment that it is given and looks for
files; starts nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loop_runner.agents import claude, codex


@dataclass(frozen=True, slots=True)
class Client:
    """A client. ``command`` does one pass: the prompt comes on standard input."""

    command: tuple[str, ...]
    is_logged_in: Callable[[Mapping[str, str]], bool]


CLIENTS: Mapping[str, Client] = {
    "claude": Client(claude.PASS, claude.is_logged_in),
    "codex": Client(codex.PASS, codex.is_logged_in),
}


def logged_in(env: Mapping[str, str]) -> str | None:
    """The first client that is installed and logged in; None when there is none."""
    for name, client in CLIENTS.items():
        if shutil.which(client.command[0], path=env.get("PATH")) and client.is_logged_in(env):
            return name
    return None
