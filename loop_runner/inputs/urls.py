"""Inputs from the web: fetched once, kept by their hash.

What comes lies in the cache to be read and in the run folder to be kept (``Fetcher.files``).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from loop_runner.errors import ConfigError

FOLDER = "inputs"  # of a run folder
_MAX_BYTES = 64 << 20
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an address gave."""

    name: str  # host and path
    path: Path  # where its bytes lie: named by their SHA-256, with an ending that says what they are


class Fetcher:
    """Fetches for one run, into ``cache``. Private addresses are those that not everybody can reach."""

    def __init__(
        self,
        cache: Path,
        *,
        allows_private: bool = False,
        max_bytes: int = _MAX_BYTES,
        seconds: float = _SECONDS,
    ) -> None:
        self._folder = fetched_folder(cache)
        self._allows_private = allows_private
        self._max_bytes = max_bytes
        self._seconds = seconds
        self.files: dict[str, bytes] = {}

    def __call__(self, url: str) -> Fetched:
        """Fetch ``url``. Raises ``ConfigError`` with the reason when it gives nothing."""
        from loop_runner.inputs import web

        try:
            page = web.fetch(
                url, allows_private=self._allows_private, max_bytes=self._max_bytes, seconds=self._seconds
            )
        except web.NotFetchedError as error:
            raise ConfigError(
                f"input {url!r} cannot be fetched: {error}",
                why="the model would work without it",
                hint="fetch it yourself, and name the file instead",
            ) from error
        file = hashlib.sha256(page.data).hexdigest() + page.ending
        self.files[f"{FOLDER}/{file}"] = page.data
        return Fetched(page.name, keep(self._folder, file, page.data))


def fetched_folder(cache: Path) -> Path:
    """Where fetched bytes lie while they are worked on."""
    return cache.absolute() / "fetched"


def keep(folder: Path, file: str, data: bytes) -> Path:
    """Put ``data`` into ``folder`` under its name, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    new = folder / f".{file}.{os.getpid()}"
    new.write_bytes(data)
    new.chmod(0o644)
    new.replace(path)
    return path
