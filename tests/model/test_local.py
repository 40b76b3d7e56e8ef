"""``local:``: its process is started when it is needed, replaced when it dies, and never left behind."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loop_runner import linux
from loop_runner.errors import ModelError
from loop_runner.model.providers import fetch
from loop_runner.model.providers.local import LocalClient, LocalModel, client
from loop_runner.records import Message, Reply, Request

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def lives(home: Path) -> list[dict[str, Any]]:
    file = home / "lives"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # where nobody reaps orphans, a dead one stays in the table


def talk(home: Path, *prompts: str, path: str = "m.gguf") -> list[Reply]:
    async def run() -> list[Reply]:
        server = (sys.executable, "-m", "tests.support.fake_local_server", str(home))
        asker = LocalClient(LocalModel("local:m", Path(path), 4096), server=server)
        try:
            requests = [Request("local:m", (Message("user", prompt),)) for prompt in prompts]
            return list(await asyncio.gather(*(asker.complete(request) for request in requests)))
        finally:
            await asker.close()

    return asyncio.run(run())


def test_one_process_answers_all_requests_and_ends_with_the_client(home: Path) -> None:
    assert [reply.text for reply in talk(home, "a", "b", "c")] == ["you said a", "you said b", "you said c"]
    (life,) = lives(home)
    assert (life["path"], life["n_ctx"]) == ("m.gguf", 4096)
    assert not is_alive(life["pid"])


def test_no_process_is_started_without_a_request(home: Path) -> None:
    assert talk(home) == []
    assert lives(home) == []


def test_a_process_that_dies_in_a_request_is_replaced_and_asked_again(home: Path) -> None:
    assert talk(home, "die once")[0].text == "you said die once"
    first, second = lives(home)
    assert first["api_key"] != second["api_key"]
    assert not is_alive(first["pid"])


def test_a_request_that_kills_twice_is_an_error_with_the_last_words(home: Path) -> None:
    with pytest.raises(ModelError, match=r"died twice over one request \(signal 11\)") as caught:
        talk(home, "die always")
    assert "my last words" in caught.value.why
    assert len(lives(home)) == 2


def test_a_process_that_does_not_start_says_why_in_safe_letters(home: Path) -> None:
    with pytest.raises(ModelError, match="exit code 3") as caught:
        talk(home, "a", path="never-starts.gguf")
    assert "out of memory\\x1b[31m" in caught.value.why


def test_a_start_that_is_cancelled_leaves_no_process_and_the_next_request_starts_anew(home: Path) -> None:
    async def run() -> str:
        server = (sys.executable, "-m", "tests.support.fake_local_server", str(home))
        asker = LocalClient(LocalModel("local:m", Path("slow-start.gguf"), 4096), server=server)
        request = Request("local:m", (Message("user", "hi"),))
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asker.complete(request), 0.7)
            return (await asker.complete(request)).text
        finally:
            await asker.close()

    assert asyncio.run(run()) == "you said hi"
    assert not any(is_alive(life["pid"]) for life in lives(home))


def test_the_process_dies_with_a_runner_that_is_killed(home: Path) -> None:
    code = (
        "import asyncio, sys, time\nfrom pathlib import Path\n"
        "from loop_runner.model.providers.local import LocalClient, LocalModel\n"
        "from loop_runner.records import Message, Request\n"
        "server = (sys.executable, '-m', 'tests.support.fake_local_server', sys.argv[1])\n"
        "async def main():\n"
        "    asker = LocalClient(LocalModel('local:m', Path('m.gguf'), 4096), server=server)\n"
        "    await asker.complete(Request('local:m', (Message('user', 'hi'),)))\n"
        "    print('asked', flush=True)\n    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE)
    assert runner.stdout is not None
    assert runner.stdout.readline() == b"asked\n"
    runner.kill()
    runner.wait()
    runner.stdout.close()
    deadline = time.monotonic() + 10
    while is_alive(lives(home)[0]["pid"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(lives(home)[0]["pid"])


def test_the_real_server_refuses_what_is_not_a_model(home: Path) -> None:
    pytest.importorskip("xllamacpp")
    broken = home / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)

    async def run() -> None:
        asker = client("broken.gguf", base_dir=home, models_dir=home)
        try:
            await asker.complete(Request("local:broken.gguf", (Message("user", "hi"),)))
        finally:
            await asker.close()

    with pytest.raises(ModelError, match="the model's process"):
        asyncio.run(run())


@pytest.mark.usefixtures("home")
def test_the_server_dies_with_its_parent_even_when_its_stdin_stays_open() -> None:
    child = (
        "import time; from loop_runner import linux\n"
        "linux.die_with_parent(); print(1, flush=True); time.sleep(60)\n"
    )
    parent = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\n"
    )
    argv = [sys.executable, "-c", parent, child]
    pid = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_threads_are_counted_in_cores_that_we_may_use() -> None:
    assert 1 <= linux.usable_processors() <= len(os.sched_getaffinity(0))


@pytest.mark.real_model
def test_the_real_model_answers_and_reuses_a_shared_prefix(home: Path) -> None:
    async def run() -> list[Reply]:
        asker = client("coder", base_dir=home, models_dir=fetch.models_dir(os.environ))
        text = "\n".join(f"Box {n} holds {n * 7 % 13} apples." for n in range(40))
        answers = []
        try:
            messages = (Message("user", "many words " * 9000),)
            too_long = await asker.complete(Request("local:coder", messages))
            assert too_long.stop_reason == "model_context_window_exceeded"
            for number in (7, 9):
                question = f"{text}\n\nHow many apples are in box {number}? Answer with the number."
                messages = (Message("user", question),)
                answers.append(await asker.complete(Request("local:coder", messages, max_output_tokens=16)))
        finally:
            await asker.close()
        return answers

    first, second = asyncio.run(run())
    assert "10" in first.text
    assert "11" in second.text
    assert second.usage.cache_read_tokens > 0.9 * first.usage.total_tokens - 40
    assert second.stop_reason == "end_turn"
