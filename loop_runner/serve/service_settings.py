"""What the service is given when it starts. Plain data: ``cli/serve.py`` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders, address, limits. All times are in seconds."""

    runs: Path
    tasks: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    token_file: Path | None = None  # None: tokens.txt in the service's own folder
    model: str | None = None  # of the model `ask`; None: the one of the environment's key
    sub_models: tuple[str, ...] = ()  # that a client may name after a colon
    inputs: tuple[str, ...] = ()  # that every question to `ask` is also about
    max_runs: int = 4
    max_queued: int = 100
    max_body_bytes: int = 32 * 1024 * 1024
    max_connections: int = 1000
    grace_s: float = 300.0  # a run whose client left continues so long
    body_timeout_s: float = 30.0  # between two pieces of a request body
    ping_s: float = 10.0
    delta_s: float = 30.0
    hosts: tuple[str, ...] = ()  # further names in a Host header
    origins: tuple[str, ...] = ()  # of pages that may call this server
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def folder(self) -> Path:
        """The service's own folder, beside the run folders."""
        return self.runs / ".serve"

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The names that a Host header may have, without the port, in small letters."""
        own = LOOPBACK if self.host in LOOPBACK else frozenset({self.host})
        return frozenset(name.lower().strip("[]") for name in (*own, *self.hosts))

    @property
    def scheme(self) -> str:
        """``https`` if TLS is configured."""
        return "https" if self.tls_cert else "http"
