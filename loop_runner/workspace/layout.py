"""Which bytes are at which path of the run folder, and back: pure functions, no disk and no git.

Owns format version 1 (``docs/run-folder.md``). Nothing here depends on a clock or on the
order in which concurrent calls ended, so two runs that did the same have the same tree.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

from loop_runner import __version__
from loop_runner.records import (
    SUBCALL_KINDS,
    Answer,
    Call,
    CellEnd,
    ChildRecord,
    ChildTurn,
    PassOutcome,
    Reply,
    Snapshot,
    TurnRecord,
    Usage,
    Variable,
)
from loop_runner.workspace import called_tools, chunking

FORMAT = 1
FORMAT_FILE = "loop-runner.json"
MODEL_FOLDER = "workspace"
NOTES_FOLDER = "workspace/notes"
RUNNER_FOLDERS = ("passes", "variables")
MANIFEST = "variables/manifest.json"
WALK_FILE = "workspace.json"
FORKS_FILE = "forks.json"
MAX_WHOLE_BLOB_BYTES = 1024 * 1024  # a larger blob is cut into chunks
_BLOB_NAME = re.compile(r"[0-9a-f]{64}")

_ENDS = {"ok": "ran", "raised": "raised", "timed_out": "timed out", "died": "died", "no_code": "no code"}


Stored = Mapping[str, frozenset[str]]
"""SHA-256 of each stored blob → the paths of the files that hold it."""


@dataclass(frozen=True, slots=True)
class TurnText:
    """What one committed turn adds to the conversation."""

    reply: str
    output: str
    note: str = ""  # what the operator added to the message before it


# ── text and JSON ───────────────────────────────────────────────────────────────────────────────────


def to_bytes(text: str) -> bytes:
    """``text`` as UTF-8; a lone surrogate, which some providers send, survives the round trip."""
    return text.encode("utf-8", "surrogatepass")


def to_text(data: bytes) -> str:
    """The inverse of ``to_bytes``; bytes that are not UTF-8 read as U+FFFD."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def to_json(data: Any, *, indent: int | None = 1) -> bytes:
    """``data`` as one JSON document: sorted keys, valid UTF-8 whatever is in it, a newline at the end."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(data, sort_keys=True, indent=indent, ensure_ascii=False, separators=separators)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(data, sort_keys=True, indent=indent, separators=separators).encode() + b"\n"


# ── paths ───────────────────────────────────────────────────────────────────────────────────────────


def pass_folder(number: int) -> str:
    """The folder of a pass's files."""
    return f"passes/{number:04d}"


def turn_folder(pass_number: int, turn: int) -> str:
    """The folder of a turn's files."""
    return f"{pass_folder(pass_number)}/turns/{turn:04d}"


def blob_path(name: str) -> str:
    """The path of the blob with the SHA-256 ``name``."""
    return f"variables/blobs/{name}"


def chunk_list_path(name: str) -> str:
    """The path of the list of chunks of the blob with the SHA-256 ``name``, if it was cut."""
    return f"variables/blobs/{name}.json"


def chunk_path(name: str) -> str:
    """The path of the chunk with the SHA-256 ``name``; in 256 folders, so that few change at a time."""
    return f"variables/chunks/{name[:2]}/{name}"


# ── a new run ───────────────────────────────────────────────────────────────────────────────────────


def creation_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The first commit's files."""
    return {**files, FORMAT_FILE: to_json({"format": FORMAT}), **answer_files(Answer(), 0, 0)}


def format_of(data: bytes) -> int | None:
    """The format version in ``loop-runner.json``; None when it has none."""
    try:
        version = json.loads(data)["format"]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    return version if isinstance(version, int) else None


# ── a turn ──────────────────────────────────────────────────────────────────────────────────────────


def turn_files(turn: TurnRecord, calls: Iterable[Call]) -> dict[str, bytes]:
    """A turn's own files and the answer; variables come from ``snapshot_files``."""
    calls = in_order(calls)
    folder = turn_folder(turn.pass_number, turn.number)
    files = {
        f"{folder}/reply.md": to_bytes(turn.reply),
        f"{folder}/output.txt": to_bytes(turn.output),
        f"{folder}/calls.jsonl": calls_to_jsonl(calls),
        f"{folder}/turn.json": to_json(
            {
                "end": turn.end,
                "ready": turn.answer.is_ready,
                "requests": sum(call.kind != "tool" for call in calls),
                "subcalls": sum(call.kind in SUBCALL_KINDS for call in calls),
                **called_tools.counts(calls),
                "usage": asdict(sum((call.reply.usage for call in calls), Usage())),
            }
        ),
        **answer_files(turn.answer, turn.pass_number, turn.number),
    }
    if turn.code is not None:
        files[f"{folder}/cell.py"] = to_bytes(turn.code)
    return files | children_files(folder, turn.children)


