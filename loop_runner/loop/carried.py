"""What a new pass is shown of the passes before it: notes, files, turns, variables, history.

Owns how each part is put into a given number of characters. Reads committed bytes only, so the same commit
gives the same text. What models wrote is returned as it is: the templates put it into fences.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_runner import text
from loop_runner.errors import WorkspaceError
from loop_runner.loop import stalling
from loop_runner.records import PastTurn, Variable
from loop_runner.session.conversation import printed
from loop_runner.workspace import layout
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

MAX_HISTORY = 12  # passes that are listed one by one
_NOTES = "workspace/notes/"
_LEAST_LINE = 80  # characters of the line of a turn
_MOST_LINE = 240
_SETUP_COMMENT = re.compile(
    r"#\W*(?:imports?|set-?\s?up|constants?|config(?:uration)?|helpers?)?\W*|#!.*|# -\*-.*", re.IGNORECASE
)
_MAKES_EMPTY = re.compile(
    r"re\.compile|(?:collections\.)?(?:Counter|defaultdict|OrderedDict|deque)|dict|list|set|tuple|(?:pathlib\.)?Path"
)
_IMPORTED = ("module", "from ")  # the type, or the beginning of the preview, of what a cell imported


def verdict(workspace: Workspace, pass_number: int) -> dict[str, Any]:
    """``verdict.json`` of a committed pass; empty when there is none."""
    path = f"passes/{pass_number:04d}/verdict.json"
    with parsing(workspace.folder, path):
        data = workspace.history.read(path)
        return dict(json.loads(data)) if data else {}


def reason(workspace: Workspace, pass_number: int) -> str:
    """Why a pass was not accepted, in the words of its checks."""
    decided = verdict(workspace, pass_number)
    if decided.get("decision") == "allow":  # only a fork continues from there
        return "nothing failed: the answer was accepted under the task at that time, and the run was forked"
    return str(decided.get("reason", "")) or "the pass ended without an answer"


# ── notes and files ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Notes:
    """The notes that are shown, the newest first, as (name, text), and the names of the others."""

    shown: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)  # names of the shown ones that are not cut


def notes(workspace: Workspace, max_chars: int) -> Notes:
    """The notes that fit into ``max_chars`` whole.

    If the newest alone is too long, its middle is cut. What is not text is not shown.
    """
    result = Notes()
    for path in workspace.history.newest_first(_NOTES):
        data = workspace.history.read(path) or b""
        note, name = data.decode("utf-8", "replace"), path.removeprefix("workspace/")
        if b"\0" in data or (len(note) > max_chars and result.shown):
            result.others.append(name)
            continue
        result.shown.append((name, text.cut_middle(note, max_chars)))
        if len(note) <= max_chars:
            result.whole.add(name)
        max_chars = max(max_chars - len(note), 0)
    return result


def files(workspace: Workspace, max_chars: int, without: Collection[str] = ()) -> str:
    """Every file of the model with its size, named from its own folder; folders as sums if they are many.

    ``without``: names of those that the message holds whole.
    """
    all_sized = [
        (path.removeprefix("workspace/"), size) for path, size in workspace.history.sizes("workspace/")
    ]
    sized = [(name, size) for name, size in all_sized if name not in without]
    lines = [_file(text.label(path), size) for path, size in sized]
    if sum(len(line) + 1 for line in lines) <= max_chars:
        return "\n".join(lines)
    folders: dict[str, list[int]] = {}
    for path, size in sized:
        folders.setdefault(path.rpartition("/")[0], []).append(size)
    lines = [
        f"{text.plural(len(sizes), 'file')} in {text.label(folder or '.')}, {text.plural(sum(sizes), 'byte')}"
        for folder, sizes in folders.items()
    ]
    return fitting(lines, max_chars)


def _file(name: str, size: int) -> str:
    return f"{name}  {size:,} {'byte' if size == 1 else 'bytes'}"


def fitting(lines: Sequence[str], max_chars: int) -> str:
    """As many ``lines`` as fit; a last one counts the others."""
    room, count = max_chars, 0
    while count < len(lines) and (room := room - len(lines[count]) - 1) >= 0:
        count += 1
    more = len(lines) - count
    return "\n".join([*lines[:count], *([f"and {more:,} more"] if more else [])])


# ── turns ───────────────────────────────────────────────────────────────────────────────────────────


def turns(workspace: Workspace, pass_number: int, max_chars: int) -> str:
    """One line for each turn of a pass; the oldest are left out if they do not fit."""
    past: list[PastTurn] = []
    while (turn := workspace.history.past_turn(pass_number, len(past) + 1)) is not None:
        past.append(turn)
    if all(turn.end == "no_code" for turn in past):
        return ""  # nothing was run: a direct pass, or replies without code
    width = min(max(max_chars // len(past), _LEAST_LINE), _MOST_LINE)
    lines = [text.one_line(_turn(number, turn), width) for number, turn in enumerate(past, 1)]
    first = max(len(lines) - max_chars // width, 0)
    left_out = [f"turns 1 to {first}: see past({pass_number}, turn)"] if first else []
    return "\n".join(left_out + lines[first:])


def _turn(number: int, turn: PastTurn) -> str:
    output = printed(turn.output).strip()
    last = output.rsplit("\n", 1)[-1]
    is_silent = output == "(nothing was printed)"
    ends = {
        "ok": "printed nothing" if is_silent else f"printed {text.plural(len(output), 'character')}",
        "raised": f"raised {text.one_line(last, 100)}",
        "timed_out": "was stopped: it took too long",
        "no_code": "no code in the reply",
    }
    end = ends.get(turn.end, "ended the kernel")
    return (
        f"turn {number}: {end}" if turn.end == "no_code" else f"turn {number}: {end}; {_purpose(turn.code)}"
    )


def _purpose(code: str) -> str:
    """What says most about a cell: its first comment, else its first statement that is no preparation."""
    lines = [line.strip() for line in code.split("\n") if line.strip()]
    comments = [line for line in lines if line.startswith("#") and not _SETUP_COMMENT.fullmatch(line)]
    return next(iter(comments + _telling(code) + lines), "")


def _telling(code: str) -> list[str]:
    """The first statement of a cell that is no import, definition or assignment of constants, if any is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statements = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [
            line for line in code.split("\n") if line.strip() and not line.startswith(("import ", "from "))
        ]
    first = min(statements, key=_rank, default=None)
    return [] if first is None else [ast.get_source_segment(code, first) or ""]


