"""Ends the kernel process when the host is gone, however it ended."""

from __future__ import annotations

import fcntl
import os
import signal


def die_with_the_host(life_fd: int) -> None:
    """Make the system kill our process group when the host's end of the pipe ``life_fd`` closes.

    A parent-death signal is tied to the *thread* that started us, which may end long before the host does.
    Where the system sends no signal for a pipe (macOS), a thread waits for its end.
    """
    if not hasattr(fcntl, "F_SETSIG"):
        import threading

        threading.Thread(target=_end_after, args=(life_fd,), daemon=True).start()
        return
    fcntl.fcntl(life_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life_fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if _is_closed(life_fd):
        os._exit(0)  # the host was gone before the line above


def _end_after(life_fd: int) -> None:
    while os.read(life_fd, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _is_closed(life_fd: int) -> bool:
    try:
        return os.read(life_fd, 1) == b""
    except BlockingIOError:
        return False
