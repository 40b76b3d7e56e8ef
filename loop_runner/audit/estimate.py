"""What an audit would read, ask and cost, before anything is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop_runner.audit import chosen_files, plan, rules
from loop_runner.audit import run as audits
from loop_runner.inputs import content
from loop_runner.kernel.inside import audit as questions
from loop_runner.model import prices
from loop_runner.runs.estimate import CHARS_PER_TOKEN, Estimate, Row, row
from loop_runner.text import plural

_REPLY_TOKENS = 120  # of a question: a line, a quote, a reason and a verdict


def of_audit(
    paths: Sequence[Path],
    rules_file: Path,
    env: Mapping[str, str],
    *,
    model: str | None = None,
    exclude: Sequence[str] = (),
    changed_since: str | None = None,
    runs_folder: Path | None = None,
    settings: Sequence[tuple[str, Any]] = (),
) -> Estimate:
    """The questions of the audit, counted as it asks them; those that earlier audits paid for are free."""
    read = rules.read_rules(rules_file)
    files = chosen_files.choose(paths, Path.cwd(), exclude, changed_since, [rules_file])
    judge = audits.judge(model, rules_file, env)
    planned = plan.make(read, files.texts, judge, rules_file.parent.resolve(), settings)
    texts = planned.texts
    context = {text.name: content(text).decode("utf-8", "replace") for text in texts.texts}
    searched = questions.find(planned.body, context)
    known = planned.beginning(*([runs_folder] if runs_folder else [Path("runs")])).files.get("known.json")
    requested = _questions_of(planned.body, searched, json.loads(known) if known else {}, context)
    rows = _rows(requested, judge, prices.with_rates(planned.settled.prices))
    paid = len({key for _, key in searched["groups"]}) - len(requested)
    limits = f"{plural(paid, 'question')} answered by earlier audits" if paid else "every question is new"
    return Estimate(len(texts.texts), texts.total_bytes, len(texts.skipped), "audit", rows, limits)


def _questions_of(
    body: Mapping[str, Any], searched: Mapping[str, Any], known: Mapping[str, Any], context: Mapping[str, str]
) -> dict[str, int]:
    """The characters of each question that is not answered yet, by its key."""
    names = list(context)
    requested: dict[str, int] = {}
    for group, key in searched["groups"]:
        if key not in known and key not in requested:
            name = names[group[1]]
            requested[key] = len(questions.question(body, group, name, context[name]))
    return requested


def _rows(requested: Mapping[str, int], model: str, price: Any) -> tuple[Row, ...]:
    if not requested:
        return ()
    tokens = math.ceil(sum(requested.values()) / len(requested) / CHARS_PER_TOKEN)
    return (row("questions", model, len(requested), tokens, _REPLY_TOKENS, price),)
