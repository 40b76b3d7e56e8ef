"""Settings of the network that allow no request, and a current folder that is gone, are named. Never 5."""

import subprocess
from pathlib import Path

import pytest

from tests.support.commands import argv, clean_environment, loop_runner
from tests.support.tasks import write_task

FAULTS = {
    "a SOCKS proxy": ({"ALL_PROXY": "socks://127.0.0.1:1"}, "ALL_PROXY"),
    "a proxy of an unknown kind": ({"HTTPS_PROXY": "gopher://127.0.0.1"}, "HTTPS_PROXY"),
    "a missing file of certificates": ({"SSL_CERT_FILE": "/nonexistent.pem"}, "SSL_CERT_FILE"),
    "a file that holds no certificates": ({"SSL_CERT_FILE": "/etc/passwd"}, "SSL_CERT_FILE"),
    "a folder for a file of certificates": ({"SSL_CERT_FILE": "/etc"}, "SSL_CERT_FILE"),
    "a proxy with a port that is none": ({"https_proxy": "http://localhost:port"}, "https_proxy"),
    "a proxy without a host": ({"HTTP_PROXY": "http://"}, "HTTP_PROXY"),
    "a missing folder of certificates": ({"SSL_CERT_DIR": "/nonexistent"}, "SSL_CERT_DIR"),
    "an address that is none": ({"OPENAI_BASE_URL": "nonsense"}, "OPENAI_BASE_URL"),
}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("name", FAULTS)
def test_kimi_cli_404_aider_3710_a_setting_of_the_network_is_named(
    tmp_path: Path, name: str, provider: str
) -> None:
    env, at_fault = FAULTS[name]
    if provider == "anthropic":
        env = {key.replace("OPENAI", "ANTHROPIC"): value for key, value in env.items()}
    keys = {"OPENAI_API_KEY": "sk-live-1234", "ANTHROPIC_API_KEY": "sk-live-1234"}
    task = write_task(tmp_path, root=[], model=f"{provider}:m")
    result = loop_runner("run", task, cwd=tmp_path, env=keys | env)
    assert result.returncode == 2, result.stderr
    assert at_fault.replace("OPENAI", "ANTHROPIC" if provider == "anthropic" else "OPENAI") in result.stderr


@pytest.mark.parametrize("job", [["run", "x.yaml"], ["status"], ["show", "x"], ["audit", "."]])
def test_a_deleted_current_folder_is_no_bug(tmp_path: Path, job: list[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'rmdir "{gone}" && exec "$@"'
    result = subprocess.run(
        ["sh", "-c", command, "sh", *argv(*job)],
        cwd=gone,
        env=clean_environment({"PYTHONPATH": str(Path(__file__).parents[2])}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode in (0, 2, 4), result.stderr
