"""Keeps the secrets of the environment out of everything that is shown, sent or stored.

Owns what counts as a secret, the list of those that this process knows, and the text that replaces them.
Errors, the screen, events, requests, replies, cells, verdicts and commits all pass through ``clean`` or one
of its relatives: a last line of defence behind code that does not print a key in the first place. Secrets
are learned when a command or a run starts and are never forgotten. Only the standard library; never fails.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

_MIN_CHARS = 8
_MIN_PASSWORD_CHARS = 6  # of one in an address, where it is known to be a password
_SECRET_WORDS = frozenset(
    {"KEY", "KEYS", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PWD", "PASSPHRASE"}
    | {"CREDENTIAL", "CREDENTIALS", "PAT", "COOKIE", "COOKIES", "JWT", "BEARER"}
)
_NOT_SECRET = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK", "GPG_KEY"})
# What servers without keys are given in the place of one, and values that are settings, not secrets.
_PLACEHOLDERS = frozenset(
    {"no-key", "no-key-required", "sk-no-key-required", "lm-studio", "not-needed", "not-required"}
    | {"dummy-key", "test-key", "local-key", "your-key", "your-api-key", "changeme", "disabled", "required"}
    | {"optional", "undefined", "anything"}
)
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#@]*@")
_USER_INFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#@'\"]*:[^\s/?#@'\"]*@")


class _Known:
    """The forms of every secret that were learned, and the patterns that find them."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # form → the variable that it came from
        self.pattern: re.Pattern[str] | None = None
        self.bytes_pattern: re.Pattern[bytes] | None = None

    def add(self, forms: Mapping[str, str]) -> None:
        new = {form: name for form, name in forms.items() if form not in self.names}
        if not new:
            return
        self.names |= new
        # Longest first: a key that contains another one is replaced as a whole.
        ordered = sorted(self.names, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, ordered)))
        encoded = [form.encode("utf-8", "surrogateescape") for form in ordered]
        self.bytes_pattern = re.compile(b"|".join(map(re.escape, encoded)))


_known = _Known()


def learn(env: Mapping[str, str]) -> None:
    """Treat the secrets in ``env`` as secrets from now on, in the whole process."""
    forms: dict[str, str] = {}
    for name, value in env.items():
        for secret in _secrets(name, value):
            forms |= dict.fromkeys(_forms(secret), name)
    _known.add(forms)


def clean(text: str) -> str:
    """``text`` with ``[redacted: NAME]`` in the place of every secret."""
    pattern = _known.pattern
    if pattern is None:
        return text
    return pattern.sub(lambda match: f"[redacted: {_known.names[match[0]]}]", text)


def clean_bytes(data: bytes) -> bytes:
    """``clean`` for bytes, which need not be text."""
    pattern = _known.bytes_pattern
    if pattern is None:
        return data

    def replacement(match: re.Match[bytes]) -> bytes:
        name = _known.names[match[0].decode("utf-8", "surrogateescape")]
        return f"[redacted: {name}]".encode("utf-8", "replace")

    return pattern.sub(replacement, data)


def clean_json(value: Any) -> Any:
    """A JSON value, or a tuple in one, with every text in it cleaned."""
    if _known.pattern is None:
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean_json(key): clean_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_json(item) for item in value]
    if isinstance(value, tuple):
        return tuple(clean_json(item) for item in value)
    return value


def secret_in(data: bytes) -> str:
    """The variable whose value occurs in ``data``; "" when none does."""
    pattern = _known.bytes_pattern
    match = None if pattern is None else pattern.search(data)
    return "" if match is None else _known.names[match[0].decode("utf-8", "surrogateescape")]


def without_password(address: str) -> str:
    """``address`` as it may be shown: what stands for a user and a password is left out."""
    return _USER_INFO.sub(r"\1", address)


def is_active() -> bool:
    """Whether any secret is known."""
    return _known.pattern is not None


def _secrets(name: str, value: str) -> Iterator[str]:
    """The parts of a variable that are secret."""
    upper = name.upper()
    if upper not in _NOT_SECRET and _SECRET_WORDS & set(re.split(r"[^A-Z0-9]+", upper)):
        yield from _of_named(value)
    if "://" in value:
        for address in _ADDRESS.findall(value):
            yield from _of_address(address)


def _of_named(value: str) -> Iterator[str]:
    stripped = value.strip().strip("\"'").strip()
    if len(stripped) < _MIN_CHARS or stripped.lower() in _PLACEHOLDERS or stripped.isspace():
        return
    if _is_path(stripped):
        return
    yield stripped
    # An HTTP library quotes one line of a key that has several, such as a PEM file's.
    yield from (line.strip() for line in stripped.splitlines() if len(line.strip()) >= 2 * _MIN_CHARS)


def _of_address(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address + "host")
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return
    if len(password) >= _MIN_PASSWORD_CHARS:
        yield password
        yield base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    elif len(user) >= 2 * _MIN_CHARS and not password:
        yield user  # a token in the place of a user, as git hosts take it


def _is_path(value: str) -> bool:
    """Whether a variable says where a secret is kept, which is no secret."""
    import os

    try:
        return value.startswith(("/", "~", "./", "../")) and (
            os.path.exists(os.path.expanduser(value)) or value.startswith(("~", "./", "../"))  # noqa: PTH110, PTH111
        )
    except (OSError, ValueError):
        return False


_SHAPES: tuple[Callable[[str], str], ...] = (
    str,
    lambda secret: json.dumps(secret)[1:-1],
    lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    lambda secret: repr(secret)[1:-1],
    lambda secret: repr(secret.encode("utf-8", "surrogateescape"))[2:-1],
    lambda secret: quote(secret, safe="", errors="replace"),
    unquote,
)


def _forms(secret: str) -> Iterator[str]:
    """How ``secret`` may be written in a message: as it is, escaped, or percent-encoded."""
    for shape in _SHAPES:
        form = shape(secret)
        if len(form) >= _MIN_PASSWORD_CHARS:
            yield form
