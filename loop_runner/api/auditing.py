"""``audit``: files judged by rules in plain words, and ``AuditResult``, what was found.

Owns what a caller sees of an audit; ``audit/run.py`` does it. It works in a thread of its own, as a run does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

from loop_runner.api.checked_task import Settings, as_overrides
from loop_runner.api.result import Run
from loop_runner.api.typed_events import OnEvent, listening
from loop_runner.api.work import Work
from loop_runner.audit import markup, outputs, reports, run_folders, shards
from loop_runner.audit import run as audits
from loop_runner.audit.findings import Finding
from loop_runner.audit.outputs import KINDS, ReportKind, Target
from loop_runner.errors import ConfigError, NotVerifiedError
from loop_runner.loop.stopping import Stop
from loop_runner.runs.context import RunContext
from loop_runner.verify.findings import Severity

Place: TypeAlias = str | PathLike[str]
AuditStatus = Literal["passed", "failed", "incomplete", "interrupted"]
_ALIKE = "the same call continues it and pays for no question twice"


@dataclass(frozen=True, slots=True)
class AuditResult:
    """How an audit ended. ``findings`` has new, known and suppressed ones: see ``state`` of each.

    ``status`` is ``passed``, ``failed`` (new findings at or over ``fail_on``), ``incomplete`` (not every
    place was judged) or ``interrupted``. ``notes`` are sentences for a person.
    """

    ended: audits.AuditResult = field(repr=False)

    @property
    def status(self) -> AuditStatus:
        """In one word; ``exit_code`` says it as the command does."""
        if self.ended.is_interrupted:
            return "interrupted"
        if self.exit_code not in (0, 1):
            return "incomplete"
        return "failed" if self.exit_code else "passed"

    @property
    def passed(self) -> bool:
        """Whether everything was judged, with no new finding at or over ``fail_on``."""
        return self.status == "passed"

    @property
    def exit_code(self) -> int:
        """The exit code of the command: 0 passed, 1 failed, 2 to 4 incomplete, 130 interrupted."""
        return self.ended.exit_code

    @property
    def verdict(self) -> str:
        """One line: what was found, and whether that fails."""
        return reports.verdict(self.ended.report, self.ended.about)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding, also those that the baseline knows or a comment suppresses."""
        return self.ended.report.findings

    @property
    def new_findings(self) -> tuple[Finding, ...]:
        """The findings that no baseline knows and no comment suppresses."""
        return tuple(reports.new_findings(self.ended.report))

    @property
    def unsure(self) -> tuple[Finding, ...]:
        """The places that the model could not decide, with no comment or baseline about them."""
        return self.ended.report.undecided

    @property
    def reason(self) -> str:
        """Why it is incomplete, or why nothing was judged; else ""."""
        report = self.ended.report
        return "" if report.is_complete and report.files else self.ended.about.reason

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for a person, in the order in which they became true."""
        return self.ended.notes

    @property
    def run(self) -> Run | None:
        """The run of the audit; None where no file had to be judged."""
        return Run(Path(self.ended.about.run)) if self.ended.about.run else None

    def text(self, kind: ReportKind = "markdown", *, for_runner: bool = False) -> str:
        """The report in one of the forms of ``loop-runner audit --output``.

        ``for_runner`` is for what GitHub Actions prints: no line of it is taken for a workflow command.
        """
        text = outputs.text_of(_known(kind), self.ended.report, self.ended.about, self.exit_code)
        return markup.for_runner(text) if for_runner else text

    def write(self, kind: ReportKind, path: Place) -> None:
        """Write the report into a file. ``EnvironmentFault`` where that is not possible."""
        target = Target(_known(kind), os.fspath(path))
        outputs.write(target, self.ended.report, self.ended.about, self.exit_code)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as ``loop-runner audit --json`` prints it (docs/json.md)."""
        return reports.as_dict(self.ended.report, self.ended.about, self.exit_code)

    def raise_for_status(self) -> AuditResult:
        """This result; raises ``NotVerifiedError`` unless it passed."""
        if self.passed:
            return self
        raise NotVerifiedError(
            f"the audit {'is' if self.status == 'incomplete' else 'ended'} {self.status}: {self.verdict}",
            why="new findings count, or places were not judged",
            hint="look at result.new_findings" if self.status == "failed" else _ALIKE,
        )


