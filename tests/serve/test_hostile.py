# ruff: noqa: E501 - one row per request
"""Hostile requests: each is refused with the right status, starts nothing, leaks nothing, harms nothing."""

import json
import socket
import time

import pytest

from tests.support.service import ALICE, BOB

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
GOOD = {"model": "good", "messages": [{"role": "user", "content": "Hi?"}]}


def chat(**keys):
    return json.dumps({**GOOD, **keys}).encode()


def message(content):
    return chat(messages=[{"role": "user", "content": content}])


def file_part(**keys):
    return message([{"type": "text", "text": "Hi?"}, {"type": "file", "file": keys}])


def anthropic(source):
    content = [{"type": "text", "text": "Hi?"}, {"type": "document", "source": source}]
    return json.dumps({"model": "good", "messages": [{"role": "user", "content": content}]}).encode()


def response(**keys):
    return json.dumps({"model": "good", "input": "Hi?", **keys}).encode()


# name: (method, path, headers, body, status, code)
REQUESTS = {
    # tokens
    "no token": ("POST", CHAT, {**JSON, "authorization": None}, chat(), 401, "invalid_token"),
    "an empty token": ("POST", CHAT, {**JSON, "authorization": "Bearer "}, chat(), 401, "invalid_token"),
    "a wrong token": ("POST", CHAT, {**JSON, "authorization": "Bearer x"}, chat(), 401, "invalid_token"),
    "a prefix of a token": ("GET", "/v1/runs", {"authorization": f"Bearer {ALICE[:-1]}"}, b"", 401, "invalid_token"),
    "a token and more": ("GET", "/v1/runs", {"authorization": f"Bearer {ALICE}x"}, b"", 401, "invalid_token"),
    "a token as basic": ("GET", "/v1/runs", {"authorization": f"Basic {ALICE}"}, b"", 401, "invalid_token"),
    "a token in the query": ("GET", f"/v1/runs?token={ALICE}", {"authorization": None}, b"", 401, "invalid_token"),
    "a token of many bytes": ("GET", "/v1/runs", {"authorization": "Bearer " + "é" * 999}, b"", 401, "invalid_token"),
    "metrics without a token": ("GET", "/metrics", {"authorization": None}, b"", 401, "invalid_token"),
    "an unknown route without a token": ("GET", "/x", {"authorization": None}, b"", 401, "invalid_token"),
    # where it comes from
    "a foreign host": ("GET", "/v1/models", {"host": "evil.example"}, b"", 421, "host_not_allowed"),
    "a foreign host with the port": ("GET", "/health", {"host": "evil.example:80"}, b"", 421, "host_not_allowed"),
    "a host that begins well": ("GET", "/health", {"host": "localhost.evil.example"}, b"", 421, "host_not_allowed"),
    "a host with a user": ("GET", "/health", {"host": "localhost@evil"}, b"", 421, "host_not_allowed"),
    "a foreign origin": ("POST", CHAT, {**JSON, "origin": "https://evil.example"}, chat(), 403, "origin_not_allowed"),
    "the null origin": ("POST", CHAT, {**JSON, "origin": "null"}, chat(), 403, "origin_not_allowed"),
    "the origin of another port": ("POST", CHAT, {**JSON, "origin": "http://127.0.0.1:1"}, chat(), 403, "origin_not_allowed"),
    "a preflight of a foreign page": ("OPTIONS", CHAT, {"origin": "https://evil.example"}, b"", 403, "origin_not_allowed"),
    # forms that no browser asks permission for
    "a form of a page": ("POST", CHAT, {"content-type": "text/plain"}, chat(), 415, "unsupported_media_type"),
    "an urlencoded form": ("POST", CHAT, {"content-type": "application/x-www-form-urlencoded"}, b"a=1", 415, "unsupported_media_type"),
    "no content type": ("POST", CHAT, {}, chat(), 415, "unsupported_media_type"),
    "a compressed body": ("POST", CHAT, {**JSON, "content-encoding": "gzip"}, b"\x1f\x8b", 415, "unsupported_encoding"),
    # bodies
    "an empty body": ("POST", CHAT, JSON, b"", 400, "invalid_json"),
    "half a body": ("POST", CHAT, JSON, chat()[:-5], 400, "invalid_json"),
    "a list": ("POST", CHAT, JSON, b"[]", 400, "invalid_json"),
    "a body in latin-1": ("POST", CHAT, JSON, b'{"model": "\xe9"}', 400, "invalid_json"),
    "a body in UTF-16": ("POST", CHAT, JSON, chat().decode().encode("utf-16"), 400, "invalid_json"),
    "a lone surrogate": ("POST", CHAT, JSON, b'{"model": "good", "messages": [{"role": "user", "content": "\\ud800"}]}', 400, "invalid_json"),
    "a key twice": ("POST", CHAT, JSON, b'{"model": "a", "model": "b"}', 400, "invalid_json"),
    "not a number": ("POST", CHAT, JSON, b'{"model": NaN}', 400, "invalid_json"),
    "a deep list": ("POST", CHAT, JSON, b'{"a": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400, "invalid_json"),
    "deep objects": ("POST", CHAT, JSON, b'{"a":' * 3000 + b"1" + b"}" * 3000, 400, "invalid_json"),
    "a number of ten thousand digits": ("POST", CHAT, JSON, b'{"n": ' + b"1" * 10000 + b"}", 400, "invalid_json"),
    "a large body": ("POST", CHAT, JSON, b" " * (2 << 20), 413, "body_too_large"),
    # fields
    "no messages": ("POST", CHAT, JSON, b'{"model": "good"}', 400, "invalid_value"),
    "messages that are a text": ("POST", CHAT, JSON, chat(messages="Hi"), 400, "invalid_value"),
    "a message without a role": ("POST", CHAT, JSON, chat(messages=[{"content": "Hi"}]), 400, "invalid_value"),
    "no question": ("POST", CHAT, JSON, chat(messages=[{"role": "system", "content": "Hi"}]), 400, "invalid_value"),
    "an empty question": ("POST", CHAT, JSON, message("  "), 400, "invalid_value"),
    "a stream that is a text": ("POST", CHAT, JSON, chat(stream="yes"), 400, "invalid_value"),
    "two answers": ("POST", CHAT, JSON, chat(n=2), 400, "invalid_value"),
    "a tool that must be called": ("POST", CHAT, JSON, chat(tool_choice="required"), 400, "tools_not_supported"),
    "a picture": ("POST", CHAT, JSON, message([{"type": "image_url", "image_url": {"url": "http://x"}}]), 400, "invalid_value"),
    "a schema that is none": ("POST", CHAT, JSON, chat(response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}}), 400, "invalid_value"),
    "metadata that is large": ("POST", CHAT, JSON, chat(metadata={"a": "x" * 999}), 400, "invalid_value"),
    "an unknown model": ("POST", CHAT, JSON, chat(model="gpt-9"), 404, "model_not_found"),
    "a model that is a path": ("POST", CHAT, JSON, chat(model="../tasks/good"), 404, "model_not_found"),
    "a sub-model of the client's choice": ("POST", CHAT, JSON, chat(model="ask:script:/etc/passwd"), 404, "model_not_found"),
    "a sub-model for a task that names none": ("POST", CHAT, JSON, chat(model="good:manual:/tmp"), 404, "model_not_found"),
    "a budget below zero": ("POST", "/v1/runs", JSON, b'{"question": "Hi", "budget": {"usd": -1}}', 400, "invalid_value"),
    "a budget of another key": ("POST", "/v1/runs", JSON, b'{"question": "Hi", "budget": {"depth": 9}}', 400, "invalid_value"),
    # addresses that the server is to fetch
    "an address of this machine": ("POST", CHAT, JSON, file_part(file_url="http://127.0.0.1/"), 400, "url_not_supported"),
    "an address of the cloud": ("POST", "/v1/responses", JSON, response(input=[{"role": "user", "content": [{"type": "input_file", "file_url": "http://169.254.169.254/"}]}]), 400, "url_not_supported"),
    "a file of this machine": ("POST", CHAT, JSON, file_part(file_url="file:///etc/passwd"), 400, "url_not_supported"),
    "a document at an address": ("POST", "/v1/messages", JSON, anthropic({"type": "url", "url": "http://localhost"}), 400, "url_not_supported"),
    # files
    "no base64": ("POST", CHAT, JSON, file_part(file_data="%%%"), 400, "invalid_value"),
    "an empty file": ("POST", CHAT, JSON, file_part(file_data=""), 400, "invalid_value"),
    "an unknown file": ("POST", CHAT, JSON, file_part(file_id="file-" + "0" * 24), 404, "not_found"),
    "a file id that is a path": ("POST", CHAT, JSON, file_part(file_id="../../tokens"), 404, "not_found"),
    "an upload that is no form": ("POST", "/v1/files", JSON, b"{}", 415, "unsupported_media_type"),
    "an upload without a boundary": ("POST", "/v1/files", {"content-type": "multipart/form-data"}, b"x", 400, "invalid_value"),
    "an upload without a file": ("POST", "/v1/files", {"content-type": "multipart/form-data; boundary=b"}, b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nx\r\n--b--\r\n', 400, "missing_required_parameter"),
    "an upload with an empty name": ("POST", "/v1/files", {"content-type": "multipart/form-data; boundary=b"}, b'--b\r\nContent-Disposition: form-data; name="file"; filename=".."\r\n\r\nx\r\n--b--\r\n', 400, "invalid_value"),
    # runs
    "a run that is a path": ("GET", "/v1/runs/..%2f..%2fetc", {}, b"", 404, "route_not_found"),
    "a run with a null byte": ("GET", "/v1/runs/a%00b", {}, b"", 404, "not_found"),
    "a run of a long name": ("GET", "/v1/runs/" + "a" * 5000, {}, b"", 404, "not_found"),
    "a hidden folder as a run": ("DELETE", "/v1/runs/.serve", {}, b"", 404, "not_found"),
    "an unknown response": ("GET", "/v1/responses/resp_1", {}, b"", 404, "not_found"),
    "an unknown previous response": ("POST", "/v1/responses", JSON, response(previous_response_id="resp_1"), 404, "not_found"),
    "a conversation": ("POST", "/v1/responses", JSON, response(conversation="c"), 400, "invalid_value"),
    "an item of another kind": ("POST", "/v1/responses", JSON, response(input=[{"type": "computer_call"}]), 400, "invalid_value"),
    "a long idempotency key": ("POST", CHAT, {**JSON, "idempotency-key": "k" * 999}, chat(), 400, "invalid_value"),
    # routes
    "an unknown route": ("GET", "/v1/nothing", {}, b"", 404, "route_not_found"),
    "a path that climbs": ("GET", "/../../etc/passwd", {}, b"", 404, "route_not_found"),
    "another method": ("PUT", CHAT, JSON, chat(), 405, "method_not_allowed"),
    "a method that is none": ("BREW", CHAT, JSON, b"", 405, "method_not_allowed"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code"), REQUESTS.values(), ids=REQUESTS
)
def test_is_refused_with(service, method, path, headers, body, status, code):
    answer, result = send(service, method, path, headers, body)
    assert (answer, result.get("error", {}).get("code")) == (status, code), result
    assert not any(word in json.dumps(result) for word in (ALICE, BOB, "Traceback", str(service.runs)))


def send(service, method, path, headers, body):
    """One request, byte for byte as it is given."""
    given = {"host": service.url[7:], "authorization": f"Bearer {ALICE}", "connection": "close"}
    given |= {"content-length": str(len(body))} if body or method == "POST" else {}
    given |= headers
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{key}: {value}" for key, value in given.items() if value is not None),
    ]
    raw = exchange(service, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    head, _, content = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(content) if content else {}


def exchange(service, data, *, half_close=False):
    host, port = service.url[7:].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as plug:
        try:
            plug.sendall(data)
            if half_close:
                plug.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it answered before it read everything
        received = b""
        try:
            while part := plug.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        return received


HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nConnection: close\r\n"
RAW = {
    "a body that stops": ("Content-Length: 100\r\n\r\n{", 408),
    "chunks that stop": ("Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", 408),
    "two lengths": ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "a length and chunks": ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a length below zero": ("Content-Length: -1\r\n\r\n{}", 400),
    "a broken chunk": ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "two hosts": ("Host: evil.example\r\nContent-Length: 2\r\n\r\n{}", 400),
    "a header of a megabyte": ("X-Large: " + "x" * (1 << 20) + "\r\n\r\n", 400),
    "no line at all": (None, 400),
}


@pytest.mark.parametrize(("rest", "status"), RAW.values(), ids=RAW)
def test_a_request_that_breaks_the_protocol_is_refused(service, rest, status):
    head = HEAD.format(host=service.url[7:], token=ALICE)
    raw = exchange(
        service, (head + rest).encode() if rest is not None else b"\x16\x03\x01\x00\xa5\x01\r\n\r\n"
    )
    statuses = [int(line.split(b" ")[1]) for line in raw.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses[:1] == [status] or (raw == b"" and status == 400)


def test_a_client_that_sends_its_end_at_once_leaves_the_server_alive(service):
    body = chat()
    head = HEAD.format(host=service.url[7:], token="wrong") + f"Content-Length: {len(body)}\r\n\r\n"
    exchange(service, head.encode() + body, half_close=True)
    assert service.get("/health")["status"] == "ok"


def test_connections_that_say_nothing_do_not_stop_the_others(service):
    host, port = service.url[7:].split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(100)]
    try:
        began = time.monotonic()
        assert service.get("/health")["status"] == "ok"
        assert time.monotonic() - began < 5
    finally:
        for plug in silent:
            plug.close()


def test_none_of_these_requests_started_a_run(service):
    assert service.metric("loop_runner_processes_started_total") == 0
    assert service.get("/v1/runs")["data"] == []
    assert [path for path in service.runs.iterdir() if path.name != ".serve"] == []


def test_a_named_origin_and_no_other_may_read_answers(service):
    answer = service.http.get("/v1/models", headers={"origin": service.url})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_health_needs_no_token_and_says_nothing_about_runs(service):
    answer = service.http.get("/health", headers={"authorization": ""})
    assert answer.json().keys() == {"status", "version"}
    assert service.http.get("/docs", headers={"authorization": ""}).status_code == 200
    assert "/v1/runs/{run_id}/events" in service.http.get("/openapi.json").json()["paths"]
