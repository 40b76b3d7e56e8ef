"""What survives: identity of requests, restarts, clients that leave, limits, and borders of tokens."""

import os
import threading
import time

import pytest

from loop_runner.serve.service_settings import Settings
from tests import serve_proof
from tests.support.service import BOB, Process, Service, in_thread, parsed, write_models, write_slow

pytestmark = pytest.mark.slow
JSON = {"content-type": "application/json"}


def ask(text, model="good", **keys):
    return {"model": model, "messages": [{"role": "user", "content": text}], **keys}


# ── identity ────────────────────────────────────────────────────────────────────────────────────────


def test_a_hundred_identical_requests_start_one_run(service):
    before, ids = service.metric("loop_runner_processes_started_total"), []

    def start_a_run():
        client = Service(service.url, service.runs)
        ids.append(
            client.http.post("/v1/chat/completions", json=ask("Identical?")).headers["x-loop-runner-run"]
        )
        client.http.close()

    threads = [threading.Thread(target=start_a_run) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 100
    assert len(set(ids)) == 1
    assert service.metric("loop_runner_processes_started_total") == before + 1


def test_a_key_names_one_run_for_ever_and_takes_no_other_body(service):
    key = {"idempotency-key": "order-1"}
    first = service.http.post("/v1/chat/completions", json=ask("Keyed?"), headers=key)
    again = service.http.post("/v1/chat/completions", json=ask("Keyed?"), headers=key)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = service.http.post("/v1/chat/completions", json=ask("Other?"), headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_conflict")
    mine = {**key, "authorization": f"Bearer {BOB}"}
    assert (
        service.http.post("/v1/runs", json={"question": "x", "model": "nothing"}, headers=mine).status_code
        == 404
    )


def test_a_finished_run_answers_a_retry_and_no_new_request(service):
    first = service.http.post("/v1/chat/completions", json=ask("Retried?"))
    retry = {"x-stainless-retry-count": "1"}
    again = service.http.post("/v1/chat/completions", json=ask("Retried?"), headers=retry)
    assert again.json()["id"] == first.json()["id"]
    new = service.http.post("/v1/runs", json={"model": "good", "question": "Retried?"})
    assert new.json()["id"] != first.json()["id"]


def test_the_order_of_keys_in_a_body_does_not_matter(service):
    item = b'{"model": "slow", "question": "Ordered?"}'
    two = b'{"question": "Ordered?",\n "model": "slow"}'
    ids = {service.http.post("/v1/runs", content=body, headers=JSON).json()["id"] for body in (item, two)}
    assert len(ids) == 1
    service.http.post(f"/v1/runs/{ids.pop()}/stop", json={})


# ── other tokens ────────────────────────────────────────────────────────────────────────────────────


def test_a_run_of_another_token_does_not_exist(service):
    run = service.start("good", "Whose?")
    service.wait(run)
    bob = Service(service.url, service.runs, BOB)
    paths = [("GET", ""), ("GET", "/events"), ("POST", "/stop"), ("POST", "/pause"), ("POST", "/resume")]
    for method, path in [*paths, ("DELETE", "")]:
        assert bob.http.request(method, f"/v1/runs/{run}{path}").status_code == 404
    assert bob.http.get(f"/v1/responses/{run}").status_code == 404
    assert bob.get("/v1/runs")["data"] == []
    follow_up = {"model": "good", "input": "And?", "previous_response_id": run}
    assert bob.http.post("/v1/responses", json=follow_up).status_code == 404
    bob.http.close()
    assert service.state(run) == "verified"


# ── control ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_paused_at_a_commit_and_continues_without_paying_twice(service):
    run = service.start("slow", "Paused?")
    until(service, run, "turn_committed")
    assert service.http.post(f"/v1/runs/{run}/pause").status_code == 202
    service.wait(run, "paused")
    assert service.http.post(f"/v1/runs/{run}/resume").status_code == 202
    result = service.wait(run)
    assert (result["state"], result["loop_runner"]["turns"]) == ("verified", 41)
    numbers = [data["seq"] for kind, data in service.events(f"/v1/runs/{run}/events") if "seq" in data]
    assert numbers == list(range(1, len(numbers) + 1))
    rest = service.events(f"/v1/runs/{run}/events", headers={"last-event-id": "7"})
    assert rest[0][1]["seq"] == 8
    assert rest[-1][0] == "end"
    assert service.http.post(f"/v1/runs/{run}/resume").status_code == 409
    assert service.http.post(f"/v1/runs/{run}/stop").status_code == 409


def until(service, run_id, kind):
    with service.http.stream("GET", f"/v1/runs/{run_id}/events") as response:
        assert any(result == kind for result, _ in parsed(response.iter_lines()))


def test_a_note_is_in_the_next_request_and_files_are_those_of_the_commits(service):
    run = service.start("slow", "Noted?")
    until(service, run, "turn_committed")
    assert service.http.post(f"/v1/runs/{run}/notes", json={"text": "look at line 2"}).status_code == 202
    assert service.http.post(f"/v1/runs/{run}/approve").status_code == 409
    assert service.wait(run)["state"] == "verified"
    events = service.events(f"/v1/runs/{run}/events")
    assert any(data.get("kind") == "operator" and "look at line 2" in str(data) for _, data in events)
    assert service.http.get(f"/v1/runs/{run}/files/answer.md").text == "It is 42."
    for path in (
        "task.yaml",
        "workspace/../task.yaml",
        "workspace/%0aHEAD:task.yaml",
        "workspace/none",
        "passes/",
    ):
        assert service.http.get(f"/v1/runs/{run}/files/{path}").status_code == 404
    assert service.http.post(f"/v1/runs/{run}/notes", json={"text": "too late"}).status_code == 409


def test_an_unverified_run_continues_with_a_larger_budget(service):
    run = service.start("wrong", "Larger?")
    assert service.wait(run)["state"] == "unverified"
    assert service.http.post(f"/v1/runs/{run}/budget", json={"passes": 2}).status_code == 202
    assert service.wait(run)["loop_runner"]["passes"] == 2


def test_a_client_may_lower_the_budget_of_a_task_and_not_raise_it(service):
    run = service.start("wrong", "Raised?", budget={"passes": 3})
    assert service.wait(run)["loop_runner"]["passes"] == 1


def test_an_active_run_is_not_removed(service):
    run = service.start("slow", "Removed?")
    assert service.http.delete(f"/v1/runs/{run}").status_code == 409
    service.http.post(f"/v1/runs/{run}/stop")
    service.wait(run, "cancelled")
    assert service.http.delete(f"/v1/runs/{run}").json()["deleted"] is True
    assert service.http.get(f"/v1/runs/{run}").status_code == 404


# ── limits, and clients that leave ──────────────────────────────────────────────────────────────────


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A service for one run at a time, which does not wait long."""
    for name, value in write_models(tmp_path / "tasks").items():
        monkeypatch.setenv(name, value)
    write_slow(tmp_path / "tasks" / "hour", turns=2, latency_s=40)
    settings = Settings(
        runs=tmp_path / "runs",
        tasks=tmp_path / "tasks",
        port=0,
        max_runs=1,
        max_queued=1,
        grace_s=0.5,
        ping_s=0.4,
        delta_s=1.0,
    )
    with in_thread(settings) as running:
        yield running


def test_a_full_service_says_when_to_come_back(small):
    first, second = (small.start("hour", text) for text in ("One?", "Two?"))
    third = small.http.post("/v1/runs", json={"model": "hour", "question": "Three?"})
    assert (third.status_code, third.json()["error"]["code"]) == (429, "queue_full")
    assert int(third.headers["retry-after"]) > 0
    assert small.http.get("/ready").status_code == 503
    assert small.state(second) == "queued"
    for run in (second, first):
        small.http.post(f"/v1/runs/{run}/stop")
        assert small.wait(run)["state"] == "cancelled"


def test_a_silent_run_is_heard_of_and_is_paused_when_its_client_leaves(small):
    body = {**ask("Silent?", "hour"), "stream": True}
    seen: list[str] = []
    began = time.monotonic()
    with small.http.stream("POST", "/v1/chat/completions", json=body) as response:
        run = response.headers["x-loop-runner-run"]
        for line in response.iter_lines():
            if not seen:
                assert time.monotonic() - began < 5
            seen.append(line)
            if sum("reasoning_content" in text for text in seen) > 8:
                break
    assert ": ping" in seen
    small.wait(run, "paused")
    again = small.http.post("/v1/runs", json={"model": "hour", "question": "Background?"})
    assert small.wait(again.json()["id"], "running")
    time.sleep(1.5)
    assert small.state(again.json()["id"]) == "running", "a background run is tied to no client"
    small.http.post(f"/v1/runs/{again.json()['id']}/stop")


# ── restarts ────────────────────────────────────────────────────────────────────────────────────────


def test_a_service_that_is_killed_finds_its_runs_and_a_client_gets_the_rest(tmp_path):
    env = {**os.environ, **write_models(tmp_path / "tasks")}
    process = Process(tmp_path, "--tasks", str(tmp_path / "tasks"), "--max-runs", "1", env=env)
    service = process.start()
    key = {"idempotency-key": "survives"}
    body = {"model": "slow", "question": "Survives?"}
    run = service.http.post("/v1/runs", json=body, headers=key).json()["id"]
    queued = service.start("good", "Queued?")
    until(service, run, "turn_committed")
    process.kill()
    service = process.start()
    assert service.http.post("/v1/runs", json=body, headers=key).json()["id"] == run
    assert service.state(run) == "running"
    events = service.events(f"/v1/responses/{run}?stream=true&starting_after=3")
    assert events[0][1]["sequence_number"] == 4
    assert events[-1][0] == "response.completed"
    assert service.wait(queued)["state"] == "verified"
    starts = [
        data for _, data in service.events(f"/v1/runs/{run}/events") if data.get("kind") == "run_started"
    ]
    assert len(starts) == 1
    assert len(list((service.runs / ".serve" / "requests").iterdir())) == 2
    process.kill()
    service.http.close()


def test_a_run_that_ended_while_no_service_was_there_is_not_started_again(tmp_path):
    process = Process(
        tmp_path, "--tasks", str(tmp_path / "tasks"), env={**os.environ, **write_models(tmp_path / "tasks")}
    )
    service = process.start()
    run = service.start("slow", "Unseen?")
    until(service, run, "turn_committed")
    process.kill()
    trace = service.runs / run / ".git" / "loop-runner" / "events.jsonl"
    end = time.monotonic() + 60
    while b'"kind": "run_ended"' not in trace.read_bytes():
        assert time.monotonic() < end
        time.sleep(0.1)
    service = process.start()
    assert service.wait(run)["state"] == "verified"
    kinds = [data.get("kind") for _, data in service.events(f"/v1/runs/{run}/events")]
    assert (kinds.count("run_started"), kinds.count("run_ended")) == (1, 1)
    process.kill()
    service.http.close()


def test_two_kills_under_load_lose_nothing_and_start_nothing_twice(tmp_path):
    result = serve_proof.prove(tmp_path, kills=2, between_s=3, clients=3)
    assert result["faults"] == []
    assert result["runs"] == result["requests"] == 3
    assert result["reconnects"] > 0
