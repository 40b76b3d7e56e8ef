"""Fetches a page within limits, and from this machine's own network only if that is allowed.

The address that is checked is the address that is connected to, at every redirect. No proxy is used.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from loop_runner.inputs import long_steps
from loop_runner.inputs.inside.paths import is_odd

_REDIRECTS = 5
_CHUNK = 1 << 16
_MOVED = (301, 302, 303, 307, 308)
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "application/pdf": ".pdf",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/zip": ".zip",
}


class NotFetchedError(Exception):
    """Why an address gave nothing, for a person."""


@dataclass(frozen=True, slots=True)
class Page:
    """The content of an address: bytes, their name, and an extension for their type."""

    name: str
    data: bytes
    ending: str
    url: str = ""  # where the last redirect led


@dataclass(frozen=True, slots=True)
class _Terms:
    deadline: float
    seconds: float
    max_bytes: int
    allows_private: bool
    allows_host: Callable[[str], bool]


def fetch(
    url: str,
    *,
    allows_private: bool,
    max_bytes: int,
    seconds: float,
    allows_host: Callable[[str], bool] = lambda _: True,
) -> Page:
    """The page at ``url``. Raises ``NotFetchedError`` and nothing else.

    ``allows_host`` is asked before every connection, the first one and those of redirects.
    """
    terms = _Terms(time.monotonic() + seconds, seconds, max_bytes, allows_private, allows_host)
    try:
        last, data, kind = _follow(url, terms)
    except TimeoutError:
        raise NotFetchedError("it took too long") from None
    except OSError as error:
        raise NotFetchedError((error.strerror or str(error)).lower()) from error
    except (http.client.HTTPException, ValueError) as error:
        raise NotFetchedError(str(error) or type(error).__name__) from error
    name = _name(last)
    ending = _SUFFIXES.get(kind, PurePosixPath(name).suffix[:10].lower())
    return Page(name, data, re.sub(r"[^.a-z0-9]", "", ending), last.geturl())


def is_address(url: str) -> bool:
    """Whether ``url`` is one that can be fetched: http or https, with a host and nothing odd."""
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
        return is_web and parts.port != 0 and not any(map(is_odd, url)) and " " not in url
    except ValueError:
        return False


def _follow(url: str, terms: _Terms) -> tuple[SplitResult, bytes, str]:
    for _ in range(_REDIRECTS + 1):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotFetchedError(f"{url[:200]} is not a web address")
        if not terms.allows_host(parts.hostname):
            raise NotFetchedError(f"the task does not allow the host {parts.hostname[:100]}")
        answer = _get(parts, terms)
        if isinstance(answer, str):
            url = urljoin(url, answer)
            continue
        return parts, *answer
    raise NotFetchedError(f"it redirects more than {_REDIRECTS} times")


def _get(parts: SplitResult, terms: _Terms) -> str | tuple[bytes, str]:
    """The address that it redirects to, or the bytes and their type."""
    connection = _connect(parts, terms)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(
            "GET",
            target,
            headers={"User-Agent": "loop-runner", "Accept-Encoding": "identity", "Connection": "close"},
        )
        response = connection.getresponse()
        if response.status in _MOVED and (place := response.getheader("Location")):
            return place
        if response.status != http.client.OK:
            raise NotFetchedError(f"the server answered {response.status} {response.reason[:100]}")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise NotFetchedError("the server compressed its answer without being asked to")
        kind = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        return _body(response, connection, terms), kind
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, terms: _Terms) -> bytes:
    with long_steps.step("fetching", response.length or 0) as advance:
        return _read_body(response, connection, terms, advance)


def _read_body(
    response: http.client.HTTPResponse,
    connection: http.client.HTTPConnection,
    terms: _Terms,
    advance: Callable[[int], None],
) -> bytes:
    data = bytearray()
    while True:
        left = terms.deadline - time.monotonic()
        if left <= 0:
            raise NotFetchedError(f"it took more than {terms.seconds:g} s")
        if connection.sock is not None:
            connection.sock.settimeout(left)
        chunk = response.read1(_CHUNK)
        if not chunk:
            return bytes(data)
        data += chunk
        advance(len(chunk))
        if len(data) > terms.max_bytes:
            raise NotFetchedError(f"too large: more than {terms.max_bytes:,} bytes")


def _connect(parts: SplitResult, terms: _Terms) -> http.client.HTTPConnection:
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    left = max(terms.deadline - time.monotonic(), 0.1)
    address = _address(parts.hostname, port, allows_private=terms.allows_private)
    plain = socket.create_connection((address, port), timeout=left)
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=left)
    try:
        if parts.scheme == "https":
            connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
        else:
            connection.sock = plain
    except BaseException:
        plain.close()
        raise
    return connection


def _address(host: str, port: int, *, allows_private: bool) -> str:
    """The address to connect to: the first; refused if any of them is in the machine's own network."""
    addresses = [str(address[4][0]) for address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not allows_private:
        for address in addresses:
            if not is_public(address):
                raise NotFetchedError(
                    f"{host} is {address}, an address of a private network "
                    "(inputs: {private_addresses: true} allows it)"
                )
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is public, seen from this machine."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _name(parts: SplitResult) -> str:
    """The input's name: host and path, without what a name cannot hold."""
    path = "/".join(part for part in unquote(parts.path).split("/") if part not in ("", ".", ".."))
    name = f"{parts.hostname}/{path}" if path else f"{parts.hostname}/index"
    return "".join("_" if is_odd(char) else char for char in name)[:300]
