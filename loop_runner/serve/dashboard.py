"""The dashboard: pages for a person with a browser, beside the APIs for programs.

A session comes from the login and counts on these paths only. What changes something is a form with the mark
of its session, sent by a page of this server. Without scripts
everything works, except that a page stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

import loop_runner as lr
from loop_runner.serve import dashboard_pages as pages
from loop_runner.serve import guard, steering_requests, streams
from loop_runner.serve.browser_sessions import Sessions
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import Fault, bad, missing
from loop_runner.serve.progress import line_of
from loop_runner.serve.streams import frame
from loop_runner.serve.supervisor import Tracked
from loop_runner.serve.tokens import Tokens

_FORM = "application/x-www-form-urlencoded"
_MAX_FORM_BYTES, _MAX_FIELDS = 100_000, 10
_HEADERS = {
    "content-security-policy": pages.POLICY,
    "cache-control": "no-store",
    # With `no-referrer`, browsers would send forms without their origin.
    "referrer-policy": "same-origin",
}


class Dashboard:
    """The handlers. Each is given the request and the desk, as those of the APIs are."""

    def __init__(self, tokens: Tokens, *, is_secure: bool) -> None:
        self._tokens = tokens
        self._sessions = Sessions(tokens, is_secure=is_secure)

    async def runs(self, request: Request, desk: Desk) -> Response:
        """The list of runs."""
        if not guard.credential.get():
            return _to_login()
        known = list(desk.supervisor.of_credential(guard.credential.get()))
        state = request.query_params.get("state", "")
        return _page(await asyncio.to_thread(pages.listed, known, state, **self._who(request)))

    async def run(self, request: Request, desk: Desk, run_id: str) -> Response:
        """One run, live."""
        if not guard.credential.get():
            return _to_login()
        done = request.query_params.get("done", "")
        return await self._of_run(request, desk.run(run_id), done=done)

    async def report(self, _request: Request, desk: Desk, run_id: str) -> Response:
        """The report of a run."""
        return await report(desk.run(run_id)) if guard.credential.get() else _to_login()

    async def events(self, request: Request, desk: Desk, run_id: str) -> Response:
        """What happens from now on, as lines to show."""
        if not guard.credential.get():
            raise Fault(401, "no_session", "log in at /login")
        since = request.headers.get("last-event-id") or request.query_params.get("since", "0")
        if not since.isdecimal() or len(since) > 12:
            raise bad("`since` must be the number of an event", "since")
        run = desk.run(run_id)
        return streams.response(desk.supervisor, run, _Lines(run, int(since)))

    async def act(self, request: Request, desk: Desk, run_id: str, action: str) -> Response:
        """One form of the run's page: done, and back to the page; or the page with what is wrong."""
        if not guard.credential.get():
            return _to_login()
        form = await self._form(request)
        run = desk.run(run_id)
        try:
            await _acted(desk, run, action, form)
        except Fault as fault:
            if fault.status == 404:
                raise
            return await self._of_run(request, run, fault=fault)
        return RedirectResponse(f"/runs/{run.record.id}?done={action}", 303, _HEADERS)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────

    async def login_page(self, _request: Request, _desk: Desk) -> Response:
        """The form that asks for a token."""
        return _page(pages.login())

    async def login(self, request: Request, _desk: Desk) -> Response:
        """Begin a session with a token of this server."""
        _require_own_page(request)
        name = self._tokens.name_of((await _fields(request)).get("token", "").strip())
        if name is None:
            return _page(pages.login("This is no token of this server."), 403)
        return RedirectResponse("/", 303, {**_HEADERS, "set-cookie": self._sessions.cookie(name)})

    async def logout(self, request: Request, _desk: Desk) -> Response:
        """End the session in this browser."""
        await self._form(request)
        return RedirectResponse("/login", 303, {**_HEADERS, "set-cookie": self._sessions.end()})

    def _who(self, request: Request) -> dict[str, str]:
        mark = self._sessions.form_mark(request.headers.getlist("cookie"))
        return {"form_mark": mark, "owner": guard.credential.get()}

    async def _of_run(
        self, request: Request, run: Tracked, *, fault: Fault | None = None, done: str = ""
    ) -> Response:
        message = fault.message if fault else ""
        who = self._who(request)
        text = await asyncio.to_thread(pages.of_run, run, fault=message, done=done, **who)
        return _page(text, fault.status if fault else 200)

    async def _form(self, request: Request) -> dict[str, str]:
        """The fields of a form of this session. `Fault` 403 for any other."""
        _require_own_page(request)
        form = await _fields(request)
        mark = self._sessions.form_mark(request.headers.getlist("cookie"))
        if not mark or form.pop("form_mark", "") != mark:
            raise Fault(403, "form_not_of_session", "load the page again: this form is of another session")
        return form