def children_files(folder: str, children: Iterable[ChildRecord]) -> dict[str, bytes]:
    """The transcripts of child sessions of the turn in ``folder``, numbered by their questions."""
    files: dict[str, bytes] = {}
    for number, child in enumerate(sorted(children, key=lambda record: record.scope), 1):
        place = f"{folder}/children/{number:04d}"
        about = {
            "question": child.question,
            "texts": [{"name": name, "bytes": size, "sha256": sha} for name, size, sha in child.texts],
            "model": child.model,
            "scope": child.scope,
            "turns": len(child.turns),
            "end": child.end,
            "reason": child.reason,
        }
        files[f"{place}/child.json"] = to_json(about)
        files[f"{place}/answer.md"] = to_bytes(child.answer.content)
        for index, turn in enumerate(child.turns, 1):
            files |= _child_turn_files(f"{place}/turns/{index:04d}", turn)
    return files


def child_from(about: bytes, answer: bytes) -> ChildRecord:
    """A child session from ``child.json`` and ``answer.md``: without its turns."""
    body = json.loads(about)
    return ChildRecord(
        scope=str(body["scope"]),
        question=str(body["question"]),
        texts=tuple((str(text["name"]), int(text["bytes"]), str(text["sha256"])) for text in body["texts"]),
        model=str(body["model"]),
        turns=(),
        answer=Answer(answer.decode("utf-8", "replace"), is_ready=body["end"] == "ready"),
        end=body["end"],
        reason=str(body["reason"]),
    )


def _child_turn_files(folder: str, turn: ChildTurn) -> dict[str, bytes]:
    files = {
        f"{folder}/reply.md": to_bytes(turn.reply),
        f"{folder}/output.txt": to_bytes(turn.output),
        f"{folder}/turn.json": to_json({"end": turn.end}),
    }
    if turn.code is not None:
        files[f"{folder}/cell.py"] = to_bytes(turn.code)
    return files | children_files(folder, turn.children)


def end_from(about: bytes | None) -> CellEnd:
    """The end of a turn's cell, from ``turn.json``."""
    end = json.loads(about)["end"] if about else "died"
    return cast("CellEnd", end) if end in {"ok", "raised", "timed_out"} else "died"


def in_order(calls: Iterable[Call]) -> list[Call]:
    """Root calls in order, then the others by key: concurrent calls end in any order."""
    unique = list({(call.fingerprint, call.occurrence): call for call in calls}.values())
    others = sorted(
        (call for call in unique if call.kind != "root"), key=lambda call: (call.fingerprint, call.occurrence)
    )
    return [call for call in unique if call.kind == "root"] + others


def calls_to_jsonl(calls: Iterable[Call]) -> bytes:
    """One call per line."""
    return b"".join(to_json(call_to_json(call), indent=None) for call in calls)


def calls_from_jsonl(data: bytes) -> list[Call]:
    """The calls of a ``calls.jsonl``."""
    return [call_from_json(json.loads(line)) for line in data.split(b"\n") if line]


def call_to_json(call: Call) -> dict[str, Any]:
    """A call as plain data. By hand: ``asdict`` copies deeply, and there can be thousands per second."""
    reply, usage = call.reply, call.reply.usage
    optional: dict[str, Any] = {} if call.usd is None else {"usd": call.usd}
    if call.tries > 1:
        optional["tries"] = call.tries
    return optional | {
        "kind": call.kind,
        "model": call.model,
        "fingerprint": call.fingerprint,
        "occurrence": call.occurrence,
        "prompt": call.prompt,
        "reply": {
            "text": reply.text,
            "stop_reason": reply.stop_reason,
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cache_read_tokens": usage.cache_read_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
            },
            "model": reply.model,
        },
    }


def call_from_json(data: Mapping[str, Any]) -> Call:
    """The inverse of ``call_to_json``."""
    reply = dict(data["reply"])
    return Call(**{**data, "reply": Reply(**{**reply, "usage": Usage(**reply["usage"]).sane()})})


