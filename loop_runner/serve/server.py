"""Starts uvicorn with the application, and says where it listens."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from loop_runner.serve.app import application
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.tokens import read_or_create

_SHUTDOWN_S = 3
_HEAD_S = 20.0  # in which the head of a connection's first request must arrive


def run(settings: Settings) -> None:
    """Serve until a signal. The address and a new token are printed on standard output."""
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = settings.token_file or settings.folder / "tokens.txt"
    tokens, created = read_or_create(path)
    app = application(settings, tokens)
    server = _Server(_config(settings, app), _lines(settings, str(path), created))
    server.run()


class _Server(uvicorn.Server):
    """Uvicorn's server, which says that it listens once it does."""

    def __init__(self, config: uvicorn.Config, lines: list[str]) -> None:
        super().__init__(config)
        self._lines = lines

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            port = next((item.sockets[0].getsockname()[1] for item in self.servers if item.sockets), 0)
            print("\n".join(self._lines).replace(":PORT", f":{port}"), file=sys.stdout, flush=True)  # noqa: T201


class _Patient(H11Protocol):
    """Closes a connection that says nothing: each one holds a place among the permitted ones."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self.loop.call_later(_HEAD_S, self._close_silent)

    def _close_silent(self) -> None:
        cycle: object = self.cycle  # None before the first request, whatever its annotation says
        if cycle is None and not self.transport.is_closing():
            self.transport.close()


def _lines(settings: Settings, path: str, created: str | None) -> list[str]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    shown = created or "(in the token file)"
    return [
        f"listening on {settings.scheme}://{host}:PORT  (OpenAI: /v1, Anthropic: /)",
        f"token      {shown}",
        f"token file {path}",
    ]


def _config(settings: Settings, app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        ws="none",
        http=_Patient,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        timeout_keep_alive=30,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
