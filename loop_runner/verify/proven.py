"""Reports what has changed in a run folder since the proof: in its commits, and in the files beside them.

``proof.json`` names the tree that was verified. The commit that ends the pass adds the verdict to it and
nothing else; whatever differs from that commit now was not verified, and is named by its path. Runs no
verifier, takes no lock and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loop_runner.task import config, limits
from loop_runner.verify import Programs, proof
from loop_runner.workspace import differences, layout
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.differences import Stored
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_WORDS = {
    differences.CHANGED: "is not what was proven",
    differences.ADDED: "was added after the proof",
    differences.MISSING: "is missing",
}
_HASHES = (
    ("answer_sha256", "answer.md"),
    ("task_sha256", "task.yaml"),
    ("prompt_sha256", "prompt.md"),
    ("inputs_sha256", "inputs.json"),
)


def newest_pass(history: History, at: str) -> Entry | None:
    """The end of the newest pass in the commit ``at``."""
    entries = history.commits(first_parent=True, at=at)
    return next((entry for entry in entries if entry.is_pass), None)


def proof_of(history: History, entry: Entry) -> Mapping[str, Any] | None:
    """The proof that the accepted pass ``entry`` committed; None when it has none."""
    if entry.checkpoint.outcome != "accepted":
        return None
    data = history.read(proof.PATH, entry.checkpoint.commit)
    if data is None:
        return None
    with parsing(history.folder, proof.PATH):
        record = dict(json.loads(data))
    return record if record.get("pass") == entry.checkpoint.pass_number else None


def faults(history: History, entry: Entry, at: str, *, has_files: bool) -> tuple[str, ...]:
    """The differences from the proof of ``entry``, a line per path.

    ``at`` is the commit to look at; ``has_files``: check the files in the run folder, too.
    """
    record = proof_of(history, entry)
    if record is None:
        return ("proof.json is missing: the pass marked as accepted did not commit it",)
    proven = differences.stored(history, entry.checkpoint.commit)
    changed = differences.between(proven, differences.stored(history, at))
    lines = [*_at_the_pass(history, entry, record, proven)]
    lines += [f"{path} {_WORDS[kind]}" for path, kind in changed.items()]
    if has_files:
        lines += [
            f"{path} in the folder {_WORDS[kind]}"
            for path, kind in _in_folder(history, entry, proven).items()
            if path not in changed
        ]
    return tuple(dict.fromkeys(lines))


def state_faults(history: History) -> tuple[str, ...]:
    """The same for a run whose head is an accepted pass; none for any other run."""
    entry = newest_pass(history, "HEAD")
    if entry is None or history.head().outcome != "accepted":
        return ()
    return faults(history, entry, "HEAD", has_files=history.running() is None)


def _in_folder(history: History, entry: Entry, proven: Mapping[bytes, Stored]) -> dict[str, str]:
    commit = entry.checkpoint.commit
    changes = differences.in_folder(history.folder, proven)
    if differences.ADDED not in changes.values():
        return changes
    left_out = {path for path, _ in history.unstored(commit)}
    skipped = _skipped(history, commit)
    return {
        path: kind
        for path, kind in changes.items()
        if not (kind == differences.ADDED and (_is_below(path, left_out) or _is_skipped(path, skipped)))
    }


def _skipped(history: History, commit: str) -> frozenset[str]:
    """Names of files and folders in an agent's folder that are never committed, such as its ``.git``."""
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml", commit) or b"").decode()
    task = config.parse_task(source, label="task.yaml", base_dir=history.folder)
    return frozenset((".git", *task.agent.skip)) if task.is_agent else frozenset()


def _is_skipped(path: str, names: frozenset[str]) -> bool:
    """``path`` lies in the agent's folder, and it or a folder above it has one of ``names``."""
    top, *below = path.split("/")
    return top == layout.MODEL_FOLDER and not names.isdisjoint(below)


def _is_below(path: str, names: set[str]) -> bool:
    """``path`` or a folder that it lies in is one of ``names``."""
    return bool(names) and any(path[:end] in names for end in _ends(path))


def _ends(path: str) -> Iterator[int]:
    yield from (index for index, letter in enumerate(path) if letter == "/")
    yield len(path)


def _at_the_pass(
    history: History, entry: Entry, record: Mapping[str, Any], proven: Mapping[bytes, Stored]
) -> Iterator[str]:
    """What the commit of the pass holds besides the verified tree and its verdict."""
    commit = entry.checkpoint.commit
    for key, path in _HASHES:
        if proof.sha256(history.read(path, commit) or b"") != record.get(key):
            yield f"{path} is not what was proven"
    verified = history.commit(entry.parents[-1])
    if verified.tree != record.get("tree"):
        yield "the commit before the verdict is not the one that was proven"
    own = f"{layout.pass_folder(entry.checkpoint.pass_number)}/"
    for path, kind in differences.between(differences.stored(history, verified.oid), proven).items():
        is_verdict = path in (proof.PATH, limits.PATH) or (path.startswith(own) and kind == differences.ADDED)
        if not is_verdict and not path.startswith("gates/"):  # pins are compared by their hashes
            yield f"{path} {_WORDS[kind]}"
    yield from _other_programs(history, commit, record)


def _other_programs(history: History, commit: str, record: Mapping[str, Any]) -> Iterator[str]:
    with parsing(history.folder, "gates/pins.json"):
        pinned = Programs.from_files(lambda path: history.read(path, commit), is_frozen=True)
    hashes = {program.place.removeprefix("task/"): program.sha256 for program in pinned.files.values()}
    with parsing(history.folder, proof.PATH):
        for gate in record.get("gates", ()):
            for name, sha256 in gate.get("record", {}).get("programs", {}).items():
                if hashes.get(name) != sha256:
                    yield f"the program {name} of {gate['verifier']} is not the one that was proven"
