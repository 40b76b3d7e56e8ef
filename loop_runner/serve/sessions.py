"""Sessions of the dashboard: a cookie that only the holder of a token can have, and the mark of its forms.

A session is signed with its token's digest, so nothing is stored: sessions survive a restart of the service,
and end with their token. The cookie is good for the dashboard only; the APIs take tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie

from loop_runner.serve.tokens import Tokens

COOKIE = "loop-runner-session"
_LASTS_S = 12 * 3600
_VALUE = re.compile(r"([A-Za-z0-9_.-]{1,64})~(\d{1,12})~([0-9a-f]{32})~([0-9a-f]{64})")
_MAX_CHARS = 4096


class Sessions:
    """Makes and reads sessions. ``is_secure``: browsers send the cookie over HTTPS only."""

    def __init__(self, tokens: Tokens, *, is_secure: bool) -> None:
        self._tokens, self._is_secure = tokens, is_secure

    def cookie(self, name: str) -> str:
        """The ``Set-Cookie`` header that begins a session of the token called ``name``."""
        about = f"{name}~{int(time.time()) + _LASTS_S}~{secrets.token_hex(16)}"
        return self._header(f"{about}~{self._signature(name, about)}", _LASTS_S)

    def end(self) -> str:
        """The ``Set-Cookie`` header that ends a session in the browser."""
        return self._header("", 0)

    def name_of(self, cookies: list[str]) -> str:
        """The token's name of the session in the ``Cookie`` headers; "" without a session."""
        match = _VALUE.fullmatch(value_of(cookies))
        if match is None or int(match[2]) < time.time() or match[1] not in self._tokens.names:
            return ""
        about = f"{match[1]}~{match[2]}~{match[3]}"
        return match[1] if hmac.compare_digest(self._signature(match[1], about), match[4]) else ""

    def form_mark(self, cookies: list[str]) -> str:
        """What every form of this session carries; "" without a session. No other site can know it."""
        name = self.name_of(cookies)
        return self._signature(name, f"form {value_of(cookies)}") if name else ""

    def _signature(self, name: str, text: str) -> str:
        return hmac.new(self._tokens.signing_key(name), text.encode(), hashlib.sha256).hexdigest()

    def _header(self, value: str, seconds: int) -> str:
        secure = "; Secure" if self._is_secure else ""
        return f"{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"


def value_of(cookies: list[str]) -> str:
    """The session's value in the ``Cookie`` headers; "" without one, or with several."""
    if len(cookies) != 1 or len(cookies[0]) > _MAX_CHARS:
        return ""
    try:
        cookie = SimpleCookie(cookies[0]).get(COOKIE)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""
