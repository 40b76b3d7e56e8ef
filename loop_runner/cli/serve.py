"""``serve``: the HTTP service."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from loop_runner import plugins
from loop_runner.errors import ConfigError

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OPTIONS = (
    click.option("--tasks", type=_FOLDER, metavar="DIR", help="Folder of task files; each is a model."),
    click.option(
        "--runs",
        type=click.Path(path_type=Path, file_okay=False),
        default="runs",
        show_default=True,
        metavar="DIR",
        help="Folder of the run folders, and of what the service keeps.",
    ),
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: any."),
    click.option("--max-runs", type=click.IntRange(1), default=4, show_default=True, help="Runs at once."),
    click.option(
        "--max-queued", type=click.IntRange(0), default=100, show_default=True, help="Runs that may wait."
    ),
    click.option("--model", metavar="ID", help="Root model of `ask`, as provider:name."),
    click.option(
        "--sub-model", "sub_models", multiple=True, metavar="ID", help="Sub-model that a client may name."
    ),
    click.option(
        "--input", "inputs", multiple=True, metavar="PATH", help="Input of every question to `ask`."
    ),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Lines of `NAME TOKEN`; created with one token if missing.",
    ),
    click.option(
        "--grace",
        "grace_s",
        type=click.FloatRange(0),
        default=300.0,
        show_default=True,
        help="Seconds until a run whose client left is paused.",
    ),
    click.option(
        "--max-body",
        "max_body_mb",
        type=click.FloatRange(0, min_open=True),
        default=32.0,
        show_default=True,
        help="Largest request, in MB.",
    ),
    click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Further name in Host."),
    click.option(
        "--allow-origin", "origins", multiple=True, metavar="URL", help="Origin of pages that may call."
    ),
    click.option("--tls-cert", type=_FILE, metavar="FILE", help="Certificate chain, for HTTPS."),
    click.option("--tls-key", type=_FILE, metavar="FILE", help="Its private key."),
    click.option("--log", "has_log", is_flag=True, help="A line per request on standard error."),
)


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_options
def serve(max_body_mb: float, has_log: bool, **given: Any) -> int:
    """Serve runs over HTTP: OpenAI's and Anthropic's APIs, and /v1/runs.

    Prints the address and, at the first start, the token that every request needs. The server is for this
    machine only unless --host says otherwise.

    \b
    Example:  loop-runner serve --input docs/ --model local:coder
    """
    if bool(given["tls_cert"]) != bool(given["tls_key"]):
        raise click.UsageError("--tls-cert and --tls-key need each other")
    try:
        from loop_runner.serve import (
            Settings,
            server,  # noqa: F401 - imports the extra
        )
        from loop_runner.serve import serve as start
    except ImportError as error:
        raise ConfigError(
            f"the service is not installed: {error}",
            why="it needs FastAPI and uvicorn, which are an extra",
            hint=plugins.command_for("serve"),
        ) from error
    if has_log:
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.WARNING)
        logging.getLogger("loop_runner.serve").setLevel(logging.INFO)
    start(Settings(**given, max_body_bytes=int(max_body_mb * 1024 * 1024)))
    return 0
