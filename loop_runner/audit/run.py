"""Runs a whole audit: chooses files and judge, starts, resumes or reuses a run, and decides how it ended.

The command and programs call ``run``. It takes plain values, prints nothing and handles no signals; its
``AuditResult`` has the findings and the notes for a person.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_runner import __version__
from loop_runner.audit import baseline, chosen_files, findings, outputs, plan, reports, rules, run_folders
from loop_runner.audit.findings import Report
from loop_runner.audit.plan import Plan
from loop_runner.audit.reports import About
from loop_runner.audit.shards import Shard
from loop_runner.errors import ConfigError
from loop_runner.model import registry
from loop_runner.records import Outcome
from loop_runner.runs import start as runs
from loop_runner.runs import trust
from loop_runner.runs.context import RunContext
from loop_runner.text import plural, shell

INTERRUPTED = 130
_INCOMPLETE = {"unverified": 3, "blocked": 3, "broken": 4, "interrupted": INTERRUPTED}


@dataclass(frozen=True, slots=True)
class AuditResult:
    """How an audit ended. ``notes`` are sentences for a person, in chronological order."""

    report: Report
    about: About
    exit_code: int
    notes: tuple[str, ...] = ()

    @property
    def is_interrupted(self) -> bool:
        """Whether it was stopped: then there is no report, and the same call continues it."""
        return self.exit_code == INTERRUPTED


class NoKeyError(ConfigError):
    """No provider's key is in the environment. ``result``: an audit that asked no model, to be reported."""

    result: AuditResult


@dataclass(frozen=True, slots=True)
class _Call:
    """The caller's choices for ``run``, besides the files and rules."""

    env: Mapping[str, str]
    runs_folder: Path | None
    settings: tuple[tuple[str, Any], ...]
    is_trusted: bool
    open_context: Callable[[Path], AbstractContextManager[RunContext]]


def run(
    paths: Sequence[Path],
    rules_file: Path | Sequence[Mapping[str, Any]],
    env: Mapping[str, str],
    *,
    model: str | None = None,
    exclude: Sequence[str] = (),
    changed_since: str | None = None,
    fail_on: str = "warning",
    baseline_file: Path | None = None,
    write_baseline: bool = False,
    report_files: Sequence[Path] = (),
    runs_folder: Path | None = None,
    skip_without_key: bool = False,
    settings: Sequence[tuple[str, Any]] = (),
    is_trusted: bool = False,
    shard: Shard | None = None,
    open_context: Callable[[Path], AbstractContextManager[RunContext]] | None = None,
) -> AuditResult:
    """Judge the files at ``paths`` by the rules in ``rules_file``; a call that was stopped is continued.

    ``rules_file`` may be the rules themselves, as mappings. ``report_files`` are written from the result
    later: they are not audited, like the baseline and the rules.
    ``settings`` are keys of the task that hold for this call. With ``shard``, only its files are judged.
    ``open_context`` gives listeners and the wish to stop to the run in a folder, and is entered only when
    models may be asked. Raises ``NoKeyError`` when no model can be asked, unless ``skip_without_key``;
    another ``LoopRunnerError`` for what cannot work.
    """
    known = _known(baseline_file, write_baseline=write_baseline)
    read, source = _rules(rules_file)
    own = [source, *report_files, *([baseline_file] if baseline_file else [])]
    whole = chosen_files.choose(paths, Path.cwd(), exclude, changed_since, own)
    files = whole if shard is None else shard.of(whole)
    about = _about(read, source, files, fail_on, env, shard)
    try:
        about = replace(about, model=judge(model, source, env))
    except NoKeyError as error:
        error.result = _unasked(error, replace(about, model=model or ""), is_skipped=skip_without_key)
        if skip_without_key:
            return error.result
        raise
    planned = plan.make(read, files.texts, about.model, source.parent.resolve(), settings)
    about = replace(about, reason=_why_nothing(files, planned, shard))
    context = open_context or (lambda _folder: nullcontext(RunContext(env)))
    call = _Call(env, runs_folder, tuple(settings), is_trusted, context)
    result = _judged(planned, files, about, call)
    if result.is_interrupted:
        return result
    audited = baseline.Audited(files, read, _with_idle(result.report, planned, read))
    result = _compared(result, audited, known)
    if write_baseline and baseline_file is not None:
        result = _written_baseline(baseline_file, result, known, audited)
    failing = result.report.failing(result.about.fail_on) > 0
    return replace(result, exit_code=result.exit_code or int(failing))


