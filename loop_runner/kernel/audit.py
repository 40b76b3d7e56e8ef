"""The fixed program of an audit: what to ask, what to keep of the replies. Runs inside the kernel process.

Owns the questions and the report that becomes the answer; ``candidates`` finds the places to ask about.
Relies on ``plan.json`` and ``known.json`` in the workspace, which the host writes before the first pass. A
reply is data: it is looked up in the text before it counts. A finding is never lost because of its quote: if
that is not on its line, it is asked for once more; then the line itself takes its place (``quoted_by``).
"""

from __future__ import annotations

from loop_runner.kernel import candidates, claims
from loop_runner.kernel.lm_client import LLMError
from loop_runner.kernel.names import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from loop_runner.kernel.candidates import Place

_TEXT = {"type": "string"}
# In this order: a model that has copied the line and given its reason judges better.
_JUDGEMENT = {
    "line": {"type": "integer"},
    "quote": _TEXT,
    "reason": _TEXT,
    "verdict": {"enum": ["right", "wrong"]},
}
_LIST = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": _JUDGEMENT,
        "required": list(_JUDGEMENT),
        "additionalProperties": False,
    },
}

_MAX_SHOWN_CHARS = 600  # of a line in a question
_MAX_QUOTE_CHARS = 300
_MAX_REASON_CHARS = 600
_MAX_CLAIMS = 50  # of one reply
_MAX_DROPPED = 200  # told of one by one; all are counted
_DENIED = "the verdict is `wrong`, and the reason says that the line is right"
_ELSEWHERE = "it is about a line that was not asked about"
_PAID = "judged"  # the folder that later audits read


def read_plan() -> dict[str, Any]:
    """``plan.json``, as the host wrote it."""
    return _read("plan.json")  # type: ignore[no-any-return]


