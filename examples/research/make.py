"""Makes twenty abstracts on green roofs, and the key.

    python3 examples/research/make.py

The same files every time; standard library only. Eight studies find that rooms are cooler, four that they are
not, five are about other things. One of the eight was retracted, the number of another was corrected, and a
protocol has no result yet. ``key.json`` is for the gate; the task and the script do not see it.
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
AUTHORS = (
    "Alder",
    "Birch",
    "Cedar",
    "Dogwood",
    "Elder",
    "Fir",
    "Gorse",
    "Hazel",
    "Ivy",
    "Juniper",
    "Kapok",
    "Larch",
)
AUTHORS += ("Maple", "Nettle", "Oak", "Pine", "Quince", "Rowan", "Spruce", "Teak")
COOLER = (
    "Rooms under planted roofs were {} degrees cooler at noon.",
    "Indoor temperature fell by {} degrees where the roof was green.",
    "Peak room temperature was reduced by {} degrees under vegetation.",
)
SAME = (
    "We found no difference in indoor temperature between the roofs.",
    "Room temperature was unchanged by the planting.",
    "No effect on indoor temperature was seen after the first year.",
)
OTHER = (
    ("Runoff after storms", "Runoff fell by {} per cent in the first hour."),
    ("Wild bees on city roofs", "We counted {} species, most of them on sunny days."),
    ("What roofs cost", "Upkeep came to {} euros for each square metre and year."),
    ("Noise below vegetation", "Noise from the street was lower by {} decibels."),
    ("How owners see their roofs", "Of all owners, {} per cent would plant again."),
)
METHODS = (
    "Sensors were read every ten minutes for two summers.",
    "The buildings were alike in age, height and use.",
    "Two buildings were left out because their windows stood open.",
    "Windows were kept closed and blinds down during the measurements.",
)


def abstract(rng: random.Random, title: str, result: str) -> list[str]:
    """A title line, what was done, and one sentence with the result."""
    methods = rng.sample(METHODS, 3)
    return [title, "", methods[0], methods[1], result, methods[2]]


def title(kind: str, name: str) -> str:
    """The first line of a notice about the study in the file ``name``."""
    author, year = name.removesuffix(".txt").split("-")
    return f"{kind} of {author.title()}, {year}."


def main() -> None:
    """Write ``inputs/`` and ``key.json``."""
    rng = random.Random(20)
    authors = iter(rng.sample(AUTHORS, 20))
    made, key = {}, {"cooler": {}, "same": {}, "left out": {}}

    def study(about: str, result: str, group: str = "") -> str:
        author, year = next(authors), rng.randint(2004, 2021)
        name = f"{author.lower()}-{year}.txt"
        made[name] = abstract(rng, f"{author}, {year}. {about}.", result)
        if group:
            key[group][name] = result
        return name

    cooler = [
        study(
            "Green roofs and rooms in summer",
            rng.choice(COOLER).format(round(rng.uniform(0.8, 4), 1)),
            "cooler",
        )
        for _ in range(8)
    ]
    for _ in range(4):
        study("Indoor climate below planted roofs", rng.choice(SAME), "same")
    for about, result in OTHER:
        study(about, result.format(rng.randint(5, 60)))
    study("Protocol for a trial of green roofs", "Indoor temperature will be compared in 2026.")
    retracted, corrected = cooler[2], cooler[5]
    sentence = "The sensors hung in the sun, so the article is withdrawn by its author."
    made["notice-1.txt"] = [title("Retraction", retracted), "", sentence]
    key["left out"] = {retracted: key["cooler"].pop(retracted), "notice-1.txt": sentence}
    number = round(rng.uniform(0.3, 0.7), 1)
    output = f"The difference was printed with a wrong decimal; it should read {number} degrees."
    made["notice-2.txt"] = [title("Correction", corrected), "", output]
    key["cooler"] |= {"notice-2.txt": output}
    (HERE / "inputs").mkdir(exist_ok=True)
    for name, lines in made.items():
        (HERE / "inputs" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (HERE / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    print(f"{len(made)} texts: {', '.join(f'{len(quotes)} {group}' for group, quotes in key.items())}")


if __name__ == "__main__":
    main()
