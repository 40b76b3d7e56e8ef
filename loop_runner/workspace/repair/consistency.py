"""Whether the committed content agrees with itself: files with files, commits with commits.

Owns the rules of ``docs/run-folder.md``, as checks. Pure: it is given paths, bytes and
commits, and gives sentences. Blobs of variables are hashed, never unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from loop_runner.workspace import layout
from loop_runner.workspace.commits import Commit

Read = Callable[[str], bytes]
_TURN_FILES = ("reply.md", "output.txt", "calls.jsonl", "turn.json")
_TURN = re.compile(r"passes/([0-9]{4,})/turns/([0-9]{4,})/(.+)")
_PASS = re.compile(r"passes/([0-9]{4,})/")
_BAD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def problems_of_files(paths: Iterable[str], read: Read) -> Iterator[str]:
    """The problems in the runner's files of one commit; ``read`` returns the bytes at a path."""
    there = sorted(path for path in paths if not path.startswith(layout.MODEL_FOLDER + "/"))
    names = frozenset(there)
    if layout.FORMAT_FILE not in names:
        yield f"{layout.FORMAT_FILE} is missing"
    elif layout.format_of(read(layout.FORMAT_FILE)) != layout.FORMAT:
        yield f"{layout.FORMAT_FILE} does not say format {layout.FORMAT}"
    yield from _unparsed(there, read)
    yield from _answer(names, read)
    yield from _turns(there, read)
    yield from _variables(names, read)


def problems_of_story(commits: Sequence[Commit]) -> Iterator[str]:
    """The problems in the chain of turns and merges; ``commits`` are all of it, the newest first."""
    by_id = {commit.oid: commit for commit in commits}
    for commit in commits:
        trailers = commit.trailers
        if not trailers.runner or not trailers.pass_number or any(oid not in by_id for oid in commit.parents):
            continue  # a person's own, the first one, or cut off where older history was lost
        before = [_place(by_id, parent) for parent in commit.parents]
        if problem := _misplaced(trailers, before):
            yield f"{commit.oid[:10]} ({_subject(commit)}) {problem}"


def problem_of_number(commits: Sequence[Commit], paths: Iterable[str]) -> str:
    """Why ``paths``, of the newest of ``commits``, belong to another pass; "" when they do not."""
    newest = _place({commit.oid: commit for commit in commits}, commits[0].oid)[0]
    number = max((int(match[1]) for path in paths if (match := _PASS.match(path))), default=newest)
    if number == newest:
        return ""
    return f"the last commit is of pass {newest}, and the files of pass {number} are there"


def _misplaced(trailers: layout.Trailers, before: list[tuple[int, int, bool]]) -> str:
    """Why a commit with these trailers cannot follow commits at these places; "" when it can."""
    number, turn = trailers.pass_number, trailers.turn
    places = [(at, last) for at, last, _ in before]
    if turn > 1:
        return "" if places == [(number, turn - 1)] else f"does not follow turn {turn - 1} of its pass"
    if turn == 1:
        return "" if places == [(number - 1, 0)] else f"does not follow pass {number - 1}"
    if len(places) == 2:
        at, last = places[1]
        if at != number or not last:
            return "does not merge a turn of its pass"
        return "" if places[0] == (number - 1, 0) else f"does not follow pass {number - 1}"
    # One parent: a pass without turns, or one whose beginning was lost and cut off by a repair.
    is_next = places in ([(number - 1, 0)], [(number, 0)]) or places[0][0] == number
    return "" if is_next else f"does not follow pass {number - 1}"


def _place(by_id: Mapping[str, Commit], oid: str) -> tuple[int, int, bool]:
    """(pass, turn, ours) of a commit; a person's own counts as the one below it. Turn 0: the pass ended."""
    commit = by_id.get(oid)
    while commit is not None:
        trailers = commit.trailers
        if trailers.runner and (trailers.pass_number or not commit.parents):
            return trailers.pass_number, trailers.turn, True
        commit = by_id.get(commit.parents[0]) if commit.parents else None
    return 0, 0, False


def _subject(commit: Commit) -> str:
    return commit.message.partition("\n")[0]


# ── files ───────────────────────────────────────────────────────────────────────────────────────────


def _unparsed(paths: Iterable[str], read: Read) -> Iterator[str]:
    for path in paths:
        name = PurePosixPath(path).name
        is_own = path.startswith("passes/") or "/" not in path
        try:
            if is_own and name.endswith(".json"):
                json.loads(read(path))
            elif is_own and name == "calls.jsonl":
                layout.calls_from_jsonl(read(path))
        except _BAD as error:
            yield f"{path} does not hold what it should ({error})"


def _answer(names: frozenset[str], read: Read) -> Iterator[str]:
    if not {"answer.md", "answer.json"} <= names:
        yield "answer.md or answer.json is missing"
        return
    try:
        recorded = json.loads(read("answer.json"))["sha256"]
    except _BAD:
        yield "answer.json does not say what it is about"
        return
    if recorded != hashlib.sha256(read("answer.md")).hexdigest():
        yield "answer.md does not have the hash that answer.json says"


def _turns(paths: Iterable[str], read: Read) -> Iterator[str]:
    turns: dict[int, dict[int, set[str]]] = {}
    for path in paths:
        if match := _TURN.fullmatch(path):
            turns.setdefault(int(match[1]), {}).setdefault(int(match[2]), set()).add(match[3])
    for number, of_pass in sorted(turns.items()):
        if sorted(of_pass) != list(range(1, len(of_pass) + 1)):
            yield f"pass {number} has turns {sorted(of_pass)}, which are not one after another"
        for turn, files in sorted(of_pass.items()):
            folder = layout.turn_folder(number, turn)
            yield from (f"{folder}/{name} is missing" for name in _TURN_FILES if name not in files)
            if set(_TURN_FILES) <= files:
                yield from _calls(folder, read)


def _calls(folder: str, read: Read) -> Iterator[str]:
    try:
        recorded = json.loads(read(f"{folder}/turn.json"))["requests"]
        there = len(layout.calls_from_jsonl(read(f"{folder}/calls.jsonl")))
    except _BAD:
        return  # reported already
    if recorded != there:
        yield f"{folder}/turn.json says {recorded} requests, and calls.jsonl holds {there}"


def _variables(names: frozenset[str], read: Read) -> Iterator[str]:
    if layout.MANIFEST not in names:
        return
    try:
        listed = layout.variables_from(read(layout.MANIFEST))
    except _BAD as error:
        yield f"{layout.MANIFEST} does not hold what it should ({error})"
        return
    for blob in sorted({variable.blob for variable in listed if variable.blob}):
        whole, chunked = layout.blob_path(blob), layout.chunk_list_path(blob)
        parts = [whole]
        if whole not in names and chunked in names:
            parts = list(map(layout.chunk_path, layout.chunks_from(read(chunked))))
        missing = [part for part in parts if part not in names]
        if missing or not parts:
            yield f"{(missing or [chunked])[0]} is missing, and the manifest names it"
            continue
        digest = hashlib.sha256()
        for part in parts:
            digest.update(read(part))
        if digest.hexdigest() != blob:
            yield f"variables/blobs/{blob} does not have the hash that names it"
