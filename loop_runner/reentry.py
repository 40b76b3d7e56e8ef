"""Packs what a new pass is told: the original prompt, word for word, then the state in a fixed order.

Owns the order and the shares of the character budget. Relies on the workspace for what is committed. All that
models and verifiers wrote goes into fences; nothing here is rendered as a template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loop_runner import text
from loop_runner.budget import Ledger
from loop_runner.profiles import Profile
from loop_runner.prompts import OURS, Templates
from loop_runner.records import Variable
from loop_runner.workspace import layout
from loop_runner.workspace.history import parsing
from loop_runner.workspace.workspace import Workspace

_MAX_NOTES = 8
_MAX_VARIABLES = 40
_MAX_CHANGES = 40
_MAX_HISTORY = 12


def first_message(
    workspace: Workspace,
    *,
    pass_number: int,
    prompt: str,
    profile: Profile,
    ledger: Ledger,
    course: Sequence[str] = (),
    lessons: Sequence[str] = (),
    templates: Templates = OURS,
    rules: str = "",
) -> str:
    """The first user message of pass ``pass_number``; from pass 2 on it ends with the state.

    Depends on committed bytes and on ``ledger`` only, so that a pass begun again after a crash says the same.
    ``course`` is what is told about the run as a whole, in the runner's words; ``lessons`` one line for each
    pass that made things worse. ``rules`` stand behind the prompt in every pass, for those who have no
    system prompt of ours.
    """
    told = f"{prompt}\n\n{rules}" if rules else prompt
    if pass_number == 1:
        return told
    share = profile.state_chars // 4
    variables = workspace.snapshot().variables
    state = templates.render(
        f"reentry{profile.suffix}",
        pass_number=pass_number,
        course=course,
        lessons=lessons,
        was_put_back="from_pass" in verdict(workspace, pass_number - 1).get("next", {}),
        feedback=text.cut_middle(_reason(workspace, pass_number - 1), share),
        draft=(workspace.read("answer.md") or b"").decode("utf-8", "replace"),
        max_draft_chars=share,
        diff=describe_changes(workspace.changes(pass_number - 1)),
        notes=_notes(workspace),
        max_note_chars=max(share // _MAX_NOTES, 200),
        variables=_list_variables([item for item in variables if item.status != "lost"]),
        lost=_list_variables([item for item in variables if item.status == "lost"]),
        history=_history(workspace, pass_number),
        left=ledger.describe_left(),
    )
    return f"{told}\n\n{state}"


def describe_changes(changes: Sequence[tuple[str, str]]) -> str:
    """One line for each changed file, named as the model names it: from its own folder."""
    lines = [f"{kind:<7}  {text.label(path.removeprefix('workspace/'))}" for kind, path in changes]
    return _listed(lines, _MAX_CHANGES)


def verdict(workspace: Workspace, pass_number: int) -> dict[str, Any]:
    """``verdict.json`` of a committed pass; empty when there is none."""
    path = f"passes/{pass_number:04d}/verdict.json"
    with parsing(workspace.folder, path):
        data = workspace.read(path)
        return dict(json.loads(data)) if data else {}


def first_pass_of_task(workspace: Workspace) -> int:
    """The first pass whose verdict is about the task as it is now: a fork may have changed it."""
    with parsing(workspace.folder, layout.FORKS_FILE):
        forks = json.loads(workspace.read(layout.FORKS_FILE) or b'{"forks": []}')["forks"]
        changed = [int(fork["pass"]) for fork in forks if {"prompt", "verifiers"} & set(fork["changed"])]
    return max(changed, default=0) + 1


def _reason(workspace: Workspace, pass_number: int) -> str:
    said = verdict(workspace, pass_number)
    if said.get("decision") == "allow":  # only a fork goes on from there
        return "nothing failed: the answer was accepted as the task was then, and the run was forked to go on"
    return str(said.get("reason", "")) or "the pass ended without an answer"


def _notes(workspace: Workspace) -> list[tuple[str, str]]:
    paths = workspace.files("workspace/notes/")[:_MAX_NOTES]
    return [
        (path.removeprefix("workspace/"), (workspace.read(path) or b"").decode("utf-8", "replace"))
        for path in paths
    ]


def _list_variables(variables: list[Variable]) -> str:
    again = {"replay": " (not saved: made again by running its cells)"}
    lines = [
        f"{text.label(item.name)}: {item.type}, {item.preview or item.reason}{again.get(item.status, '')}"
        for item in variables
    ]
    return _listed(lines, _MAX_VARIABLES)


def _listed(lines: list[str], at_most: int) -> str:
    more = len(lines) - at_most
    return "\n".join(lines[:at_most] + ([f"and {more} more"] if more > 0 else []))


def _history(workspace: Workspace, pass_number: int) -> list[str]:
    numbers = range(max(1, pass_number - _MAX_HISTORY), pass_number)
    return [f"pass {number}: {text.one_line(_reason(workspace, number), 160)}" for number in numbers]
