"""The HTTP service: APIs that clients already speak, and ``/v1/runs`` for everything that a run has.

Owns requests, their identity and their streams. A run is a process of its own, started through the command
line, so it outlives the service; the run folders are the store. Uses the public API of the package only.
Never decides whether an answer is verified, and never reads a model's files.

Start reading at ``app.py`` (the routes), then ``supervisor.py`` (runs and their processes), ``desk.py``
(from a request to a run) and one API, ``chat.py``. ``guard.py`` is what every request passes first.
"""

from __future__ import annotations

from loop_runner.serve.service_settings import Settings

__all__ = ["Settings", "serve"]


def serve(settings: Settings) -> None:
    """Run the service until it is stopped. Runs that are active continue without it."""
    from loop_runner.serve.server import run

    run(settings)
