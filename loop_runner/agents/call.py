"""Asks the running loop what a client may do: one HTTP request to a loopback address, by hand.

``http.client`` would cost more time to import than the request takes. Owns the file in which a loop says
where it listens. Imports the standard library only.
"""

from __future__ import annotations

import json
import os
import socket

ADDRESS_FILE = os.path.join(".git", "loop-runner", "hook.json")  # below the run folder
SOURCE_HEADER = "Loop-Runner-Hook"
_CONNECT_S = 5.0
_MAX_BYTES = 64 * 2**20


class NobodyListens(Exception):  # noqa: N818 - says what is so
    """No loop is running in the run folder, or it went away before it answered."""


def address(run: str) -> tuple[int, str]:
    """Port and token of the loop that runs in ``run``. Raises ``NobodyListens``."""
    try:
        with open(os.path.join(run, ADDRESS_FILE), encoding="utf-8") as file:
            data = json.load(file)
        return int(data["port"]), str(data["token"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NobodyListens(run) from error


def ask(run: str, payload: bytes, token: str | None = None, *, source: str = "command") -> bytes:
    """The answer of the loop in ``run`` to a client's payload: what the client is to read.

    ``token`` None: the one in the run folder. ``source`` tells hooks of one client apart. Waits as long as
    the gates take. Raises ``NobodyListens``.
    """
    port, written = address(run)
    try:
        with socket.create_connection(("127.0.0.1", port), _CONNECT_S) as connection:
            connection.settimeout(None)  # gates may take hours; a loop that dies closes the connection
            head = (
                f"POST /stop/{token or written} HTTP/1.0\r\nHost: 127.0.0.1\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
                f"{SOURCE_HEADER}: {source.encode('unicode_escape').decode()}\r\n\r\n"
            )
            connection.sendall(head.encode("latin-1", "replace") + payload)
            answer = _all(connection)
    except OSError as error:
        raise NobodyListens(run) from error
    head_bytes, separator, body = answer.partition(b"\r\n\r\n")
    if not separator or b" 200 " not in head_bytes.split(b"\r\n", 1)[0] + b" ":
        raise NobodyListens(run)
    return body


def _all(connection: socket.socket) -> bytes:
    parts, size = [], 0
    while size < _MAX_BYTES and (part := connection.recv(1 << 16)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
