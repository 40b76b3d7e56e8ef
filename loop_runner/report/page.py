"""A run's page: one HTML file that needs nothing else, no larger than a mailbox takes.

Owns how much of a run is shown: the newest passes, the first and the best in full, the others shorter as the
page fills up, and every cut with the command that shows all of it. The same run gives the same bytes.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

import loop_runner as lr
from loop_runner import text
from loop_runner.report import chart, html

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_FULL_BYTES, _SHORT_BYTES = 5_000_000, 7_500_000  # of passes: up to where they are full, then short
# How much of a text each level of detail shows: of code and output, of evidence and reasons, of sub-calls.
_LEVELS: dict[str, dict[str, int]] = {
    "full": {"text": 8000, "told": 4000, "evidence": 4000, "calls": 20, "call": 600},
    "short": {"text": 500, "told": 0, "evidence": 300, "calls": 0, "call": 0},
    "line": {"text": 0, "told": 0, "evidence": 120, "calls": 0, "call": 0},
}
_SHOWN_VARIABLES, _SHOWN_INPUTS = 300, 200
_MAX_ANSWER_CHARS = 400_000
_SEVERITIES = ("error", "warning", "note")
_MAX_FINDINGS = 2000


def render(record: lr.Record, *, back: str = "") -> str:
    """The page of a run. ``back`` is the address of an index that it is part of."""
    passes = _passes(record)
    body = {
        "record": record,
        "back": back,
        "answer": _answer(record),
        "panels": chart.panels(record.passes),
        "passes": passes,
        "is_cut": any(level != "full" for level, _ in passes),
        "findings": _findings(record),
        "facts": _facts(record),
        "costs": _costs(record),
        "variables": record.variables[:_SHOWN_VARIABLES],
        "inputs": record.inputs.texts[:_SHOWN_INPUTS],
        "more_variables": max(len(record.variables) - _SHOWN_VARIABLES, 0),
        "more_inputs": max(len(record.inputs.texts) - _SHOWN_INPUTS, 0),
    }
    return document("run.html.j2", f"{record.name}: {record.state}", body)


def document(template: str, title: str, body: Mapping[str, Any]) -> str:
    """A whole page from a template of this package, with its style, script and policy."""
    style, script = _asset("style.css"), _asset("script.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_hash(style)}'; script-src 'sha256-{_hash(script)}'; "
        "img-src 'none'; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(title=title, style=style, script=script, policy=policy, version=lr.__version__, **body)
    )


def environment(folder: Path) -> jinja2.Environment:
    """Templates in which every value is escaped and made visible, whoever wrote it."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        finalize=html.safe,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _environment() -> jinja2.Environment:
    made = environment(_TEMPLATES)
    made.filters |= {
        "code": html.code,
        "diff": html.difference,
        "excerpt": html.excerpt,
        "cut": html.cut,
        "day": day,
        "duration": duration,
        "usd": usd,
        "size": size,
        "shell": text.shell,
        "plural": text.plural,
        "line": text.one_line,
        "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str),
    }
    return made


@cache
def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of this package


def _hash(asset: str) -> str:
    return base64.b64encode(hashlib.sha256(asset.encode()).digest()).decode()


# ── the parts ───────────────────────────────────────────────────────────────────────────────────────


def _answer(record: lr.Record) -> dict[str, Any]:
    answer = html.cut(record.answer, _MAX_ANSWER_CHARS)
    pretty = html.as_json(answer)
    return {
        "json": None if pretty is None else html.code(pretty, "json"),
        "lines": [] if pretty is not None else list(html.answer_lines(answer, record.cited)),
        "unplaced": html.unplaced(answer, record.cited) if pretty is None else list(record.cited),
        "is_empty": not answer.strip(),
    }


