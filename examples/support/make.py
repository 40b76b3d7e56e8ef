"""Makes the log of a help desk, three hundred kilobytes of eighty conversations at once, and the key.

    python3 examples/support/make.py

The same files every time; standard library only. Every case has the same kind of story: a fault, a ticket,
offers that are corrected later, tickets that are merged. ``key.json`` is for the gate; the task and the
script do not see it.
"""

import json
import random
from datetime import date, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
FIRST = (
    "Ann",
    "Bo",
    "Carla",
    "Dov",
    "Edith",
    "Femi",
    "Gita",
    "Hugo",
    "Ines",
    "Jun",
    "Kai",
    "Lena",
    "Mo",
    "Nora",
)
LAST = ("Berg", "Costa", "Dahl", "Egger", "Fox", "Groot", "Haas", "Ito", "Jansen", "Kaya", "Lund", "Moreau")
CITIES = ("Lyon", "Turin", "Ghent", "Cork", "Graz", "Porto", "Malmo", "Leeds", "Brno", "Basel")
PRODUCTS = ("kettle", "router", "toaster", "lamp", "heater", "scale", "radio", "fan")
FAULTS = (
    "leaks",
    "hums",
    "smells of burning",
    "does not switch on",
    "switches itself off",
    "has a dented lid",
)
AGENTS = ("Mia", "Noah", "Olga", "Piet", "Quinn")
CHATTER = (
    "I have tried it in another room and nothing changed, as I said before.",
    "Could you send me the manual once more? The link in your mail does not open here.",
    "Thank you for your patience, we look into it and come back to you shortly.",
    "I was on hold for twenty minutes yesterday, so I write here instead, if that is all right.",
    "The photo has arrived, thank you. Our workshop will look at it in the course of the day.",
    "My neighbour has the same one and it works well, so I wonder what is different.",
    "We have had a few of these this week. Please leave it unplugged until you hear from us.",
    "Is there any news? I would need it by the weekend if at all possible.",
)


def story(rng: random.Random, name: str, city: str, product: str, ticket: int) -> tuple[list, dict]:
    """The messages of one case in order, as (who, text), and what holds in the end."""
    serial, order = f"SN{rng.randint(10000, 99999)}", f"R-{rng.randint(1000, 9999)}"
    agent = rng.choice(AGENTS)
    output = [
        (name, f"Hello, I write from {city}. My {product}, serial {serial}, {rng.choice(FAULTS)}."),
        (agent, f"@{name}: I have opened this as T-{ticket}."),
    ]
    amount, day, judge = (
        rng.randint(15, 90),
        date(2024, 5, 1) + timedelta(rng.randint(0, 20)),
        rng.choice(AGENTS),
    )
    offers = [
        f"T-{ticket}: we refund {amount} EUR.",
        f"T-{ticket}: the replacement for {serial} was approved by {judge}.",
        f"T-{ticket}: order {order} will be delivered on {day:%d %B}.",
    ]
    rng.shuffle(offers)
    output += [(agent, offer) for offer in offers]
    chain = [ticket]
    for number in range(rng.randint(0, 2)):  # the customer writes once more and another ticket is opened
        other = ticket + 1000 * (number + 1)
        output += [
            (name, f"It is me again, about the {product}."),
            (rng.choice(AGENTS), f"@{name}: I have opened this as T-{other}."),
            (rng.choice(AGENTS), f"T-{chain[-1]} is merged into T-{other}."),
        ]
        chain.append(other)
    now = f"T-{chain[-1]}"
    amount, day = amount + rng.randint(3, 20), day + timedelta(9)
    judge = rng.choice([other for other in AGENTS if other != judge])
    later = [
        f"Correction for {now}: we refund {amount} EUR.",
        f"{now}: approval withdrawn. The replacement for {serial} was approved by {judge}.",
        f"{now}: the van broke down, order {order} will be delivered on {day:%d %B}.",
    ]
    rng.shuffle(later)
    output += [(rng.choice(AGENTS), text) for text in later]
    for _ in range(26):
        output.insert(rng.randint(2, len(output)), (rng.choice((name, agent)), rng.choice(CHATTER)))
    end = {"refund": f"{amount} EUR", "approved": judge, "delivered": f"{day:%d %B}", "ticket": now}
    return output, {
        **end,
        "serial": serial,
        "city": city,
        "product": product,
        "merges": len(chain) - 1,
        "order": order,
    }


def main() -> None:
    """Write ``inputs/desk.txt`` and ``key.json``, and print the questions."""
    rng = random.Random(300)
    names = rng.sample([f"{first} {last}" for first in FIRST for last in LAST], 80)
    places = [(city, product) for city in CITIES for product in PRODUCTS]
    rng.shuffle(places)
    cases = [story(rng, names[at], *places[at], 100 + at) for at in range(80)]
    queues = [list(output) for output, _ in cases]
    now, lines = datetime(2024, 4, 2, 8, 0), []  # noqa: DTZ001
    while any(queues):
        who, text = rng.choice([queue for queue in queues if queue]).pop(0)
        now += timedelta(minutes=rng.randint(1, 12))
        lines.append(f"[{len(lines) + 1:04}] {now:%m-%d %H:%M} {who}: {text}")
    (HERE / "inputs").mkdir(exist_ok=True)
    (HERE / "inputs" / "desk.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    twice, item, two, three = [end for _, end in cases if end["merges"] == 2][:4]
    key = [
        {"answer": item["refund"], "settled": f"for {item['ticket']}: we refund {item['refund']}"},
        {"answer": two["approved"], "settled": f"for {two['serial']} was approved by {two['approved']}"},
        {
            "answer": three["delivered"],
            "settled": f"order {three['order']} will be delivered on {three['delivered']}",
        },
        {"answer": twice["ticket"], "settled": f"is merged into {twice['ticket']}"},
    ]
    questions = [
        f"1. How much is refunded in the end to the customer from {item['city']} with the {item['product']}?",
        f"2. Who approved, in the end, the replacement for {two['serial']}?",
        f"3. When is the order of the customer from {three['city']} with the {three['product']} delivered?",
        f"4. Which ticket has, in the end, the case from {twice['city']} about the {twice['product']}?",
    ]
    (HERE / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    print("\n".join(questions))
    print(f"{len(lines)} messages, {sum(map(len, lines)) // 1000} kB")


if __name__ == "__main__":
    main()
