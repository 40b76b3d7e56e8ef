"""What a client asks, independent of the API that it speaks, and the task that it becomes.

The question is the prompt. Everything else that came with it (earlier messages, documents) becomes inputs:
files beside the task file, which the model reads with code and citations can name.
"""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import loop_runner as lr
from loop_runner.serve import catalogue
from loop_runner.serve.catalogue import Model
from loop_runner.serve.fault import Fault, bad, missing
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.store import Store

CONVERSATION = "conversation.txt"
QUESTION = "question.txt"
_LIMITS = ("passes", "turns", "tokens", "tokens_in", "tokens_out", "usd", "wall", "subcalls", "tool_calls")
_MAX_FILES = 200


@dataclass(frozen=True, slots=True)
class Attached:
    """A document of a request: its content, or the id of an upload."""

    name: str
    content: bytes | None = None
    file_id: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One request. ``earlier`` are the messages before the question, as (role, text)."""

    model: str
    text: str
    instructions: str = ""
    earlier: Sequence[tuple[str, str]] = ()
    attached: Sequence[Attached] = ()
    schema: Mapping[str, Any] | None = None
    previous: str = ""
    background: bool = False
    budget: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The question with its instructions."""
        if not self.instructions.strip():
            return self.text
        return f"{self.text.rstrip()}\n\nInstructions for the answer:\n\n{self.instructions.strip()}\n"


def files_of(
    question: Question, settings: Settings, store: Store, run_id: str, owner: str
) -> dict[str, bytes]:
    """``task.yaml`` and the inputs of a request; ``Fault`` for what cannot work."""
    if question.previous:
        if question.attached:
            raise bad("a follow-up uses the files of the run that it continues, and takes no others")
        return {"prompt.md": question.prompt.encode()}
    model = catalogue.find(settings, question.model)
    texts = _inputs(question, store, owner, has_own=bool(model.keys.get("inputs")))
    folder = store.request(run_id).absolute()
    keys = _task(question, model, folder, list(texts), run_id)
    task = yaml.safe_dump(keys, sort_keys=False, allow_unicode=True).encode()
    _check(task, store.folder)
    return {"task.yaml": task} | {f"inputs/{name}": data for name, data in texts.items()}


def _task(
    question: Question, model: Model, folder: Path, texts: Sequence[str], run_id: str
) -> dict[str, Any]:
    own = model.keys.get("inputs") or []
    settings = {} if isinstance(own, list) else {key: own[key] for key in own if key != "paths"}
    listed = [*(own if isinstance(own, list) else own.get("paths", []))]
    listed += [{"path": str(folder / "inputs" / name), "name": name} for name in texts]
    return {
        **model.keys,
        "name": run_id,
        "prompt": _prompt(model, question),
        "inputs": {"paths": listed, **settings} if settings else listed,
        "verifiers": _verifiers(model, question),
        "budget": _budget(model.keys.get("budget") or {}, question.budget),
        **({"sub_model": model.sub_model} if model.sub_model else {}),
    }


def _prompt(model: Model, question: Question) -> str:
    """The question; with a task file, its prompt comes first."""
    own = str(model.keys.get("prompt", "")).rstrip()
    return f"{own}\n\nThe question:\n\n{question.prompt}" if own else question.prompt


def _verifiers(model: Model, question: Question) -> list[Any]:
    """The gates of the task, or of `ask`, where a schema takes the place of the quotations."""
    own = list(model.keys.get("verifiers") or ())
    if question.schema is None:
        return own
    return [*([] if model.name == catalogue.ASK else own), {"schema": {"schema": dict(question.schema)}}]


def _budget(own: Mapping[str, Any], requests: Mapping[str, Any]) -> dict[str, Any]:
    """The task's limits; a client may lower them, never raise them."""
    result = dict(own)
    for key, value in requests.items():
        if key not in _LIMITS or isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise bad(f"`budget` takes positive numbers for {', '.join(_LIMITS)}", f"budget.{key}"[:60])
        known = result.get(key)
        result[key] = min(value, known) if isinstance(known, int | float) else value
    return result


def _check(task: bytes, folder: Path) -> None:
    """Refuse a task that cannot be read, before anything is kept."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".check-", suffix=".yaml") as file:
        file.write(task)
        file.flush()
        try:
            lr.Task.from_file(file.name)
        except lr.LoopRunnerError as error:
            message = f"the request makes no task: {error.message}; {error.hint}"
            raise bad(message.replace(file.name, "it"), code="invalid_task") from error


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────────


def _inputs(question: Question, store: Store, owner: str, *, has_own: bool) -> dict[str, bytes]:
    """File name to content. Without any other text, the question itself is what it is about."""
    if len(question.attached) > _MAX_FILES:
        raise bad(f"a request takes at most {_MAX_FILES} files")
    result: dict[str, bytes] = {}
    for item in question.attached:
        name, data = _content(item, store, owner)
        if not data.strip():
            raise bad(f"the file {name!r} is empty")
        result[_free(name, result)] = data
    if any(text.strip() for _, text in question.earlier):
        lines = (f"[{role}]\n{text.strip()}\n" for role, text in question.earlier if text.strip())
        result[_free(CONVERSATION, result)] = "\n".join(lines).encode()
    if not result and not has_own:
        result[QUESTION] = (question.text.rstrip() + "\n").encode()
    return result


def _content(item: Attached, store: Store, owner: str) -> tuple[str, bytes]:
    if item.content is not None:
        return item.name, item.content
    upload = store.uploaded(item.file_id, owner)
    if upload is None:
        raise missing(f"file {item.file_id[:40]!r}")
    return item.name or upload.filename, store.bytes_of(upload)


def _free(name: str, taken: Mapping[str, bytes]) -> str:
    """``name`` as the name of a file in one folder, numbered if it is taken."""
    plain = (
        re.sub(r"[^\w.,+ ()-]", "_", name.replace("\\", "/").rpartition("/")[2]).lstrip(". ")[-120:] or "file"
    )
    number, free = 2, plain
    while free.casefold() in {known.casefold() for known in taken}:
        free, number = f"{Path(plain).stem}-{number}{Path(plain).suffix}", number + 1
    return free


def decoded(data: str, name: str, where: str) -> Attached:
    """A document that came inside a request, as base64 or as a ``data:`` address."""
    kind, is_url, rest = data.partition(";base64,")
    text = rest if is_url and kind.startswith("data:") else data
    try:
        return Attached(name, base64.b64decode(re.sub(r"\s", "", text), validate=True))
    except (binascii.Error, ValueError) as error:
        raise bad(f"`{where}` is not base64", where) from error


def refuse_url(where: str) -> Fault:
    """This server fetches nothing on a client's behalf: an address could be inside its own network."""
    message = "this server fetches no addresses: upload the file to /v1/files, or send it as base64"
    return Fault(400, "url_not_supported", message, where)
