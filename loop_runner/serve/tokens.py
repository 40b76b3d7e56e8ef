"""The tokens of the service: a file of lines ``NAME TOKEN``, readable by its owner only.

Owns the file and the comparison. The server never runs without a token: a missing file is created with one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

import loop_runner as lr

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\s+([\x21-\x7e]{16,512})")
_DEFAULT = "default"


class Tokens:
    """The known tokens, as digests: the texts themselves are not kept in memory."""

    def __init__(self, by_name: dict[str, str]) -> None:
        self._digests = {name: _digest(token) for name, token in by_name.items()}
        self.names = tuple(by_name)

    def name_of(self, given: str) -> str | None:
        """Whose token ``given`` is; None for an unknown token. Takes the same time whichever it is."""
        digest, result = _digest(given), None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                result = name
        return result

    def signing_key(self, name: str) -> bytes:
        """A key that only this service and the holder of the token know."""
        return hashlib.sha256(b"loop-runner dashboard\0" + self._digests[name]).digest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_or_create(path: Path) -> tuple[Tokens, str | None]:
    """The tokens in the file ``path``, and the token that was created because there was no file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return Tokens(_read(path)), None
    except OSError as error:
        raise _unusable(path, f"cannot be created: {error.strerror}") from error
    token = f"lr-{secrets.token_urlsafe(32)}"
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(f"{_DEFAULT} {token}\n")
        file.flush()
        os.fsync(file.fileno())
    return Tokens({_DEFAULT: token}), token


def _read(path: Path) -> dict[str, str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, encoding="ascii") as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                raise _unusable(path, "is not a file")
            if seen.st_mode & 0o077:
                raise _unusable(path, "can be read by other users", hint=f"chmod 600 {path}")
            lines = file.read(1 << 20).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, f"cannot be read: {error}") from error
    result: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in result:
            raise _unusable(path, f"has no usable token in line {number}")
        result[match[1]] = match[2]
    if not result:
        raise _unusable(path, "has no token")
    return result


def _unusable(path: Path, what: str, hint: str = "") -> lr.ConfigError:
    return lr.ConfigError(
        f"the token file {path} {what}",
        why="the service never runs without a token, and a token that others can read protects nothing",
        hint=hint
        or "write lines of `NAME TOKEN` (16 characters or more each), or remove the file: "
        "the next start creates it with one token",
    )
