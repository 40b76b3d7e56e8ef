"""Which run owns which session of an agent client: by session id, never by folder.

A run owns a session when that session's id was written down for it (``register``), or when the runner itself
started the client and gave it the run's token in the environment. State that names no session is never
taken over. Owns the folder of these notes and the kill switch. Imports the standard library only.
"""

from __future__ import annotations

import os
import sys

# For annotations only, and not from ``typing``: at a stop with no loop, they would cost more than the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

STOP_FILE = "STOP"  # in the run folder, or in the state folder for all runs: nothing is blocked any more
RUN_VARIABLE = "LOOP_RUNNER_RUN"
TOKEN_VARIABLE = "LOOP_RUNNER_TOKEN"  # noqa: S105 - a name, no secret

_MAX_ID_CHARS = 200


class Owner:
    """The run that a session belongs to, and how to wake it.

    ``run`` is the absolute path of its folder; ``token`` was given by the runner that started the client
    (None: the session is registered); ``python`` can run loop-runner, with ``python_path`` on its path.
    """

    __slots__ = ("python", "python_path", "run", "token")

    def __init__(self, run: str, token: str | None, python: str = "", python_path: str = "") -> None:
        self.run = run
        self.token = token
        self.python = python
        self.python_path = python_path


def state_folder(env: Mapping[str, str]) -> str:
    """Where sessions are written down: ``LOOP_RUNNER_STATE``, else the user's folder for such things."""
    if env.get("LOOP_RUNNER_STATE"):
        return env["LOOP_RUNNER_STATE"]
    if sys.platform == "win32":
        base = env.get("LOCALAPPDATA") or os.path.join(os.path.expanduser("~"), "AppData", "Local")
    else:
        base = env.get("XDG_STATE_HOME") or os.path.join(env.get("HOME") or "/", ".local", "state")
    return os.path.join(base, "loop-runner")


def may_own_any(env: Mapping[str, str]) -> bool:
    """False when no session of this user can be owned: then the payload need not even be read."""
    if env.get(RUN_VARIABLE):
        return True
    try:
        with os.scandir(os.path.join(state_folder(env), "sessions")) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def owner(env: Mapping[str, str], session_id: str) -> Owner | None:
    """The run that owns the session; None when none does."""
    if session_id and (folder := _registered(env, session_id)):
        return folder
    run, token = env.get(RUN_VARIABLE), env.get(TOKEN_VARIABLE)
    return Owner(run, token) if run and token else None


def register(
    env: Mapping[str, str], session_id: str, run: str, *, python: str, python_path: str = ""
) -> None:
    """Write down that ``run`` owns the session. ``ValueError`` for an id that names no session.

    ``FileExistsError`` when another run owns it already.
    """
    if not session_id.strip() or session_id.strip().lower() in {"null", "none", "undefined"}:
        msg = f"{session_id!r} is not the id of a session"
        raise ValueError(msg)
    held = _registered(env, session_id)
    if held is not None and held.run != run and os.path.isdir(held.run):
        raise FileExistsError(held.run)
    import json

    path = _path(env, session_id)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = f"{path}.{os.getpid()}"
    with open(new, "w", encoding="utf-8") as file:
        json.dump({"session": session_id, "run": run, "python": python, "python_path": python_path}, file)
    os.replace(new, path)


def forget(env: Mapping[str, str], session_id: str, run: str) -> None:
    """The session is owned no more; nothing happens when another run owns it, or none."""
    held = _registered(env, session_id)
    if held is not None and held.run == run:
        try:
            os.unlink(_path(env, session_id))
        except FileNotFoundError:
            return


def is_stopped(env: Mapping[str, str], run: str) -> bool:
    """The kill switch: a file ``STOP`` in the run folder, or in the state folder for every run."""
    return any(os.path.exists(os.path.join(folder, STOP_FILE)) for folder in (run, state_folder(env)))


def _registered(env: Mapping[str, str], session_id: str) -> Owner | None:
    import json

    try:
        with open(_path(env, session_id), encoding="utf-8") as file:
            data = json.load(file)
        if data["session"] != session_id:
            return None
        return Owner(str(data["run"]), None, str(data["python"]), str(data.get("python_path", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(env: Mapping[str, str], session_id: str) -> str:
    plain = all(char.isascii() and (char.isalnum() or char in "-_") for char in session_id)
    if not plain or len(session_id) > _MAX_ID_CHARS:
        import hashlib

        session_id = "sha256_" + hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
    return os.path.join(state_folder(env), "sessions", f"{session_id}.json")
