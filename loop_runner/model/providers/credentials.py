"""Keys and addresses as the environment gives them, checked before anything is sent.

Owns what is forgiven (white space around a value, quotes that a ``.env`` file left) and what is refused. No
message quotes a value: an HTTP library that finds a bad character in a header prints the whole key.
"""

from __future__ import annotations

import ssl
import unicodedata
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from loop_runner import redaction
from loop_runner.errors import ConfigError

_AROUND = " \t\r\n\v\f\0\ufeff\u00a0\u200b\u2028\u2029\u0085"
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_SOCKS = ("socks5", "socks5h")
_PROXY_SCHEMES = ("http", "https", *_SOCKS)
_QUOTES = ('"', "'")


def key(env: Mapping[str, str], name: str) -> str | None:
    """The key in the variable ``name``, or None. Raises ``ConfigError`` for one that no header can carry."""
    value = _stripped(env.get(name, ""))
    bad = next((char for char in value if not "!" <= char <= "~"), None)
    if bad is not None:
        raise ConfigError(
            f"{name} is not a key: it contains {_described(bad)} at position {value.index(bad) + 1}",
            why="a key is printable ASCII without spaces, so every request would fail",
            hint=f"copy the key again, as plain text, and set {name} to it alone",
        )
    return value or None


def address(env: Mapping[str, str], name: str) -> str | None:
    """The address in ``name``, or None. Raises ``ConfigError`` for one that cannot be asked."""
    value = _stripped(env.get(name, ""))
    if value and (fault := _fault(value)):
        raise ConfigError(
            f"{name} is not an address that can be used: {fault}",
            why="every request would fail",
            hint=f"set it like this: export {name}=http://127.0.0.1:8080/v1",
        )
    return value or None


def check_network(env: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` for a setting with which no HTTP client can be made."""
    for name, kind in (("SSL_CERT_FILE", "file"), ("SSL_CERT_DIR", "folder")):
        if (path := env.get(name)) and (fault := _certificates_fault(Path(path), kind)):
            raise ConfigError(
                f"{name} names {path}, which {fault}",
                why="without certificates no server can be trusted, so every request would fail",
                hint=f"correct {name}, or unset it",
            )
    for name in (*_PROXIES, *map(str.lower, _PROXIES)):
        if (value := env.get(name)) and (fault := _proxy_fault(value)):
            raise ConfigError(
                f"{name} names a proxy that cannot be used: {fault}",
                why="every request would go through it",
                hint=f"set {name} to an http:// proxy, or unset it; SOCKS needs socks5:// and socksio",
            )


def _certificates_fault(path: Path, kind: str) -> str:
    """Why no certificates can be read from ``path``; "" if they can."""
    if not path.exists():
        return "does not exist"
    if path.is_dir() is (kind == "file"):
        return f"is not a {kind}"
    try:
        if kind == "file":
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        else:
            next(path.iterdir(), None)
    except OSError as error:  # ssl.SSLError is one
        refused = error.strerror if isinstance(error, PermissionError) else None
        return f"cannot be read: {refused or 'it holds no certificates'}"
    return ""


def _proxy_fault(value: str) -> str:
    """Why no request can go through the proxy ``value``; "" if one can. Does not quote its password."""
    address = value if "://" in value else f"http://{value}"
    scheme = address.partition("://")[0].lower()
    if scheme not in _PROXY_SCHEMES:
        return f"it is of the kind {redaction.clean(scheme)[:20]}://"
    if scheme in _SOCKS and not find_spec("socksio"):
        return f"{scheme}:// needs the package socksio, which is not installed"
    return _fault(address.replace(f"{scheme}://", "http://", 1))


def _stripped(value: str) -> str:
    value = value.strip(_AROUND)
    if len(value) >= 2 and value[0] == value[-1] and value[0] in _QUOTES:
        value = value[1:-1].strip(_AROUND)
    return value


def _fault(value: str) -> str:
    """Why ``value`` is no address; "" if it is one. Does not quote it: it may hold a password."""
    bad = next((char for char in value if char.isspace() or ord(char) < 32 or char == "\x7f"), None)
    if bad is not None:
        return f"it contains {_described(bad)}"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return "its host or its port is not well formed"
    if parts.scheme.lower() not in ("http", "https"):
        scheme = redaction.clean(parts.scheme[:20])
        return f"it begins with {scheme}:, not with http:// or https://" if scheme else "it has no http://"
    return "" if parts.hostname else "it has no host"


def _described(char: str) -> str:
    """A character by its name: the value around it stays unseen."""
    if char == "\n":
        return "a line break"
    name = unicodedata.name(char, "a control character")
    return f"{name} (U+{ord(char):04X})"
