"""Every noun of loop-runner, as plain data.

Frozen dataclasses only: nothing here reads a file, a clock or the environment, so any layer may import it.
Read it from top to bottom and you have read a pass: what is asked, what a cell did, what was answered,
what the verifiers said, what was decided, how the run ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from loop_runner.text import sane_count

# ── models ──────────────────────────────────────────────────────────────────────────────────────────

# child: the root model of a child session; summary: the root model, of its own conversation so far; judge: a
# verifier, or, with a scope, the root model of a session that one holds; agent: the spend that an agent's
# client reports; tool: a call of one of the task's tools (``loop_runner/tools/``), not of a model
RequestKind = Literal["root", "sub", "child", "judge", "summary", "agent", "tool"]
_CONVERSATIONS = frozenset({"root", "child", "summary"})
SUBCALL_KINDS: frozenset[RequestKind] = frozenset({"sub", "child"})  # asked for by the model's code

StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]

LOST = "lost:"  # begins the fingerprint of a call that was billed and gave no reply
SENT = "sent:"  # begins that of a journal's record of a tool call that is about to be made


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that a message shows. ``file`` is its name in a run folder: SHA256.png or SHA256.jpeg."""

    file: str
    data: bytes = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; ``images`` come before the text."""

    role: Literal["user", "assistant"]
    text: str
    stable_chars: int = 0  # how much of its beginning every pass repeats: where a provider's cache is marked
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to a model. Two requests with the same ``fingerprint()`` ask the same thing."""

    model: str  # "provider:name"
    messages: tuple[Message, ...]
    system: str = ""
    max_output_tokens: int = 4096
    kind: RequestKind = "root"
    ordinal: int = 0  # how many requests of this kind the run made before; only ``script:`` looks at it
    schema: Mapping[str, Any] | None = None  # JSON Schema that the reply is to fit, for a provider's own form
    scope: str = ""  # the child session that asks; "" outside of one. No provider sees it
    offers_tool: bool = False  # the model may call a tool with its code instead of writing a fence
    occurrence: int = 0  # which of the turn's identical requests this is; set by the switchboard
    temperature: float | None = None  # None: the provider's own; not every provider takes one

    @property
    def is_conversation(self) -> bool:
        """Sent again with each turn, its old part unchanged; its prompts are kept as a transcript."""
        return self.kind in _CONVERSATIONS or (self.kind == "judge" and bool(self.scope))

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that can change the reply, and ``scope``; ``ordinal`` is left out.

        With ``scope``, each of two equal child sessions finds its own replies again.
        """
        # Written by hand in the order of its keys: a batch takes thousands of fingerprints in a second.
        parts = ([item.role, item.text, *(image.file for image in item.images)] for item in self.messages)
        messages = ",".join(f"[{','.join(map(_quoted, part))}]" for part in parts)
        schema = "" if self.schema is None else f',"schema":{_canonical(self.schema)}'
        scope = f',"scope":{_quoted(self.scope)}' if self.scope else ""
        tool = ',"offers_tool":true' if self.offers_tool else ""
        warmth = "" if self.temperature is None else f',"temperature":{self.temperature!r}'
        text = (
            f'{{"kind":{_quoted(self.kind)},"max_output_tokens":{self.max_output_tokens},'
            f'"messages":[{messages}],"model":{_quoted(self.model)}{tool}{schema}{scope},'
            f'"system":{_quoted(self.system)}{warmth}}}'
        )
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_quoted = json.encoder.encode_basestring  # a JSON string, not limited to ASCII
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider reports them; ``input_tokens`` excludes what the cache read or wrote."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def sane(self) -> Usage:
        """These counts as far as they can be counts: a provider, or an old journal, may hold anything."""
        return Usage(
            sane_count(self.input_tokens),
            sane_count(self.output_tokens),
            sane_count(self.cache_read_tokens),
            sane_count(self.cache_write_tokens),
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )

    def cache_as_dict(self) -> dict[str, float]:
        """What a provider's prompt cache did for these prompts; ``hit_rate`` is the share that was read."""
        prompt = self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
        return {
            "read": self.cache_read_tokens,
            "written": self.cache_write_tokens,
            "not_cached": self.input_tokens,
            "hit_rate": round(self.cache_read_tokens / prompt, 3) if prompt else 0.0,
        }

    @property
    def total_tokens(self) -> int:
        """All tokens that passed, cached or not."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Reply:
    """One model's reply. ``text`` may be empty (a refusal); ``stop_reason`` says why it ended."""

    text: str
    stop_reason: StopReason = "end_turn"
    usage: Usage = Usage()
    model: str = ""  # the name that the provider says answered


