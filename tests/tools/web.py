"""A small web on loopback: pages, redirects, and search engines that speak each provider's format."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Page = tuple[str, bytes] | str  # (type, bytes), or where it leads on


class Web:
    """Serves ``pages`` by path; ``requests`` are the requests, as (path with query, headers, body)."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self.pages = dict(pages)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                web.requests.append((self.path, dict(self.headers), self.rfile.read(size)))
                page = web.pages.get(self.path) or web.pages.get(urlsplit(self.path).path)
                if page is None:
                    self.send_error(404)
                elif isinstance(page, str):
                    self.send_response(302)
                    self.send_header("Location", page)
                    self.end_headers()
                else:
                    self._send(*page)

            do_POST = do_GET  # noqa: N815

            def _send(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(pages: Mapping[str, Page]) -> Iterator[Web]:
    web = Web(pages)
    try:
        yield web
    finally:
        web.close()


def as_json(data: Any) -> Page:
    return "application/json", json.dumps(data).encode()


def text(body: str) -> Page:
    return "text/plain", body.encode()


def query_of(path: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(path).query)
