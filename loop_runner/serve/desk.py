"""Where the APIs meet the runs: turns a parsed question into a run of the caller, new or known."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request

from loop_runner.serve import catalogue, guard, questions
from loop_runner.serve.bodies import digest
from loop_runner.serve.fault import bad, missing
from loop_runner.serve.questions import Question
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.store import RUN_ID, Record, Store
from loop_runner.serve.supervisor import Supervisor, Tracked

_MAX_KEY = 255


class Desk:
    """What every route is given."""

    def __init__(self, settings: Settings, store: Store, supervisor: Supervisor) -> None:
        self.settings, self.store, self.supervisor = settings, store, supervisor

    async def admit(
        self, request: Request, api: str, body: Mapping[str, Any], question: Question
    ) -> tuple[Tracked, bool]:
        """The run that answers this request, and whether it was started by an earlier one."""
        owner = guard.credential.get()
        if question.previous:
            self._require_previous(question.previous)
        else:
            await asyncio.to_thread(catalogue.find, self.settings, question.model)
        record = Record(
            id="",
            credential=owner,
            api=api,
            model=question.model,
            question=question.text,
            body_sha256=digest(api, body),
            key_sha256=_key(request),
            background=question.background,
            previous=question.previous,
            instructions=question.instructions,
            metadata=question.metadata,
        )
        files = partial(_files, question, self.settings, self.store, owner)
        return await self.supervisor.admit(record, files, is_retry=_is_retry(request))

    def _require_previous(self, run_id: str) -> None:
        if self.run(run_id, "response").state != "ended":
            raise bad("the response to continue has not ended yet", "previous_response_id")

    def run(self, run_id: str, what: str = "run") -> Tracked:
        """A run of the caller; `Fault` 404 for any other."""
        owner = guard.credential.get()
        result = self.supervisor.of(run_id, owner) if RUN_ID.fullmatch(run_id) else None
        if result is None:
            raise missing(what)
        return result


def _files(question: Question, settings: Settings, store: Store, owner: str, run_id: str) -> dict[str, bytes]:
    return questions.files_of(question, settings, store, run_id, owner)


def _key(request: Request) -> str:
    """SHA-256 of the Idempotency-Key; "" without one."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return ""
    if len(given) > 1 or not 0 < len(given[0]) <= _MAX_KEY:
        raise bad(f"send one Idempotency-Key of at most {_MAX_KEY} characters", "Idempotency-Key")
    return hashlib.sha256(given[0].encode("latin-1", "replace")).hexdigest()


def _is_retry(request: Request) -> bool:
    count = request.headers.get("x-stainless-retry-count", "0")
    return count.isdecimal() and count.strip("0") != ""
