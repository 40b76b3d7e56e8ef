"""Packs the first message of a pass: the original prompt, word for word, then the state in a fixed order.

Owns the order and the shares of the character budget; ``carried`` makes the parts. Everything that models and
verifiers wrote goes into fences; nothing here is rendered as a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loop_runner import text
from loop_runner.budget import Ledger
from loop_runner.loop import carried
from loop_runner.loop.carried import first_pass_of_task, verdict
from loop_runner.session.operator import NOTE_FILE
from loop_runner.task import limits
from loop_runner.task.profiles import Profile
from loop_runner.task.prompts import BUILT_IN, Templates
from loop_runner.workspace import layout
from loop_runner.workspace.workspace import Workspace

__all__ = ["describe_changes", "first_message", "first_pass_of_task", "verdict"]

_MAX_CHANGES = 40


def first_message(
    workspace: Workspace,
    *,
    pass_number: int,
    prompt: str,
    profile: Profile,
    ledger: Ledger,
    course: Sequence[str] = (),
    lessons: Sequence[str] = (),
    templates: Templates = BUILT_IN,
    rules: str = "",
    window_tokens: int = 0,
    is_direct: bool = False,
) -> str:
    """The first user message of pass ``pass_number``; from pass 2 on it ends with the state.

    Depends on committed bytes and on ``ledger`` only, so that a pass begun again after a crash says the same.
    ``course`` is what is told about the run as a whole, in the runner's words; ``lessons`` one line for each
    pass that made things worse. ``rules`` stand behind the prompt in every pass, for those who have no
    system prompt from us. ``window_tokens``: of the model that is asked; 0 if not known.
    """
    task_text = f"{prompt}\n\n{rules}" if rules else prompt
    if pass_number == 1:
        return task_text
    notes = workspace.history.read(f"{layout.pass_folder(pass_number - 1)}/{NOTE_FILE}") or b""
    room = profile.state_chars if is_direct else profile.state_room(window_tokens)
    state = templates.render(
        f"reentry{profile.suffix}",
        pass_number=pass_number,
        course=course,
        lessons=lessons,
        is_direct=is_direct,
        is_new_task=first_pass_of_task(workspace) == pass_number,
        was_accepted=verdict(workspace, pass_number - 1).get("decision") == "allow",
        was_put_back="from_pass" in verdict(workspace, pass_number - 1).get("next", {}),
        left=limits.describe_left(ledger),
        **_course(workspace, pass_number),
        **_state(workspace, pass_number, room),
    )
    return "\n\n".join(filter(None, (task_text, state, layout.to_text(notes))))


def _course(workspace: Workspace, pass_number: int) -> dict[str, Any]:
    """How the run went: the answers of each pass, and those that failed in the same way."""
    tried = carried.tried(workspace, pass_number, first_pass_of_task(workspace))
    return {
        "history": carried.history(workspace, pass_number),
        "tried": tried if len(tried) > 1 else [],  # once is no reason to do something different
        "is_same_answer": carried.is_same_answer(workspace, pass_number, len(tried)),
    }


def _state(workspace: Workspace, pass_number: int, room: int) -> dict[str, Any]:
    """What the passes left, in about ``room`` characters; what the first parts do not use, the notes get."""
    small = room // 16
    feedback = text.cut_middle(carried.reason(workspace, pass_number - 1), room // 4 + small)
    draft = (workspace.history.read("answer.md") or b"").decode("utf-8", "replace")
    variables = workspace.history.snapshot().variables
    parts = {
        "files": carried.files(workspace, small),
        "turns": carried.turns(workspace, pass_number - 1, small),
        "variables": carried.kept(variables, 2 * small),
        "lost": carried.unsaved(variables, small),
    }
    used = len(feedback) + min(len(draft), room // 5) + sum(map(len, parts.values()))
    notes = carried.notes(workspace, max(room - used, small))
    changes = workspace.history.changes(pass_number - 1)
    return parts | {
        "files": carried.files(workspace, small, notes.whole),
        "feedback": feedback,
        "draft": draft,
        "max_draft_chars": room // 5,
        "diff": describe_changes([change for change in changes if _name(change[1]) not in notes.whole]),
        "notes": notes.shown,
        "max_note_chars": room,
        "other_notes": notes.others,
    }


def _name(path: str) -> str:
    return path.removeprefix("workspace/")


def describe_changes(changes: Sequence[tuple[str, str]]) -> str:
    """One line for each changed file, named as the model names it: from its own folder."""
    lines = [f"{kind:<7}  {text.label(_name(path))}" for kind, path in changes]
    more = len(lines) - _MAX_CHANGES
    return "\n".join(lines[:_MAX_CHANGES] + ([f"and {more} more"] if more > 0 else []))