def _rank(statement: ast.stmt) -> int:
    """0 for work, 1 for a definition, 2 for preparation, 3 for an import."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return 3
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return 1
    return 2 if _prepares(statement) else 0


def _prepares(statement: ast.stmt) -> bool:
    """Whether a statement only gives names to constants, empty containers or patterns."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign):
        is_named = all(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
        return is_named and _is_fixed(statement.value)
    return isinstance(statement, ast.AnnAssign) and (statement.value is None or _is_fixed(statement.value))


def _is_fixed(value: ast.expr) -> bool:
    """Whether a value is made of constants and names, by no call but that of a type or ``re.compile``."""
    calls = (node for node in ast.walk(value) if isinstance(node, ast.Call | ast.Await | ast.comprehension))
    return all(
        isinstance(node, ast.Call) and _MAKES_EMPTY.fullmatch(ast.unparse(node.func)) for node in calls
    )


# ── variables ───────────────────────────────────────────────────────────────────────────────────────


def kept(variables: Sequence[Variable], max_chars: int) -> str:
    """The variables that every later pass has, a line for each; not what was imported."""
    earlier = {"replay": " (not saved: recreated by running its cells)"}  # of runs of earlier versions
    lines = [
        f"{text.label(item.name)}: {item.type}, {item.preview or item.reason}{earlier.get(item.status, '')}"
        for item in variables
        if item.status != "lost" and not _is_imported(item)
    ]
    return fitting(lines, max_chars)


def unsaved(variables: Sequence[Variable], max_chars: int) -> str:
    """The variables that last only as long as the kernel.

    One that is lost already is not among them: that was reported when it happened.
    """
    lines = [
        f"{text.label(item.name)}: {item.type}, {item.preview} ({text.one_line(item.reason, 120)})"
        for item in variables
        if item.status == "lost" and not item.is_gone and not _is_imported(item)
    ]
    return fitting(lines, max_chars)


def _is_imported(variable: Variable) -> bool:
    kind, beginning = _IMPORTED
    return variable.type == kind or variable.preview.startswith(beginning)


# ── the course of the run ───────────────────────────────────────────────────────────────────────────


def history(workspace: Workspace, pass_number: int) -> list[str]:
    """A line for each earlier pass: the answer that it gave, and why that was rejected."""
    numbers = range(max(1, pass_number - MAX_HISTORY), pass_number)
    return [
        f"pass {number}: {_answered(answer(workspace, number))}"
        f" {text.one_line(stalling.headlines(reason(workspace, number)), 160)}"
        for number in numbers
    ]


def answer(workspace: Workspace, pass_number: int) -> str | None:
    """The answer that a finished pass ended with; None if a repair has cut the history there."""
    try:
        return workspace.handed_in(pass_number).content.strip()
    except WorkspaceError:
        return None


def _answered(content: str | None) -> str:
    if content is None:
        return "its answer is no longer in the history."
    return f"answered {text.one_line(content, 120)!r}." if content else "gave no answer."


def tried(workspace: Workspace, pass_number: int, first_pass: int) -> list[str]:
    """The answers of the last passes that failed in the same way, a line for each, the oldest first."""
    failed: list[str] = []
    expected = None
    for number in range(pass_number - 1, max(first_pass, pass_number - MAX_HISTORY) - 1, -1):
        content = answer(workspace, number)
        problem = stalling.problem(verdict(workspace, number), content or "")
        if problem is None or problem != (expected := expected or problem):
            break
        failed.append(f"pass {number}: {_answered(content)}")
    return failed[::-1]


def is_same_answer(workspace: Workspace, pass_number: int, passes: int) -> bool:
    """Whether the last ``passes`` passes gave one and the same answer."""
    return len({answer(workspace, pass_number - back) for back in range(1, passes + 1)}) == 1


def first_pass_of_task(workspace: Workspace) -> int:
    """The first pass whose verdict is about the current task: a fork may have changed it."""
    with parsing(workspace.folder, layout.FORKS_FILE):
        forks: Mapping[str, Any] = json.loads(workspace.history.read(layout.FORKS_FILE) or b'{"forks": []}')
        changed = [
            int(fork["pass"]) for fork in forks["forks"] if {"prompt", "verifiers"} & set(fork["changed"])
        ]
    return max(changed, default=0) + 1
