"""Texts that must be read: studies, three files with a chain of facts, support threads, letters."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.tasks import cell
from tests.workbench.playing import Kill, Offer, Scenario

_READY = 'print(answer["content"][:300])\nanswer["ready"] = True'

# ── research over many documents ────────────────────────────────────────────────────────────────────

_RESULTS = {
    "shortens": (
        "Participants who took valerian fell asleep 14 minutes sooner than those on placebo.",
        "Sleep latency dropped under valerian and stayed the same without it.",
        "With the extract, the wait for sleep was shorter on most nights.",
        "Median time to first sleep went from 41 to 27 minutes in the valerian arm only.",
    ),
    "none": (
        "The time to fall asleep did not differ between valerian and placebo.",
        "Neither dose of valerian changed how soon participants slept.",
        "Sleep latency was 33 minutes in both arms.",
    ),
    "lengthens": (
        "Participants on valerian lay awake longer before they slept than those on placebo.",
        "Against expectation, sleep latency rose by nine minutes under the extract.",
    ),
    "other": (
        "Valerian improved how rested participants felt; latency was not measured.",
        "The extract was tolerated well, and no participant withdrew.",
        "Night waking became rarer under valerian; the time to fall asleep was not recorded.",
        "The assay separated all four valerenic acids in under ten minutes.",
    ),
}
_PLACES = ("Graz", "Lund", "Porto", "Brno", "Gdansk", "Siena", "Leiden")


def make_studies(folder: Path, size: str) -> Mapping[str, Any]:
    """Write 420 studies (60 in a sample), a third of which are about the question."""
    rng = random.Random(1406)
    groups: dict[str, list[str]] = {kind: [] for kind in _RESULTS}
    for number in range(1, 61 if size == "sample" else 421):
        kind = rng.choices(list(_RESULTS), (4, 2, 1, 12))[0]
        groups[kind].append(f"study-{number:03}")
        head = "Results" if rng.random() < 0.5 else "Findings"
        methods = [
            f"In week {week} the {rng.randrange(20, 90)} participants kept a diary in {rng.choice(_PLACES)}."
            for week in range(1, rng.randrange(6, 20))
        ]
        lines = [f"Study {number}: valerian and sleep", "", "Methods", *methods, ""]
        lines += [f"{head}: {rng.choice(_RESULTS[kind])}", "", "Funding: none declared.", ""]
        (folder / f"study-{number:03}.txt").write_text("\n".join(lines), encoding="utf-8")
    del groups["other"]
    return {"lines": [f"{kind}: {len(names)}: {', '.join(names)}" for kind, names in groups.items()]}


def _label_study(prompt: str) -> str:
    """What a careful reader replies to items with ids; of more than ten items, it forgets the third."""
    rows = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"id":')]
    result = [{"id": row["id"], "label": _kind_of(row["text"])} for row in rows]
    return json.dumps(result[:2] + result[3:] if len(result) > 10 else result)


def _kind_of(text: str) -> str:
    return next(
        kind for kind, sentences in _RESULTS.items() if any(sentence in text for sentence in sentences)
    )


_STUDIES_LOOK = """
names = sorted(context)
print(len(names), context[names[0]], sep="\\n")
print(search_text("valerian time to fall asleep", max_results=6, context_lines=0))
"""
_STUDIES_FIND = r"""
results = {hit.name: hit for hit in find_all(r"^(?:Results|Findings): (.+)$")}
print(len(results), set(names) - set(results))
"""
_STUDIES_FIND_BY_HAND = r"""
import re
from types import SimpleNamespace
results = {}
for name in names:
    for number, line in enumerate(context[name].split("\n"), 1):
        if match := re.match(r"(?:Results|Findings): (.+)$", line):
            results[name] = SimpleNamespace(name=name, line=number, text=line, groups=(match[1],))
print(len(results), set(names) - set(results))
"""
_QUESTION = "What does this study report on the time to fall asleep under valerian? `other`: nothing."
_STUDIES_LABEL = f"""
question = {_QUESTION!r}
kinds = ["shortens", "none", "lengthens", "other"]
labels = label({{name: hit.groups[0] for name, hit in results.items()}}, question, kinds)
from collections import Counter
print(Counter(labels.values()))
for name in names[:8]:
    print(labels[name], results[name].text)
