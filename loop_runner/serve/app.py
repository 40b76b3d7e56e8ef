"""The routes, as a FastAPI application. Each route reads its own body: the formats are other people's.

``application`` is what a program embeds; ``__init__.serve`` runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

import loop_runner as lr
from loop_runner.serve import catalogue, chat, dashboard, messages, metrics, native, responses, uploads
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import Fault
from loop_runner.serve.guard import Guard
from loop_runner.serve.reference import page
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.store import Store
from loop_runner.serve.supervisor import Supervisor
from loop_runner.serve.tokens import Tokens

Handler = Callable[..., Awaitable[Response]]
_ROUTES: tuple[tuple[str, str, Handler, str], ...] = (
    ("POST", "/v1/chat/completions", chat.create, "OpenAI chat completions"),
    ("POST", "/v1/responses", responses.create, "OpenAI responses"),
    ("GET", "/v1/responses/{run_id}", responses.retrieve, "A response, or the rest of its stream"),
    ("POST", "/v1/responses/{run_id}/cancel", responses.cancel, "Stop a response"),
    ("DELETE", "/v1/responses/{run_id}", responses.remove, "Remove a response and its run folder"),
    ("POST", "/v1/messages", messages.create, "Anthropic messages"),
    ("POST", "/v1/messages/count_tokens", messages.count_tokens, "Estimate the tokens of a request"),
    ("POST", "/v1/files", uploads.create, "Upload a document"),
    ("GET", "/v1/files", uploads.listed, "List uploads"),
    ("GET", "/v1/files/{file_id}", uploads.retrieve, "Describe an upload"),
    ("GET", "/v1/files/{file_id}/content", uploads.content, "The bytes of an upload"),
    ("DELETE", "/v1/files/{file_id}", uploads.remove, "Forget an upload"),
    ("POST", "/v1/runs", native.create, "Start a run"),
    ("GET", "/v1/runs", native.listed, "List runs"),
    ("GET", "/v1/runs/{run_id}", native.retrieve, "A run, its answer, verdicts and citations"),
    ("DELETE", "/v1/runs/{run_id}", native.remove, "Remove a run and its folder"),
    ("GET", "/v1/runs/{run_id}/events", native.events, "The events of a run"),
    ("POST", "/v1/runs/{run_id}/pause", native.pause, "Pause at the next commit"),
    ("POST", "/v1/runs/{run_id}/resume", native.resume, "Continue a run"),
    ("POST", "/v1/runs/{run_id}/stop", native.stop, "Stop, as one Ctrl-C does"),
    ("POST", "/v1/runs/{run_id}/budget", native.budget, "Change the limits"),
    ("POST", "/v1/runs/{run_id}/notes", native.note, "Leave a note for the model"),
    ("POST", "/v1/runs/{run_id}/approve", native.approve, "Approve the answer that waits for a person"),
    ("POST", "/v1/runs/{run_id}/reject", native.reject, "Reject it, with a reason"),
    ("GET", "/v1/runs/{run_id}/report", native.report, "The report of a run, as one HTML file"),
    ("GET", "/v1/runs/{run_id}/files/{path:path}", native.artifact, "A file that the run committed"),
)


def application(settings: Settings, tokens: Tokens) -> Guard:
    """The service as an ASGI application. Its runs are watched from its start-up to its shut-down."""
    settings.runs.mkdir(parents=True, exist_ok=True)
    store = Store(settings.folder, settings.runs)
    supervisor = Supervisor(settings, store)
    desk = Desk(settings, store, supervisor)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        supervisor.start()
        yield
        await supervisor.close()

    app = FastAPI(
        title="loop-runner", version=lr.__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    guard = Guard(app, settings, tokens)
    for method, path, handler, summary in _ROUTES:
        app.add_api_route(
            path, _bound(handler, desk), methods=[method], summary=summary, operation_id=summary
        )
    _add_plain(app, desk, guard)
    _add_dashboard(app, desk, tokens)
    app.add_exception_handler(Fault, _refused)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _failed)
    return guard


def _bound(handler: Handler, desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        return await handler(request, desk, **request.path_params)

    return route


def _add_plain(app: FastAPI, desk: Desk, guard: Guard) -> None:
    """The routes about the service itself."""

    async def health() -> Response:
        return JSONResponse({"status": "ok", "version": lr.__version__})

    async def ready() -> Response:
        is_full = desk.supervisor.queued >= desk.settings.max_queued
        return JSONResponse({"status": "full" if is_full else "ready"}, 503 if is_full else 200)

    async def models() -> Response:
        names = await asyncio.to_thread(lambda: list(catalogue.names(desk.settings)))
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "loop-runner"} for name in names]
        # `type` and `display_name` are for clients of Anthropic's API, which has the same path.
        data = [{**item, "type": "model", "display_name": item["id"]} for item in data]
        return JSONResponse({"object": "list", "data": data, "has_more": False})

    async def model(name: str) -> Response:
        await asyncio.to_thread(catalogue.find, desk.settings, name)
        return JSONResponse({"id": name, "object": "model", "created": 0, "owned_by": "loop-runner"})

    for path in ("/health", "/v1/health"):
        app.add_api_route(path, health, methods=["GET"], include_in_schema=path == "/health")
    app.add_api_route("/ready", ready, methods=["GET"])
    app.add_api_route("/v1/models", models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", model, methods=["GET"])

    async def capabilities() -> Response:
        return JSONResponse(_capabilities(desk.settings))

    async def counts() -> Response:
        return PlainTextResponse(metrics.text(desk.supervisor, guard))

    async def reference() -> Response:
        return HTMLResponse(page(app.openapi()))

    app.add_api_route("/v1/capabilities", capabilities, methods=["GET"])
    app.add_api_route("/metrics", counts, methods=["GET"])
    app.add_api_route("/docs", reference, methods=["GET"], include_in_schema=False)


def _add_dashboard(app: FastAPI, desk: Desk, tokens: Tokens) -> None:
    """The pages for browsers. They are no API, so its description leaves them out."""
    pages = dashboard.Dashboard(tokens, is_secure=desk.settings.scheme == "https")
    for method, path, handler in (
        ("GET", "/", pages.runs),
        ("GET", "/login", pages.login_page),
        ("POST", "/login", pages.login),
        ("POST", "/logout", pages.logout),
        ("GET", "/runs/{run_id}", pages.run),
        ("GET", "/runs/{run_id}/report", pages.report),
        ("GET", "/runs/{run_id}/events", pages.events),
        ("POST", "/runs/{run_id}/{action}", pages.act),
        ("GET", "/static/{name}", dashboard.asset),
    ):
        app.add_api_route(path, _bound(handler, desk), methods=[method], include_in_schema=False)


def _capabilities(settings: Settings) -> dict[str, object]:
    return {
        "object": "capabilities",
        "version": lr.__version__,
        "routes": sorted(f"{method} {path}" for method, path, _, _ in _ROUTES),
        "limits": {
            "max_body_bytes": settings.max_body_bytes,
            "max_runs": settings.max_runs,
            "max_queued": settings.max_queued,
            "grace_s": settings.grace_s,
        },
        "idempotency": ["Idempotency-Key", "identical body while live", "x-stainless-retry-count"],
        "tools_of_clients": False,
        "urls_fetched": False,
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Fault)
    headers = {"x-should-retry": "true" if error.status == 429 else "false", **error.headers}
    as_anthropic = request.url.path.startswith("/v1/messages")
    return JSONResponse(error.body(as_anthropic=as_anthropic), error.status, headers)


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "there is no such route: /openapi.json lists them", 405: "this route has other methods"}
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    message = words.get(error.status_code, str(error.detail))
    return await _refused(request, Fault(error.status_code, code, message, headers=error.headers or {}))


async def _failed(request: Request, _error: Exception) -> Response:
    """A fault of the service: its log has it (``Guard``), and the client learns that it is one."""
    return await _refused(
        request, Fault(500, "internal_error", "a fault of the service; its log has the details")
    )
