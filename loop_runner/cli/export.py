"""``export``: an agent's work, as a branch of the user's repository; or a transcript, for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import click

from loop_runner.cli import output
from loop_runner.errors import ConfigError
from loop_runner.runs.folders import find_run

_SHOWN = 20
_WHOLE = 10**9  # characters of a text: nothing is cut


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--branch", metavar="NAME", help="Name of the new branch; default loop-runner/RUN.")
@click.option(
    "--to", type=click.Path(path_type=Path), help="The repository; default: the one that the run began with."
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "openai", "inspect"]),
    help="Write the transcript in this format instead; any run has one.",
)
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path),
    help="With --format: the file, or an existing folder; default standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")
def export(
    run_name: str,
    branch: str | None,
    to: Path | None,
    kind: str | None,
    target: Path | None,
    as_json: bool,
) -> None:
    """Put an agent's work into your repository, as a new branch with one commit for each pass.

    No existing branch, index or file is touched. Files that your ignore rules name are left out.

    With --format, write the transcript for other tools: `jsonl` (a line for each pass and turn), `openai`
    (chat messages, a line for each pass) or `inspect` (a log that `inspect view` opens).

    \b
    Example:  loop-runner export runs/fix-the-tests --branch fixed
              loop-runner export runs/contract-review --format inspect -o logs/review.json
    """
    if kind is not None:
        _refuse_together(branch, to)
        _write_transcript(run_name, kind, target, as_json=as_json)
        return
    if target is not None:
        raise click.UsageError("-o is for a transcript: add --format jsonl, openai or inspect")
    _export_branch(run_name, branch, to, as_json=as_json)


def _refuse_together(branch: str | None, to: Path | None) -> None:
    if branch or to:
        raise click.UsageError("--format writes a transcript, and --branch and --to are for an agent's work")


def _write_transcript(run_name: str, kind: str, target: Path | None, *, as_json: bool) -> None:
    """The transcript, whole, on standard output or into a file."""
    import loop_runner as lr
    from loop_runner.report import transcripts, writing

    record = lr.open(run_name).record(max_chars=_WHOLE)
    written = transcripts.FORMATS[kind](record)
    for fault in record.faults:
        output.note(f"missing: {fault}")
    if target is None:
        output.write(written.rstrip("\n"))
        return
    if target.is_dir():
        target /= transcripts.file_name(record, kind)
    writing.write(target, written)
    if as_json:
        output.write_json({"run": str(record.folder), "file": str(target), "format": kind})
    else:
        output.write(f"{target}: {output.plural(len(record.passes), 'pass', 'passes')}")


def _export_branch(run_name: str, branch: str | None, to: Path | None, *, as_json: bool) -> None:
    from loop_runner.workspace import foreign
    from loop_runner.workspace.history import History
    from loop_runner.workspace.openable import parsing

    folder = find_run(run_name)
    with History(folder) as history:
        with parsing(folder, "base.json"):
            about = json.loads(history.read("base.json") or b"{}")
        if not about:
            raise ConfigError(
                f"{folder} did not begin with a repository",
                why="there is no commit for the branch to start from",
                hint=f"its files are in {folder}/workspace",
            )
        place = (to or Path(about["repository"])).resolve()
        into = foreign.Foreign.around(place)
        if into is None:
            raise ConfigError(
                f"{place} is not a git repository", why="a branch needs one", hint="name it with --to"
            )
        made = foreign.export(history, into, about["commit"], branch or f"loop-runner/{folder.name}")
    if as_json:
        output.write_json(
            {
                "run": str(folder),
                "repository": str(into.top),
                "branch": made.branch,
                "commit": made.commit,
                "commits": made.passes,
                "left_out": list(made.left_out),
                "not_carried": [{"path": path, "reason": reason} for path, reason in made.not_carried],
            }
        )
        return
    output.write(
        f"{into.top}: branch {made.branch}, {output.plural(made.passes, 'commit')}, {made.commit[:12]}"
    )
    if made.left_out:
        output.write(f"left out because of your ignore rules: {output.plural(len(made.left_out), 'file')}")
    for path, reason in made.not_carried[:_SHOWN]:
        output.write(f"not carried over, so it is unchanged: {path} ({reason})")
    if len(made.not_carried) > _SHOWN:
        output.write(f"and {len(made.not_carried) - _SHOWN} more; --json lists them all")
