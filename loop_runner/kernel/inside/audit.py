"""The fixed program of an audit: its questions, and what it keeps of the replies. Inside the kernel process.

Owns the questions and the report that becomes the answer; ``candidates`` finds the places to ask about, and
``grouping`` puts them into questions. Relies on ``plan.json`` and ``known.json`` in the workspace, which the
host writes before the first pass. A reply is data: it is compared with the text before it counts. Judgements
are matched by candidate number; a candidate that a reply leaves out gets a question of its own. No finding is
lost because of its quote: if the quote is not on its line, the model is asked once more; then the line itself
is quoted instead (``quoted_by``).
"""

from __future__ import annotations

from . import candidates, claims, grouping
from .lm_client import LLMError
from .names import label, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from .candidates import Span
    from .grouping import Group

    Question = tuple[str, str, Group]  # its key, its text, its group
    # Of a judgement: the candidate's number (0: no candidate), verdict, line, quote, reason.
    Row = list[Any]

_FORMAT = 2
_TEXT = {"type": "string"}
# In this order: a model judges better after it has copied the line and given its reason.
_JUDGEMENT = {
    "line": {"type": "integer"},
    "quote": _TEXT,
    "reason": _TEXT,
    "verdict": {"enum": ["right", "wrong", "unsure"]},
}
_OF_CANDIDATE = {"candidate": {"type": "integer"}, **_JUDGEMENT}

_MAX_QUOTE_CHARS = 300
_MAX_REASON_CHARS = 600
_MAX_DROPPED = 200  # listed; all are counted
_DENIED = "the verdict is `wrong`, and the reason says that the line is right"
_LEFT_OUT = "the reply has no judgement of the candidate"
_ELSEWHERE = "it is about a line that was not asked about"
_PAID = "judged"  # the folder that later audits read


def read_plan() -> dict[str, Any]:
    """``plan.json``, as the host wrote it. Raises ``ValueError`` if another version wrote it."""
    plan: dict[str, Any] = _read("plan.json")
    if plan["format"] != _FORMAT:
        raise ValueError(
            f"the plan of this audit has format {plan['format']}, and this version of loop-runner needs"
            f" {_FORMAT}: start the audit again, or continue it with the version that began it"
        )
    return plan


