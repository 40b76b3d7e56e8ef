"""Fetches a page for the model's code: allowed hosts only, within limits, converted as an input is.

The address that is checked is the one that is connected to, at every redirect (``inputs.web``). No byte of a
page is parsed in this process: a sandboxed child makes the text (``inputs.Converter``).
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loop_runner import inputs
from loop_runner.errors import LoopRunnerError
from loop_runner.inputs import urls, web
from loop_runner.records import InputText, Reply, SandboxTier
from loop_runner.tools import results
from loop_runner.tools.pages import Page, Pages
from loop_runner.tools.python_process import ToolRaisedError
from loop_runner.tools.spec import ToolSpec

_ODD = re.compile(r"[^\w./@+~=,-]")
_MAX_NAME_CHARS = 200


class FetchCaller:
    """Makes the calls of ``fetch_url``."""

    def __init__(self, pages: Pages, cache: Path, tier: SandboxTier | None) -> None:
        self._pages = pages
        self._cache = cache
        self._converter = inputs.Converter(cache, tier)

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """A ``Reply`` that names the page, which is kept by then."""
        return await asyncio.to_thread(self._fetched, spec, str(arguments["url"]))

    def _fetched(self, spec: ToolSpec, url: str) -> Reply:
        got: list[web.Page] = []

        def get(address: str) -> urls.Fetched:
            got.append(_get(address, spec))
            data = got[-1].data
            file = hashlib.sha256(data).hexdigest() + got[-1].ending
            return urls.Fetched(_name(got[-1]), urls.keep(urls.fetched_folder(self._cache), file, data))

        if not web.is_address(url):
            raise ToolRaisedError(
                f"{url[:200]!r} is no address of the web: it begins with http:// or https://"
            )
        try:
            result = inputs.load([{"url": url}], self._cache, converter=self._converter, fetch=get)
        except LoopRunnerError as error:
            raise ToolRaisedError(error.message) from error
        kept = [self._kept(text, got[0]) for text in result.texts]
        lines = [page.name for page in kept]
        return results.value({"names": lines, "url": got[0].url}, pages=list(map(asdict, kept)))

    def _kept(self, text: InputText, came: web.Page) -> Page:
        data, origin = inputs.read_bytes(text), text.origin
        assert origin is not None
        file = hashlib.sha256(came.data).hexdigest() + came.ending
        text_file = file if data == came.data else f"{hashlib.sha256(data).hexdigest()}.txt"
        page = Page(
            text.name,
            came.url,
            datetime.now(UTC).date().isoformat(),
            file,
            text_file,
            origin.kind,
            origin.member,
            origin.made_by,
            origin.places,
            origin.headings,
        )
        return self._pages.keep(page, {file: came.data, text_file: data})

    async def close(self) -> None:
        """Nothing is left open."""


def _get(url: str, spec: ToolSpec) -> web.Page:
    target = spec.target
    try:
        return web.fetch(
            url,
            allows_private=bool(target.get("private_addresses", False)),
            max_bytes=int(target["max_mb"] * 1024 * 1024),
            seconds=spec.settings.timeout_s,
            allows_host=lambda host: _is_allowed(host, target["allow"]),
        )
    except web.NotFetchedError as error:
        reply_text = str(error).replace(
            "inputs: {private_addresses: true}", "fetch: {private_addresses: true}"
        )
        raise ToolRaisedError(f"{url[:200]} is not fetched: {reply_text}") from error


def _is_allowed(host: str, allow: list[str]) -> bool:
    """Whether a pattern names the host: ``*.python.org`` also names ``python.org`` itself."""
    host = host.lower().rstrip(".")
    patterns = [pattern.lower() for pattern in allow]
    return any(fnmatch.fnmatchcase(host, pattern) or pattern == f"*.{host}" for pattern in patterns)


def _name(page: web.Page) -> str:
    """Host and path, with the query that tells pages of one path apart."""
    query = urlsplit(page.url).query
    return _ODD.sub("_", f"{page.name}{f'_{query}' if query else ''}")[:_MAX_NAME_CHARS]
