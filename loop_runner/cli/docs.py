"""``docs`` and ``help``: the documentation that comes with this copy of loop-runner."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import click

import loop_runner as lr
from loop_runner.cli import output


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
def docs(name: str | None) -> None:
    """Print a page of the documentation, or a schema for editors; without NAME, list them.

    NAME may be written as in messages: docs/task-file.md, task-file.md or task-file. The schemas include the
    verifiers of installed packages.

    \b
    Example:  loop-runner docs task-file
              loop-runner docs task.schema.json > task.schema.json
    """
    pages, schemas = lr.installed.pages(), lr.installed.schemas()
    if name is None:
        for stem, path in pages.items():
            output.write(f"{stem:<18} {_title(path)}")
        for file, schema in schemas.items():
            output.write(f"{file:<18} {schema['title']} (JSON Schema, for editors)")
        return
    stem = name.removeprefix("docs/").removesuffix(".md")
    file = f"{stem.removeprefix('schemas/').removesuffix('.json').removesuffix('.schema')}.schema.json"
    if file in schemas and stem not in pages:
        output.write(json.dumps(schemas[file], indent=2, ensure_ascii=False))
        return
    if stem not in pages:
        near = difflib.get_close_matches(stem, [*pages, *schemas], n=1, cutoff=0.65)
        raise lr.ConfigError(
            f"there is no page {name!r} in the documentation",
            why="only the pages that come with this version can be printed",
            hint=f"did you mean `loop-runner docs {near[0]}`?"
            if near
            else "`loop-runner docs` lists the pages",
        )
    output.write(pages[stem].read_text(encoding="utf-8").rstrip())


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...]) -> None:
    """Print the help of a command, or the list of commands.

    \b
    Example:  loop-runner help resume
    """
    root = context.find_root()
    command: click.Command = root.command
    name = root.info_name or ""
    for word in words:
        subcommand = command.get_command(root, word) if isinstance(command, click.Group) else None
        if subcommand is None:
            raise click.UsageError(f"No such command '{word}'. `loop-runner help` lists them.")
        command, name = subcommand, f"{name} {word}"
    with click.Context(command, info_name=name) as own:
        output.write(command.get_help(own))
