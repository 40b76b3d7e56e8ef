"""``audit``: judge files by rules in plain words, and report in the forms that CI systems read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from loop_runner import __version__, config
from loop_runner.audit import exchange, markup, reports, rules, scope
from loop_runner.audit import findings as found
from loop_runner.audit.findings import Report
from loop_runner.audit.plan import PASSES, Plan
from loop_runner.audit.reports import About
from loop_runner.cli import output, trusting
from loop_runner.cli.run import interruptible, options
from loop_runner.errors import ConfigError, EnvironmentFault
from loop_runner.records import Outcome
from loop_runner.text import shell
from loop_runner.verify.findings import SEVERITIES

_INCOMPLETE = {"unverified": 3, "broken": 4, "interrupted": 130}
_SUMMARY = "GITHUB_STEP_SUMMARY"
_MAX_SUMMARY_BYTES = 1_000_000  # GitHub takes 1 MiB a step
_WRITERS: Mapping[str, Callable[[Report, About], str]] = {
    "sarif": exchange.sarif,
    "junit": exchange.junit,
    "gitlab": exchange.gitlab,
    "github": reports.github,
    "summary": reports.markdown,
    "markdown": reports.markdown,
}
_KINDS = (*_WRITERS, "json")


@dataclass(frozen=True, slots=True)
class Target:
    """One ``--output``. ``path`` "-" is standard output."""

    kind: str
    path: str


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
    help=f"Any of {', '.join(_KINDS)}; can be given several times.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    metavar="DIR",
    help="Where the run folders of audits lie; what CI caches.  [default: runs]",
)
@trusting.TRUST
@options("exclude", "set", "json", "quiet", "verbose")
def audit(paths: tuple[Path, ...], rules_file: Path, **flags: Any) -> int:
    """Judge files by rules in plain words, each finding with the line that it quotes.

    The same command goes on with an audit that was stopped, and pays for no question twice.

    \b
    Example:  loop-runner audit src --rules rules.yaml --changed-since origin/main --output sarif=audit.sarif
    """
    targets = _targets(flags)
    known = _baseline(flags)
    read = rules.read_rules(rules_file)
    files = scope.choose(paths, Path.cwd(), flags["exclude"], flags["changed_since"])
    plan = _plan(read, rules_file, files, flags)
    about = About(read, __version__, flags["fail_on"], model=plan.body["model"])
    report, about, code = _run(plan, files, about, flags)
    if code == 130:
        output.note("interrupted: the same command goes on where it was")
        return code
    report = replace(found.against(report, known), unchanged=files.unchanged)
    if flags["write_baseline"] and report.is_complete:
        _write(flags["baseline"], found.baseline_of(report))
        report = found.against(report, found.read_baseline(flags["baseline"]))
    code = code or int(report.failing(about.fail_on) > 0)
    for target in targets:
        _put(target, report, about, code)
    if flags["as_json"]:
        output.write_json(reports.as_dict(report, about, code))
    elif not any(target.path == "-" for target in targets):
        _put(Target("markdown", "-"), report, about, code)
    return code


def _plan(
    read: tuple[rules.Rule, ...], rules_file: Path, files: scope.Scope, flags: Mapping[str, Any]
) -> Plan:
    from loop_runner.audit import plan
    from loop_runner.model import registry

    model = flags["model"] or registry.default_sub_model(registry.default_model(os.environ))
    settings = [config.parse_override(text) for text in flags["settings"]]
    return plan.make(read, files.texts, model, rules_file.parent.resolve(), settings)


def _run(plan: Plan, files: scope.Scope, about: About, flags: dict[str, Any]) -> tuple[Report, About, int]:
    """Start the audit, go on with it, or take what it found already."""
    if not plan.texts.texts:
        return Report(), about, 0
    folder = flags["runs"] / plan.task.name
    about = replace(about, run=str(folder))
    answer, reason, code = _accepted(folder), "", 0
    if answer is None:
        outcome = _outcome(plan, folder, files, flags)
        answer, reason = outcome.answer.content, outcome.reason
        code = _INCOMPLETE.get(outcome.status, 0)
    report = found.read(answer, plan.texts)
    return replace(report, is_complete=code == 0), replace(about, reason=reason), code


def _outcome(plan: Plan, folder: Path, files: scope.Scope, flags: dict[str, Any]) -> Outcome:
    from loop_runner import runs

    settings = [config.parse_override(text) for text in flags["settings"]]
    with interruptible(flags) as around:
        if not (folder / ".git").exists():
            return runs.start(plan.task, folder, around, plan.beginning(flags["runs"]))
        more = [("budget.passes", _passes_done(folder) + PASSES)]
        # A folder from a CI cache has no mark, but one with exactly this task starts nothing else.
        trusting.require(
            folder,
            is_trusted=flags["is_trusted"] or plan.is_task_of(folder),
            command=f"loop-runner audit --runs {shell(flags['runs'])} ...",
        )
        return runs.resume(folder, around, (*more, *settings), inputs_folder=files.base)


def _accepted(folder: Path) -> str | None:
    """The answer of an audit that ended before; None when there is none yet."""
    from loop_runner.workspace.history import History

    if not (folder / ".git").exists():
        return None
    with History(folder) as history:
        return history.answer().content if history.head().outcome == "accepted" else None


def _passes_done(folder: Path) -> int:
    from loop_runner.workspace.history import History

    with History(folder) as history:
        return history.head().pass_number


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────


def _targets(flags: Mapping[str, Any]) -> list[Target]:
    """What ``--output`` asks for. Raises ``ConfigError`` for a kind that there is not."""
    targets = []
    for given in flags["outputs"]:
        kind, _, path = given.partition("=")
        if kind not in _KINDS:
            raise ConfigError(
                f"--output {given}: there is no kind {kind!r}",
                why="the report would go missing",
                hint=f"it can be: {', '.join(_KINDS)}, with =FILE behind it",
            )
        if kind == "summary" and not path:
            path = os.environ.get(_SUMMARY, "")
            if not path:
                output.note(f"--output summary: {_SUMMARY} is not set, so no summary is written")
                continue
        targets.append(Target(kind, path or "-"))
    return targets


def _baseline(flags: Mapping[str, Any]) -> frozenset[str]:
    """The known findings; read first, so that a missing file costs nothing."""
    if flags["write_baseline"]:
        if flags["baseline"] is None:
            raise ConfigError(
                "--write-baseline without --baseline FILE",
                why="it says where the baseline goes",
                hint="for example --baseline audit-baseline.json --write-baseline",
            )
        return frozenset()
    return found.read_baseline(flags["baseline"]) if flags["baseline"] else frozenset()


def _put(target: Target, report: Report, about: About, code: int) -> None:
    if target.kind == "json":
        import json

        text = json.dumps({"version": output.JSON_VERSION, **reports.as_dict(report, about, code)}, indent=2)
        text += "\n"
    else:
        text = _WRITERS[target.kind](report, about)
    if target.path != "-":
        _write(Path(target.path), text, is_added=target.kind == "summary")
        return
    if target.kind == "markdown" and "GITHUB_ACTIONS" in os.environ:
        text = markup.for_runner(text)
    if text:
        output.write(text.rstrip("\n"))


def _write(path: Path, text: str, *, is_added: bool = False) -> None:
    data = text.encode("utf-8", "replace")
    try:
        if is_added:
            with path.open("ab") as file:
                file.write(_cut(data))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written: {error.strerror}",
            why="the report would go missing; what was judged is kept, and not paid for again",
            hint="name another file, and run the same command again",
        ) from error


def _cut(data: bytes) -> bytes:
    if len(data) <= _MAX_SUMMARY_BYTES:
        return data
    whole = data[:_MAX_SUMMARY_BYTES].rpartition(b"\n")[0]
    return whole + b"\n\nThe rest is too long for a summary.\n"