# ── before anything is asked ────────────────────────────────────────────────────────────────────────


def _rules(given: Path | Sequence[Mapping[str, Any]]) -> tuple[tuple[rules.Rule, ...], Path]:
    """The rules, and the file that they are in; rules that are values count as of the current folder."""
    if isinstance(given, Path):
        return rules.read_rules(given), given
    return rules.from_data(given), Path("rules")


def _known(path: Path | None, *, write_baseline: bool) -> tuple[baseline.Entry, ...]:
    """The known findings; read first, so that a missing file costs nothing."""
    if write_baseline and path is None:
        raise ConfigError(
            "a baseline is to be written, and no file is named for it",
            why="it says where the baseline goes",
            hint="for example --baseline audit-baseline.json --write-baseline (baseline= in a program)",
        )
    if path is None or (write_baseline and not os.path.lexists(path)):
        return ()
    return baseline.read(path)


def _about(
    read: tuple[rules.Rule, ...],
    rules_file: Path,
    files: chosen_files.Scope,
    fail_on: str,
    env: Mapping[str, str],
    shard: Shard | None,
) -> About:
    names = [text.name for text in files.texts.texts]
    # Of a part of the files it says nothing that no rule is about them.
    unused = tuple(rule.id for rule in read if shard is None and names and not any(map(rule.is_about, names)))
    part = "" if shard is None else f"shard-{shard.index}-of-{shard.count}/"
    return About(
        read,
        __version__,
        fail_on,
        comparison=files.comparison,
        unused=unused,
        category=f"loop-runner-audit/{os.path.relpath(rules_file.resolve(), files.base)}/{part}",
        information_uri=_information_uri(env),
    )


def _information_uri(env: Mapping[str, str]) -> str:
    """The address of this copy: the repository of the action, as GitHub names it."""
    server, repository = env.get("GITHUB_SERVER_URL"), env.get("GITHUB_ACTION_REPOSITORY")
    return f"{server}/{repository}" if server and repository else reports.INFORMATION


def judge(named: str | None, rules_file: Path, env: Mapping[str, str]) -> str:
    """The model that judges. A local model only judges if it is named (docs/audit.md)."""
    if named is None:
        model = registry.default_with_key(env)
        if model is None:
            raise NoKeyError(
                "no model: none is named, and no provider's key is set",
                why="some model must judge, and the local one is too small for that (docs/audit.md)",
                hint="export ANTHROPIC_API_KEY=..., or name a model, for example local:coder",
            )
        return registry.default_sub_model(model)
    try:
        registry.check(named, base_dir=rules_file.parent.resolve(), env=env)
    except ConfigError as error:
        if registry.lacks_key(named, env):
            raise NoKeyError(error.message, why=error.why, hint=error.hint) from error
        raise
    return named


def _unasked(error: NoKeyError, about: About, *, is_skipped: bool) -> AuditResult:
    """The result of an audit that asked no model."""
    about = replace(about, reason=error.message, lacks_key=True)
    return AuditResult(Report(is_complete=is_skipped), about, 0 if is_skipped else error.exit_code)


def _why_nothing(files: chosen_files.Scope, planned: Plan, shard: Shard | None) -> str:
    """Why there is no file to judge; "" when there is one."""
    if planned.texts.texts:
        return ""
    if files.texts.texts:
        return f"no rule is about {plural(len(files.texts.texts), 'file')}: see `files` of the rules"
    if shard is not None:
        return f"no file is in the shard {shard}"
    if files.comparison:
        return f"no file differs; {files.comparison}"
    return "every file was left out"


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────