"""
_STUDIES_LABEL_BY_HAND = f"""
import json
question = {_QUESTION!r}
kinds = ["shortens", "none", "lengthens", "other"]
SCHEMA = {{"type": "array", "items": {{"type": "object", "required": ["id", "label"], "properties": {{
    "id": {{"type": "integer"}}, "label": {{"enum": kinds}}}}}}}}

def ask(left):
    parts = [left[at:at + 40] for at in range(0, len(left), 40)]
    row = lambda name: json.dumps({{"id": names.index(name), "text": results[name].groups[0]}})
    ask_for = question + "\\nGive each item one label of " + ", ".join(kinds) + ", by id:\\n"
    prompts = [ask_for + "\\n".join(map(row, part)) for part in parts]
    return [entry for reply in llm_batch(prompts, schema=SCHEMA) if reply for entry in reply]

labels = {{names[entry["id"]]: entry["label"] for entry in ask(names)}}
print(len(labels), "of", len(names))
"""
_STUDIES_ASK_AGAIN = """
from collections import Counter
while left := [name for name in names if name not in labels]:
    labels |= {names[entry["id"]]: entry["label"] for entry in ask(left)}
print(Counter(labels.values()))
for name in names[:8]:
    print(labels[name], results[name].text)
"""
_STUDIES_ANSWER = """
parts = []
for kind in kinds[:3]:
    found = [name for name in names if labels[name] == kind]
    parts.append(f"{kind}: {len(found)}: " + ", ".join(name.removesuffix(".txt") for name in found))
    parts += [CITE for name in found[:3]]
answer["content"] = "\\n".join(parts)
print(answer["content"])
"""


def _play_studies(offer: Offer) -> list[str]:
    find = _STUDIES_FIND if "find_all" in offer else _STUDIES_FIND_BY_HAND
    labels = [_STUDIES_LABEL] if "label" in offer else [_STUDIES_LABEL_BY_HAND, _STUDIES_ASK_AGAIN]
    line = "cite_lines(name, results[name].line)"
    cite = line if "cite_lines" in offer else "cite(results[name].text, name)"
    write = _STUDIES_ANSWER.replace("CITE", cite) + ("check()\n" if "check" in offer else "")
    return [cell(code) for code in (_STUDIES_LOOK, find, *labels, write, _READY)]


RESEARCH = Scenario(
    "research",
    "Each text reports one study. Which report that valerian shortens the time to fall asleep, which that"
    " it makes no difference (`none`), and which that it lengthens it? Write three lines, `shortens: 3:"
    " study-001, study-007, study-020`, `none: ...` and `lengthens: ...`, and below each of them the"
    " results of the first three of its studies as citations.",
    make_studies,
    _play_studies,
    _label_study,
    keys={"type": "research", "form": [{"citations": {"min": 5}}]},
)

# ── three hops over three files ─────────────────────────────────────────────────────────────────────

_BIRDS = ("Heron", "Kestrel", "Plover", "Dunlin", "Avocet", "Bittern", "Curlew", "Fulmar", "Gannet", "Merlin")
_FIRST = ("Ines", "Marek", "Ola", "Pia", "Quirin", "Rosa", "Stefan", "Tove", "Ulla", "Veit")
_LAST = ("Wolff", "Novak", "Berg", "Lindt", "Maier", "Costa", "Duval", "Hajek")
_MONTHS = ("January", "February", "March", "April", "May", "June")


def make_chain(folder: Path, size: str) -> Mapping[str, Any]:
    """Write staff.csv, projects.md and minutes.txt; who leads what stands in one, names in another."""
    rng = random.Random(1407)
    people = {
        f"S-{number:04}": f"{rng.choice(_FIRST)} {rng.choice(_LAST)} {number}" for number in range(100, 180)
    }
    rows = [f"{key},{name},{rng.randrange(1990, 2024)}" for key, name in people.items()]
    (folder / "staff.csv").write_text("\n".join(["id,name,since", *rows, ""]), encoding="utf-8")
    leads = dict(zip(_BIRDS, rng.sample(sorted(people), len(_BIRDS)), strict=True))
    lines = ["# Projects", ""]
    for bird, lead in leads.items():
        after = "It was stopped and replaced by Plover." if bird == "Heron" else "It is running."
        lines += [f"## {bird}", "", f"Lead: {lead}. {after}", ""]
    (folder / "projects.md").write_text("\n".join(lines), encoding="utf-8")
    days = [f"{day} {month} 2024" for month in _MONTHS for day in (4, 11, 18, 25)]
    wanted, lines = rng.choice(days), []
    for day in days:
        lead = people[leads["Plover"]] if day == wanted else people[leads[rng.choice(_BIRDS[3:])]]
        lines += [
            f"Minutes of {day}",
            "",
            f"{people[leads['Plover']]} was present.",
            f"{lead} asked for more staff.",
            "",
        ]
        lines += [f"Item {item} was put off." for item in range(1, 6)] + [""]
    (folder / "minutes.txt").write_text("\n".join(lines), encoding="utf-8")
    return {"lines": [wanted]}


_CHAIN = (
    """
