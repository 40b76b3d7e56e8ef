"""Inputs that are not files: fetched from the web, or passed by a program; stored by their hash.

Their bytes are in the cache for reading and in the run folder for keeping (``Fetcher.files``).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from loop_runner.errors import ConfigError
from loop_runner.inputs.finding import DATA

FOLDER = "inputs"  # of a run folder
_MAX_BYTES = 64 << 20
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of fetching an address."""

    name: str  # host and path
    path: Path  # of its bytes: named by their SHA-256, with an extension for their type


class Fetcher:
    """Fetches for one run, into ``cache``. Private addresses are those that are not public.

    ``data`` is a program's data, by file name; without ``allows_web`` nothing else is available.
    """

    def __init__(
        self,
        cache: Path,
        *,
        allows_private: bool = False,
        allows_web: bool = True,
        data: Mapping[str, bytes] | None = None,
        max_bytes: int = _MAX_BYTES,
        seconds: float = _SECONDS,
    ) -> None:
        self._folder = fetched_folder(cache)
        self._allows_private = allows_private
        self._allows_web = allows_web
        self._data = data or {}
        self._max_bytes = max_bytes
        self._seconds = seconds
        self.files: dict[str, bytes] = {}

    def __call__(self, url: str) -> Fetched:
        """Fetch ``url``. Raises ``ConfigError`` with the reason when it gives nothing."""
        if url.startswith(DATA):
            return self._given(url.removeprefix(DATA))
        if not self._allows_web:
            raise not_fetched(url)
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

    def _given(self, file: str) -> Fetched:
        data = self._data.get(file)
        if data is None:
            raise ConfigError(
                f"the data {file} is not there",
                why="it was in the memory of the program that began the run, and a task file cannot hold it",
                hint="give it again as data, or name a file",
            )
        self.files[f"{FOLDER}/{file}"] = data
        return Fetched(file, keep(self._folder, file, data))


def not_fetched(url: str) -> ConfigError:
    """The error for an address in a task that does not allow fetching."""
    return ConfigError(
        f"{url} is not fetched",
        why="a run goes to the network for its inputs only when its task says that it may",
        hint="write inputs: {urls: true, paths: [...]}, or set it: --set inputs.urls=true (or settings=)",
    )


def data_file(name: str, data: bytes) -> str:
    """The file name of a program's data: its SHA-256, with an extension for its type."""
    ending = PurePosixPath(name).suffix[:10].lower()
    return hashlib.sha256(data).hexdigest() + re.sub(r"[^.a-z0-9]", "", ending)


def fetched_folder(cache: Path) -> Path:
    """The folder for fetched bytes while they are processed."""
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
