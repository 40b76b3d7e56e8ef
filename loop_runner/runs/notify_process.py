"""The process that sends one notification: reads its job from standard input, sends, and ends.

A program of its own, started as a file: standard library only, and Apprise for its addresses. It never lives
longer than half a minute, prints nothing, and ends with 0 when the message was taken.
"""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

TIME_LIMIT_S = 30
_PARTS_S = 20  # of a request, or of a program


def main() -> int:
    """Send the message on standard input; the exit code says whether it was taken."""
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(TIME_LIMIT_S)
    job = json.loads(sys.stdin.buffer.read())
    message = {**job["message"], "at": int(time.time())}
    if job["kind"] == "webhook":
        return _webhook(job, message)
    return _command(job, message) if job["kind"] == "command" else _apprise(job, message)


def _end(*_: object) -> None:
    os._exit(3)


def _title(message: dict[str, object]) -> str:
    return f"loop-runner: {message['run']}: {message['event']}"


def _apprise(job: dict[str, str], message: dict[str, object]) -> int:
    try:
        import apprise
    except ImportError:
        return 2
    service = apprise.Apprise()
    if not service.add(job["address"]):
        return 1
    return (
        0 if service.notify(title=_title(message), body=str(message["text"]) or str(message["event"])) else 1
    )


def _command(job: dict[str, list[str]], message: dict[str, object]) -> int:
    """Run the program with the message as JSON on its standard input, and in variables."""
    extra = {f"LOOP_RUNNER_NOTIFY_{name.upper()}": str(value) for name, value in message.items()}
    child = subprocess.Popen(
        job["command"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **extra},
        start_new_session=True,
    )
    try:
        child.communicate(json.dumps(message).encode(), timeout=_PARTS_S)
    except subprocess.TimeoutExpired:
        return 1
    finally:
        _kill(child.pid)
    return 0 if child.returncode == 0 else 1


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _webhook(job: dict[str, str], message: dict[str, object]) -> int:
    """POST the message, signed: ``X-Loop-Runner-Signature: sha256=HMAC(secret, timestamp.body)``."""
    if not job["secret"]:
        return 1
    body = json.dumps(message, sort_keys=True).encode()
    stamp = str(message["at"])
    signature = hmac.new(job["secret"].encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "loop-runner",
        "X-Loop-Runner-Timestamp": stamp,
        "X-Loop-Runner-Signature": f"sha256={signature}",
    }
    if not job["address"].startswith(("https://", "http://")):
        return 1
    request = urllib.request.Request(job["address"], body, headers, method="POST")  # noqa: S310 - see above
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(request, timeout=_PARTS_S) as reply:
        return 0 if reply.status < 300 else 1


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The message goes to the address that was named, and to no other."""

    def redirect_request(self, *_: object) -> None:
        return None


if __name__ == "__main__":
    try:
        code = main()
    except Exception:  # noqa: BLE001 - the border: no traceback, which could show an address
        code = 1
    sys.exit(code)
