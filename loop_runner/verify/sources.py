"""How many independent sources the quotes of an answer come from.

Pages of one site are one source, and so are inputs with the same bytes, such as a page and its mirror. Every
other input is a source of its own. Whether one source repeats another in its own words is not seen here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from loop_runner.records import InputText

_COUNTRY_CHARS = 2
_SHARED_CHARS = 3  # "co" of example.co.uk, "com" of example.com.au: shared by many sites


def independent(texts: Iterable[InputText]) -> int:
    """The number of sources among ``texts``: those that share a site or their bytes are one."""
    groups: list[set[str]] = []
    for text in texts:
        marks = {f"bytes {text.sha256}", f"site {site}" if (site := _site(text)) else f"input {text.name}"}
        joined = [group for group in groups if group & marks]
        groups = [group for group in groups if not group & marks]
        groups.append(marks.union(*joined))
    return len(groups)


def _site(text: InputText) -> str:
    """The site that a fetched page belongs to; "" for an input that was not fetched."""
    try:
        host = (urlsplit(text.origin.url).hostname or "") if text.origin is not None else ""
    except ValueError:
        return ""
    host = host.rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        parts = host.split(".")
    is_shared = len(parts) > 2 and len(parts[-1]) == _COUNTRY_CHARS and len(parts[-2]) <= _SHARED_CHARS
    return ".".join(parts[-3:] if is_shared else parts[-2:])
