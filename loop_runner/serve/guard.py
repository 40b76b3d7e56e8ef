"""What every request passes first: Host, Origin, token, size and speed of the body; and the request log.

Plain ASGI around the application. Nothing below it runs for a request that is refused here. The log has the
method, the route's path, the status and the time: no bodies, no query, no tokens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any

from loop_runner.serve.browser_sessions import Sessions
from loop_runner.serve.fault import Fault
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.tokens import Tokens

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN_PATHS = frozenset({"/health", "/v1/health", "/ready", "/openapi.json", "/docs"})  # no token is needed
_DASHBOARD = re.compile(r"/|/login|/logout|/runs/.*|/static/.*")  # where a session counts, too
_PORT = re.compile(r":\d{1,5}$")
_SAFE_PATH = re.compile(r"[^\w./:-]")
_CORS_HEADERS = "authorization, content-type, idempotency-key, last-event-id, x-api-key, anthropic-version"
_EXPOSED = "x-loop-runner-status, x-loop-runner-run, x-loop-runner-commit, idempotency-replayed, retry-after"
LOG = logging.getLogger("loop_runner.serve")
credential: ContextVar[str] = ContextVar("credential")


class Guard:
    """The ASGI application around ``app``. ``requests`` counts answers by route group and status."""

    def __init__(self, app: Any, settings: Settings, tokens: Tokens) -> None:
        self._app, self._settings, self._tokens = app, settings, tokens
        self._sessions = Sessions(tokens, is_secure=settings.scheme == "https")
        self.requests: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        cors = _cors(scope, self._settings)
        headers = _headers(scope)
        body = _Body(headers, receive, self._settings)

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # What was not read would be taken for the next request.
                end = [] if body.is_whole else [(b"connection", b"close")]
                given = message.get("headers", ())
                names = {name for name, _ in given}
                fixed = [header for header in _FIXED if header[0] not in names]
                message["headers"] = [*given, *fixed, *cors, *end]
            await send(message)

        try:
            await self._admitted(scope, headers, body, answer)
        finally:
            self.requests[_group(scope["path"]), status] += 1
            seconds = time.monotonic() - began
            LOG.info(
                "%s %s %s %.3f s", scope["method"], _SAFE_PATH.sub("?", scope["path"])[:200], status, seconds
            )

    async def _admitted(self, scope: Scope, headers: dict[str, list[str]], body: _Body, send: Send) -> None:
        try:
            self._check_host(headers)
            self._check_origin(headers)
            if scope["method"] == "OPTIONS":
                await _respond(send, 204, b"", [(b"allow", b"GET, POST, DELETE, OPTIONS")])
                return
            token = credential.set(self._authorized(scope, headers))
            try:
                await self._app(scope, body.receive, send)
            finally:
                credential.reset(token)
        except Fault as fault:
            await refuse(fault, scope["path"], send)
        except Exception:  # the border: the client has its answer, and the log the rest
            LOG.exception("internal error in %s", _SAFE_PATH.sub("?", scope["path"])[:200])

    # ── who asks, from where ────────────────────────────────────────────────────────────────────────

    def _check_host(self, headers: dict[str, list[str]]) -> None:
        """A page of another name that resolves to this address must not reach the server (DNS rebinding)."""
        given = headers.get("host", [])
        name = _PORT.sub("", given[0]).strip("[]").lower() if len(given) == 1 else ""
        if not name:
            raise Fault(400, "host_header_invalid", "send one Host header")
        if name not in self._settings.allowed_hosts:
            message = "this server does not answer to that Host: name it with --allow-host"
            raise Fault(421, "host_not_allowed", message)

    def _check_origin(self, headers: dict[str, list[str]]) -> None:
        """A page may call this server only from an allowed origin, or if the server itself served it."""
        for origin in headers.get("origin", []):
            own = f"{self._settings.scheme}://{headers['host'][0]}"
            if origin.lower() not in {own.lower(), *map(str.lower, self._settings.origins)}:
                message = "pages of this origin may not call this server: name it with --allow-origin"
                raise Fault(403, "origin_not_allowed", message)

    def _authorized(self, scope: Scope, headers: dict[str, list[str]]) -> str:
        """The name of the request's token; "" for a path that needs none, or that shows the login."""
        given = _given_token(headers)
        name = self._tokens.name_of(given) if given else None
        if name is None and not given and _DASHBOARD.fullmatch(scope["path"]):
            return self._sessions.name_of(headers.get("cookie", []))
        if name is None and scope["path"] not in OPEN_PATHS:
            raise Fault(
                401,
                "invalid_token",
                "send a token of this server as `Authorization: Bearer TOKEN` or `x-api-key: TOKEN`",
                headers={"www-authenticate": "Bearer"},
            )
        return name or ""


