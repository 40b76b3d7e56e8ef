"""Documents with a form: two contracts of many clauses, and delivery notes in three layouts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.tasks import cell
from tests.workbench.playing import Offer, Scenario

# ── two contracts ───────────────────────────────────────────────────────────────────────────────────

_GOODS = (
    "timber",
    "cement",
    "steel",
    "glass",
    "paint",
    "paper",
    "grain",
    "wool",
    "coal",
    "salt",
    "resin",
    "cork",
)
_SERVICES = ("storage", "transport", "insurance", "inspection", "packing", "repair")
_VALUES = {"payment": (14, 30, 45, 60, 90), "notice": (1, 2, 3, 6, 12), "liability": (50, 100, 250, 400, 900)}
_WORDS = {1: "one", 2: "two", 3: "three", 6: "six", 12: "twelve", 14: "fourteen", 30: "thirty"}
_WORDS |= {45: "forty-five", 60: "sixty", 90: "ninety"}
_OLD = {
    "payment": "Invoices for {service} are paid within {number} days of receipt.",
    "notice": "Either side may end {service} with {number} months' notice.",
    "liability": "Liability for {service} is limited to EUR {number},000 for each event.",
}
_NEW = {
    "payment": "Payment for {service} falls due {word} ({number}) days after the date of the invoice.",
    "notice": "The parties may terminate {service} on {word} ({number}) months' written notice.",
    "liability": "For {service}, neither party is liable for more than EUR {number} thousand per event.",
}
_FILLER = "Each party keeps the records of {service} for the time that the law of its seat requires."

_Terms = dict[tuple[str, str], int]


def make_contracts(folder: Path, size: str) -> Mapping[str, Any]:
    """Write old.txt (with amendments at its end) and new.txt; one clause in twelve owes something else."""
    rng = random.Random(1404)
    services = [f"{goods} {service}" for service in _SERVICES for goods in _GOODS]
    services = services[:12] if size == "sample" else services
    old = {(kind, service): rng.choice(_VALUES[kind]) for service in services for kind in _VALUES}
    amended = dict.fromkeys(rng.sample(sorted(old), len(services) // 4), 0)
    amended = {key: rng.choice([value for value in _VALUES[key[0]] if value != old[key]]) for key in amended}
    now = old | amended
    changed = rng.sample(sorted(old), len(old) // 12)
    new = now | {key: rng.choice([n for n in _VALUES[key[0]] if n != now[key]]) for key in changed}
    (folder / "old.txt").write_text(_old_contract(services, old, amended), encoding="utf-8")
    rng.shuffle(services)
    (folder / "new.txt").write_text(_new_contract(services, new), encoding="utf-8")
    return {
        "lines": [
            f"{kind} for {name}: {now[kind, name]} before, {new[kind, name]} now" for kind, name in changed
        ]
    }


def _old_contract(services: Sequence[str], terms: _Terms, amended: _Terms) -> str:
    lines = ["SUPPLY AGREEMENT of 3 May 2016", ""]
    for number, service in enumerate(services, 1):
        lines += [f"{number}. {service.capitalize()}", ""]
        lines += [_OLD[kind].format(service=service, number=terms[kind, service]) for kind in _OLD]
        lines += [_FILLER.format(service=service), ""]
    lines += ["Amendment of 9 June 2019", "", "The following replaces what is agreed above.", ""]
    lines += [_OLD[kind].format(service=name, number=value) for (kind, name), value in amended.items()]
    return "\n".join([*lines, ""])


def _new_contract(services: Sequence[str], terms: _Terms) -> str:
    lines = ["FRAMEWORK CONTRACT", ""]
    for number, service in enumerate(services, 1):
        lines += [f"Article {number}: {service}", "", _FILLER.format(service=service)]
        for kind in reversed(_NEW):
            value = terms[kind, service]
            lines.append(_NEW[kind].format(service=service, number=value, word=_WORDS.get(value, "")))
        lines.append("")
    return "\n".join([*lines, ""])


_LEGAL_LOOK = """
for name in sorted(context):
    print(read(name, 1, 12))
