"""A service of your own that embeds the library: one question in, a verified answer out.

uvicorn app:app          # with DOCUMENTS=docs/ and MODEL=local:coder in the environment
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import loop_runner as lr

DOCUMENTS = os.environ.get("DOCUMENTS", "docs")
MODEL = os.environ.get("MODEL")  # None: the one whose key is in the environment
RUNS = Path(os.environ.get("RUNS", "runs"))
app = FastAPI()


class Question(BaseModel):
    """What a caller asks."""

    text: str


class Answer(BaseModel):
    """What the caller gets. An answer that is not verified is never handed out as one."""

    text: str
    quotes: list[str]
    run: str


@app.post("/ask")
async def ask(question: Question) -> Answer:
    """Answer a question about the documents. A caller that hangs up stops its run; its commits stay."""
    folder = RUNS / secrets.token_hex(8)
    try:
        result = await lr.aask(question.text, [DOCUMENTS], model=MODEL, run_dir=folder)
    except lr.LoopRunnerError as error:
        raise HTTPException(502, error.message) from error
    if not result.verified:
        raise HTTPException(422, f"no verified answer: {result.reason}")
    quotes = [f"{citation.name}:{citation.line} {citation.quote}" for citation in result.citations]
    return Answer(text=result.answer, quotes=quotes, run=folder.name)


@app.get("/runs/{name}")
async def progress(name: str) -> dict[str, object]:
    """Where a run is, also one of an earlier process."""
    if name not in {status.folder.name for status in lr.list_runs(RUNS)}:
        raise HTTPException(404, "there is no such run")
    status = lr.open(RUNS / name).status()
    return {"state": status.state, "doing": str(status.activity), "reason": status.reason}
