"""Work for code: megabytes of logs, a package to audit, a ledger whose first totals are rejected."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.tasks import cell
from tests.workbench.playing import Offer, Scenario

_READY = 'print(answer["content"][:300])\nanswer["ready"] = True'

# ── counts over logs ────────────────────────────────────────────────────────────────────────────────

_PARTS = ("payment", "search", "basket", "login", "mail")
_BYTES = {"sample": 400_000, "full": 26_000_000}


def make_logs(folder: Path, size: str) -> Mapping[str, Any]:
    """Write four logs, 26 MB in all (0.4 MB in a sample); the word ERROR also stands in messages."""
    rng = random.Random(1410)
    errors: Counter[str] = Counter()
    minutes: Counter[str] = Counter()
    users = set()
    for number in range(1, 5):
        lines, written = [], 0
        while written < _BYTES[size] // 4:
            minute = f"2026-03-05T{rng.randrange(24):02}:{rng.randrange(60):02}"
            level = rng.choices(("INFO", "WARN", "ERROR"), (90, 8, 2))[0]
            part, user = rng.choice(_PARTS), rng.randrange(5000)
            text = rng.choice(("card refused", "timeout", "no stock", "query=ERROR handling", "ok"))
            at, took = f"{minute}:{rng.randrange(60):02}Z", rng.randrange(9000)
            line = f"{at} {level} {part}: {text} user={user} ms={took}"
            lines.append(line)
            written += len(line) + 1
            if level == "ERROR":
                errors[part] += 1
                minutes[minute] += 1
                if text == "card refused":
                    users.add(user)
        (folder / f"web-{number}.log").write_text("\n".join([*lines, ""]), encoding="utf-8")
    busiest = min(minutes, key=lambda minute: (-minutes[minute], minute))
    lines = [f"errors of {part}: {errors[part]}" for part in _PARTS]
    return {"lines": [*lines, f"users with a refused card: {len(users)}", f"worst minute: {busiest}"]}


_LOGS_LOOK = """
for name in sorted(context):
    print(name, len(context[name]))
print(read("web-1.log", 1, 6))
print(search_text("ERROR refused", max_results=3, context_lines=0))
"""
_LOGS_FIND = r"""
errors = [hit.groups for hit in find_all(r"^(\S+) ERROR (\w+): (.*) user=(\d+)")]
print(len(errors), errors[:3])
"""
_LOGS_FIND_BY_HAND = r"""
import re
pattern = re.compile(r"^(\S+) ERROR (\w+): (.*) user=(\d+)", re.M)
errors = [match.groups() for name in sorted(context) for match in pattern.finditer(context[name])]
print(len(errors), errors[:3])
"""
_LOGS_ANSWER = """
from collections import Counter
parts = Counter(part for _, part, _, _ in errors)
minutes = Counter(at[:16] for at, _, _, _ in errors)
users = {user for _, _, text, user in errors if text == "card refused"}
worst = min(minutes, key=lambda minute: (-minutes[minute], minute))
lines = [f"errors of {part}: {parts[part]}" for part in ("payment", "search", "basket", "login", "mail")]
answer["content"] = "\\n".join([*lines, f"users with a refused card: {len(users)}", f"worst minute: {worst}"])
print(answer["content"], minutes.most_common(3))
"""

LOGS = Scenario(
    "logs",
    "Count over all logs the lines of level ERROR of each part (`errors of payment: N`, likewise search,"
    " basket, login and mail, in this order), the different users with the error `card refused` (`users"
    " with a refused card: N`), and the minute with most errors, the earliest if there are several (`worst"
    " minute: 2026-03-05T07:30`). One line each.",
    make_logs,
    lambda offer: [
        cell(code)
        for code in (
            _LOGS_LOOK,
            _LOGS_FIND if "find_all" in offer else _LOGS_FIND_BY_HAND,
            _LOGS_ANSWER,
            _READY,
        )
    ],
)

# ── an audit of a small package ─────────────────────────────────────────────────────────────────────

_RIGHT = (
    "def total(rows, rate=1.0):\n    # except: is only a word here\n    return rate * sum(rows)\n",
    "def read(path):\n    try:\n        return open(path).read()\n    except OSError:\n        return ''\n",
    'def label(name, tags=()):\n    """Never call eval(name) here."""\n    return name, list(tags)\n',
)
_WRONG = {
    "bare-except": "def load(path):\n    try:\n        return open(path)\n    except:\n        return None\n",
    "mutable-default": "def add(item, basket=[]):\n    basket.append(item)\n    return basket\n",
    "eval": "def rate(text):\n    return eval(text)\n",
}
_WRONG_LINE = {"bare-except": 3, "mutable-default": 0, "eval": 1}  # from 0, in the text above


def make_package(folder: Path, size: str) -> Mapping[str, Any]:
    """Write a package of 12 modules (40 at full size) with faults, and with what only looks like them."""
    rng = random.Random(1411)
    (folder / "shop").mkdir()
    result = []
    for number in range(12 if size == "sample" else 40):
        name = f"shop/part_{number:02}.py"
        lines = [f'"""Part {number} of the shop."""', ""]
        for _ in range(rng.randrange(3, 7)):
            kind = rng.choice([*_WRONG, "", "", ""])
            block = _WRONG[kind] if kind else rng.choice(_RIGHT)
            if kind:
                result.append(f"{kind}: {name}:{len(lines) + 2 + _WRONG_LINE[kind]}")
            lines += ["", *block.splitlines(), ""]
        (folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return {"lines": result}


_AUDIT = (
    """