def known(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What earlier audits were told to the same questions; it is not paid for again."""
    return dict(_read("known.json")) if plan["has_known"] else {}


def find(plan: Mapping[str, Any], context: Mapping[str, str]) -> dict[str, Any]:
    """``places`` to judge, each with the key of its question, and ``troubles``: (file, reason).

    Rule by rule, in the order of the files.
    """
    names = list(context)
    places: list[tuple[Place, str]] = []
    troubles: dict[tuple[str, str], None] = {}
    for number, rule in enumerate(plan["rules"]):
        for file in range(len(names)) if rule["files"] is None else rule["files"]:
            name, text = names[file], context[names[file]]
            spans, trouble = candidates.spans(rule, name, text, plan["window_lines"])
            for first, last in spans:
                place = (number, file, first, last)
                places.append((place, _key(plan, question(plan, place, name, text))))
            if trouble:
                troubles[name, trouble] = None
    return {"places": places, "troubles": list(troubles)}


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────


def waiting(
    plan: Mapping[str, Any], found: Mapping[str, Any], judged: Mapping[str, Any], context: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The next (key, question) pairs that nobody has answered, all of them fit for one ``schema``.

    When every place is judged, a reply whose quote is not on its line is asked about once more.
    """
    return _first_questions(plan, found, judged, context) or _second_questions(plan, found, judged, context)


def _first_questions(
    plan: Mapping[str, Any], found: Mapping[str, Any], judged: Mapping[str, Any], context: Mapping[str, str]
) -> list[tuple[str, str]]:
    names = list(context)
    batch: dict[str, str] = {}
    kinds = set()
    for place, key in found["places"]:
        if key not in judged and key not in batch:
            kinds.add(plan["rules"][place[0]]["is_whole"])
            if len(kinds) > 1 or len(batch) == plan["batch"]:
                break
            name = names[place[1]]
            batch[key] = question(plan, place, name, context[name])
    return list(batch.items())


def _second_questions(
    plan: Mapping[str, Any], found: Mapping[str, Any], judged: Mapping[str, Any], context: Mapping[str, str]
) -> list[tuple[str, str]]:
    names = list(context)
    batch: dict[str, str] = {}
    for place, key in found["places"]:
        if len(batch) == plan["batch"]:
            break
        name = names[place[1]]
        text = _second_question(plan, place, name, context[name], judged[key])
        if text and (second := _key(plan, text)) not in judged:
            batch[second] = text
    return list(batch.items())


def _second_question(plan: Mapping[str, Any], place: Place, name: str, text: str, reply: Any) -> str:
    """What is asked about quotes of ``reply`` that are not on their lines; "" when there are none.

    The plan of an audit by an earlier version has no words for it: its recorded replies stay complete.
    """
    if "again" not in plan or isinstance(reply, str):
        return ""
    lines = candidates.lines_of(text) if reply else []
    claimed = [
        f"- line {at}: {label(_cut(quote), _MAX_QUOTE_CHARS)}"
        for at, quote, _ in _located(reply, lines, place)
        if at is not None and not _is_exact(_cut(quote), lines[at - 1])
    ]
    if not claimed:
        return ""
    before, behind = plan["again"].split("\0")
    return "\n\n".join([question(plan, place, name, text), before + "\n".join(claimed) + behind])


def _located(reply: Any, lines: Sequence[str], place: Place) -> list[tuple[int | None, str, str]]:
    """(line, quote, reason) of each finding of a reply; the line is None for one that was not asked about."""
    return [
        (claims.place_of(quote, line, lines, place[2], place[3]), quote, reason)
        for line, quote, reason in reply
    ]


def schema(
    plan: Mapping[str, Any], found: Mapping[str, Any], batch: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """What the replies to ``batch`` have to fit: at least one judgement, but for whole windows of a file.

    Second questions are about findings, so that they take at least one, too.
    """
    first = batch[0][0] if batch else ""
    is_whole = any(plan["rules"][place[0]]["is_whole"] for place, key in found["places"] if key == first)
    return {
        "type": "object",
        "properties": {"judgements": _LIST if is_whole else {**_LIST, "minItems": 1}},
        "required": ["judgements"],
        "additionalProperties": False,
    }


def question(plan: Mapping[str, Any], place: Place, name: str, text: str) -> str:
    """What the model is asked about one place: the rule, the file's name, the lines with their numbers."""
    number, _, first, last = place
    lines = candidates.lines_of(text)
    around = plan["context_lines"]
    shown = range(max(1, first - around), min(len(lines), last + around) + 1)
    width = len(str(shown.stop))
    passage = "\n".join(
        f"{'>' if first <= at <= last else ' '} {at:>{width}} | {_shown(lines[at - 1])}" for at in shown
    )
    # In one go: what a file holds is never looked through for marks of ours.
    before, between, behind = plan["rules"][number]["question"].split("\0")
    return f"{before}{label(name)}{between}{passage}{behind}"


def _key(plan: Mapping[str, Any], text: str) -> str:
    """SHA-256 (hex, cut) over the question and who is asked."""
    import hashlib

    return hashlib.sha256(f"{plan['model']}\0{text}".encode("utf-8", "replace")).hexdigest()[:32]


def keep(
    judged: dict[str, Any], batch: Sequence[tuple[str, str]], replies: Sequence[Any], number: int
) -> None:
    """Put the replies to ``batch`` into ``judged``, and those that came into a file for later audits."""
    paid = {}
    for (name, _), reply in zip(batch, replies, strict=True):
        if isinstance(reply, LLMError):
            judged[name] = str(reply)
        else:
            wrong = [each for each in reply["judgements"] if each["verdict"] == "wrong"][:_MAX_CLAIMS]
            if denied := [each["reason"] for each in wrong if claims.denies(each["reason"])]:
                # Not kept: a new pass asks it once more.
                judged[name] = f"{_DENIED}: {denied[0][:200]}"
                continue
            judged[name] = paid[name] = [[each["line"], each["quote"], each["reason"]] for each in wrong]
    if paid:
        _write(f"{_PAID}/{number:06d}.json", paid)


def again(judged: dict[str, Any]) -> None:
    """Forget what failed, so that a new pass asks it once more."""
    for name in [name for name, reply in judged.items() if isinstance(reply, str)]:
        del judged[name]


# ── the report ──────────────────────────────────────────────────────────────────────────────────────


def report(
    plan: Mapping[str, Any], found: Mapping[str, Any], judged: Mapping[str, Any], context: Mapping[str, str]
) -> str:
    """The answer: every finding with a quote from its line, and what became of the rest."""
    import json

    names = list(context)
    findings: dict[tuple[str, int, str], dict[str, Any]] = {}
    dropped, unjudged = [], []
    for place, key in found["places"]:
        number, file, first, last = place
        rule, name, reply = plan["rules"][number], names[file], judged[key]
        if isinstance(reply, str):
            unjudged.append({"rule": rule["id"], "file": name, "line": first, "why": reply})
            continue
        lines = candidates.lines_of(context[name])
        second = _second_quotes(plan, place, name, context[name], judged, reply)
        for line, quote, reason in reply:
            at = claims.place_of(quote, line, lines, first, last)
            if at is None:
                dropped.append({**_finding(rule, name, line, quote, reason), "why": _ELSEWHERE})
                continue
            if not _is_exact(_cut(quote), lines[at - 1]):
                quote, reason = second.get(at, (quote, reason))  # noqa: PLW2901 - the better of two replies
            finding = _quoting(_finding(rule, name, at, quote, reason), lines[at - 1])
            findings.setdefault((name, at, rule["id"]), finding)
    body = {
        "format": 1,
        "files": len(names),
        "candidates": len(found["places"]),
        "judged": len(found["places"]) - len(unjudged),
        "findings": [findings[each] for each in sorted(findings)],
        "dropped": len(dropped),
        "first_dropped": dropped[:_MAX_DROPPED],
        "unjudged": unjudged,
        "not_searched": [{"file": name, "why": why} for name, why in found["troubles"]],
    }
    return json.dumps(body, indent=1)


def _second_quotes(
    plan: Mapping[str, Any],
    place: Place,
    name: str,
    text: str,
    judged: Mapping[str, Any],
    reply: Any,
) -> dict[int, tuple[str, str]]:
    """The exact quotes of a second reply, by line. A finding that it leaves out is kept from the first."""
    asked = _second_question(plan, place, name, text, reply)
    second = judged.get(_key(plan, asked)) if asked else None
    lines = candidates.lines_of(text)
    return {
        at: (quote, reason)
        for at, quote, reason in _located(second if isinstance(second, list) else [], lines, place)
        if at is not None and _is_exact(_cut(quote), lines[at - 1])
    }


def progress(found: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    """One line on how far it is."""
    failed = sum(isinstance(each, str) for each in judged.values())
    return f"audit: {len(found['places'])} places, {len(judged) - failed} questions answered, {failed} failed"


def _finding(rule: Mapping[str, Any], name: str, line: int, quote: str, reason: str) -> dict[str, Any]:
    return {
        "rule": rule["id"],
        "severity": rule["severity"],
        "file": name,
        "line": line,
        "quote": _cut(quote),
        "reason": " ".join(reason.split())[:_MAX_REASON_CHARS],
    }


def _quoting(finding: dict[str, Any], line: str) -> dict[str, Any]:
    """``finding`` with a quote that is on its line: the line itself where the model's own is not."""
    if _is_exact(finding["quote"], line):
        return finding
    return {**finding, "quote": line.strip()[:_MAX_QUOTE_CHARS], "quoted_by": "audit"}


def _cut(quote: str) -> str:
    return quote.strip()[:_MAX_QUOTE_CHARS]


def _is_exact(quote: str, line: str) -> bool:
    return any(char.isalnum() for char in quote) and quote in line


def _shown(line: str) -> str:
    return line if len(line) <= _MAX_SHOWN_CHARS else f"{line[:_MAX_SHOWN_CHARS]} […]"


def _read(path: str) -> Any:
    import json

    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as all of the kernel's own modules
        return json.load(file)


def _write(path: str, data: object) -> None:
    import json
    import os

    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(data, file, indent=0)