@dataclass(frozen=True, slots=True)
class Call:
    """One paid request and its reply, as the journal and ``calls.jsonl`` keep it.

    ``fingerprint`` and ``occurrence`` (0 for the first identical request of a turn) are the key under which a
    re-run of the turn finds the reply again. A request that ended in an error and was billed is kept too, so
    that it is charged, under a fingerprint that nobody asks for (``is_lost``).
    """

    kind: RequestKind
    model: str
    fingerprint: str
    occurrence: int
    prompt: str  # the last user message; for "root" empty: the transcript holds it already
    reply: Reply
    usd: float | None = None  # what the other side says that it cost; None: as its usage is priced
    tries: int = 1  # how often it was sent until there was a reply

    @property
    def is_lost(self) -> bool:
        """Paid for, and no reply came of it."""
        return self.fingerprint.startswith(LOST)


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Origin:
    """What a text was converted from: a PDF, a member of an archive, a file at a revision of a repository.

    ``places`` are (first line of the text, counted from 1; label) in rising order: a line belongs to the last
    place that begins at or before it. Labels are like "page 12", "sheet Prices", "message 4", "row 17 on".
    """

    path: Path  # of the original, or of the archive or repository that holds it
    sha256: str  # of the bytes of ``path``; of a repository's file, of that file
    kind: str  # what was converted: "pdf", "docx", "mbox", ...; "text" for a member that is text itself
    member: str = ""  # inside ``path``, "/" between parts; "COMMIT:path" in a repository; "" for the original
    places: tuple[tuple[int, str], ...] = ()
    made_by: str = ""  # the program and version that made the text
    url: str = ""  # where the bytes were fetched
    headings: tuple[tuple[int, int, str], ...] = ()  # that the document itself lists: line, level, title


@dataclass(frozen=True, slots=True)
class InputText:
    """One text that the model works on: named, hashed, never copied into the run folder."""

    name: str  # unique; relative to the input's own root, "/" between parts
    path: Path  # where the bytes lie now
    size_bytes: int
    sha256: str
    replaced_bytes: int = 0  # bytes that are not UTF-8 and read as U+FFFD
    origin: Origin | None = None  # what ``path`` was converted from; None: it is the original
    about: str = ""  # one line, for a prompt: what a table or a JSON file holds
    part_of: tuple[str, int] | None = None  # of a child's text: the run's text and line that it begins at


@dataclass(frozen=True, slots=True)
class Inputs:
    """All texts of a task and what was left out of them, each with its reason."""

    texts: tuple[InputText, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (path, reason)
    is_single: bool = False  # one file given by its own path: ``context`` is then a ``str``
    images: tuple[
        InputText, ...
    ] = ()  # pictures, and PDFs of pictures: files without a text, read by a model

    @property
    def total_bytes(self) -> int:
        """Size of all texts on disk."""
        return sum(text.size_bytes for text in self.texts)


# ── the kernel ──────────────────────────────────────────────────────────────────────────────────────

SandboxTier = Literal["A", "B", "C"]

# ── cells ───────────────────────────────────────────────────────────────────────────────────────────

CellEnd = Literal["ok", "raised", "timed_out", "died"]


@dataclass(frozen=True, slots=True)
class Answer:
    """``answer`` as the model left it after a cell. ``content`` is always text."""

    content: str = ""
    is_ready: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)  # other JSON-able keys of the dict

    @property
    def blocked(self) -> str:
        """What is missing and cannot be supplied, as the cell of this turn declared it; "" if it did not."""
        why = self.extra.get("blocked")
        return why.strip() if isinstance(why, str) else ""


@dataclass(frozen=True, slots=True)
class CellResult:
    """What one cell did. ``output`` is cut (head and tail kept) to the kernel's ``max_output_chars``."""

    end: CellEnd
    output: str  # everything printed, in order, then the traceback if it raised
    dropped_chars: int  # how much of the output is missing from ``output``; 0 when nothing is
    error: str | None  # last line of the *model's* traceback; never an exception of the runner
    answer: Answer
    notices: tuple[str, ...] = ()  # the harness's repairs: "`context` was restored", ...
    seconds: float = 0.0  # wall clock, without the time spent waiting for sub-calls
    lost: tuple[str, ...] = ()  # variables whose loss ``notices`` report


@dataclass(frozen=True, slots=True)
class PastTurn:
    """A committed turn: what the model replied, its code ("" if none), and what it was shown for it."""

    reply: str
    code: str
    output: str
    end: str  # a ``CellEnd``, or "no_code"


