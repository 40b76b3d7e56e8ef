"""Rebuilds converted texts for a resumed run if the cache has lost them, and checks each one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from loop_runner.errors import ConfigError
from loop_runner.inputs import fleet_answers, git_source, job_inputs, urls
from loop_runner.inputs.converting import Converter, Piece, Source
from loop_runner.inputs.inside.kinds import SNIFF
from loop_runner.inputs.on_disk import NotTextError, hash_of_original, head, is_same
from loop_runner.records import Inputs, InputText, Origin

Stored = Callable[[str], bytes | None]  # a file of the run folder, by its path there


def restore(inputs: Inputs, converter: Converter, cache: Path, stored: Stored) -> Inputs:
    """``inputs`` with every converted or fetched text restored to a readable file.

    A text whose original is gone as well keeps its path, and counts as changed. Raises ``ConfigError`` when
    an unchanged original now converts to a different text.
    """
    job_inputs.restore_each(inputs, lambda listed, read: restore(listed, converter, cache, read))
    inputs = replace(inputs, texts=tuple(_refetched(text, cache, stored) for text in inputs.texts))
    lost = _with_original([text for text in inputs.texts if _is_made(text) and not is_same(text)])
    if not lost:
        return inputs
    sources = dict(_sources(lost, converter))
    results = converter.convert(list(sources.values()))
    made: dict[tuple[Path, str], Piece] = {}
    originals: dict[Path, str] = {}
    for path, result in zip((path for path, _ in sources), results, strict=True):
        for piece in result.pieces:
            originals[path] = result.sha256
            made[path, f"{result.commit}:{piece.member}" if result.commit else piece.member] = piece
    gone = {text.name for text in lost if text.origin and not _is_another(text.origin, originals)}
    texts = tuple(_made_again(text, made, converter) if text.name in gone else text for text in inputs.texts)
    return replace(inputs, texts=texts)


def _with_original(lost: list[InputText]) -> list[InputText]:
    """Those whose original exists: no other file that ``inputs.json`` may name is converted."""
    known: dict[Path, str] = {}
    texts = []
    for text in lost:
        assert text.origin is not None
        path = text.origin.path
        if path not in known and not path.is_dir():
            known[path] = hash_of_original(path)
        if known.get(path, text.origin.sha256) == text.origin.sha256:
            texts.append(text)
    return texts


def _is_another(origin: Origin, originals: Mapping[Path, str]) -> bool:
    """Whether the file at its path is not the one that the run began with."""
    return bool(originals.get(origin.path)) and originals[origin.path] != origin.sha256


def _is_made(text: InputText) -> bool:
    origin = text.origin
    return origin is not None and origin.path != text.path and origin.kind != fleet_answers.KIND


def _refetched(text: InputText, cache: Path, stored: Stored) -> InputText:
    """A text from the web, or the page it was made from, taken from the run folder."""
    origin = text.origin
    if origin is None or not origin.url:
        return text
    path = urls.fetched_folder(cache) / origin.path.name
    if not path.is_file():
        data = stored(f"{urls.FOLDER}/{origin.path.name}")
        if data is not None:
            urls.keep(path.parent, path.name, data)
    placed = replace(origin, path=path)
    return replace(text, origin=placed, path=path if text.path == origin.path else text.path)


def _sources(lost: list[InputText], converter: Converter) -> Iterator[tuple[tuple[Path, str], Source]]:
    """Every original once: (its path, its commit) → what to convert."""
    origins = [text.origin for text in lost if text.origin is not None]
    for (path, commit), members in _by_original(origins).items():
        if commit:
            request = git_source.job(path, commit, exact=_blobs(members))
            yield (path, commit), Source(path, path.name, "git", git=request)
            continue
        try:
            kind = converter.kind_of(str(path), head(str(path), SNIFF))
        except (NotTextError, OSError):
            continue
        if kind is not None:
            yield (path, ""), Source(path, str(path), kind, is_named=True)


def _by_original(origins: list[Origin]) -> Mapping[tuple[Path, str], list[str]]:
    groups: dict[tuple[Path, str], list[str]] = {}
    for origin in origins:
        commit, path = git_source.shown_revision(origin.member)
        is_git = len(commit) in (40, 64) and bool(path) and origin.path.is_dir()
        groups.setdefault((origin.path, commit if is_git else ""), []).append(
            path if is_git else origin.member
        )
    return groups


def _blobs(members: list[str]) -> list[str]:
    """The files that contain the members: a member may be inside an archive in the repository."""
    return sorted(
        {
            "/".join(parts[:end])
            for parts in (member.split("/") for member in members)
            for end in range(1, len(parts) + 1)
        }
    )


def _made_again(text: InputText, made: Mapping[tuple[Path, str], Piece], converter: Converter) -> InputText:
    origin = text.origin
    assert origin is not None
    piece = made.get((origin.path, origin.member))
    if piece is None:
        return text
    if piece.sha256 == text.sha256:
        return replace(text, path=piece.path)
    now = converter.made_by(piece.kind)
    raise ConfigError(
        f"input {text.name!r} cannot be rebuilt: {origin.made_by} made it when the run began, and {now} "
        "makes another text of the same file",
        why="notes, variables and citations of earlier passes refer to the old text, which no cache has",
        hint=_how_to_restore(origin.made_by, now),
    )


def _how_to_restore(made_by: str, now: str) -> str:
    """How to get the old text: with another version of one library, or of loop-runner."""
    if made_by.split(" ", maxsplit=1)[0] == now.split(" ", maxsplit=1)[0]:
        return f"install {made_by.replace(' ', '==')} again, or start a new run"
    return "continue it with the release of loop-runner that began it, or start a new run"
