"""``audit``: judge files by rules in plain words, and report in the forms that CI systems read."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from loop_runner import __version__, redaction
from loop_runner.audit import baseline, exchange, markup, reports, rules, scope
from loop_runner.audit import findings as found
from loop_runner.audit.findings import Report
from loop_runner.audit.plan import PASSES, Plan
from loop_runner.audit.reports import About
from loop_runner.cli import display, output, trusting
from loop_runner.cli.run import interruptible, options
from loop_runner.errors import ConfigError, EnvironmentFault
from loop_runner.records import Outcome
from loop_runner.task import config
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
    files = scope.choose(
        paths, Path.cwd(), flags["exclude"], flags["changed_since"], _own_files(rules_file, targets, flags)
    )
    about = _about(read, rules_file, files, flags)
    try:
        about = replace(about, model=_judge(flags["model"], rules_file))
    except _NoKeyError as error:
        return _without_key(error, targets, about, flags)
    plan = _plan(read, rules_file, files, about.model, flags)
    about = replace(about, reason=_why_nothing(files, plan))
    report, about, code = _run(plan, files, about, flags)
    if code == 130:
        output.note("interrupted: the same command goes on where it was")
        return code
    report = replace(report, idle=found.idle_suppressions(plan.texts, [rule.id for rule in read]))
    left_out = [{"file": name, "why": why} for name, why in files.left_out]
    audited = baseline.Audited(files, read, report)
    report = baseline.against(report, known, audited)
    report = replace(report, unchanged=files.unchanged, not_searched=(*report.not_searched, *left_out))
    if flags["write_baseline"]:
        report = _write_baseline(flags["baseline"], report, known, audited)
    code = code or int(report.failing(about.fail_on) > 0)
    _report(targets, report, about, code, as_json=flags["as_json"])
    if flags["keep"] is not None and about.run:
        _prune(Path(about.run), flags["keep"])
    return code


def _prune(current: Path, keep: int) -> None:
    """Remove the oldest run folders beside ``current``, which is the newest."""
    others = [path for path in current.parent.glob("audit-*") if path != current and (path / ".git").is_dir()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[keep - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _report(targets: Sequence[Target], report: Report, about: About, code: int, *, as_json: bool) -> None:
    for target in targets:
        _put(target, report, about, code)
    if as_json:
        output.write_json(reports.as_dict(report, about, code))
    elif not any(target.path == "-" for target in targets):
        _put(Target("markdown", "-"), report, about, code)


class _NoKeyError(ConfigError):
    """No provider's key is in the environment."""


def _judge(named: str | None, rules_file: Path) -> str:
    """The model that judges. A local model is no judge (docs/audit.md): it is taken only when it is named."""
    from loop_runner.model import registry

    if named is None:
        model = registry.default_with_key(os.environ)
        if model is None:
            raise _NoKeyError(
                "no model: no --model was given, and no provider's key is set",
                why="some model must judge, and the local one is no judge (docs/audit.md)",
                hint="export ANTHROPIC_API_KEY=..., or name a model, for example --model local:coder",
            )
        return registry.default_sub_model(model)
    try:
        registry.check(named, base_dir=rules_file.parent.resolve(), env=os.environ)
    except ConfigError as error:
        if registry.lacks_key(named, os.environ):
            raise _NoKeyError(error.message, why=error.why, hint=error.hint) from error
        raise
    return named


def _without_key(
    error: _NoKeyError, targets: Sequence[Target], about: About, flags: Mapping[str, Any]
) -> int:
    """Write reports that say that no model was asked; raise ``error`` unless it is to be skipped."""
    is_skipped = flags["on_missing_key"] == "skip"
    code = 0 if is_skipped else error.exit_code
    about = replace(about, reason=error.message, lacks_key=True, model=flags["model"] or "")
    report = Report(is_complete=is_skipped)
    if is_skipped:
        _report(targets, report, about, code, as_json=flags["as_json"])
        return code
    for target in targets:
        if target.path != "-":
            _put(target, report, about, code)
    raise error


def _own_files(rules_file: Path, targets: Sequence[Target], flags: Mapping[str, Any]) -> list[Path]:
    """The audit's own files: a report of an earlier audit must not become a new finding."""
    written = [Path(target.path) for target in targets if target.path != "-"]
    return [rules_file, *written, *([flags["baseline"]] if flags["baseline"] else [])]


def _about(
    read: tuple[rules.Rule, ...], rules_file: Path, files: scope.Scope, flags: Mapping[str, Any]
) -> About:
    names = [text.name for text in files.texts.texts]
    unused = tuple(rule.id for rule in read if names and not any(map(rule.is_about, names)))
    return About(
        read,
        __version__,
        flags["fail_on"],
        comparison=files.comparison,
        unused=unused,
        category=f"loop-runner-audit/{os.path.relpath(rules_file.resolve(), files.base)}/",
        information_uri=_information_uri(os.environ),
    )