print(read("old.txt", -8))
print(search_text("liable limited EUR", max_results=2, context_lines=0))
"""
_LEGAL_PATTERNS = r"""
OLD = {
    "payment": r"^Invoices for (.+) are paid within (\d+) days",
    "notice": r"^Either side may end (.+) with (\d+) months",
    "liability": r"^Liability for (.+) is limited to EUR (\d+),000",
}
NEW = {
    "payment": r"^Payment for (.+) falls due [\w-]+ \((\d+)\) days",
    "notice": r"^The parties may terminate (.+) on [\w-]+ \((\d+)\) months",
    "liability": r"^For (.+), neither party is liable for more than EUR (\d+) thousand",
}

def terms(name, patterns):
    "(kind, service) to (number, line); the last mention counts."
    found = {}
    for kind, pattern in patterns.items():
        FIND
    return found

old, new = terms("old.txt", OLD), terms("new.txt", NEW)
print(len(old), len(new), set(old) ^ set(new))
"""
_FIND_ALL = """for hit in find_all(pattern, name):
            found[kind, hit.groups[0]] = (int(hit.groups[1]), hit.line)"""
_FIND_BY_HAND = """for number, line in enumerate(context[name].split("\\n"), 1):
            if match := __import__("re").match(pattern, line):
                found[kind, match[1]] = (int(match[2]), number)"""
_LEGAL_ANSWER = """
parts = []
for kind, service in sorted(old):
    (was, first), (now, second) = old[kind, service], new[kind, service]
    if was != now:
        parts.append(f"{kind} for {service}: {was} before, {now} now")
        parts.append(CITE)
