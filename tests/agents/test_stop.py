"""The hook's own process: whose session it is, what it prints, and how it fails."""

import json
import os
import subprocess
import sys

import pytest

from loop_runner.agents import sessions
from loop_runner.agents.endpoint import Endpoint
from loop_runner.agents.protocol import Decision
from tests.agents.conftest import ROOT
from tests.agents.test_protocol import PAYLOADS, encoded

SCRIPT = [sys.executable, "-S", "-E", str(ROOT / "hooks" / "stop.py")]
COMMAND = [sys.executable, "-m", "loop_runner", "hook", "stop"]


def stop(env, payload, argv=COMMAND, cwd=None):
    data = payload if isinstance(payload, bytes) else encoded(payload)
    done = subprocess.run(argv, input=data, env=env, cwd=cwd, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


def owner(env, session_id):
    result = sessions.owner(env, session_id)
    assert result is not None
    return result


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "run" / ".git" / "loop-runner").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
def listening(run_folder):
    """A loop that blocks everything, and what it was asked."""
    requests = []

    def answer(event, source):
        requests.append(event)
        return Decision("go on")

    endpoint = Endpoint(run_folder, answer)
    yield endpoint, requests
    endpoint.close()


@pytest.mark.parametrize("argv", [COMMAND, SCRIPT], ids=["command", "script"])
@pytest.mark.parametrize("payload", [PAYLOADS["claude"], {}, b"", b"\xff\xfe", b"[" * 9999], ids=repr)
def test_without_a_loop_it_prints_an_empty_object(env, payload, argv):
    assert stop(env, payload, argv) == {}


@pytest.mark.parametrize("client", ["claude", "codex", "gemini", "cursor", "copilot"])
def test_a_registered_session_is_asked_about_and_each_client_gets_its_own_answer(
    env, run_folder, listening, client
):
    sessions.register(env, "s1", str(run_folder), python=sys.executable)
    assert "go on" in stop(env, PAYLOADS[client]).values()
    assert listening[1][0].client == client


def test_another_session_in_the_same_folder_is_let_alone(env, run_folder, listening):
    sessions.register(env, "s1", str(run_folder), python=sys.executable)
    assert stop(env, {**PAYLOADS["claude"], "session_id": "s2"}, cwd=run_folder) == {}
    assert stop(env, {**PAYLOADS["claude"], "session_id": ""}, cwd=run_folder) == {}
    assert listening[1] == []


@pytest.mark.parametrize("name", ["", "null", "None", "undefined", " "])
def test_a_run_is_never_given_to_a_session_without_an_id(env, run_folder, name):
    with pytest.raises(ValueError, match="not the id of a session"):
        sessions.register(env, name, str(run_folder), python="")


def test_a_session_is_not_taken_from_a_run_that_has_it(env, run_folder, tmp_path):
    sessions.register(env, "s1", str(run_folder), python="")
    with pytest.raises(FileExistsError):
        sessions.register(env, "s1", str(tmp_path), python="")
    sessions.forget(env, "s1", str(tmp_path))
    assert owner(env, "s1").run == str(run_folder), "only its own run can give it up"
    sessions.forget(env, "s1", str(run_folder))
    sessions.forget(env, "s1", str(run_folder))
    assert sessions.owner(env, "s1") is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "C:\\x y", "ö" * 300, "a" * 500, "."])
def test_an_id_is_never_a_path(env, run_folder, name):
    sessions.register(env, name, str(run_folder), python="")
    assert owner(env, name).run == str(run_folder)
    written = os.listdir(os.path.join(env["LOOP_RUNNER_STATE"], "sessions"))
    assert len(written) == 1
    assert all(char.isalnum() or char in "_-." for char in written[0])


def test_the_kill_switch_comes_before_everything(env, run_folder, listening, tmp_path):
    sessions.register(env, "s1", str(run_folder), python=sys.executable)
    (run_folder / "STOP").touch()
    assert stop(env, PAYLOADS["claude"]) == {}
    (run_folder / "STOP").unlink()
    sessions.register(env, "s1", str(run_folder), python=sys.executable)
    (tmp_path / "state" / "STOP").touch()
    assert stop(env, PAYLOADS["claude"]) == {}
    assert listening[1] == []