def _information_uri(env: Mapping[str, str]) -> str:
    """Where this copy comes from: the repository of the action, as GitHub names it."""
    server, repository = env.get("GITHUB_SERVER_URL"), env.get("GITHUB_ACTION_REPOSITORY")
    return f"{server}/{repository}" if server and repository else reports.INFORMATION


def _why_nothing(files: scope.Scope, plan: Plan) -> str:
    """Why there is no file to judge; "" when there is one."""
    if plan.texts.texts:
        return ""
    if files.texts.texts:
        return f"no rule is about {output.plural(len(files.texts.texts), 'file')}: see `files` of the rules"
    if files.comparison:
        return f"no file differs; {files.comparison}"
    return "every file was left out"


def _plan(
    read: tuple[rules.Rule, ...], rules_file: Path, files: scope.Scope, model: str, flags: Mapping[str, Any]
) -> Plan:
    from loop_runner.audit import plan

    return plan.make(read, files.texts, model, rules_file.parent.resolve(), _settings(flags))


def _settings(flags: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [config.parse_override(text) for text in flags["settings"]]


def _run(plan: Plan, files: scope.Scope, about: About, flags: dict[str, Any]) -> tuple[Report, About, int]:
    """Start the audit, go on with it, or take what it found already."""
    if not plan.texts.texts:
        return Report(), about, 0
    runs = flags["runs"] or _default_runs(files)
    folder = runs / plan.task.name
    about = replace(about, run=str(folder))
    answer, reason, code = _accepted(folder), "", 0
    if answer is None:
        outcome = _outcome(plan, folder, files, flags)
        answer, reason = outcome.answer.content, outcome.reason
        code = _INCOMPLETE.get(outcome.status, 0)
    report = replace(found.read(answer, plan.texts), is_complete=code == 0)
    return report, replace(about, reason=_why_unjudged(report) or reason), code


def _why_unjudged(report: Report) -> str:
    """The reason that most places without a judgement have in common; "" when all were judged."""
    if not report.unjudged:
        return ""
    ((why, _),) = Counter(str(each["why"]) for each in report.unjudged).most_common(1)
    return f"{output.plural(len(report.unjudged), 'place')} not judged: {why}"


def _default_runs(files: scope.Scope) -> Path:
    """``runs`` at the top of the repository that the command is started in, with its own .gitignore."""
    cwd = Path.cwd().resolve()
    if not (files.is_in_repository and cwd.is_relative_to(files.base)):
        return Path("runs")
    runs = files.base / "runs"
    ignore = runs / ".gitignore"
    if not os.path.lexists(ignore):
        _write(ignore, "# Written by loop-runner audit.\n/audit-*\n/.gitignore\n")
    return Path(os.path.relpath(runs, cwd))


def _outcome(plan: Plan, folder: Path, files: scope.Scope, flags: dict[str, Any]) -> Outcome:
    """Create the run if there is none, and go on with it. What is set here holds for this time only."""
    from loop_runner.runs import start as runs

    if not (folder / ".git").exists():
        earlier = dict.fromkeys((Path("runs").absolute(), folder.parent.absolute()))
        runs.create(plan.task, folder, os.environ, plan.beginning(*earlier))
    more = [("budget.passes", _passes_done(folder) + PASSES)]
    # A folder from a CI cache has no mark, but one with exactly this task starts nothing else.
    trusting.require(
        folder,
        is_trusted=flags["is_trusted"] or plan.is_task_of(folder),
        command=f"loop-runner audit --runs {shell(folder.parent)} ...",
    )
    with interruptible(flags, folder, display.AuditProgress) as around:
        return runs.resume(folder, around, (*more, *_settings(flags)), inputs_folder=files.base)


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


def _write_baseline(
    path: Path, report: Report, before: tuple[baseline.Entry, ...], audited: baseline.Audited
) -> Report:
    """Write the baseline, say so, and return ``report`` with all that is in it marked as known."""
    if not report.is_complete:
        output.note(f"{path} was not written: the audit is incomplete; the same command goes on with it")
        return report
    after = baseline.merged(report, before, audited)
    _write(path, baseline.text_of(after))
    written = baseline.summary(path, before, after, report)
    output.note(
        f"wrote {path}: {output.plural(len(after), 'entry', 'entries')}"
        f" ({written['added']} added, {written['removed']} removed,"
        f" {written['not_audited']} kept that this audit did not look for)"
    )
    return replace(baseline.against(report, after, audited), written=written)


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


def _baseline(flags: Mapping[str, Any]) -> tuple[baseline.Entry, ...]:
    """The known findings; read first, so that a missing file costs nothing."""
    path = flags["baseline"]
    if flags["write_baseline"] and path is None:
        raise ConfigError(
            "--write-baseline without --baseline FILE",
            why="it says where the baseline goes",
            hint="for example --baseline audit-baseline.json --write-baseline",
        )
    if path is None or (flags["write_baseline"] and not os.path.lexists(path)):
        return ()
    return baseline.read(path)


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
    data = redaction.clean(text).encode("utf-8", "replace")
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