answer["content"] = "\\n".join(parts)
print(len(parts) // 2, answer["content"][:600], sep="\\n")
"""
_CITE_LINES = 'cite_lines("old.txt", first) + "\\n" + cite_lines("new.txt", second)'
_CITE_QUOTES = """"\\n".join(
            cite(context[name].split("\\n")[at - 1], name)
            for name, at in (("old.txt", first), ("new.txt", second))
        )"""
_READY = 'print(answer["content"][:300])\nanswer["ready"] = True'


def _play_legal(offer: Offer) -> list[str]:
    find = _FIND_ALL if "find_all" in offer else _FIND_BY_HAND
    cite = _CITE_LINES if "cite_lines" in offer else _CITE_QUOTES
    check = "check()\n" if "check" in offer else ""
    compare = _LEGAL_ANSWER.replace("CITE", cite) + check
    return [cell(code) for code in (_LEGAL_LOOK, _LEGAL_PATTERNS.replace("FIND", find), compare, _READY)]


LEGAL = Scenario(
    "legal",
    "new.txt replaces old.txt. Where does it owe something else? Amendments count. Write one line for"
    " each such term, `payment for X: 30 before, 45 now` (or `notice for`, in months, or `liability for`,"
    " in thousands), and below it the two lines that say so as citations. Nothing else.",
    make_contracts,
    _play_legal,
    keys={"type": "legal", "form": [{"citations": {"min": 2}}]},
)

# ── delivery notes ──────────────────────────────────────────────────────────────────────────────────

_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["file", "number", "sender", "date", "kilograms", "fragile"],
        "properties": {
            "file": {"type": "string"},
            "number": {"type": "string", "pattern": "^DN-\\d{5}$"},
            "sender": {"type": "string"},
            "date": {"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"},
            "kilograms": {"type": "number"},
            "fragile": {"type": "boolean"},
        },
    },
}
_SENDERS = ("Almer & Sons", "Bruck Logistics", "Corvin Mills", "Dahl Foundry", "Esterhaz Glass")


def make_notes(folder: Path, size: str) -> Mapping[str, Any]:
    """Write thirty notes in three layouts; the size is the same in a sample."""
    rng = random.Random(1405)
    records = []
    for number in range(30):
        record = {
            "file": f"note-{number:02}.txt",
            "number": f"DN-{rng.randrange(10_000, 99_999)}",
            "sender": rng.choice(_SENDERS),
            "date": f"2025-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}",
            "kilograms": rng.randrange(1000, 90_000) / 10,
            "fragile": rng.random() < 0.4,
        }
        (folder / str(record["file"])).write_text(_layout(number % 3, record), encoding="utf-8")
        records.append(record)
    return {"json": records}


def _layout(kind: int, record: Mapping[str, Any]) -> str:
    year, month, day = record["date"].split("-")
    fragile = record["fragile"]
    if kind == 0:
        return (
            f"DELIVERY NOTE {record['number']}\nFrom: {record['sender']}\nDate: {day}.{month}.{year}\n"
            f"Weight: {record['kilograms']:,.1f} kg\nFragile: {'yes' if fragile else 'no'}\n"
        )
    if kind == 1:
        handling = "HANDLE WITH CARE - FRAGILE" if fragile else "no special handling"
        tonnes = f"{record['kilograms'] / 1000:.4f}"
        return f"{record['sender']}\n{record['number']} / {record['date']}\ntotal {tonnes} t\n{handling}\n"
    state = "Please note that the goods break easily." if fragile else "The goods need no special care."
    return (
        f"Dear customer,\nwith this letter, sent on {day}/{month}/{year}, you receive"
        f" {record['kilograms']} kilograms under our number {record['number']}.\n"
        f"{state}\nYours, {record['sender']}\n"
    )


_NOTES_LOOK = """
names = sorted(context)
for name in names[:4]:
    print(f"--- {name}\\n{context[name]}")
"""
_NOTES_READ = r"""
import json, re

def record_of(name):
    text = context[name]
    number = re.search(r"DN-\d{5}", text)[0]
    if text.startswith("DELIVERY NOTE"):
        day, month, year = re.search(r"Date: (\d+)\.(\d+)\.(\d+)", text).groups()
        sender, weight = re.search(r"From: (.+)", text)[1], re.search(r"Weight: (\S+)", text)[1]
        fragile = "Fragile: yes" in text
    elif text.startswith("Dear"):
        day, month, year = re.search(r"on (\d+)/(\d+)/(\d+)", text).groups()
        sender, weight = re.search(r"Yours, (.+)", text)[1], float(re.search(r"receive (\S+)", text)[1])
        fragile = "break easily" in text
    else:
        year, month, day = re.search(r"(\d{4})-(\d\d)-(\d\d)", text).groups()
        sender, weight = text.splitlines()[0], round(float(re.search(r"total (\S+) t", text)[1]) * 1000, 1)
        fragile = "FRAGILE" in text
    return {"file": name, "number": number, "sender": sender, "date": f"{year}-{month}-{day}",
            "kilograms": weight, "fragile": fragile}

records = [record_of(name) for name in names]
answer["content"] = json.dumps(records, ensure_ascii=False, indent=1)
print(len(records), records[0], records[1], records[2], sep="\n")
"""
_NOTES_FIX = r"""
for record in records:
    if isinstance(record["kilograms"], str):
        record["kilograms"] = float(record["kilograms"].replace(",", ""))
answer["content"] = json.dumps(records, ensure_ascii=False, indent=1)
print({type(record["kilograms"]) for record in records})
"""


def _play_notes(offer: Offer) -> list[str]:
    """The first draft gives some weights as text: `check` shows that, else a rejection does."""
    if "check" in offer:
        return [cell(code) for code in (_NOTES_LOOK, _NOTES_READ + "check()", _NOTES_FIX + "check()", _READY)]
    return [cell(code) for code in (_NOTES_LOOK, _NOTES_READ, _READY, _NOTES_FIX, _READY)]


EXTRACT = Scenario(
    "extract",
    "Give the record of every delivery note, sorted by `file` (its name), as JSON and nothing else."
    " `kilograms` is a number, `date` is YYYY-MM-DD, and `fragile` says whether the note asks for care.",
    make_notes,
    _play_notes,
    keys={
        "type": "extract",
        "form": [{"schema": "schema.json"}],
        "files": {"schema.json": json.dumps(_SCHEMA, indent=1)},
    },
)
