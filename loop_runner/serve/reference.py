"""The reference at ``/docs``: a page made from the OpenAPI description, without scripts or other servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>loop-runner service</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
td,th{{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}}code{{white-space:nowrap}}</style>
</head><body><main><h1>loop-runner service {version}</h1>
<p>Every request needs a token: <code>Authorization: Bearer TOKEN</code> or <code>x-api-key: TOKEN</code>.
<a href="/openapi.json">openapi.json</a></p>
<table><thead><tr><th>Method</th><th>Path</th><th>Meaning</th></tr></thead><tbody>
{rows}
</tbody></table></main></body></html>
"""


def page(description: Mapping[str, Any]) -> str:
    """The page for an OpenAPI description."""
    version = escape(str(description["info"]["version"]))
    return _PAGE.format(version=version, rows="\n".join(_rows(description)))


def _rows(description: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            cells = f"<td>{method.upper()}</td><td><code>{escape(path)}</code></td>"
            yield f"<tr>{cells}<td>{escape(about.get('summary', ''))}</td></tr>"
