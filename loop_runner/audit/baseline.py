"""The baseline of an audit: the known findings. Owns its file (docs/audit.md).

An audit of some of the files changes and counts only their entries. An entry stays if the model is unsure
about its place: the finding may still exist.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_runner.audit.chosen_files import Scope
from loop_runner.audit.findings import Finding, Report
from loop_runner.audit.rules import Rule
from loop_runner.errors import ConfigError
from loop_runner.task import named_file

_FORMAT = 1
_HAS_MAGIC = re.compile(r"[*?\[]").search
_KEYS = ("fingerprint", "rule", "file", "quote")
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Entry:
    """One known finding."""

    fingerprint: str
    rule: str = ""
    file: str = ""
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Audited:
    """Which findings an audit would have reported if they still existed."""

    scope: Scope
    rules: tuple[Rule, ...]
    report: Report

    def covers(self, entry: Entry) -> bool:
        """Whether the entry's file was judged by the entry's rule, everywhere."""
        names = {text.name for text in self.scope.texts.texts}
        rule = next((rule for rule in self.rules if rule.id == entry.rule), None)
        if rule is None or entry.file not in names or not rule.is_about(entry.file):
            return False
        unjudged = {(item["rule"], item["file"]) for item in self.report.unjudged}
        unread = {item["file"] for item in self.report.not_searched}
        return (
            self.report.is_complete and (entry.rule, entry.file) not in unjudged and entry.file not in unread
        )

    def is_missing(self, entry: Entry) -> bool:
        """Whether no file has the entry's name."""
        return bool(entry.file) and not os.path.lexists(self.scope.base / entry.file)

    def is_nameless(self, entry: Entry) -> bool:
        """Whether the entry's name may come from an earlier version, which put the pattern before it."""
        return self.is_missing(entry) and (
            _HAS_MAGIC(entry.file) is not None or not self.scope.is_within(entry.file)
        )

    def is_gone(self, entry: Entry) -> bool:
        """Whether the finding cannot exist any more, unless it was found."""
        return self.covers(entry) or (self.is_missing(entry) and self.scope.is_within(entry.file))


def read(path: Path) -> tuple[Entry, ...]:
    """The entries in ``path``. Raises ``ConfigError`` when it is missing or not a baseline."""
    try:
        data = json.loads(named_file.read_text(path))
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']!r}")
        return tuple(_entry(entry) for entry in data["findings"])
    except FileNotFoundError:
        raise ConfigError(
            f"there is no baseline {path}",
            why="without it every finding would count as new",
            hint="create it with --write-baseline (write_baseline=True in a program), and commit it",
        ) from None
    except _UNREADABLE as error:
        raise ConfigError(
            f"{path} is not a baseline: {type(error).__name__}: {error}",
            why="known findings cannot be told from new ones",
            hint="restore it from git, or delete it and write a new one with --write-baseline",
        ) from error


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(str(item["fingerprint"]), *(str(item.get(key, "")) for key in _KEYS[1:]))


def against(report: Report, entries: Iterable[Entry], audited: Audited) -> Report:
    """``report`` with the findings of the baseline marked as known, and its other entries counted."""
    known = {entry.fingerprint: entry for entry in entries}
    findings, unsure = _marked(report.findings, known), _marked(report.unsure, known)
    current = {finding.fingerprint for finding in (*findings, *unsure)}
    others = [entry for entry in known.values() if entry.fingerprint not in current]
    gone = sum(audited.is_gone(entry) or audited.is_nameless(entry) for entry in others)
    nameless = sum(map(audited.is_nameless, others))
    return replace(report, findings=findings, unsure=unsure, gone=gone - nameless, nameless=nameless)


def _marked(findings: Iterable[Finding], known: Mapping[str, Entry]) -> tuple[Finding, ...]:
    return tuple(
        replace(finding, state="known")
        if finding.state == "new" and finding.fingerprint in known
        else finding
        for finding in findings
    )


def merged(report: Report, before: Iterable[Entry], audited: Audited) -> tuple[Entry, ...]:
    """The new baseline: every finding that is not suppressed, and the entries of unaudited files."""
    current_entries = [
        Entry(item.fingerprint, item.rule, item.file, item.quote)
        for item in report.findings
        if item.state != "suppressed"
    ]
    current = {item.fingerprint for item in report.findings}
    unsure = {item.fingerprint for item in report.unsure}
    kept = [
        entry
        for entry in before
        if entry.fingerprint not in current and (entry.fingerprint in unsure or not audited.is_gone(entry))
    ]
    return tuple(sorted({*kept, *current_entries}, key=lambda item: (item.file, item.rule, item.fingerprint)))


def text_of(entries: Iterable[Entry]) -> str:
    """The text of a baseline file."""
    items = [{key: getattr(entry, key) for key in _KEYS} for entry in entries]
    return json.dumps({"format": _FORMAT, "findings": items}, indent=1) + "\n"


def summary(path: Path, before: Iterable[Entry], after: Iterable[Entry], report: Report) -> dict[str, Any]:
    """What was written, for ``--json`` and for the message: all are numbers of entries."""
    old, new = {finding.fingerprint for finding in before}, {finding.fingerprint for finding in after}
    current = {finding.fingerprint for finding in report.findings}
    return {
        "file": str(path),
        "entries": len(new),
        "added": len(new - old),
        "removed": len(old - new),
        "not_audited": len((new & old) - current),
    }