def known(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The replies to the same questions in earlier audits, which need not be paid for again."""
    return dict(_read("known.json")) if plan["has_known"] else {}


def find(plan: Mapping[str, Any], context: Mapping[str, str]) -> dict[str, Any]:
    """``groups`` of candidates, each with the key of its question, and ``troubles``: (file, reason).

    Ordered by rule, then by file.
    """
    names = list(context)
    groups: list[tuple[Group, str]] = []
    troubles: dict[tuple[str, str], None] = {}
    for number, rule in enumerate(plan["rules"]):
        for file in range(len(names)) if rule["files"] is None else rule["files"]:
            name, text = names[file], context[names[file]]
            spans, trouble = candidates.spans(rule, name, text, plan["window_lines"])
            for shown, own in _grouped(plan, rule, name, text, spans):
                group = (number, file, shown, own)
                groups.append((group, _key(plan["model"], question(plan, group, name, text))))
            if trouble:
                troubles[name, trouble] = None
    return {"groups": groups, "troubles": list(troubles)}


def _grouped(
    plan: Mapping[str, Any], rule: Mapping[str, Any], name: str, text: str, spans: Sequence[Span]
) -> list[tuple[Span, list[Span]]]:
    if not rule["is_whole"]:
        return grouping.grouped(plan, name, text, spans)
    around, total = plan["context_lines"], len(candidates.lines_of(text))
    return [((max(1, first - around), min(total, last + around)), [(first, last)]) for first, last in spans]


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────


def waiting(
    plan: Mapping[str, Any],
    searched: Mapping[str, Any],
    judged: Mapping[str, Any],
    context: Mapping[str, str],
) -> list[Question]:
    """The next unanswered questions, all for the same ``schema``.

    Questions about groups come first. Then each candidate that a reply left out gets its own question. When
    every candidate is judged, a finding whose quote is not on its line is asked about once more.
    """
    for kind in (_group_questions, _single_questions, _second_questions):
        if batch := _batch(plan, kind(plan, searched, judged, context)):
            return batch
    return []


def _batch(plan: Mapping[str, Any], questions: Iterable[Question]) -> list[Question]:
    batch: dict[str, Question] = {}
    kinds = set()
    for item in questions:
        kinds.add(_is_whole(plan, item[2]))
        if len(kinds) > 1 or len(batch) == plan["batch"]:
            break
        batch.setdefault(item[0], item)
    return list(batch.values())


def _group_questions(
    plan: Mapping[str, Any],
    searched: Mapping[str, Any],
    judged: Mapping[str, Any],
    context: Mapping[str, str],
) -> Iterator[Question]:
    """A group is not asked about again as a whole once one of its candidates was judged alone."""
    names = list(context)
    for group, key in searched["groups"]:
        singles = (_single_key(key, number) in judged for number, _ in enumerate(group[3], 1))
        if key not in judged and not any(singles):
            name = names[group[1]]
            yield key, question(plan, group, name, context[name]), group


def _single_questions(
    plan: Mapping[str, Any],
    searched: Mapping[str, Any],
    judged: Mapping[str, Any],
    context: Mapping[str, str],
) -> Iterator[Question]:
    names = list(context)
    for group, key in searched["groups"]:
        for number, _ in enumerate(group[3], 1):
            if _answer(group, key, judged, number) is None:
                name, single = names[group[1]], _single(group, number)
                yield _single_key(key, number), question(plan, single, name, context[name]), single


def _second_questions(
    plan: Mapping[str, Any],
    searched: Mapping[str, Any],
    judged: Mapping[str, Any],
    context: Mapping[str, str],
) -> Iterator[Question]:
    names = list(context)
    before, behind = plan["again"].split("\0")
    for group, key in searched["groups"]:
        name = names[group[1]]
        for number, _ in enumerate(group[3], 1):
            if not (wrong := _wrong(_answer(group, key, judged, number))):
                continue
            claimed = _misquoted(wrong, candidates.lines_of(context[name]))
            if claimed and (second := _second_key(key, number, claimed)) not in judged:
                single = _single(group, number)
                first = question(plan, single, name, context[name])
                yield second, "\n\n".join([first, before + claimed + behind]), single


def _wrong(answer: list[Row] | str | None) -> list[Row]:
    return [row for row in answer if row[1] == "wrong"] if isinstance(answer, list) else []


def _misquoted(wrong: Sequence[Row], lines: Sequence[str]) -> str:
    """The findings whose quotes are not on their lines, as a list; "" if there are none."""
    return "\n".join(
        f"- line {at}: {label(_cut(quote), _MAX_QUOTE_CHARS)}"
        for _, _, at, quote, _ in wrong
        if not _is_exact(_cut(quote), lines[at - 1])
    )


def _single(group: Group, number: int) -> Group:
    """The group with that candidate alone, and the same lines."""
    rule, file, shown, spans = group
    return rule, file, shown, [spans[number - 1]]


def _single_key(key: str, number: int) -> str:
    return _key(key, f"candidate {number}")


def _second_key(key: str, number: int, claimed: str) -> str:
    return _key(_single_key(key, number), claimed)


def questions(batch: Sequence[Question]) -> list[str]:
    """The texts of ``batch``."""
    return [text for _, text, _ in batch]


def schema(plan: Mapping[str, Any], batch: Sequence[Question]) -> dict[str, Any]:
    """The schema for the replies to ``batch``: at least one judgement, except for whole windows."""
    is_whole = any(_is_whole(plan, group) for _, _, group in batch)
    judgement = _JUDGEMENT if is_whole else _OF_CANDIDATE
    items = {
        "type": "object",
        "properties": judgement,
        "required": list(judgement),
        "additionalProperties": False,
    }
    judgements = {"type": "array", "items": items} | ({} if is_whole else {"minItems": 1})
    return {
        "type": "object",
        "properties": {"judgements": judgements},
        "required": ["judgements"],
        "additionalProperties": False,
    }


def question(plan: Mapping[str, Any], group: Group, name: str, text: str) -> str:
    """The question about a group: the rule, the file's name, the lines with their numbers."""
    number, _, shown, spans = group
    lines = candidates.lines_of(text)
    passage = grouping.passage(lines, shown, spans, is_whole=_is_whole(plan, group))
    # All at once: the content of a file is never searched for the marks of the template.
    before, between, behind = plan["rules"][number]["question"].split("\0")
    return f"{before}{label(name)}{between}{passage}{behind}"


def _is_whole(plan: Mapping[str, Any], group: Group) -> bool:
    return bool(plan["rules"][group[0]]["is_whole"])


def _key(*parts: str) -> str:
    """SHA-256 (hex, cut) of the model and the question, or of whatever else makes a question unique."""
    import hashlib

    return hashlib.sha256("\0".join([str(_FORMAT), *parts]).encode("utf-8", "replace")).hexdigest()[:32]


# ── replies ─────────────────────────────────────────────────────────────────────────────────────────


def keep(
    plan: Mapping[str, Any],
    judged: dict[str, Any],
    batch: Sequence[Question],
    replies: Sequence[Any],
    context: Mapping[str, str],
    number: int,
) -> None:
    """Put the replies to ``batch`` into ``judged``, and the usable ones into a file for later audits."""
    names, paid = list(context), {}
    for (key, _, group), reply in zip(batch, replies, strict=True):
        if isinstance(reply, LLMError):
            judged[key] = str(reply)
            continue
        lines = candidates.lines_of(context[names[group[1]]])
        judged[key] = _kept(reply["judgements"], group[3], lines, is_whole=_is_whole(plan, group))
        if isinstance(judged[key], list):
            paid[key] = judged[key]
    if paid:
        _write(f"{_PAID}/{number:06d}.json", paid)


def _kept(
    judgements: Sequence[Mapping[str, Any]], spans: Sequence[Span], lines: Sequence[str], *, is_whole: bool
) -> list[Row] | str:
    """The judgements of a reply, without those of candidates that need another question.

    A text (why the reply is unusable) if the only candidate needs one.
    """
    numbered = [(1 if is_whole else judgement["candidate"], judgement) for judgement in judgements]
    denied = {
        candidate: f"{_DENIED}: {judgement['reason'][:200]}"
        for candidate, judgement in numbered
        if judgement["verdict"] == "wrong" and claims.denies(judgement["reason"])
    }
    if len(spans) == 1 and 1 in denied:
        return denied[1]
    if len(spans) == 1 and not is_whole and all(candidate != 1 for candidate, _ in numbered):
        return _LEFT_OUT
    return [
        _row(candidate, judgement, spans, lines)
        for candidate, judgement in numbered
        if candidate not in denied
    ]


def _row(candidate: int, judgement: Mapping[str, Any], spans: Sequence[Span], lines: Sequence[str]) -> Row:
    verdict, line, quote, reason = (judgement[key] for key in ("verdict", "line", "quote", "reason"))
    is_known = 1 <= candidate <= len(spans)
    if is_known and verdict == "right":
        return [candidate, verdict, 0, "", ""]
    at = claims.place_of(quote, line, lines, *spans[candidate - 1]) if is_known else None
    return [0, verdict, line, quote, reason] if at is None else [candidate, verdict, at, quote, reason]


def _answer(group: Group, key: str, judged: Mapping[str, Any], number: int) -> list[Row] | str | None:
    """The judgements of a candidate; a text says why there is none; None: it was not asked about."""
    reply = judged.get(key)
    if len(group[3]) > 1:
        if isinstance(reply, list) and (own := [row for row in reply if row[0] == number]):
            return own
        reply, number = judged.get(_single_key(key, number)), 1
    return [row for row in reply if row[0] == number] if isinstance(reply, list) else reply


def again(judged: dict[str, Any]) -> None:
    """Forget failures, so that a new pass asks again."""
    for name in [name for name, reply in judged.items() if isinstance(reply, str)]:
        del judged[name]


# ── the report ──────────────────────────────────────────────────────────────────────────────────────


def report(
    plan: Mapping[str, Any],
    searched: Mapping[str, Any],
    judged: Mapping[str, Any],
    context: Mapping[str, str],
) -> str:
    """The answer: every finding and every unsure place, with a quote from its line, and the counts."""
    import json

    names = list(context)
    listed: dict[str, dict[tuple[str, int, str], dict[str, Any]]] = {"wrong": {}, "unsure": {}}
    dropped, unjudged = [], []
    for group, key in searched["groups"]:
        rule, name = plan["rules"][group[0]], names[group[1]]
        nothing = _about_nothing(group, key, judged)
        dropped += [{**_finding(rule, name, *row[2:]), "why": _ELSEWHERE} for row in nothing]
        for number, (first, _) in enumerate(group[3], 1):
            answer = _answer(group, key, judged, number)
            if not isinstance(answer, list):
                unjudged.append({"rule": rule["id"], "file": name, "line": first, "why": str(answer)})
                continue
            claimed = [row for row in answer if row[1] in listed]
            lines = candidates.lines_of(context[name]) if claimed else []
            second = _second_quotes(key, number, judged, _wrong(answer), lines)
            for _, verdict, at, quote, reason in claimed:
                if verdict == "wrong" and not _is_exact(_cut(quote), lines[at - 1]):
                    quote, reason = second.get(at, (quote, reason))  # noqa: PLW2901 - the better of two replies
                finding = _quoting(_finding(rule, name, at, quote, reason), lines[at - 1])
                listed[verdict].setdefault((name, at, rule["id"]), finding)
    wrong, unsure = listed["wrong"], listed["unsure"]
    places = sum(len(group[3]) for group, _ in searched["groups"])
    body = {
        "format": 1,
        "files": len(names),
        "candidates": places,
        "judged": places - len(unjudged),
        "findings": [wrong[place] for place in sorted(wrong)],
        "unsure": [unsure[place] for place in sorted(unsure) if place not in wrong],
        "dropped": len(dropped),
        "first_dropped": dropped[:_MAX_DROPPED],
        "unjudged": unjudged,
        "not_searched": [{"file": name, "why": why} for name, why in searched["troubles"]],
    }
    return json.dumps(body, indent=1)


def _about_nothing(group: Group, key: str, judged: Mapping[str, Any]) -> list[Row]:
    """The judgements of lines or candidates that no question was about, except verdicts of "right"."""
    keys = [key, *(_single_key(key, number) for number, _ in enumerate(group[3], 1))]
    replies = [reply for reply in map(judged.get, keys) if isinstance(reply, list)]
    return [row for reply in replies for row in reply if row[0] == 0 and row[1] != "right"]


def _second_quotes(
    key: str, number: int, judged: Mapping[str, Any], wrong: Sequence[Row], lines: Sequence[str]
) -> dict[int, tuple[str, str]]:
    """The exact quotes of a second reply, by line. A finding that it leaves out keeps its first quote."""
    claimed = _misquoted(wrong, lines)
    second = judged.get(_second_key(key, number, claimed)) if claimed else None
    return {
        at: (quote, reason)
        for candidate, verdict, at, quote, reason in (second if isinstance(second, list) else [])
        if candidate and verdict == "wrong" and _is_exact(_cut(quote), lines[at - 1])
    }


def progress(searched: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    """One line on the progress."""
    failed = sum(isinstance(reply, str) for reply in judged.values())
    places = sum(len(group[3]) for group, _ in searched["groups"])
    answered = plural(len(judged) - failed, "question")
    return f"audit: {plural(places, 'place')}, {answered} answered, {failed} failed"


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
    """``finding`` with a quote from its line: the whole line if the model's own quote is not on it."""
    if _is_exact(finding["quote"], line):
        return finding
    return {**finding, "quote": line.strip()[:_MAX_QUOTE_CHARS], "quoted_by": "audit"}


def _cut(quote: str) -> str:
    return quote.strip()[:_MAX_QUOTE_CHARS]


def _is_exact(quote: str, line: str) -> bool:
    return any(char.isalnum() for char in quote) and quote in line


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