print(outline())
print(search_text("Heron replaced", max_results=3))
""",
    r"""
import re
lead = re.search(r"## Plover\n\nLead: (\S+)\.", context["projects.md"])[1]
person = next(row["name"] for row in rows("staff.csv") if row["id"] == lead)
print(lead, person)
print(search_text(f"{person} asked for more staff", "minutes.txt", max_results=3, context_lines=3))
""",
    r"""
lines = context["minutes.txt"].split("\n")
at = lines.index(f"{person} asked for more staff.")
head = max(n for n in range(at) if lines[n].startswith("Minutes of"))
day = lines[head].removeprefix("Minutes of ")
quotes = ["It was stopped and replaced by Plover.", f"Lead: {lead}. It is running."]
quotes = [cite(quote, "projects.md") for quote in quotes]
quotes += [cite(next(row for row in context["staff.csv"].split("\n") if row.startswith(lead)), "staff.csv")]
quotes += [cite(lines[head], "minutes.txt"), cite(lines[at], "minutes.txt")]
answer["content"] = "\n".join([day, *quotes])
print(answer["content"])
""",
)


def _play_chain(offer: Offer) -> list[str]:
    check = "check()\n" if "check" in offer else ""
    return [cell(code) for code in (*_CHAIN[:2], _CHAIN[2] + check, _READY)]


THREE_HOPS = Scenario(
    "three-hops",
    "On which day did the person who leads the project that replaced Heron ask for more staff? Give the"
    " day as the texts write it, on one line, and below it citations of every step.",
    make_chain,
    _play_chain,
    keys={"form": [{"citations": {"min": 4, "answer_in_quote": True}}]},
)

# ── support threads ─────────────────────────────────────────────────────────────────────────────────

_NUMBERS = (3, 8, 13, 18)


def make_threads(folder: Path, size: str) -> Mapping[str, Any]:
    """Write 20 tickets (300 at full size); promises are corrected later, and one continues in another."""
    rng = random.Random(1408)
    last = {}
    for number in range(1, 21 if size == "sample" else 301):
        amounts = [f"{rng.randrange(1000, 9000) / 100:.2f}" for _ in range(rng.randrange(2, 4))]
        lines = [f"[{line}] {who}: {text}" for line, (who, text) in enumerate(_thread(rng, amounts), 1)]
        last[number] = amounts[-1]
        if number == 8:
            lines.append(f"[{len(lines) + 1}] agent: This ticket is continued in ticket 20.")
            last[number] = "20"
        (folder / f"ticket-{number:03}.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    last[8] = last[20]
    return {"lines": [f"ticket {number}: {last[number]} EUR" for number in _NUMBERS]}


def _thread(rng: random.Random, amounts: list[str]) -> list[tuple[str, str]]:
    messages = [("customer", f"I paid {rng.randrange(100, 300)}.00 EUR and the parcel came broken.")]
    for number, amount in enumerate(amounts):
        messages += [("customer", "Is there any news?")] * rng.randrange(1, 4)
        start = "I must correct what I wrote: we refund" if number else "We will refund"
        messages.append(("agent", f"{start} {amount} EUR."))
    return [*messages, ("customer", "I had hoped for 500.00 EUR, but thank you.")]


def _last_refund(prompt: str) -> str:
    return json.dumps({"amount": re.findall(r"refund ([\d.]+) EUR", prompt)[-1]})


_THREADS = (
    """
wanted = [3, 8, 13, 18]
threads = {number: f"ticket-{number:03}.txt" for number in wanted}
for name in threads.values():
    print(f"--- {name}\\n{context[name]}")
