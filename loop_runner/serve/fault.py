"""An error that a client receives, in the form of the API that it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


@dataclass
class Fault(Exception):  # noqa: N818 - what a client is answered, not a bug
    """``message`` says what happened and what to do. ``code`` is stable; programs may compare it."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.message)

    @property
    def type(self) -> str:
        """The class of the error, as OpenAI's API names it."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self, *, as_anthropic: bool) -> dict[str, Any]:
        """The JSON object of the response."""
        if as_anthropic:
            kind = _ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else self.type)
            error = {"type": kind, "message": self.message, "code": self.code}
            return {"type": "error", "error": error, **self.extra}
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            },
            **self.extra,
        }


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> Fault:
    """A request that cannot be carried out as it is."""
    return Fault(400, code, message, param)


def missing(what: str) -> Fault:
    """There is no such thing, or it belongs to another token: the two look the same."""
    return Fault(404, "not_found", f"there is no {what} for this token")