VariableStatus = Literal["saved", "replay", "lost"]
"""``replay`` is in older run folders only, and lost when the kernel starts again."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One name of the kernel's namespace, as the kernel claims it (the host never looks inside)."""

    name: str
    type: str
    size: int  # bytes when pickled; 0 when it could not be
    preview: str  # capped, control characters escaped
    status: VariableStatus
    reason: str = ""  # why it is not "saved"
    blob: str = ""  # SHA-256 (hex) of the blob that holds it

    @property
    def is_gone(self) -> bool:
        """Whether a restart has lost it: then nothing but its name and the reason is known."""
        return self.status == "lost" and self.type == "?"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All variables of a kernel between two cells: names, and opaque blobs by SHA-256 (hex)."""

    variables: tuple[Variable, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    python: str = field(default="", compare=False)  # version of the kernel that took it; "" if unknown


# ── verification ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Accepted:
    """The verifier found what it asks for."""

    evidence: str = ""
    score: float = 1.0
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)  # for the proof; JSON-able
    statement: str = field(default="", compare=False)  # what was checked, in one line, for a reader


@dataclass(frozen=True, slots=True)
class Rejected:
    """The answer is wrong or unproven; ``reason`` and ``evidence`` are shown to the model."""

    reason: str
    evidence: str = ""
    score: float = 0.0
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)  # never told to the model


@dataclass(frozen=True, slots=True)
class Broken:
    """The verifier itself did not work (program missing, time-out): says nothing about the answer.

    ``limit`` names the budget that kept a paid verifier from being asked; empty for every other cause.
    """

    reason: str
    limit: str = ""


Verdict = Accepted | Rejected | Broken


@dataclass(frozen=True, slots=True)
class VerifierReport:
    """One verifier's verdict, with the name that the task gives it; a group's holds its members'."""

    verifier: str
    verdict: Verdict
    weight: float = 1.0  # in the score
    members: tuple[VerifierReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Allow:
    """The session may end: every verifier accepted."""

    reports: tuple[VerifierReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """The session may not end; ``reason`` is what the next pass is told."""

    reason: str
    reports: tuple[VerifierReport, ...] = ()
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class GateBroken:
    """A verifier stayed broken after its retries; the run stops without judging the answer."""

    reason: str
    reports: tuple[VerifierReport, ...] = ()
    limit: str = ""  # see ``Broken``


Decision = Allow | Block | GateBroken


# ── history ─────────────────────────────────────────────────────────────────────────────────────────

PassOutcome = Literal["accepted", "rejected", "broken", "stopped"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A commit to continue from. ``turn`` 0 means: between passes; ``pass_number`` 0: before the first."""

    commit: str
    pass_number: int = 0
    turn: int = 0
    subject: str = ""
    outcome: PassOutcome | None = None  # of the pass, on pass merges only

    def __str__(self) -> str:
        """``pass 3 turn 7``, ``the end of pass 3``, ``the start``."""
        if self.pass_number == 0:
            return "the start"
        if self.turn == 0:
            return f"the end of pass {self.pass_number}"
        return f"pass {self.pass_number} turn {self.turn}"


@dataclass(frozen=True, slots=True)
class Spend:
    """What a run has used so far; every path is charged, and it survives restarts."""

    usage: Usage = Usage()
    passes: int = 0
    turns: int = 0
    requests: int = 0
    subcalls: int = 0
    seconds: float = 0.0
    usd: float | None = 0.0  # None: at least one request has no known price
    unanswered: int = 0  # requests that were sent and whose reply never came (a crash): perhaps billed too
    known_usd: float | None = field(default=None, compare=False)  # of those with a price, without ``usd``
    tool_calls: int = 0  # calls of tools; they are no requests to models


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, before it is committed or kept: what was replied, ran and shown."""

    number: int
    reply: str
    output: str  # what the model is shown after this turn, word for word
    answer: Answer
    code: str | None = None  # None when the reply held no code
    end: CellEnd | Literal["no_code"] = "no_code"


@dataclass(frozen=True, slots=True)
class ChildTurn:
    """One turn of a child session. Its calls are among those of the turn that started the session."""

    reply: str
    code: str | None  # None when the reply held no code
    output: str  # what the child was told after this turn, word for word
    end: CellEnd | Literal["no_code"]
    children: tuple[ChildRecord, ...] = ()


ChildEnd = Literal["ready", "blocked", "turns", "budget", "window", "no_code", "failed"]


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """One child session, as it is committed under the turn that started it.

    ``scope`` names it and is the ``Request.scope`` of all that it asked; it depends on what was asked only.
    """

    scope: str
    question: str
    texts: tuple[tuple[str, int, str], ...]  # (name, bytes, SHA-256) of what it worked on
    model: str
    turns: tuple[ChildTurn, ...]
    answer: Answer
    end: ChildEnd
    reason: str = ""  # why it gave no answer


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn as it is committed: what the model said, what ran, what came out."""

    pass_number: int
    number: int
    reply: str
    code: str | None  # None when the reply held no code
    output: str  # the text that the model sees after this turn, word for word
    end: CellEnd | Literal["no_code"]
    answer: Answer
    calls: tuple[Call, ...]
    snapshot: Snapshot
    seconds: float = 0.0
    children: tuple[ChildRecord, ...] = ()


# ── how a run ends ──────────────────────────────────────────────────────────────────────────────────

RunStatus = Literal["verified", "unverified", "blocked", "broken", "interrupted"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``answer`` is the accepted one, or the best-scored one, marked by ``status``."""

    status: RunStatus
    answer: Answer
    checkpoint: Checkpoint
    spend: Spend
    reason: str = ""
