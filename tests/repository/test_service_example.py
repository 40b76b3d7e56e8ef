"""``examples/service``: somebody's own FastAPI application, called over ASGI."""

import asyncio
import importlib.util
import sys

import httpx2
import pytest

from tests.support import documents
from tests.support.service import CITED, TEXT
from tests.support.tasks import ready, write_task

pytestmark = pytest.mark.slow


def test_it_hands_out_verified_answers_and_refuses_others(tmp_path, monkeypatch):
    write_task(tmp_path / "good", root=[ready(CITED)] * 3, texts={"notes.txt": TEXT})
    monkeypatch.setenv("DOCUMENTS", str(tmp_path / "good/notes.txt"))
    monkeypatch.setenv("MODEL", f"script:{tmp_path / 'good/script.yaml'}")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    path = documents.ROOT / "examples/service/app.py"
    spec = importlib.util.spec_from_file_location("service_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "service_example", module)
    spec.loader.exec_module(module)

    async def main():
        transport = httpx2.ASGITransport(module.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            good = await client.post("/ask", json={"text": "Which port?"}, timeout=90)
            status = await client.get(f"/runs/{good.json()['run']}")
            missing = await client.get("/runs/..%2f..")
            (tmp_path / "good/script.yaml").write_text("root: []\n")
            failed = await client.post("/ask", json={"text": "Which port?"}, timeout=90)
        return good, status, missing, failed

    good, status, missing, failed = asyncio.run(main())
    assert good.status_code == 200, good.text
    assert good.json()["text"].startswith("The port is 8080.")
    assert good.json()["quotes"] == ["notes.txt:1 The port is 8080."]
    assert status.json()["state"] == "verified"
    assert (missing.status_code, failed.status_code) == (404, 502)