class _Lines:
    """The events of a run as lines for the page."""

    ping = streams.PING

    def __init__(self, run: Tracked, since: int) -> None:
        self._run, self._since, self._state = run, since, ""

    def start(self) -> Iterable[bytes]:
        """The state at once: it may have changed since the page was made."""
        return self.still(self._run.status)

    def event(self, event: Mapping[str, Any]) -> Iterable[bytes]:
        """Its line, if a person need know of it, and the state of the run when it changed."""
        if event["seq"] <= self._since:
            return
        if line := line_of(event):
            yield frame({"text": pages.shown(line)}, event="line", number=event["seq"])
        if self._run.status != self._state:
            yield from self.still(self._run.status)

    def still(self, status: str) -> Iterable[bytes]:
        """The state of the run."""
        self._state = status
        return [frame({"state": status}, event="state")]

    def end(self, run: Tracked) -> Iterable[bytes]:
        """The page is loaded again, with the answer."""
        return [frame({"state": run.status}, event="end")]


async def report(run: Tracked) -> Response:
    """The report of a run, which browsers treat as a page of no origin."""
    try:
        text = await asyncio.to_thread(pages.report, run)
    except (lr.LoopRunnerError, OSError) as error:
        raise Fault(
            409, "no_report_yet", "the run has not committed anything yet: try again later"
        ) from error
    policy = {"content-security-policy": pages.REPORT_POLICY}
    return HTMLResponse(text.encode("utf-8", "replace"), headers={**_HEADERS, **policy})


async def asset(_request: Request, _desk: Desk, name: str) -> Response:
    """The style sheet or the script of the pages."""
    if name not in pages.ASSETS:
        raise missing("file")
    headers = {"cache-control": "max-age=300"}
    return Response(pages.asset(name), media_type=f"{pages.ASSETS[name]}; charset=utf-8", headers=headers)


async def _acted(desk: Desk, run: Tracked, action: str, form: Mapping[str, str]) -> None:
    match action:
        case "pause":
            steering_requests.pause(desk, run)
        case "resume":
            steering_requests.resume(desk, run)
        case "stop":
            steering_requests.stop(desk, run)
        case "note":
            await steering_requests.note(run, _required(form, "text"))
        case "budget":
            limit = {_required(form, "limit"): _number(_required(form, "value"))}
            await steering_requests.budget(desk, run, limit)
        case "approve":
            await steering_requests.approve(run)
        case "reject":
            await steering_requests.reject(run, _required(form, "why"))
        case _:
            raise missing("form")


def _required(form: Mapping[str, str], name: str) -> str:
    if not (value := form.get(name, "").strip()):
        raise bad(f"the field `{name}` is empty", name)
    return value


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise bad("the new value is no number", "value") from None
    if not 0 < number < 1e15:
        raise bad("the new value must be a positive number", "value")
    return int(number) if number.is_integer() else number


async def _fields(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Fault(415, "unsupported_media_type", f"send a form as {_FORM}")
    data = (await request.body())[: _MAX_FORM_BYTES + 1]
    if len(data) > _MAX_FORM_BYTES:
        raise Fault(413, "form_too_large", f"a form has at most {_MAX_FORM_BYTES:,} bytes")
    try:
        pairs = parse_qsl(data.decode("ascii"), True, True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise bad("the form cannot be read") from None
    return dict(pairs)


def _require_own_page(request: Request) -> None:
    """Refuse a form that no page of this server sent. ``Guard`` has compared an ``Origin`` that there is."""
    if "origin" not in request.headers and request.headers.get("sec-fetch-site") != "same-origin":
        raise Fault(403, "origin_missing", "forms are for browsers: programs use /v1 with a token")


def _to_login() -> Response:
    return RedirectResponse("/login", 303, _HEADERS)


def _page(text: str, status: int = 200) -> Response:
    # A lone surrogate in what a model wrote is no UTF-8, and must not end the page.
    return HTMLResponse(text.encode("utf-8", "replace"), status, _HEADERS)