class _Body:
    """The body of one request as it arrives. ``is_whole``: the client has nothing more to send."""

    def __init__(self, headers: dict[str, list[str]], receive: Receive, settings: Settings) -> None:
        self._receive, self._most = receive, settings.max_body_bytes
        self._timeout_s = settings.body_timeout_s
        self._seen = 0
        length = headers.get("content-length", ["0"])[0]
        self.is_whole = length == "0" and "transfer-encoding" not in headers
        self.is_too_large = length.isdecimal() and int(length[:20]) > self._most

    async def receive(self) -> MutableMapping[str, Any]:
        """The next piece; `Fault` when it comes too late or is too much."""
        if self.is_too_large:
            raise _too_large(self._most)
        if self.is_whole:
            return await self._receive()  # once more the empty body, or that the client left
        try:
            message = await asyncio.wait_for(self._receive(), self._timeout_s)
        except TimeoutError as error:
            raise Fault(408, "body_timeout", "the body of the request did not arrive in time") from error
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self.is_whole = not message.get("more_body", False)
        if self._seen > self._most:
            raise _too_large(self._most)
        return message


def _too_large(most: int) -> Fault:
    return Fault(413, "body_too_large", f"the body is larger than {most} bytes: upload files to /v1/files")


def _headers(scope: Scope) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        result.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return result


def _given_token(headers: dict[str, list[str]]) -> str:
    bearer, keys = headers.get("authorization", []), headers.get("x-api-key", [])
    if len(bearer) > 1 or len(keys) > 1:
        return ""
    if bearer:
        kind, _, token = bearer[0].partition(" ")
        return token.strip() if kind.lower() == "bearer" else ""
    return keys[0].strip() if keys else ""


def _cors(scope: Scope, settings: Settings) -> Iterable[tuple[bytes, bytes]]:
    """The headers that let a page of a named origin read the answer; none without one."""
    origin = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"), "")
    if not origin or origin.lower() not in map(str.lower, settings.origins):
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"vary", b"origin"),
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", _CORS_HEADERS.encode()),
        (b"access-control-expose-headers", _EXPOSED.encode()),
    ]


_FIXED = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]


async def refuse(fault: Fault, path: str, send: Send) -> None:
    """Send ``fault`` in the form of the API that ``path`` belongs to."""
    body = json.dumps(fault.body(as_anthropic=path.startswith("/v1/messages"))).encode()
    headers = [(name.encode(), value.encode("latin-1")) for name, value in fault.headers.items()]
    # The same request would be refused again, except where the service is full.
    retry = b"true" if fault.status == 429 else b"false"
    await _respond(send, fault.status, body, [*headers, (b"x-should-retry", retry)])


async def _respond(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    kind = [(b"content-type", b"application/json")] if body else []
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *length, *headers]})
    await send({"type": "http.response.body", "body": body})


def _group(path: str) -> str:
    """The route of a path for the metrics: without ids, so that their number stays small."""
    parts = path.strip("/").split("/")[:2]
    name = "/" + "/".join(parts)
    return name if name in _GROUPS else "other"


_GROUPS = frozenset(
    {
        *("/health", "/ready", "/metrics", "/docs", "/openapi.json", "/"),
        *(
            "/v1/models",
            "/v1/chat",
            "/v1/responses",
            "/v1/messages",
            "/v1/files",
            "/v1/runs",
            "/v1/capabilities",
        ),
    }
)
