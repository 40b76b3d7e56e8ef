"""doctor finds the usual reasons why nothing works, and each says what to type."""

import resource
import socket
import sys
import tempfile
import time

import pytest

from loop_runner.cli import machine_checks


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_RUNNER_STATE", str(tmp_path / "state"))
    return tmp_path


def checks(**env):
    return {check.name: check for check in machine_checks.all_of({"LOOP_RUNNER_STATE": "/tmp", **env})}


def test_a_machine_without_faults_has_none(place):
    result = checks()
    assert [check for check in result.values() if check.is_ok is False] == []
    assert {
        "settings",
        "runs",
        "state",
        "temporary",
        "open files",
        "memory",
        "clock",
        "encoding",
    } <= result.keys()


def test_settings_that_cannot_be_read(place):
    (place / ".loop-runner.toml").write_text("modle = 'x'\n")
    check = checks()["settings"]
    assert check.is_ok is False
    assert "did you mean `model`" in check.hint


def test_a_projects_settings_that_are_ignored(place):
    (place / ".loop-runner.toml").write_text("notify = ['${X}']\n")
    check = checks()["settings"]
    assert check.is_ok is None
    assert "loop-runner config trust" in check.hint


def test_a_notification_whose_variable_is_not_set(place):
    (place / "config.toml").write_text("notify = ['${MY_ADDRESS}']\n")
    check = checks(LOOP_RUNNER_CONFIG=str(place / "config.toml"))["settings"]
    assert (check.is_ok, check.hint) == (False, "export MY_ADDRESS=...")


def test_a_file_in_the_place_of_the_runs(place):
    (place / "runs").write_text("x")
    assert checks()["runs"].is_ok is False


def test_a_state_folder_that_cannot_be_written(place):
    (place / "file").write_text("x")
    check = checks(LOOP_RUNNER_STATE=str(place / "file" / "state"))["state"]
    assert check.is_ok is False
    assert "LOOP_RUNNER_STATE" in check.hint


def test_no_folder_for_temporary_files(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place / "gone"))
    check = checks()["temporary"]
    assert check.is_ok is False
    assert "TMPDIR" in check.hint


def test_few_open_files(place):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        check = checks()["open files"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (check.is_ok, check.hint) == (False, "ulimit -n 1024")


def test_a_wrong_clock(place, monkeypatch):
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 0, 0, 0, 1, 0)))
    assert checks()["clock"].is_ok is False


def test_an_encoding_that_loses_names(place, monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert "LC_ALL" in checks()["encoding"].hint


@pytest.mark.parametrize(
    "key", [" sk-key-0123456789", "sk-key-0123456789\n", '"sk-key-0123456789"', "sk key"]
)
def test_a_key_that_was_pasted_with_more_around_it(place, key):
    check = checks(OPENAI_API_KEY=key, OPENAI_BASE_URL="http://127.0.0.1:9")["OPENAI_API_KEY"]
    assert check.is_ok is False
    assert "sk-key" not in check.state + check.hint


def test_a_local_server_that_is_not_started(place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        env = {"OPENAI_API_KEY": "sk-0123456789", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        result = [check for name, check in checks(**env).items() if "host" in name]
    closed = [check for name, check in checks(**env).items() if "host" in name]
    assert [check.is_ok for check in result] == [True]
    assert [check.is_ok for check in closed] == [False]


@pytest.mark.parametrize("address", ["nonsense", "http://", "http://x:port/", "ftp://x"])
def test_an_address_that_is_none(address):
    check = machine_checks._reached("x", address, "", "OPENAI_BASE_URL")
    assert check.is_ok is False
    assert "OPENAI_BASE_URL" in check.state


def test_a_host_that_is_reached_and_one_that_is_not():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://user:secret@127.0.0.1:{server.getsockname()[1]}/v1"
        assert machine_checks._reached("x", address, "", "OPENAI_BASE_URL").is_ok is True
    check = machine_checks._reached("x", address, "", "OPENAI_BASE_URL")
    assert check.is_ok is False
    assert "start the server that OPENAI_BASE_URL names" in check.hint
    assert "secret" not in check.state + check.hint
