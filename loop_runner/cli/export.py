"""``export``: an agent's work, as a branch of the user's repository; or a transcript, for other tools."""

from __future__ import annotations

from pathlib import Path

import click

import loop_runner as lr
from loop_runner.cli import output

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
    run = lr.open(run_name)
    done = run.export(branch, to)
    made = done.made
    if as_json:
        output.write_json(
            {
                "run": str(run.folder),
                "repository": str(done.repository),
                "branch": made.branch,
                "commit": made.commit,
                "commits": made.passes,
                "left_out": list(made.left_out),
                "not_carried": [{"path": path, "reason": reason} for path, reason in made.not_carried],
            }
        )
        return
    output.write(
        f"{done.repository}: branch {made.branch}, {output.plural(made.passes, 'commit')}, {made.commit[:12]}"
    )
    if made.left_out:
        output.write(f"left out because of your ignore rules: {output.plural(len(made.left_out), 'file')}")
    for path, reason in made.not_carried[:_SHOWN]:
        output.write(f"not carried over, so it is unchanged: {path} ({reason})")
    if len(made.not_carried) > _SHOWN:
        output.write(f"and {len(made.not_carried) - _SHOWN} more; --json lists them all")
