"""No secret of the environment reaches the screen, a request, an event, a commit or a file of a run."""

import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from loop_runner import redaction
from loop_runner.errors import ConfigError, ModelError
from loop_runner.events import Event, Trace
from loop_runner.model.client import redacted
from loop_runner.model.providers import credentials
from loop_runner.records import Message, Request
from loop_runner.workspace.git.fast_import import Blob, NewCommit, stream
from tests.support.commands import loop_runner
from tests.support.model_server import Answer, HttpError, ModelServer, Scripted
from tests.support.tasks import cell, ready, write_task

SECRET = "sk-live-Zq81xW-do-not-print"
PASSWORD = "hunter2-Zq81xW"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without a known secret."""
    monkeypatch.setattr(redaction, "_known", redaction._Known())


# ── what is a secret ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "MYSQL_PWD",
        "pgpassword_pass",
        "SLACK_COOKIE",
        "MY_APIKEY",
        "GH_PAT",
        "AZURE_CREDENTIALS",
    ],
)
def test_a_variable_is_a_secret_by_the_words_of_its_name(name: str) -> None:
    redaction.learn({name: SECRET})
    assert redaction.clean(f"a {SECRET} b") == f"a [redacted: {name}] b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PWD", "/home/someone/project"),
        ("OPENAI_API_KEY", "sk-no-key-required"),
        ("OPENAI_API_KEY", "lm-studio"),
        ("OPENAI_API_KEY", "EMPTY"),
        ("TOKENIZERS_PARALLELISM", "something-long"),
        ("SSL_KEY", "/etc/hostname"),
        ("EDITOR", "a-long-editor-name"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    ],
)
def test_settings_placeholders_and_paths_are_not_secrets(name: str, value: str) -> None:
    redaction.learn({name: value})
    assert redaction.clean(f"x {value} y") == f"x {value} y"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"{SECRET}\n", SECRET),
        (f'"{SECRET}"', SECRET),
        (f"  {SECRET}\r\n", SECRET),
        ("s3cret/with+signs=x", "s3cret%2Fwith%2Bsigns%3Dx"),
        ('quo"ted-secret', 'quo\\"ted-secret'),
        ("sécret-unicode", "s\\u00e9cret-unicode"),
        ("line-one-of-the-key\nline-two-of-the-key", "line-two-of-the-key"),
    ],
)
def test_every_way_in_which_a_message_may_write_a_secret_is_replaced(value: str, shown: str) -> None:
    redaction.learn({"A_TOKEN": value})
    assert redaction.clean(f"<{shown}>") == "<[redacted: A_TOKEN]>"
    assert redaction.clean_bytes(f"<{shown}>".encode()) == b"<[redacted: A_TOKEN]>"


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "HTTPS_PROXY", "PIP_INDEX_URL", "DATABASE_URL"])
def test_a_password_in_an_address_is_a_secret(name: str) -> None:
    redaction.learn({name: f"https://user:{PASSWORD}@host.example/v1"})
    assert PASSWORD not in redaction.clean(f"cannot reach https://user:{PASSWORD}@host.example/v1")


def test_a_longer_secret_that_contains_another_is_replaced_as_a_whole() -> None:
    redaction.learn({"A_KEY": "abcdefgh-1", "B_KEY": "abcdefgh-1-and-more"})
    assert redaction.clean("abcdefgh-1-and-more") == "[redacted: B_KEY]"


# ── where it is replaced ────────────────────────────────────────────────────────────────────────────


def test_errors_events_requests_and_commits_are_clean(tmp_path: Path) -> None:
    redaction.learn({"A_KEY": SECRET})
    error = ModelError(f"bad {SECRET}", why=f"because {SECRET}", hint=f"do {SECRET}")
    assert SECRET not in f"{error} {error.args} {error.message} {error.why} {error.hint}"
    seen: list[Event] = []
    trace = Trace(tmp_path / "events.jsonl", (seen.append,))
    trace.append(Event("notice", SECRET, data={"deep": [{"text": SECRET}]}))
    trace.close()
    assert SECRET not in (tmp_path / "events.jsonl").read_text() + repr(seen)
    sent = redacted(Request("m", (Message("user", f"{SECRET}b", stable_chars=len(SECRET)),), SECRET))
    assert SECRET not in repr(sent)
    assert sent.messages[0].text[sent.messages[0].stable_chars :] == "b"
    commit = stream(NewCommit(SECRET, 0, set_paths={b"passes/1/x": Blob(SECRET.encode())}))
    assert SECRET.encode() not in commit


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [f"{SECRET}\n", f" {SECRET} ", f"'{SECRET}'", f"\ufeff{SECRET}\r\n"])
def test_what_is_around_a_key_is_stripped(value: str) -> None:
    assert credentials.key({"K": value}, "K") == SECRET


@pytest.mark.parametrize(
    ("value", "described"),
    [
        ("sk-abc\u2019def-Zq81", "RIGHT SINGLE QUOTATION MARK"),
        ("sk-abc def-Zq81", "SPACE"),
        ("sk-abc\ndef-Zq81", "a line break"),
        ("sk-abc\u2026def-Zq81", "HORIZONTAL ELLIPSIS"),
        ("sk-abc\x01def-Zq81", "U+0001"),
        ("Bearer sk-abc-Zq81", "SPACE"),
    ],
)
def test_a_key_that_no_header_can_carry_is_refused_without_its_value(value: str, described: str) -> None:
    with pytest.raises(ConfigError) as caught:
        credentials.key({"K": value}, "K")
    assert described in str(caught.value)
    assert "Zq81" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "localhost:8080/v1",
        "ftp://host/v1",
        "http://",
        "http://h:port/v1",
        "http://a b/v1",
        "http://[::1/v1",
        f"htp://user:{PASSWORD}@host",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_without_its_value(value: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL") as caught:
        credentials.address({"OPENAI_BASE_URL": value}, "OPENAI_BASE_URL")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "anthropic-batch"])
@pytest.mark.parametrize("key", ["sk-\u201ccurly-Zq81xW\u201d", "sk-two\nlines-Zq81xW"])
def test_a_bad_key_ends_a_run_with_2_before_anything_is_created(
    tmp_path: Path, provider: str, key: str
) -> None:
    name = "OPENAI_API_KEY" if provider == "openai" else "ANTHROPIC_API_KEY"
    task = write_task(tmp_path, root=[], model=f"{provider}:m")
    result = loop_runner("run", task, cwd=tmp_path, env={name: key})
    assert result.returncode == 2, result.stderr
    assert name in result.stderr
    assert "Zq81xW" not in result.stderr + result.stdout
    assert not (tmp_path / "runs").exists()


# ── whole runs ──────────────────────────────────────────────────────────────────────────────────────


def stored(folder: Path) -> bytes:
    """Everything in a folder: its files, and the contents of its git objects."""
    parts = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            parts.append(data)
            if path.parent.parent.name == "objects" and len(path.parent.name) == 2:
                parts.append(zlib.decompress(data))
    if (folder / ".git").exists():
        command = ["git", "-C", str(folder), "cat-file", "--batch-all-objects", "--batch"]
        parts.append(subprocess.run(command, capture_output=True, check=True).stdout)
    return b"\n".join(parts)


def assert_clean(folder: Path, result: "subprocess.CompletedProcess[str]", *secrets: str) -> None:
    runs = folder / "runs" / "scripted"
    shown = (result.stdout + result.stderr).encode()
    for secret in secrets:
        assert secret.encode() not in shown, result.stderr
        if runs.exists():
            assert secret.encode() not in stored(runs)


ECHO = f"the key {SECRET} was refused"
IN_PIECES = "x = '-'.join(['sk', 'live', 'Zq81xW', 'do', 'not', 'print'])"
ANSWERS: dict[str, list[Answer]] = {
    "401 that repeats the key": [HttpError(401, "invalid_api_key", ECHO)],
    "403 that repeats the key": [HttpError(403, "forbidden", ECHO)],
    "400 that repeats the key": [HttpError(400, "bad", ECHO)],
    "429 without a quota": [HttpError(429, "insufficient_quota", ECHO, "insufficient_quota")],
    "429 once": [HttpError(429, "x", ECHO, headers={"retry-after": "0"}), Scripted(ready("42"))],
    "500 once": [HttpError(500, "x", ECHO, headers={"retry-after": "0"}), Scripted(ready("42"))],
    "a reply that repeats the key": [Scripted(f"{SECRET}\n" + ready("42"))],
    "an answer that is the key": [Scripted(ready(f"42 {SECRET}"))],
    "output that is the key": [Scripted(cell(f"print('{SECRET}')")), Scripted(ready("42"))],
    "a traceback with the key": [Scripted(cell(f"raise ValueError('{SECRET}')")), Scripted(ready("42"))],
    "a variable with the key": [
        Scripted(cell(IN_PIECES)),
        Scripted(ready("42")),
    ],
    "a sub-call with the key": [
        Scripted(cell(f"print(llm_query('{SECRET}'))")),
        "yes",
        Scripted(ready("42")),
    ],
    "a sub-call that is refused": [
        Scripted(cell("print(llm_query('x'))")),
        HttpError(400, "bad", ECHO),
        Scripted(ready("42")),
    ],
}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("name", ANSWERS)
def test_java_slack_sdk_566_a_provider_cannot_make_a_run_show_or_store_the_key(
    tmp_path: Path, model_server: ModelServer, provider: str, name: str
) -> None:
    model_server.will_reply(*ANSWERS[name])
    address = {"OPENAI_BASE_URL": model_server.openai_url, "ANTHROPIC_BASE_URL": model_server.url}
    env = {**address, "OPENAI_API_KEY": f"{SECRET}\n", "ANTHROPIC_API_KEY": f"{SECRET}\r\n"}
    task = write_task(tmp_path, root=[], model=f"{provider}:m", budget={"passes": 1, "turns": 3})
    result = loop_runner("run", task, "-v", cwd=tmp_path, env=env)
    assert result.returncode in (0, 3, 4), result.stderr
    assert_clean(tmp_path, result, SECRET)
    assert all(SECRET in request.headers["authorization"] for request in model_server.requests)
    assert not any(SECRET in json.dumps(request.body) for request in model_server.requests)


@pytest.mark.parametrize("name", ["closed port", "refused"])
def test_apollo_client_9565_a_password_in_the_address_is_not_shown(
    tmp_path: Path, model_server: ModelServer, name: str
) -> None:
    model_server.will_reply(HttpError(403, "forbidden", f"user:{PASSWORD} may not"))
    address = model_server.openai_url.replace("http://", f"http://user:{PASSWORD}@")
    if name == "closed port":
        address = f"http://user:{PASSWORD}@127.0.0.1:1/v1"
    task = write_task(tmp_path, root=[], model="openai:m", budget={"wall": 3})
    result = loop_runner("run", task, cwd=tmp_path, env={"OPENAI_BASE_URL": address})
    assert result.returncode in (3, 4)
    assert_clean(tmp_path, result, PASSWORD)


LEAK = f"echo {SECRET}; echo {SECRET} >&2; exit 1"
GATES: dict[str, dict[str, Any]] = {
    "a command's output": {"verifiers": [{"command": ["sh", "-c", LEAK]}]},
    "a gate that is missing": {"verifiers": [{"command": [f"/nowhere/{SECRET}"]}]},
    "a Python check that raises": {"verifiers": [{"python": "leak.py"}]},
    "a stop hook's reason": {"stop_hooks": [{"command": ["sh", "-c", f"echo {SECRET} >&2; exit 2"]}]},
    "a stop hook that breaks": {"stop_hooks": [{"command": ["sh", "-c", f"echo {SECRET} >&2; exit 1"]}]},
    "the prompt itself": {"prompt": f"What is {SECRET}?"},
    "an input that is missing": {"inputs": [f"{SECRET}.txt"]},
    "an unknown key of the task": {SECRET: 1},
    "an unknown model": {"model": f"script:{SECRET}.yaml"},
}


@pytest.mark.parametrize("name", GATES)
def test_no_gate_hook_or_error_path_shows_or_stores_a_secret(tmp_path: Path, name: str) -> None:
    (tmp_path / "leak.py").write_text(f"def check(*_):\n    raise ValueError({SECRET!r})\n")
    keys = {"budget": {"passes": 1}, **GATES[name]}
    task = write_task(tmp_path, root=[ready("42"), ready("42")], **keys)
    result = loop_runner("run", task, "-v", cwd=tmp_path, env={"DEPLOY_TOKEN": SECRET})
    assert result.returncode in (0, 2, 3, 4), result.stderr
    shown = result.stdout + result.stderr
    assert SECRET not in shown
    run = tmp_path / "runs" / "scripted"
    if run.exists() and name != "a Python check that raises":  # the user's own program holds it
        assert SECRET.encode() not in stored(run)


def test_a_file_that_the_model_copies_a_secret_into_is_not_committed(tmp_path: Path) -> None:
    code = "text = input_data\nopen('notes.txt', 'w').write(text)\nopen('good.txt', 'w').write('fine')"
    task = write_task(tmp_path, root=[cell(code), ready("42")], texts={"a.env": f"KEY={SECRET}\n"})
    result = loop_runner("run", task, "-v", cwd=tmp_path, env={"DEPLOY_TOKEN": SECRET})
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs" / "scripted"
    files = subprocess.run(
        ["git", "-C", run, "ls-tree", "-r", "--name-only", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert "workspace/good.txt" in files
    assert "workspace/notes.txt" not in files
    objects = ["git", "-C", str(run), "cat-file", "--batch-all-objects", "--batch"]
    assert SECRET.encode() not in subprocess.run(objects, capture_output=True, check=True).stdout
    assert "DEPLOY_TOKEN" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["run", SECRET], ["status", SECRET], [SECRET], ["run", "x", f"--{SECRET}"], ["show", f"{SECRET}@9"]],
)
def test_a_wrong_command_line_does_not_print_a_secret(tmp_path: Path, arguments: list[str]) -> None:
    result = loop_runner(*arguments, cwd=tmp_path, env={"DEPLOY_TOKEN": SECRET})
    assert result.returncode == 2
    assert SECRET not in result.stdout + result.stderr