def answer_files(answer: Answer, pass_number: int, turn: int) -> dict[str, bytes]:
    """``answer.md`` and ``answer.json``."""
    content = to_bytes(answer.content)
    about = {
        "ready": answer.is_ready,
        "sha256": hashlib.sha256(content).hexdigest(),
        "extra": dict(answer.extra),
        "pass": pass_number,
        "turn": turn,
    }
    return {"answer.md": content, "answer.json": to_json(about)}


def answer_from(content: bytes | None, about: bytes | None) -> Answer:
    """The inverse of ``answer_files``."""
    data = json.loads(about) if about else {}
    return Answer(to_text(content or b""), bool(data.get("ready", False)), dict(data.get("extra", {})))


# ── variables ───────────────────────────────────────────────────────────────────────────────────────


def snapshot_files(snapshot: Snapshot, stored: Stored) -> tuple[dict[str, bytes], Stored]:
    """The manifest and the files to add for it; and what is stored then.

    ``stored``: what the parent commit has. The kernel's blobs are checked: one whose bytes do not match its
    SHA-256 is not kept, and its variables are marked lost.
    """
    files: dict[str, bytes] = {}
    now: dict[str, frozenset[str]] = {}
    variables = []
    for variable in sorted(snapshot.variables, key=lambda item: item.name):
        blob = variable.blob
        if blob and blob not in now:
            data = snapshot.blobs.get(blob)
            if problem := _problem(blob, data, is_stored=blob in stored):
                variables.append(replace(variable, status="lost", reason=problem, blob=""))
                continue
            known = stored.get(blob)
            if known is None:
                added = _blob_files(blob, data or b"")
                now[blob] = frozenset(added)
                files |= added
            else:
                now[blob] = known
        variables.append(variable)
    before = paths_of(stored)
    files = {path: data for path, data in files.items() if path not in before}
    files[MANIFEST] = to_json(
        {
            "written_by": {"loop_runner": __version__, "python": snapshot.python},
            "variables": [asdict(variable) for variable in variables],
        }
    )
    return files, now


def paths_of(stored: Stored) -> frozenset[str]:
    """The files that hold the blobs."""
    return frozenset().union(*stored.values())


def _blob_files(name: str, data: bytes) -> dict[str, bytes]:
    """The files that hold a blob: itself, or its chunks and the list of them."""
    if len(data) <= MAX_WHOLE_BLOB_BYTES:
        return {blob_path(name): data}
    files = {}
    listed = []
    for piece in chunking.cut(data):
        chunk = hashlib.sha256(piece).hexdigest()
        files[chunk_path(chunk)] = bytes(piece)
        listed.append(chunk)
    files[chunk_list_path(name)] = to_json({"chunks": listed})
    return files


def chunks_from(chunk_list: bytes) -> list[str]:
    """The SHA-256 of each chunk of a blob, in order; empty when this is not a list of chunks."""
    try:
        listed = json.loads(chunk_list)["chunks"]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return []
    if type(listed) is not list:
        return []
    return listed if all(type(name) is str and _BLOB_NAME.fullmatch(name) for name in listed) else []


def stored_from(paths: Iterable[str], read: Callable[[str], bytes | None]) -> Stored:
    """A commit's stored blobs, from its ``paths`` below ``variables/`` and its lists of chunks."""
    stored = {}
    for path in paths:
        name, _, ending = path.removeprefix(blob_path("")).partition(".")
        if not path.startswith(blob_path("")) or not _BLOB_NAME.fullmatch(name):
            continue
        chunks = chunks_from(read(path) or b"") if ending else []
        if not ending or chunks:
            stored[name] = frozenset((path, *map(chunk_path, chunks)))
    return stored


def _problem(name: str, data: bytes | None, *, is_stored: bool) -> str:
    if not _BLOB_NAME.fullmatch(name):
        return "its blob's name is no SHA-256"
    if is_stored:
        return ""
    if data is None:
        return "its blob was not handed over"
    return "" if hashlib.sha256(data).hexdigest() == name else "its blob does not have the hash that names it"


def variables_from(manifest: bytes | None) -> tuple[Variable, ...]:
    """The variables that a manifest lists."""
    if not manifest:
        return ()
    known = {field_.name for field_ in fields(Variable)}  # a later version may write more
    rows = json.loads(manifest)["variables"]
    return tuple(Variable(**{key: value for key, value in row.items() if key in known}) for row in rows)


def versions_from(manifest: bytes | None) -> dict[str, str]:
    """The versions ("loop_runner", "python") that wrote a manifest; empty if it does not record them."""
    written_by = json.loads(manifest).get("written_by", {}) if manifest else {}
    if not isinstance(written_by, dict):
        return {}
    return {str(name): str(version) for name, version in written_by.items()}