def test_a_client_that_the_runner_started_is_known_by_its_token(env, run_folder, listening):
    endpoint, requests = listening
    own = {**env, sessions.RUN_VARIABLE: str(run_folder), sessions.TOKEN_VARIABLE: endpoint.token}
    assert stop(own, PAYLOADS["claude"])["decision"] == "block"
    stale = {**own, sessions.TOKEN_VARIABLE: "of an earlier runner"}
    assert stop(stale, PAYLOADS["claude"]) == {}
    assert len(requests) == 1


def test_a_runner_that_is_gone_lets_its_clients_end(env, run_folder):
    own = {**env, sessions.RUN_VARIABLE: str(run_folder), sessions.TOKEN_VARIABLE: "token"}
    assert stop(own, PAYLOADS["claude"]) == {}


def test_a_hook_that_fails_lets_through_says_so_and_writes_it_down(env, run_folder, tmp_path):
    sessions.register(env, "s1", str(run_folder), python="/no/such/python")
    output = stop(env, PAYLOADS["claude"])
    assert "not verified" in output["systemMessage"]
    assert "FileNotFoundError" in (tmp_path / "state" / "hook.log").read_text()


def test_a_run_that_was_deleted_is_forgotten(env, tmp_path):
    sessions.register(env, "s1", str(tmp_path / "gone"), python="")
    assert stop(env, PAYLOADS["claude"]) == {}
    assert sessions.owner(env, "s1") is None


def test_the_hook_imports_nothing_but_what_it_needs(env):
    code = (
        "import sys\nfrom loop_runner.cli import main\ntry: main(['hook', 'stop'])\nexcept SystemExit: pass\n"
    )
    heavy = ("click", "collections", "dataclasses", "json", "pathlib", "subprocess", "typing")
    code += f"print([m for m in sys.modules if m in {heavy}])"
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        input=encoded(PAYLOADS["claude"]),
        env=env,
        capture_output=True,
        check=True,
    )
    assert done.stdout.splitlines() == [b"{}", b"[]"]


def test_the_endpoint_answers_nobody_who_does_not_know_its_token(run_folder, listening):
    import http.client

    port = int(listening[0].url.split(":")[2].split("/")[0])
    for method, path, body in [("POST", "/stop/x", b"{}"), ("GET", "/", b""), ("POST", "/", b"{}")]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request(method, path, body)
        assert connection.getresponse().status in (404, 501)
        connection.close()
    assert listening[1] == []
    assert (run_folder / ".git/loop-runner/hook.json").stat().st_mode & 0o077 == 0


# ── streams (claude-code#90585) ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("argv", [COMMAND, SCRIPT], ids=["command", "script"])
def test_without_a_loop_it_does_not_wait_for_standard_input(env, argv):
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert json.loads(process.stdout.read()) == {}


@pytest.mark.parametrize("end", [b"", b"\n", b" \n\n"])
def test_with_a_loop_it_reads_one_object_and_does_not_wait_for_the_end(env, run_folder, listening, end):
    sessions.register(env, "s1", str(run_folder), python=sys.executable)
    payload = encoded(PAYLOADS["claude"] | {"session_id": "s1"}) + end
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdin is not None
        half = len(payload) // 2
        for part in (payload[:half], payload[half:]):
            process.stdin.write(part)
            process.stdin.flush()
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["decision"] == "block"


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/null >/dev/full", "| true", "<&- | true"]


@pytest.mark.parametrize("streams", CLOSED)
@pytest.mark.parametrize("has_loop", [False, True], ids=["no loop", "a loop"])
def test_closed_or_broken_streams_do_not_change_its_exit_code(env, run_folder, streams, has_loop):
    if has_loop:
        sessions.register(env, "s1", str(run_folder), python=sys.executable)
    command = f"({sys.executable} -m loop_runner hook stop; echo $? >&3) {streams}"
    if "|" in streams:
        command = f"({sys.executable} -m loop_runner hook stop {streams.split('|')[0]}; echo $? >&3) | true"
    read, write = os.pipe()
    subprocess.run(
        ["bash", "-c", f"exec 3>&{write}; {command}"],
        env=env,
        pass_fds=[write],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=40,
        check=False,
    )
    os.close(write)
    with os.fdopen(read) as codes:
        assert codes.read() == "0\n"