class NoKeyError(ConfigError):
    """No model can be asked, since no provider's key is set. ``result`` is the audit that asked none."""

    def __init__(self, error: audits.NoKeyError) -> None:
        super().__init__(error.message, why=error.why, hint=error.hint)
        self.result = AuditResult(error.result)


def audit(
    paths: Iterable[Place] | Place,
    *,
    rules: Place | Sequence[Mapping[str, Any]],
    model: str | None = None,
    exclude: Sequence[str] = (),
    changed_since: str | None = None,
    fail_on: Severity | Literal["never"] = "warning",
    baseline: Place | None = None,
    write_baseline: bool = False,
    reports: Mapping[str, Place] | Iterable[tuple[str, Place]] = (),
    runs_dir: Place | None = None,
    keep: int | None = None,
    skip_without_key: bool = False,
    trust: bool = False,
    shard: str | None = None,
    on_event: OnEvent = None,
    stop: Stop | None = None,
    settings: Settings = (),
    notify: Sequence[Any] = (),
    **keys: Any,
) -> AuditResult:
    """Judge the files at ``paths`` by ``rules``: a rules file, or its rules as mappings.

    A call that was stopped is continued by the same call. ``reports`` are files to write, which are not
    audited themselves. ``runs_dir`` has the run folders of audits, of which ``keep`` keeps the newest.
    ``shard="0/3"`` judges the first of three parts of the files, by a hash of their names; the same call
    without it then uses what all parts have paid for. ``skip_without_key`` makes an audit that cannot ask a
    model pass. ``keys`` are keys of the task for this call: ``budget__usd``; ``settings`` are the same by
    their dotted names.
    Raises ``ConfigError`` for what cannot work.
    """
    chosen = [Path(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths or ())]
    if not chosen:
        raise ConfigError(
            "there are no paths to audit",
            why="nothing would be judged",
            hint='for example lr.audit(["src/"], ...)',
        )
    part = None if shard is None else shards.parse(shard)
    targets = [Target(_known(kind), os.fspath(path)) for kind, path in _pairs(reports)]
    listeners = listening(on_event)

    def work(stop: Stop) -> AuditResult:
        def context(_: Path) -> AbstractContextManager[RunContext]:
            return nullcontext(RunContext(os.environ, listeners, stop, notify=tuple(notify)))

        return AuditResult(
            audits.run(
                chosen,
                Path(rules) if isinstance(rules, str | PathLike) else rules,
                os.environ,
                model=model,
                exclude=exclude,
                changed_since=changed_since,
                fail_on=_level(fail_on),
                baseline_file=None if baseline is None else Path(baseline),
                write_baseline=write_baseline,
                report_files=[Path(target.path) for target in targets],
                runs_folder=None if runs_dir is None else Path(runs_dir),
                skip_without_key=skip_without_key,
                settings=[*as_overrides(keys), *as_overrides(settings)],
                is_trusted=trust,
                shard=part,
                open_context=context,
            )
        )

    try:
        result = Work(work, stop).wait()
    except audits.NoKeyError as error:
        refused = NoKeyError(error)
        _write(refused.result, targets)
        raise refused from None
    if result.status != "interrupted":
        _write(result, targets)
        if keep is not None and result.run is not None:
            run_folders.prune(result.run.folder, keep)
    return result


def _pairs(given: Mapping[str, Place] | Iterable[tuple[str, Place]]) -> Iterator[tuple[str, Place]]:
    yield from given.items() if isinstance(given, Mapping) else given


def _write(result: AuditResult, targets: Sequence[Target]) -> None:
    for target in targets:
        outputs.write(target, result.ended.report, result.ended.about, result.exit_code)


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise ConfigError(
            f"there is no kind of report {kind!r}",
            why="the report would go missing",
            hint=f"it can be: {', '.join(KINDS)}",
        )
    return kind


def _level(fail_on: str) -> str:
    if fail_on not in ("note", "warning", "error", "never"):
        raise ConfigError(
            f"fail_on={fail_on!r} is no severity",
            why="it decides which findings fail the audit",
            hint="it can be: error, warning, note, never",
        )
    return fail_on
