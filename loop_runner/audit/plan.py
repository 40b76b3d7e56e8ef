"""Makes the plan of an audit and the run that follows it, and finds what earlier audits paid for.

Owns ``plan.json`` and ``known.json``, which lie in the new run's ``workspace/``, and the key by which an
audit of the same bytes by the same rules and model finds its run folder again. Asks nobody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_runner.audit import ripgrep
from loop_runner.audit.rules import Rule
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.records import Inputs
from loop_runner.runs.context import StartingFiles
from loop_runner.task import config, prompts
from loop_runner.task.config import Task
from loop_runner.task.prompts import Templates
from loop_runner.workspace.history import History

PASSES = 3  # what failed is asked again so often
_TURNS = 1_000_000  # a turn is a batch; how many there are is the audit's affair
_CELL_S = 1800.0  # to search all files
_FORMAT = 2
_NAME = "audit"
_EARLIER = 64  # audits whose replies are used again: one for each shard of a divided audit
_PAID = "workspace/judged/"


@dataclass(frozen=True, slots=True)
class Depth:
    """How much of a file is shown with a place, and how many questions are asked in one turn."""

    context_lines: int = 5
    window_lines: int = 150  # of a function, and of a rule without a pre-filter
    batch: int = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """An audit that can start. ``key`` is the same for the same bytes, rules and model.

    ``task`` has none of the settings that hold for one call; ``settled`` has all of them.
    """

    task: Task
    settled: Task
    texts: Inputs
    body: Mapping[str, Any]
    key: str

    def beginning(self, *runs: Path) -> StartingFiles:
        """What a new run begins with; ``runs`` are where earlier audits lie."""
        known = {key: reply for folder in runs for key, reply in _known(folder).items()}
        body = {**self.body, "has_known": bool(known)}
        files = {"plan.json": _encoded(body)} | ({"known.json": _encoded(known)} if known else {})
        return StartingFiles(self.texts, files)

    def is_task_of(self, folder: Path) -> bool:
        """Whether the run in ``folder`` has exactly the task of this audit: it starts what this one would."""
        tasks = {config.dump_task(task).encode() for task in (self.task, self.settled)}
        with History(folder) as history:
            return history.read("task.yaml") in tasks


def make(
    rules: Sequence[Rule],
    texts: Inputs,
    model: str,
    base_dir: Path,
    overrides: Sequence[tuple[str, Any]] = (),
    depth: Depth = Depth(),
) -> Plan:
    """The plan to judge ``texts`` by ``rules`` with ``model``; files that no rule is about are left out.

    ``overrides`` are keys of the task (a budget, say) that hold for one call. Raises ``ConfigError`` for a
    wrong one.
    """
    folder = dict(overrides).get("prompts", prompts.FOLDER)
    templates = prompts.of_task("audit", None if folder == "none" else base_dir / str(folder))
    chosen = [text for text in texts.texts if any(rule.is_about(text.name) for rule in rules)]
    body: dict[str, Any] = {
        "format": _FORMAT,
        "model": model,
        "context_lines": depth.context_lines,
        "window_lines": depth.window_lines,
        "batch": depth.batch,
        "again": _again(templates),
        "rules": [_planned(rule, replace(texts, texts=tuple(chosen)), templates) for rule in rules],
    }
    # What ripgrep left out is not part of it: with and without, the same is judged.
    questions = [{**item, "files": rule.files} for item, rule in zip(body["rules"], rules, strict=True)]
    about = [{**body, "rules": questions}, [(text.name, text.sha256) for text in chosen]]
    key = hashlib.sha256(_encoded(about)).hexdigest()[:12]
    settings: list[tuple[str, Any]] = [
        ("name", f"{_NAME}-{key}"),
        ("prompt", templates.render("audit", rules=rules, files=len(chosen))),
        ("type", "audit"),
        ("model", "program:audit"),
        ("sub_model", model),
        ("verifiers", [{"findings": {"rules": {rule.id: rule.severity for rule in rules}}}]),
        ("budget.passes", PASSES),
        ("budget.turns", _TURNS),
        ("kernel.timeout_s", _CELL_S),
        *((name, value) for name, value in overrides if name == "prompts"),
    ]
    task = config.parse_task("{}", label="audit", base_dir=base_dir, overrides=settings)
    settled = config.parse_task("{}", label="audit", base_dir=base_dir, overrides=[*settings, *overrides])
    return Plan(task, settled, replace(texts, texts=tuple(chosen)), body, key)


def refuse_other_format(folder: Path) -> None:
    """Raise ``ConfigError`` for an unfinished audit whose plan another version of loop-runner made.

    Its questions have another form, so its replies fit none of those that this version would ask.
    """
    with History(folder) as history:
        format_ = _format_of(history.read("workspace/plan.json"))
        if format_ in (None, _FORMAT) or history.head().outcome == "accepted":
            return
        task = history.read("task.yaml") or b""
    if b"program:audit" not in task:  # a file with this name that a model wrote
        return
    version = "an earlier" if isinstance(format_, int) and format_ < _FORMAT else "another"
    raise ConfigError(
        f"{folder} holds an unfinished audit of {version} version of loop-runner (plan format {format_})",
        why=f"this version asks questions of format {_FORMAT}; the replies in the folder do not answer them",
        hint="run the same `loop-runner audit PATH... --rules FILE` again, which begins a run folder of its "
        "own; or continue this one with the version that began it",
    )


def _format_of(plan: bytes | None) -> object:
    try:
        return json.loads(plan or b"{}").get("format")
    except (ValueError, AttributeError, RecursionError):
        return None


def _again(templates: Templates) -> str:
    """What a second question adds to the first, with a mark where the claims belong."""
    again = templates.render("audit_question_again", claims="\0")
    if again.count("\0") != 1:
        raise _incomplete("audit_question_again", "`claims` once")
    return again


def _incomplete(template: str, values: str) -> ConfigError:
    return ConfigError(
        f"prompts/{template}.md.j2 must show {values}",
        why="the model could not be told what to judge",
        hint="see ours, or leave yours out",
    )


def _planned(rule: Rule, texts: Inputs, templates: Templates) -> dict[str, Any]:
    """One rule as the kernel takes it: its question in three parts, and the numbers of its files."""
    numbers = [number for number, text in enumerate(texts.texts) if rule.is_about(text.name)]
    if rule.regex:
        narrowed = ripgrep.narrowed(rule.regex, [texts.texts[number] for number in numbers])
        numbers = numbers if narrowed is None else [numbers[index] for index in sorted(narrowed)]
    question = templates.render(
        "audit_question",
        rule=rule,
        file="\0",
        passage="\0",
        is_whole=not (rule.regex or rule.ast),
    )
    if question.count("\0") != 2:
        raise _incomplete("audit_question", "`file` and then `passage`, each once")
    return {
        "id": rule.id,
        "severity": rule.severity,
        "question": question,
        "is_whole": not (rule.regex or rule.ast),
        "regex": rule.regex,
        "ast": rule.ast,
        "files": None if len(numbers) == len(texts.texts) else numbers,
    }


def _known(runs: Path) -> dict[str, Any]:
    """Replies that the latest audits in ``runs`` committed, by the key of their question."""
    known: dict[str, Any] = {}
    folders = sorted(runs.glob(f"{_NAME}-*"), key=lambda path: path.stat().st_mtime)[-_EARLIER:]
    for folder in folders:
        try:
            with History(folder) as history:
                paid = [history.read(path) for path in history.files(_PAID)]
            for text in paid:
                known.update(json.loads(text or b"{}"))
        except (LoopRunnerError, ValueError):
            continue  # no run, or a damaged one: it costs money, nothing else
    return known


def _encoded(data: object) -> bytes:
    return json.dumps(data, indent=1, sort_keys=True).encode()