""",
    """
threads[8] = "ticket-020.txt"  # it is continued there
print(context[threads[8]])
SCHEMA = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "string"}}}
ask = "Which refund was promised last? Give the amount, such as 12.50."
prompts = [f"{context[name]}\\n{ask}" for name in threads.values()]
amounts = dict(zip(threads, (reply["amount"] for reply in llm_batch(prompts, schema=SCHEMA))))
print(amounts)
""",
    """
parts = []
for number, name in threads.items():
    parts.append(f"ticket {number}: {amounts[number]} EUR")
    settling = f"refund {amounts[number]} EUR"
    parts += [cite(line, name) for line in context[name].split("\\n") if settling in line]
parts.append(cite("This ticket is continued in ticket 20.", "ticket-008.txt"))
answer["content"] = "\\n".join(parts)
print(answer["content"])
""",
)


def _play_threads(offer: Offer) -> list[str]:
    check = "check()\n" if "check" in offer else ""
    return [cell(code) for code in (*_THREADS[:2], _THREADS[2] + check, _READY)]


SUPPORT = Scenario(
    "support",
    "Which refund was promised in the end in the tickets 3, 8, 13 and 18? Write a line for each, `ticket"
    " 3: 12.50 EUR`, and below it the message that settles it as a citation.",
    make_threads,
    _play_threads,
    _last_refund,
    keys={"type": "support", "form": [{"citations": {"min": 4}}]},
)

# ── letters, and a run that is killed again and again ───────────────────────────────────────────────

_DECISIONS = {
    "accepted": ("We are glad to take part.", "Count us in.", "Our board agreed to your offer."),
    "declined": ("We regret that we cannot take part.", "Please count on others.", "Our board said no."),
    "open": ("We will decide in spring.", "Our board has not met yet."),
}


def make_letters(folder: Path, size: str) -> Mapping[str, Any]:
    """Write 40 letters (400 at full size)."""
    rng = random.Random(1409)
    counts = dict.fromkeys(_DECISIONS, 0)
    for number in range(40 if size == "sample" else 400):
        kind = rng.choice(list(_DECISIONS))
        counts[kind] += 1
        text = f"Letter {number}\n\nThank you for writing.\n{rng.choice(_DECISIONS[kind])}\nKind regards\n"
        (folder / f"letter-{number:03}.txt").write_text(text, encoding="utf-8")
    return {"lines": [f"{kind}: {count}" for kind, count in counts.items()]}


def _decide(prompt: str) -> str:
    return next(
        kind for kind, sentences in _DECISIONS.items() if any(sentence in prompt for sentence in sentences)
    )


_LETTERS = (
    """
from pathlib import Path
Path("notes").mkdir(exist_ok=True)
names = sorted(context)
Path("notes/plan.md").write_text("A sub-model reads each letter; then count.\\n")
print(len(names), context[names[0]], sep="\\n")
""",
    """
from collections import Counter
ask = "Does the writer take part? Reply accepted, declined or open."
prompts = [f"{context[name]}\\n{ask}" for name in names]
decisions = dict(zip(names, llm_batch(prompts)))
counts = Counter(decisions.values())
print(counts)
answer["content"] = f"accepted: {counts['accepted']}\\ndeclined: {counts['declined']}"
""",
    _READY,
    """
assert len(decisions) == len(names) and Path("notes/plan.md").exists()
answer["content"] = "\\n".join(f"{kind}: {counts[kind]}" for kind in ("accepted", "declined", "open"))
print(answer["content"])
""",
    _READY,
)

KILLS = Scenario(
    "kills",
    "How many letters say that the writer takes part, how many that not, and how many leave it open?"
    " Write the lines `accepted: N`, `declined: N` and `open: N`.",
    make_letters,
    lambda _: [cell(code) for code in _LETTERS],
    _decide,
    kills=(
        Kill("root", 2),  # while the second reply is waited for
        Kill("sub", 9),  # in the middle of a batch
        Kill(failpoint="turn.ran:1"),  # its cell ran, nothing of the turn is committed
        Kill(failpoint="pass.commit:1"),  # the verdict is known, and not committed
        Kill("root", 1),  # the first request of the second pass
    ),
    provider="openai",  # quicker to import, in six processes
    passes=2,
)
