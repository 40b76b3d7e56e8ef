"""``inputs.json``: the texts that a run works on, with their paths and origins."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_runner.errors import WorkspaceError
from loop_runner.records import Inputs, InputText, Origin

_FORMAT = 1


def to_json(inputs: Inputs, base_dir: Path | None = None) -> str:
    """``inputs.json``: absolute paths, and with ``base_dir`` also relative ones, for a clone elsewhere."""
    body: dict[str, Any] = {
        "format": _FORMAT,
        "is_single": inputs.is_single,
        "texts": [_text_to_dict(text, base_dir) for text in inputs.texts],
        "skipped": [list(item) for item in inputs.skipped],
    }
    if inputs.images:
        body["images"] = [_text_to_dict(image, base_dir) for image in inputs.images]
    return json.dumps(body, indent=1) + "\n"


def from_json(text: str, base_dir: Path | None = None) -> Inputs:
    """The inverse of ``to_json``. If the absolute path is gone, the one relative to ``base_dir`` is used.

    Reads no input: ``changed`` checks whether they are still the same. ``WorkspaceError`` for a damaged file.
    """
    try:
        body = json.loads(text)
        if body["format"] != _FORMAT:
            raise WorkspaceError(
                f"inputs.json has format {body['format']!r}, this program reads {_FORMAT}",
                why="a newer loop-runner wrote it",
                hint="upgrade loop-runner",
            )
        texts = tuple(_text_from_dict(item, base_dir) for item in body["texts"])
        skipped = tuple((str(path), str(reason)) for path, reason in body["skipped"])
        images = tuple(_text_from_dict(item, base_dir) for item in body.get("images", ()))
        return Inputs(texts, skipped, bool(body["is_single"]), images)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WorkspaceError(
            f"inputs.json cannot be read ({type(error).__name__}: {str(error)[:200]})",
            why="the run cannot tell whether its inputs are still the same",
            hint="`loop-runner fsck RUN` says what is damaged",
            exit_code=4,
        ) from error


def _text_to_dict(text: InputText, base_dir: Path | None) -> dict[str, Any]:
    item: dict[str, Any] = {"name": text.name, **_path_to_dict(text.path, base_dir)}
    item |= {"size_bytes": text.size_bytes, "sha256": text.sha256, "replaced_bytes": text.replaced_bytes}
    if text.about:
        item["about"] = text.about
    if text.origin is not None:
        item["origin"] = _origin_to_dict(text.origin, base_dir)
    return item


def _origin_to_dict(origin: Origin, base_dir: Path | None) -> dict[str, Any]:
    item: dict[str, Any] = {
        **_path_to_dict(origin.path, base_dir),
        "sha256": origin.sha256,
        "kind": origin.kind,
    }
    texts = {"member": origin.member, "made_by": origin.made_by, "url": origin.url}
    item |= {key: value for key, value in texts.items() if value}
    if origin.places:
        item["places"] = [list(place) for place in origin.places]
    if origin.headings:
        item["headings"] = [list(heading) for heading in origin.headings]
    return item


def _text_from_dict(item: Mapping[str, Any], base_dir: Path | None) -> InputText:
    origin = item.get("origin")
    return InputText(
        str(item["name"]),
        _path_from_dict(item, base_dir),
        int(item["size_bytes"]),
        str(item["sha256"]),
        int(item["replaced_bytes"]),
        None if origin is None else _origin_from_dict(origin, base_dir),
        str(item.get("about", "")),
    )


def _origin_from_dict(item: Mapping[str, Any], base_dir: Path | None) -> Origin:
    return Origin(
        _path_from_dict(item, base_dir),
        str(item["sha256"]),
        str(item["kind"]),
        str(item.get("member", "")),
        tuple((int(line), str(label)) for line, label in item.get("places", ())),
        str(item.get("made_by", "")),
        str(item.get("url", "")),
        tuple((int(line), int(level), str(title)) for line, level, title in item.get("headings", ())),
    )


def _path_to_dict(path: Path, base_dir: Path | None) -> dict[str, str]:
    item = {"path": str(path)}
    if base_dir is not None:
        item["relative"] = os.path.relpath(path, base_dir.resolve())
    return item


def _path_from_dict(item: Mapping[str, Any], base_dir: Path | None) -> Path:
    path = Path(item["path"])
    relative = item.get("relative")
    if base_dir is not None and relative is not None and not path.exists():
        moved = Path(os.path.normpath(base_dir.resolve() / relative))
        path = moved if moved.exists() else path
    return path
