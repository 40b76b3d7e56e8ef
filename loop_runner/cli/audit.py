"""``audit``: reads the flags of an audit, and prints its findings in the forms that CI systems read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click

import loop_runner as lr
from loop_runner.cli import display, estimates, output, preferences, trusting
from loop_runner.cli.run import interruptible, options

_KINDS: tuple[lr.types.ReportKind, ...] = get_args(lr.types.ReportKind)
_SUMMARY = "GITHUB_STEP_SUMMARY"


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--rules",
    "rules_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What to look for.",
)
@click.option("--model", metavar="ID", help="Model that judges, as provider:name. Default: the sub-model.")
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note", "never"]),
    default="warning",
    show_default=True,
    help="Exit with 1 on new findings of this severity or higher.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of known findings, which do not fail the audit.",
)
@click.option("--write-baseline", is_flag=True, help="Write the findings into the baseline and exit with 0.")
@click.option("--changed-since", metavar="REV", help="Only files changed since the merge base with REV.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="KIND[=FILE]",
    help=f"Any of {', '.join(_KINDS)}; can be given several times.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the audits' run folders, for CI to cache.  [default: runs at the top of the repository]",
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    metavar="N",
    help="Remove all but the N newest audit run folders there.",
)
@click.option(
    "--on-missing-key",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Without a provider's key, exit with 2 or with 0; the report says so either way.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Only the I-th of N parts of the files, counted from 0.",
)
@click.option(
    "--executor",
    metavar="NAME",
    help="Judge parts of the files on a Dask cluster first: dask-local:N or dask://HOST:PORT.",
)
@trusting.TRUST
@options("exclude", "set", "estimate", "json", "display", "quiet", "verbose")
def audit(paths: tuple[Path, ...], rules_file: Path, **flags: Any) -> int:
    """Judge files by rules in plain words, each finding with the line that it quotes.

    The same command continues an audit that was stopped, and never pays for a question twice.

    \b
    Example:  loop-runner audit src --rules rules.yaml --changed-since origin/main --output sarif=audit.sarif
    """
    if flags["is_estimate"]:
        return estimates.of_audit(paths, rules_file, flags)
    targets = _targets(flags["outputs"])
    if flags["executor"] is not None:
        _spread(paths, rules_file, flags)
    with interruptible(flags, None, display.AuditProgress) as listening:
        result = lr.audit(
            paths,
            rules=rules_file,
            model=flags["model"] or preferences.sub_model(),
            exclude=flags["exclude"],
            changed_since=flags["changed_since"],
            fail_on=flags["fail_on"],
            baseline=flags["baseline"],
            write_baseline=flags["write_baseline"],
            reports=[target for target in targets if target[1] != "-"],
            runs_dir=flags["runs"],
            keep=flags["keep"],
            skip_without_key=flags["on_missing_key"] == "skip",
            settings=flags["settings"],
            trust=flags["is_trusted"],
            shard=flags["shard"],
            **listening,
        )
    for note in result.notes:
        output.note(note)
    if result.status != "interrupted":
        _print(result, [kind for kind, path in targets if path == "-"], as_json=flags["as_json"])
    return result.exit_code


def _spread(paths: Sequence[Path], rules_file: Path, flags: Mapping[str, Any]) -> None:
    """Have parts of the files judged by the workers of a cluster; this audit then uses their replies."""
    from loop_runner.fleet.audit_shards import run_shards

    if flags["shard"] is not None:
        raise click.UsageError("--executor divides the files itself: leave --shard out")
    given = [
        *(("--model", model) if (model := flags["model"] or preferences.sub_model()) else ()),
        *(word for name in flags["exclude"] for word in ("--exclude", name)),
        *(word for setting in flags["settings"] for word in ("--set", setting)),
        *(("--changed-since", flags["changed_since"]) if flags["changed_since"] else ()),
        *(("--baseline", str(known)) if (known := flags["baseline"]) and known.exists() else ()),
        *(("--runs", str(flags["runs"])) if flags["runs"] else ()),
        *(("--trust",) if flags["is_trusted"] else ()),
        *("--on-missing-key", flags["on_missing_key"]),
    ]
    command = [*given, "--rules", str(rules_file), "--", *map(str, paths)]
    for sentence in run_shards(flags["executor"], command):
        output.note(f"{sentence}; this part is judged here")


def _targets(given: Sequence[str]) -> list[tuple[lr.types.ReportKind, str]]:
    """What ``--output`` asks for: kinds and files, "-" for standard output. ``ConfigError`` for no kind."""
    return [target for text in given if (target := _target(text, os.environ)) is not None]


def _target(given: str, env: Mapping[str, str]) -> tuple[lr.types.ReportKind, str] | None:
    name, _, path = given.partition("=")
    kind = next((kind for kind in _KINDS if kind == name), None)
    if kind is None:
        raise lr.ConfigError(
            f"--output {given}: there is no kind {name!r}",
            why="the report would not be written",
            hint=f"it can be: {', '.join(_KINDS)}, followed by =FILE",
        )
    if kind == "summary" and not path:
        path = env.get(_SUMMARY, "")
        if not path:
            output.note(f"--output summary: {_SUMMARY} is not set, so no summary is written")
            return None
    return kind, path or "-"


def _print(result: lr.types.AuditResult, kinds: Sequence[lr.types.ReportKind], *, as_json: bool) -> None:
    """Write the reports for standard output: ``kinds``, ``--json``, or what a person reads."""
    for kind in kinds:
        _print_one(result, kind)
    if as_json:
        output.write_json(result.to_dict())
    elif not kinds:
        _print_one(result, "markdown")


def _print_one(result: lr.types.AuditResult, kind: lr.types.ReportKind) -> None:
    for_runner = kind == "markdown" and "GITHUB_ACTIONS" in os.environ
    if text := result.text(kind, for_runner=for_runner):
        output.write(text.rstrip("\n"))
