"""An endpoint on loopback that answers as a test says, and rows of attempts."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from evals.endpoint import Endpoint
from evals.runner import Row


class Served:
    """The endpoint, the requests that it got, and what it answers: (status, text)."""

    def __init__(self):
        self.prompts = []
        self.endpoint: Endpoint
        self.answer = lambda prompt: (200, "42")

    def reply(self, body):
        prompt = body["messages"][-1]["content"]
        self.prompts.append(prompt)
        status, text = self.answer(prompt)
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 3, "total_tokens": 4}
        done = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        return status, done if status == 200 else {"error": {"message": text}}


@pytest.fixture
def served():
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, data = state.reply(body)
            text = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "key", "fake", 4096)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def row():
    """A row, with the fields that a test names."""

    def make(arm="loop", **fields):
        values: dict[str, Any] = {
            "model": "local:coder",
            "version": "1",
            "family": "needles",
            "seed": 0,
            "size": 10_000,
            "is_right": True,
            "verified": None if arm in ("direct", "bm25", "rlms", "dspy") else True,
            "seconds": 2.0,
            "tokens_in": 90,
            "tokens_out": 10,
            "passes": 1,
            "answer": "42",
            "reason": "",
            "error": "",
            "load": 0.5,
            "at": 1_800_000_000,
        }
        return Row(arm=arm, **values | fields)

    return make