def _judged(planned: Plan, files: chosen_files.Scope, about: About, call: _Call) -> AuditResult:
    """Start the run of the audit, continue it, or reuse its earlier result."""
    if not planned.texts.texts:
        return AuditResult(Report(), about, 0)
    folder = (call.runs_folder or run_folders.default_place(files)) / planned.task.name
    about = replace(about, run=str(folder))
    answer, reason, code = run_folders.accepted_answer(folder), "", 0
    if answer is None:
        outcome = _outcome(planned, folder, files, call)
        answer, reason = outcome.answer.content, outcome.reason
        code = _INCOMPLETE.get(outcome.status, 0)
    report = replace(findings.read(answer, planned.texts), is_complete=code == 0)
    about = replace(about, reason=_why_unjudged(report) or reason)
    notes = ("interrupted: the same command picks up where it left off",) if code == INTERRUPTED else ()
    return AuditResult(report, about, code, notes)


def _outcome(planned: Plan, folder: Path, files: chosen_files.Scope, call: _Call) -> Outcome:
    """Create the run if there is none, and continue it. Settings given here apply to this call only."""
    if not run_folders.exists(folder):
        earlier = dict.fromkeys((Path("runs").absolute(), folder.parent.absolute()))
        runs.create(planned.task, folder, call.env, planned.beginning(*earlier))
    more = [("budget.passes", run_folders.passes_done(folder) + plan.PASSES)]
    # A folder from a CI cache has no mark, but one with exactly this task starts nothing else.
    trust.require_folder(
        folder,
        call.env,
        is_trusted=call.is_trusted or planned.is_task_of(folder),
        command=f"loop-runner audit --runs {shell(folder.parent)} ...",
    )
    with call.open_context(folder) as context:
        return runs.resume(folder, context, (*more, *call.settings), inputs_folder=files.base)


def _why_unjudged(report: Report) -> str:
    """The reason that most places without a judgement have in common; "" when all were judged."""
    if not report.unjudged:
        return ""
    ((why, _),) = Counter(str(place["why"]) for place in report.unjudged).most_common(1)
    return f"{plural(len(report.unjudged), 'place')} not judged: {why}"


# ── what it means ───────────────────────────────────────────────────────────────────────────────────


def _with_idle(report: Report, planned: Plan, read: Sequence[rules.Rule]) -> Report:
    return replace(report, idle=findings.idle_suppressions(planned.texts, [rule.id for rule in read]))


def _compared(
    result: AuditResult, audited: baseline.Audited, known: tuple[baseline.Entry, ...]
) -> AuditResult:
    """``result`` with known findings marked, and with the files that were not judged."""
    files = audited.scope
    left_out = [{"file": name, "why": why} for name, why in files.left_out]
    report = baseline.against(audited.report, known, audited)
    report = replace(report, unchanged=files.unchanged, not_searched=(*report.not_searched, *left_out))
    return replace(result, report=report)


def _written_baseline(
    path: Path, result: AuditResult, before: tuple[baseline.Entry, ...], audited: baseline.Audited
) -> AuditResult:
    """Write the baseline, unless the audit is incomplete; then all of its entries are known."""
    report = result.report
    if not report.is_complete:
        note = f"{path} was not written: the audit is incomplete; run the same command again to continue it"
        return replace(result, notes=(*result.notes, note))
    after = baseline.merged(report, before, audited)
    outputs.write_file(path, baseline.text_of(after))
    written = baseline.summary(path, before, after, report)
    note = (
        f"wrote {path}: {plural(len(after), 'entry', 'entries')}"
        f" ({written['added']} added, {written['removed']} removed,"
        f" {written['not_audited']} kept that this audit did not look for)"
    )
    report = replace(baseline.against(report, after, audited), written=written)
    return replace(result, report=report, notes=(*result.notes, note))
