"""Searches the web through a provider, and gives title, address and snippet of what it found.

One function for each provider builds the request and reads the answer, which is foreign data. Keys
come from the environment. Nothing here reads a page: that is ``fetch_url``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from loop_runner.tools.command_lines import run
from loop_runner.tools.placeholders import filled
from loop_runner.tools.python_process import ToolRaisedError
from loop_runner.tools.spec import ToolSpec

_MAX_BYTES = 4 * 1024 * 1024
_MAX_CHARS = 1000  # of each text of a result
_BRAVE = "https://api.search.brave.com/res/v1/web/search"
_TAVILY = "https://api.tavily.com/search"


@dataclass(frozen=True, slots=True)
class _Query:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class SearchCaller:
    """Makes the calls of ``web_search``."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """A list of dicts with ``title``, ``url`` and ``snippet``."""
        target, query = spec.target, str(arguments["query"])
        if target["provider"] == "command":
            words = [filled(word, {"query": query}) for word in target["run"]]
            answer = await run(words, self._folder, self._env, b"", spec.settings.timeout_s)
        else:
            requests = _PROVIDERS[target["provider"]](target, query, self._env.get(target["key"], ""))
            async with asyncio.timeout(spec.settings.timeout_s):
                answer = await asyncio.to_thread(_answer, requests, spec.settings.timeout_s)
        return _results(answer, int(target["max_results"]))

    async def close(self) -> None:
        """Each request is one of its own."""


def _searxng(target: Mapping[str, Any], query: str, _key: str) -> _Query:
    return _Query(f"{target['url'].rstrip('/')}/search?{urlencode({'q': query, 'format': 'json'})}")


def _brave(target: Mapping[str, Any], query: str, key: str) -> _Query:
    words = urlencode({"q": query, "count": min(int(target["max_results"]), 20)})
    return _Query(f"{target.get('url', _BRAVE)}?{words}", {"X-Subscription-Token": key})


def _tavily(target: Mapping[str, Any], query: str, key: str) -> _Query:
    body = {"query": query, "max_results": int(target["max_results"])}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return _Query(target.get("url", _TAVILY), headers, json.dumps(body).encode())


_PROVIDERS: dict[str, Callable[[Mapping[str, Any], str, str], _Query]] = {
    "searxng": _searxng,
    "brave": _brave,
    "tavily": _tavily,
}


class _NoRedirects(HTTPRedirectHandler):
    """A key must not follow to another server."""

    def redirect_request(self, *_: Any) -> None:
        """None."""


def _answer(query: _Query, seconds: float) -> str:
    headers = {"Accept": "application/json", **query.headers}
    request = Request(query.url, data=query.body, headers=headers)  # noqa: S310 - the user's own address
    try:
        with build_opener(_NoRedirects).open(request, timeout=seconds) as response:
            data = response.read(_MAX_BYTES + 1)
    except HTTPError as error:
        raise ToolRaisedError(f"the search engine answered {error.code} {error.reason}") from error
    except (URLError, OSError, ValueError) as error:
        raise ToolRaisedError(
            f"the search engine is not reached: {getattr(error, 'reason', error)}"
        ) from error
    if len(data) > _MAX_BYTES:
        raise ToolRaisedError(f"the search engine answered with more than {_MAX_BYTES:,} bytes")
    return bytes(data).decode("utf-8", "replace")


def _results(answer: str, most: int) -> list[dict[str, str]]:
    try:
        result = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise ToolRaisedError(f"the search engine's answer is no JSON ({error})") from error
    if isinstance(result, dict):
        result = result["web"] if isinstance(result.get("web"), dict) else result
        result = result.get("results")
    if not isinstance(result, list):
        raise ToolRaisedError("the search engine's answer holds no list of results")
    rows = [row for row in result if isinstance(row, dict) and isinstance(row.get("url"), str)]
    return [_row(row) for row in rows[:most]]


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    """A result, by whatever name the provider has for its parts."""
    snippet = next((row[key] for key in ("snippet", "content", "description") if row.get(key)), "")
    texts = {"title": row.get("title", ""), "url": row["url"], "snippet": snippet}
    return {name: str(text)[:_MAX_CHARS] for name, text in texts.items()}
