"""Makes sixty invoices in three layouts, and the key.

    python3 examples/extract/make.py

The same files every time; standard library only. ``key.json`` is for the gate; the task and the script do not
see it.
"""

import json
import random
from datetime import date, timedelta
from pathlib import Path

HERE = Path(__file__).parent
SUPPLIERS = (
    "Adler & Co",
    "Borealis Paper",
    "Cafe Central",
    "Dampfwerk GmbH",
    "Eastside Tools",
    "Fjord Freight AS",
)
ITEMS = ("pallets", "printer paper", "gloves", "filters", "cable", "coffee beans", "bolts", "labels")


def table(rng: random.Random, item: dict) -> str:
    """English, with a table."""
    rows = [f"{rng.choice(ITEMS):<16}{share:>12,.2f}" for share in shares(rng, item["total"])]
    day = date.fromisoformat(item["date"])
    head = [item["supplier"], f"Invoice no.: {item['number']}", f"Date: {day:%d %B %Y}", "", *rows]
    order = [f"Your order: {item['order']}"] if item["order"] else []
    return "\n".join([*head, f"{'TOTAL ' + item['currency']:<16}{item['total']:>12,.2f}", *order])


def german(rng: random.Random, item: dict) -> str:
    """German, with commas for points."""
    day = date.fromisoformat(item["date"])
    rows = [f"{rng.choice(ITEMS)}: {comma(share)}" for share in shares(rng, item["total"])]
    order = [f"Bestellung {item['order']}"] if item["order"] else []
    head = [f"RECHNUNG {item['number']}", item["supplier"], f"vom {day:%d.%m.%Y}", *order, ""]
    return "\n".join([*head, *rows, f"Gesamtbetrag: {comma(item['total'])} {item['currency']}"])


def letter(rng: random.Random, item: dict) -> str:
    """Prose: no line has only one field."""
    day = date.fromisoformat(item["date"])
    order = f" Your order was {item['order']}." if item["order"] else ""
    when = f"{day:%B} {day.day}, {day.year}"
    return (
        f"Dear customer,\n\nplease find below our invoice {item['number']}, which we wrote on {when}\n"
        f"for {rng.choice(ITEMS)} and {rng.choice(ITEMS)}.{order}\n"
        f"We ask you to pay {item['total']:.2f} {item['currency']} within {rng.choice((14, 30))} days.\n\n"
        f"Yours sincerely,\n{item['supplier']}"
    )


def shares(rng: random.Random, total: float) -> list[float]:
    """Two amounts with this sum."""
    first = round(total * rng.uniform(0.2, 0.8), 2)
    return [first, round(total - first, 2)]


def comma(amount: float) -> str:
    """1.234,50"""
    return f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))


def main() -> None:
    """Write ``inputs/`` and ``key.json``."""
    rng = random.Random(60)
    (HERE / "inputs").mkdir(exist_ok=True)
    key = []
    for number in range(1, 61):
        item = {
            "file": f"invoice-{number:02}.txt",
            "number": f"{rng.choice('ABCD')}-{rng.randint(1000, 9999)}",
            "supplier": rng.choice(SUPPLIERS),
            "date": (date(2023, 1, 1) + timedelta(rng.randint(0, 700))).isoformat(),
            "total": round(rng.uniform(20, 5000), 2),
            "currency": rng.choice(("EUR", "EUR", "CHF")),
            "order": f"PO{rng.randint(100, 999)}" if rng.random() < 0.6 else None,
        }
        layout = (table, german, letter)[number % 3]
        (HERE / "inputs" / item["file"]).write_text(layout(rng, item) + "\n", encoding="utf-8")
        key.append(item)
    (HERE / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    print(f"{len(key)} invoices")


if __name__ == "__main__":
    main()
