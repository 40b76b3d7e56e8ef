"""``models``: lists the available models, and fetches a local one."""

from __future__ import annotations

import sys
from typing import Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output


@click.group()
def models() -> None:
    """List the models, or fetch a local one.

    \b
    Example:  loop-runner models fetch coder
    """


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def list_command(as_json: bool) -> None:
    """List the providers, their default models and the local models.

    \b
    Example:  loop-runner models list
    """
    local = lr.installed.local_models()
    providers = [
        {
            "provider": entry.name,
            "what": entry.what,
            "root": entry.root,
            "sub": entry.sub,
            "has_key": entry.has_key,
            "keys": list(entry.keys),
        }
        for entry in lr.installed.providers()
    ]
    if as_json:
        output.write_json({"providers": providers, "local": [_local_as_json(item) for item in local]})
        return
    for entry in providers:
        _show_provider(entry)
    output.write()
    for item in local:
        state = (
            f"fetched: {item.path}"
            if item.is_fetched
            else f"not fetched: loop-runner models fetch {item.name}"
        )
        output.write(
            f"local:{item.name}  {item.title}, {item.size_bytes / 1e9:.1f} GB, {item.licence}; {state}"
        )


def _show_provider(entry: dict[str, Any]) -> None:
    key = ""
    if entry["keys"]:
        key = "key is set" if entry["has_key"] else f"needs {entry['keys'][0]}"
    defaults = f"default {entry['root']}, sub-calls {entry['sub']}" if entry["root"] else ""
    output.write(
        f"{entry['provider'] + ':':<11} {entry['what']}" + "".join(f"; {x}" for x in (defaults, key) if x)
    )


def _local_as_json(item: Any) -> dict[str, Any]:
    return {
        "name": item.name,
        "title": item.title,
        "size_bytes": item.size_bytes,
        "licence": item.licence,
        "is_fetched": item.is_fetched,
        "path": str(item.path),
    }


@models.command("fetch")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def fetch_command(name: str, as_json: bool) -> None:
    """Fetch the local model NAME once; an interrupted fetch picks up where it left off.

    \b
    Example:  loop-runner models fetch coder
    """
    path = lr.installed.fetch_model(name, _Bar())
    if as_json:
        output.write_json({"name": name, "path": str(path)})
    else:
        output.write(f"local:{name} is here: {path}")


_WIDTH = len("downloading: 100 %")  # a shorter line must cover the one before it


class _Bar:
    """Progress in per cent: a bar that is drawn again on a terminal, a line per tenth elsewhere."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, progress: Any) -> None:
        is_done = progress.done_bytes >= progress.total_bytes
        if sys.stderr.isatty():
            bar = text.bar(progress.done_bytes / max(progress.total_bytes, 1))
            click.echo(f"\r{bar} {progress!s:<{_WIDTH}}", err=True, nl=is_done)
            return
        mark = f"{progress.step} {10 * progress.done_bytes // max(progress.total_bytes, 1)}"
        if mark != self._shown:
            self._shown = mark
            output.note(str(progress))
