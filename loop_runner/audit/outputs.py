"""Writes reports to files: one form for each CI system, complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from loop_runner import redaction
from loop_runner.audit import exchange, reports
from loop_runner.audit.findings import Report
from loop_runner.audit.reports import About
from loop_runner.errors import EnvironmentFault

_JSON_VERSION = 1  # docs/json.md: the same number as in every other JSON object of the commands
_MAX_SUMMARY_BYTES = 1_000_000  # GitHub takes 1 MiB a step
_WRITERS: Mapping[str, Callable[[Report, About], str]] = {
    "sarif": exchange.sarif,
    "junit": exchange.junit,
    "gitlab": exchange.gitlab,
    "github": reports.github,
    "summary": reports.markdown,
    "markdown": reports.markdown,
}
ReportKind = Literal["sarif", "junit", "gitlab", "github", "summary", "markdown", "json"]
KINDS: tuple[ReportKind, ...] = get_args(ReportKind)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a report of one ``kind`` goes. ``path`` "-" is standard output."""

    kind: str
    path: str

    @property
    def is_file(self) -> bool:
        """Whether the report goes into a file."""
        return self.path != "-"


def text_of(kind: str, report: Report, about: About, exit_code: int) -> str:
    """The report in one of the ``KINDS``."""
    if kind != "json":
        return _WRITERS[kind](report, about)
    data = {"version": _JSON_VERSION, **reports.as_dict(report, about, exit_code)}
    return json.dumps(data, indent=2) + "\n"


def write(target: Target, report: Report, about: About, exit_code: int) -> None:
    """Write one report into its file. Raises ``EnvironmentFault`` when that is not possible."""
    text = text_of(target.kind, report, about, exit_code)
    write_file(Path(target.path), text, is_added=target.kind == "summary")


def write_file(path: Path, text: str, *, is_added: bool = False) -> None:
    """Write ``text`` without secrets, with the old file in place until the new one is complete.

    ``is_added`` appends instead, cut to what a step's summary may hold.
    """
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
