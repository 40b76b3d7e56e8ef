"""Makes a test run the same whatever the shell that starts it looks like: variables, signals, umask, streams.

Owns the list of what may change the result of a test. ``isolate`` is called once, before any test module is
imported; what it changes holds for every process that the tests start.
"""

from __future__ import annotations

import os
import signal
from collections.abc import MutableMapping

# Keys and addresses of providers; settings of agent clients, git, Python and CI systems.
_PREFIXES = (
    *("ANTHROPIC_", "OPENAI_", "CLAUDE", "CODEX_", "GEMINI_", "CURSOR_", "COPILOT_"),
    *("GIT_", "PYTHON", "XDG_", "LC_", "GITHUB_", "CI_"),
)
_NAMES = {
    *(
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ),
    *(
        "CI",
        "GITLAB_CI",
        "NO_COLOR",
        "FORCE_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "PY_COLORS",
        "COLUMNS",
        "LINES",
    ),
    *("LANG", "LANGUAGE", "TZ", "EDITOR", "PAGER", "EMAIL", "CDPATH", "BASH_ENV", "ENV", "POSIXLY_CORRECT"),
}
# What the suite itself sets, its drivers and the conditions of ``tests.machines``.
_KEPT = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_ALL", "XDG_CACHE_HOME"}


def isolate(env: MutableMapping[str, str]) -> None:
    """Remove the shell's own settings from ``env`` and reset signals and umask of this process."""
    for name in [name for name in env if name not in _KEPT and is_personal(name)]:
        del env[name]
    env["GIT_CONFIG_GLOBAL"] = os.devnull  # commit.gpgsign, core.autocrlf, init.defaultBranch, hooks
    env["GIT_CONFIG_NOSYSTEM"] = "1"
    env["LOOP_RUNNER_CONFIG"] = os.devnull  # a user's own settings
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    os.umask(0o022)
    _reset_signals()
    _open_standard_streams()


def is_personal(name: str) -> bool:
    """Whether a variable of this name may change the result of a test."""
    return name.startswith(_PREFIXES) or name in _NAMES


def _reset_signals() -> None:
    """A shell that starts the suite in the background ignores SIGINT; nohup ignores SIGHUP."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _open_standard_streams() -> None:
    """A closed standard stream would be taken by the next file that is opened."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
