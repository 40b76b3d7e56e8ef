"""``audit``: read the flags of an audit, and print what it found in the forms that CI systems read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loop_runner.audit import markup, outputs, reports
from loop_runner.audit.outputs import KINDS, Target
from loop_runner.cli import display, estimates, output, preferences, trusting
from loop_runner.cli.run import interruptible, options
from loop_runner.errors import ConfigError
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from loop_runner.verify.findings import SEVERITIES

if TYPE_CHECKING:
    from loop_runner.audit.run import AuditResult

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
@click.option("--model", metavar="ID", help="Who judges, as provider:name; default: as for llm_query.")
@click.option(
    "--fail-on",
    type=click.Choice([*reversed(SEVERITIES), "never"]),
    default="warning",
    show_default=True,
    help="End with 1 for new findings of this severity or a graver one.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Findings that are known: only others fail.",
)
@click.option("--write-baseline", is_flag=True, help="Write what is found into the baseline and end with 0.")
@click.option("--changed-since", metavar="REV", help="Only files that differ from where the branch left REV.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="KIND[=FILE]",
    help=f"Any of {', '.join(KINDS)}; can be given several times.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of audits' run folders; what CI caches.  [default: runs at the top of the repository]",
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    metavar="N",
    help="Remove all but the N newest run folders of audits there.",
)
@click.option(
    "--on-missing-key",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Without a provider's key, end with 2 or with 0; the report says so either way.",
)
@trusting.TRUST
@options("exclude", "set", "estimate", "json", "quiet", "verbose")
def audit(paths: tuple[Path, ...], rules_file: Path, **flags: Any) -> int:
    """Judge files by rules in plain words, each finding with the line that it quotes.

    The same command goes on with an audit that was stopped, and pays for no question twice.

    \b
    Example:  loop-runner audit src --rules rules.yaml --changed-since origin/main --output sarif=audit.sarif
    """
    from loop_runner.audit import run as audits
    from loop_runner.audit import run_folders

    if flags["is_estimate"]:
        return _estimate(paths, rules_file, flags)
    targets = _targets(flags["outputs"])

    def open_context(folder: Path) -> AbstractContextManager[RunContext]:
        return interruptible(flags, folder, display.AuditProgress)

    try:
        result = audits.run(
            paths,
            rules_file,
            os.environ,
            model=flags["model"] or preferences.sub_model(),
            exclude=flags["exclude"],
            changed_since=flags["changed_since"],
            fail_on=flags["fail_on"],
            baseline_file=flags["baseline"],
            write_baseline=flags["write_baseline"],
            report_files=[Path(target.path) for target in targets if target.is_file],
            runs_folder=flags["runs"],
            skip_without_key=flags["on_missing_key"] == "skip",
            settings=[config.parse_override(text) for text in flags["settings"]],
            is_trusted=flags["is_trusted"],
            open_context=open_context,
        )
    except audits.NoKeyError as error:
        _print(error.result, [target for target in targets if target.is_file])
        raise
    for note in result.notes:
        output.note(note)
    if not result.is_interrupted:
        _report(result, targets, as_json=flags["as_json"])
        if flags["keep"] is not None and result.about.run:
            run_folders.prune(Path(result.about.run), flags["keep"])
    return result.exit_code


def _estimate(paths: tuple[Path, ...], rules_file: Path, flags: dict[str, Any]) -> int:
    from loop_runner.audit import estimate

    found = estimate.of_audit(
        paths,
        rules_file,
        os.environ,
        model=flags["model"] or preferences.sub_model(),
        exclude=flags["exclude"],
        changed_since=flags["changed_since"],
        runs_folder=flags["runs"],
        settings=[config.parse_override(text) for text in flags["settings"]],
    )
    return estimates.show(found, as_json=flags["as_json"])


def _targets(given: Sequence[str]) -> list[Target]:
    """What ``--output`` asks for. Raises ``ConfigError`` for a kind that there is not."""
    return [target for text in given if (target := _target(text, os.environ)) is not None]


def _target(given: str, env: Mapping[str, str]) -> Target | None:
    kind, _, path = given.partition("=")
    if kind not in KINDS:
        raise ConfigError(
            f"--output {given}: there is no kind {kind!r}",
            why="the report would go missing",
            hint=f"it can be: {', '.join(KINDS)}, with =FILE behind it",
        )
    if kind == "summary" and not path:
        path = env.get(_SUMMARY, "")
        if not path:
            output.note(f"--output summary: {_SUMMARY} is not set, so no summary is written")
            return None
    return Target(kind, path or "-")


def _report(result: AuditResult, targets: Sequence[Target], *, as_json: bool) -> None:
    _print(result, targets)
    if as_json:
        output.write_json(reports.as_dict(result.report, result.about, result.exit_code))
    elif all(target.is_file for target in targets):
        _print(result, [Target("markdown", "-")])


def _print(result: AuditResult, targets: Sequence[Target]) -> None:
    """Write the reports for ``targets``, each into its file or to standard output."""
    for target in targets:
        if target.is_file:
            outputs.write(target, result.report, result.about, result.exit_code)
            continue
        text = outputs.text_of(target.kind, result.report, result.about, result.exit_code)
        if target.kind == "markdown" and "GITHUB_ACTIONS" in os.environ:
            text = markup.for_runner(text)
        if text:
            output.write(text.rstrip("\n"))
