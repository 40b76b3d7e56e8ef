"""The hook's own process: ``loop-runner hook stop``, started by an agent client whenever it wants to end.

Reads the payload on standard input, finds the run that owns the session, asks the loop of that run and
hands its answer on. With no loop it prints ``{}`` at once. It always exits 0 and prints one JSON object: a
hook that crashes is a hook that lets through, and the loop verifies by itself once the client has gone.
Imports the standard library only; never starts a shell.
"""

from __future__ import annotations

import os
import sys
import time

from loop_runner.agents import sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

_NOTHING = b"{}"
_WAKE_S = 30.0
_LOST_RACE_S = 3.0
_IS_OVER = (0, 3)  # exit codes of a loop whose run has ended: nobody decides any more
_STEP_S = 0.05
_MAX_PAYLOAD_BYTES = 64 * 2**20
_PAYLOAD_S = 10.0  # for the next part of a payload
_LOG_BYTES = 256 * 1024


def main() -> int:
    """Answer the client that started us; 0 always, also when its streams are closed."""
    try:
        answer = reply(_payload(), os.environ) if sessions.may_own_any(os.environ) else _NOTHING
    except Exception as error:  # noqa: BLE001 - the border: our exit code would mean something to a client
        answer = _failed(os.environ, error)
    if sys.stdout is not None:
        _write(answer + b"\n")
    return 0


def _write(data: bytes) -> None:
    """Past Python's buffer: what is left in it after an error would change the exit code."""
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return  # the client has gone


def _payload() -> bytes:
    """One JSON object from standard input, which the client may leave open; what there is after a while."""
    if sys.stdin is None:
        return b""
    data = b""
    while len(data) < _MAX_PAYLOAD_BYTES and _has_input():
        try:
            part = os.read(0, 1 << 16)
        except OSError:
            break
        data += part
        if not part or (part.rstrip().endswith(b"}") and _is_object(data)):
            break
    return data


def _has_input() -> bool:
    if sys.platform == "win32":
        return True  # select takes no pipe there
    import select

    try:
        return bool(select.select([0], [], [], _PAYLOAD_S)[0])
    except (OSError, ValueError):
        return False


def _is_object(data: bytes) -> bool:
    import json

    try:
        return isinstance(json.loads(data.decode("utf-8-sig", "replace")), dict)
    except (ValueError, RecursionError):
        return False


def reply(payload: bytes, env: Mapping[str, str]) -> bytes:
    """What the client is to read; ``{}`` whenever no running loop says otherwise."""
    if not sessions.may_own_any(env):
        return _NOTHING
    from loop_runner.agents import protocol

    event = protocol.read(payload)
    if event is None or event.kind == "other":
        return _NOTHING
    owner = sessions.owner(env, event.session_id)
    if owner is None:
        return _NOTHING
    if sessions.is_stopped(env, owner.run) or not os.path.isdir(owner.run):
        sessions.forget(env, event.session_id, owner.run)
        return _NOTHING
    return _ask(owner, payload, env, event)


def _ask(owner: sessions.Owner, payload: bytes, env: Mapping[str, str], event: object) -> bytes:
    from loop_runner.agents import call

    source = f"{env.get('CLAUDE_PLUGIN_ROOT', '')} {' '.join(sys.argv)}"
    try:
        return call.ask(owner.run, payload, owner.token, source=source)
    except call.NobodyListens:
        # Whoever started the client is gone, and with it the one who would go on. A registered session has
        # no such owner: its loop is started again, from its last commit.
        if owner.token is not None or getattr(event, "kind", "") != "stop":
            return _NOTHING
    woken = wake(owner, env)
    deadline = time.monotonic() + _WAKE_S
    while True:
        try:
            return call.ask(owner.run, payload, source=source)
        except call.NobodyListens:
            if time.monotonic() > deadline:
                raise
            code = woken.poll()
            if code in _IS_OVER:
                return _NOTHING
            if code is not None:  # another hook woke one first, which has the lock; or it cannot run at all
                deadline = min(deadline, time.monotonic() + _LOST_RACE_S)
            time.sleep(_STEP_S)


def wake(owner: sessions.Owner, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the loop of a registered session; it ends by itself when the run does."""
    import subprocess

    log = os.path.join(owner.run, ".git", "loop-runner", "serve.log")
    paths = [path for path in (owner.python_path, env.get("PYTHONPATH")) if path]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [owner.python or sys.executable, "-m", "loop_runner", "hook", "serve", owner.run],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=owner.run,
            env={**env, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
            close_fds=True,
        )


def _failed(env: Mapping[str, str], error: Exception) -> bytes:
    """Let through, and say so to the person: this end is not a verified one."""
    import json

    from loop_runner import redaction

    redaction.learn(env)
    reason = redaction.clean(f"{type(error).__name__}: {error}")
    try:
        path = os.path.join(sessions.state_folder(env), "hook.log")
        if os.path.exists(path) and os.path.getsize(path) > _LOG_BYTES:
            os.replace(path, f"{path}.1")
        with open(path, "a", encoding="utf-8", errors="replace") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {reason}\n")
    except OSError:
        pass
    return json.dumps(
        {"systemMessage": f"loop-runner's stop hook failed ({reason[:300]}); this end is not verified"}
    ).encode()


if __name__ == "__main__":
    sys.exit(main())