def _passes(record: lr.Record) -> list[tuple[str, Markup]]:
    """(level, HTML) of each pass, the newest first: how much is shown depends on what fits."""
    template = _environment().get_template("pass.html.j2")
    made: dict[int, tuple[str, Markup]] = {}
    used = 0
    for entry in _by_weight(record.passes):
        level = "full" if used < _FULL_BYTES else "short" if used < _SHORT_BYTES else "line"
        rendered = template.render(entry=entry, level=level, most=_LEVELS[level], run=str(record.folder))
        used += len(rendered.encode("utf-8", "replace"))
        made[entry.number] = (level, Markup(rendered))  # noqa: S704 - rendered with everything escaped
    return [made[number] for number in sorted(made, reverse=True)]


def _by_weight(passes: Sequence[lr.RecordedPass]) -> Iterable[lr.RecordedPass]:
    """The passes that a reader looks at first: the newest, the first, the best, then back from the newest."""
    if not passes:
        return []
    best = max(passes, key=lambda entry: (entry.score or 0.0, entry.number))
    first = {entry.number: entry for entry in (passes[-1], passes[0], best)}
    return [*first.values(), *(entry for entry in reversed(passes) if entry.number not in first)]


def _facts(record: lr.Record) -> list[tuple[str, str]]:
    """What stands at the top: (name, value)."""
    status = record.status
    turns = sum(len(entry.turns) for entry in record.passes)
    ended = [entry.ended_at for entry in record.passes if entry.ended_at is not None]
    facts = [("Passes", f"{len(record.passes):,}"), ("Turns", f"{turns:,}")]
    if status is not None:
        facts += [("At work", duration(status.spend.seconds)), ("Cost", usd(status.spend.usd))]
        facts.append(("Tokens", f"{status.spend.usage.total_tokens:,}"))
    if record.inputs.texts:
        facts.append(("Inputs", f"{len(record.inputs.texts):,} ({size(record.inputs.total_bytes)})"))
    if ended:
        facts.append(("Last pass ended", day(max(ended))))
    return facts


def _costs(record: lr.Record) -> list[dict[str, Any]]:
    """The requests by model and kind."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in record.costs:
        row = rows.setdefault(
            (line.model, line.kind),
            {"model": line.model, "kind": line.kind, "requests": 0, "usage": lr.Usage(), "usd": 0.0},
        )
        row["requests"] += line.requests
        row["usage"] += line.usage
        row["usd"] = None if row["usd"] is None or line.usd is None else row["usd"] + line.usd
    return [rows[key] for key in sorted(rows)]


def _findings(record: lr.Record) -> dict[str, Any] | None:
    """An audit's findings: those of each rule, and which file has how many."""
    if record.findings is None:
        return None
    in_order = sorted(
        record.findings, key=lambda entry: (_grade(entry.severity), entry.rule, entry.file, entry.line)
    )
    by_rule: dict[str, list[tuple[int, Any]]] = {}
    by_file: dict[str, list[tuple[int, Any]]] = {}
    for number, finding in enumerate(in_order[:_MAX_FINDINGS], 1):
        by_rule.setdefault(finding.rule, []).append((number, finding))
        by_file.setdefault(finding.file, []).append((number, finding))
    return {
        "by_rule": by_rule,
        "by_file": dict(sorted(by_file.items(), key=lambda entry: (-len(entry[1]), entry[0]))),
        "count": len(in_order),
        "left_out": max(len(in_order) - _MAX_FINDINGS, 0),
    }


def _grade(severity: str) -> int:
    return _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


# ── words ───────────────────────────────────────────────────────────────────────────────────────────


def day(seconds: float | None) -> str:
    """A time as ``2026-11-30 16:05 UTC``; "" for none, or for one that no calendar has."""
    try:
        return "" if seconds is None else f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return ""


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def usd(value: float | None) -> str:
    """Dollars; an unknown price is called unknown."""
    return "price unknown" if value is None else f"{value:.4f} USD"


def size(count: int) -> str:
    """``512 bytes``, ``3.4 kB``, ``37.2 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return text.plural(count, "byte")