names = sorted(context)
print(len(names), outline(names[0]), sep="\\n")
print(search_text("except:", max_results=3, context_lines=1))
""",
    r"""
import ast
found = []
for name in names:
    for node in ast.walk(ast.parse(context[name])):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(("bare-except", name, node.lineno))
        defaults = node.args.defaults if isinstance(node, ast.FunctionDef) else []
        if any(isinstance(default, (ast.List, ast.Dict, ast.Set)) for default in defaults):
            found.append(("mutable-default", name, node.lineno))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "eval":
            found.append(("eval", name, node.lineno))
found.sort()
print(len(found), found[:4])
""",
    r"""
def quote(name, line):
    return CITE

answer["content"] = "\n".join(f"{rule}: {name}:{line}\n{quote(name, line)}" for rule, name, line in found)
print(answer["content"][:500])
""",
)


def _play_audit(offer: Offer) -> list[str]:
    by_hand = r"""f'> {name}:{line}: ' + context[name].split("\n")[line - 1].strip()"""
    cite = "cite_lines(name, line)" if "cite_lines" in offer else by_hand
    check = "check()\n" if "check" in offer else ""
    return [cell(code) for code in (*_AUDIT[:2], _AUDIT[2].replace("CITE", cite) + check, _READY)]


AUDIT = Scenario(
    "audit",
    "Hold the package against three rules: `bare-except` (an `except:` without a class),"
    " `mutable-default` (a list, dict or set as a default) and `eval` (a call of eval). Write a line for"
    " each finding, `rule: file:line`, and below it the line itself as a citation.",
    make_package,
    _play_audit,
    keys={"type": "audit", "form": [{"citations": {"min": 1}}]},
)

# ── forced re-entry ─────────────────────────────────────────────────────────────────────────────────

_REGIONS = ("north", "east", "south", "west", "centre")
_RULES = """How totals are made.

1. Amounts are in cents.
2. An order whose state is `cancelled` does not count.
3. The state `refund` means money that went back: it is subtracted.
"""


def make_ledger(folder: Path, size: str) -> Mapping[str, Any]:
    """Write ledger.csv (600 rows, 20,000 at full size) and rules.txt, which a hasty model does not read."""
    rng = random.Random(1412)
    totals = dict.fromkeys(_REGIONS, 0)
    rows = ["order,region,state,cents"]
    for number in range(600 if size == "sample" else 20_000):
        region, cents = rng.choice(_REGIONS), rng.randrange(100, 90_000)
        state = rng.choices(("paid", "cancelled", "refund"), (8, 1, 1))[0]
        totals[region] += {"paid": cents, "cancelled": 0, "refund": -cents}[state]
        rows.append(f"{number},{region},{state},{cents}")
    (folder / "ledger.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
    (folder / "rules.txt").write_text(_RULES, encoding="utf-8")
    return {"lines": [f"{region}: {cents}" for region, cents in totals.items()], "hints": ["Read rules.txt"]}


_LEDGER = (
    """
import datetime
from collections import Counter
from pathlib import Path
orders = list(rows("ledger.csv"))
started = datetime.date(2026, 3, 5)
states = Counter(row["state"] for row in orders)

def total(region, count):
    "Sum of `count(row)` over the rows of a region."
    return sum(count(row) for row in orders if row["region"] == region)

Path("notes").mkdir(exist_ok=True)
for number, region in enumerate(["north", "east", "south", "west", "centre"] * 2):
    rows_of = sum(row["region"] == region for row in orders)
    repeats = 9 if number == 9 else 1
    Path(f"notes/{number:02}-{region}.md").write_text(f"{region} has {rows_of} rows.\\n" * repeats)
print(len(orders), states, orders[0])
""",
    """
regions = ["north", "east", "south", "west", "centre"]
answer["content"] = "\\n".join(f"{region}: {total(region, lambda row: row['cents'])}" for region in regions)
answer["ready"] = True
""",
    """
assert len(orders) > 500 and states["cancelled"]
count = lambda row: row["cents"] if row["state"] != "cancelled" else 0
answer["content"] = "\\n".join(f"{region}: {total(region, count)}" for region in regions)
Path("notes/10-cancelled.md").write_text("Cancelled orders do not count; pass 1 counted them.\\n")
print(answer["content"])
""",
    _READY,
    """
print(context["rules.txt"])
Path("notes/11-refunds.md").write_text("Refunds are subtracted; pass 2 added them.\\n")
SIGN = {"paid": 1, "cancelled": 0, "refund": -1}
count = lambda row: SIGN[row["state"]] * row["cents"]
answer["content"] = "\\n".join(f"{region}: {total(region, count)}" for region in regions)
print(answer["content"])
""",
    _READY,
)

REENTRY = Scenario(
    "reentry",
    "Give the total of each region over ledger.csv in cents, one line each: `north: 12345`, then east,"
    " south, west and centre.",
    make_ledger,
    lambda _: [cell(code) for code in _LEDGER],
    passes=3,
)