# ── what was not stored ─────────────────────────────────────────────────────────────────────────────


def walk_report(unstored: Iterable[tuple[str, str]], empty_folders: Iterable[str]) -> bytes | None:
    """``workspace.json``: facts about ``workspace/`` that git cannot store; None when there are none."""
    empty = sorted(set(empty_folders) - {NOTES_FOLDER})  # the notes folder always exists
    report = {"unstored": [list(pair) for pair in unstored], "empty_folders": empty}
    return to_json(report) if any(report.values()) else None


def walk_report_from(data: bytes | None) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The unstored paths with their reasons, and the empty folders."""
    report = json.loads(data) if data else {}
    unstored = tuple((str(path), str(reason)) for path, reason in report.get("unstored", ()))
    return unstored, tuple(map(str, report.get("empty_folders", ())))


# ── commit messages ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Trailers:
    """The trailers of a runner's commit message."""

    pass_number: int = 0
    turn: int = 0
    outcome: PassOutcome | None = None
    seconds: float = 0.0
    runner: str = ""  # the version that made the commit; empty: not a runner's turn or pass
    started: str = ""  # when the process that made it opened the run; the same over all of its commits
    folder: str = ""  # the path of the run folder then, as JSON: a path may hold a line break
    overrides: str = ""  # settings given to that process only, as JSON: dotted key to value
    forked_from: str = ""  # on a fork: its point in the other run, as "COMMIT pass 3 turn 7"
    unanswered: int = 0  # requests that were sent since the last commit and whose reply never came
    dropped: str = ""  # on a rewind: the spend that this history does not hold; see ``dropped``


def turn_subject(turn: TurnRecord) -> str:
    """``pass 3 turn 7: ran, ready``."""
    ready = ", ready" if turn.answer.is_ready else ""
    return f"pass {turn.pass_number} turn {turn.number}: {_ENDS[turn.end]}{ready}"


def message(subject: str, trailers: Trailers) -> str:
    """A commit message; a subject from outside is made one printable line."""
    lines = []
    if trailers.pass_number:
        lines.append(f"Loop-Pass: {trailers.pass_number}")
    if trailers.turn:
        lines.append(f"Loop-Turn: {trailers.turn}")
    if trailers.outcome:
        lines.append(f"Loop-Outcome: {trailers.outcome}")
    if trailers.pass_number:
        lines.append(f"Loop-Seconds: {trailers.seconds:.3f}")
    if trailers.unanswered:
        lines.append(f"Loop-Unanswered: {trailers.unanswered}")
    if trailers.dropped:
        lines.append(f"Loop-Dropped-Spend: {trailers.dropped}")
    if trailers.forked_from:
        lines.append(f"Loop-Forked-From: {trailers.forked_from}")
    if trailers.started:
        lines.append(f"Loop-Started: {trailers.started}")
    if trailers.folder:
        lines.append(f"Loop-Folder: {trailers.folder}")
    if trailers.overrides:
        lines.append(f"Loop-Set: {trailers.overrides}")
    if trailers.runner:
        lines.append(f"Loop-Runner: {trailers.runner}")
    printable = "".join(char if char.isprintable() else " " for char in subject)
    return " ".join(printable.split()) + "\n\n" + "\n".join(lines) + "\n"


def trailers_from(text: str) -> Trailers:
    """The inverse of ``message``, as far as the text allows; never fails on a person's own commit."""
    last = text.rstrip().rpartition("\n\n")[2]
    values = dict(re.findall(r"^Loop-([A-Za-z-]+): (.*)$", last, re.MULTILINE))
    outcome = values.get("Outcome")
    return Trailers(
        pass_number=_number(values.get("Pass")),
        turn=_number(values.get("Turn")),
        outcome=cast("PassOutcome", outcome)
        if outcome in {"accepted", "rejected", "broken", "stopped"}
        else None,
        seconds=_seconds(values.get("Seconds")),
        runner=values.get("Runner", ""),
        started=values.get("Started", ""),
        folder=values.get("Folder", ""),
        overrides=values.get("Set", ""),
        forked_from=values.get("Forked-From", ""),
        unanswered=_number(values.get("Unanswered")),
        dropped=values.get("Dropped-Spend", ""),
    )


def _number(text: str | None) -> int:
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else 0


def _seconds(text: str | None) -> float:
    return float(text) if text and re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0.0
