"""Makes the papers of a bridge that was built in 2019: letters, minutes, a site diary, press; and the key.

    python3 examples/timeline/make.py

The same files every time; standard library only. Dates come in seven forms, some only relative to the paper's
own date. Two events have two dates. ``key.json`` is for the gate; the task and the script do not see it.
"""

import json
import random
from datetime import date, timedelta
from pathlib import Path

HERE = Path(__file__).parent
EVENTS = (  # in order, each some days after the one before
    *(
        "the council approved the bridge",
        "the contract was signed",
        "the site was fenced",
        "the old ferry stopped",
    ),
    *("the first pile was driven", "the river flooded the site", "the pumps arrived", "pile seven broke"),
    *(
        "the inspector closed the site",
        "the site opened again",
        "the east pier was finished",
        "the crane failed",
    ),
    *(
        "a new crane arrived",
        "the west pier was finished",
        "the steel was delivered",
        "the first girder was laid",
    ),
    *("the strike began", "the strike ended", "the last girder was laid", "the deck was poured"),
    *("the lamps were installed", "the load test was passed", "the bridge was opened", "the ferry was sold"),
)
TWICE = {"pile seven broke": 3, "the steel was delivered": 9}  # said again elsewhere, so many days later
CHATTER = (
    "The weather was fair and the men were paid.",
    "Visitors were shown round in small groups.",
    "The minutes of the last meeting were read and accepted.",
    "Gravel was ordered, and then ordered again.",
    "Nothing was said about the costs.",
)


def ordinal(day: date) -> str:
    """March 3rd, 2019"""
    ending = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}.get(day.day, "th")
    return f"{day:%B} {day.day}{ending}, {day.year}"


def sentence(form: int, what: str, day: date, paper: date) -> str:
    """A sentence with the date in one of seven forms; ``paper`` is the date at the top."""
    sentence = f"{what[0].upper()}{what[1:]}"
    days_before = (paper - day).days
    return (
        f"{day.isoformat()}: {what}.",
        f"{sentence} on {day.day} {day:%B} {day.year}.",
        f"On {ordinal(day)}, {what}.",
        f"{sentence} ({day:%d.%m.%Y}).",
        f"{sentence} on {day.day} {day:%B} of this year.",
        f"{sentence} {days_before} days ago.",
        f"{sentence} yesterday.",
    )[form]


def papers(dated: list[tuple[str, date]], rng: random.Random) -> dict[str, list[str]]:
    """File name to lines: two or three events each, of different ages."""
    kinds = ("letter", "minutes", "diary", "press")
    made: dict[str, list[str]] = {}
    left = dated[:]
    while left:
        some, left = left[:3], left[3:]
        paper = max(day for _, day in some) + timedelta(1)
        number = len(made) + 1
        lines = [f"{kinds[number % 4].upper()} of {paper.day} {paper:%B} {paper.year}", ""]
        for at, (what, day) in enumerate(some):
            last = (paper - day).days == 1
            lines += [
                rng.choice(CHATTER),
                sentence(6 if last and at == 2 else rng.randint(0, 5), what, day, paper),
            ]
        made[f"{number:02}-{kinds[number % 4]}.txt"] = [*lines, rng.choice(CHATTER)]
    return made


def main() -> None:
    """Write ``inputs/`` and ``key.json``."""
    rng = random.Random(2019)
    day, dated = date(2019, 1, 9), []
    for what in EVENTS:
        dated.append((what, day))
        day += timedelta(rng.randint(4, 20))
    again = [(what, dict(dated)[what] + timedelta(later)) for what, later in TWICE.items()]
    made = papers(dated, rng)
    for what, other in again:
        paper = other + timedelta(40)
        lines = [
            f"LETTER of {paper.day} {paper:%B} {paper.year}",
            "",
            rng.choice(CHATTER),
            sentence(1, what, other, paper),
        ]
        made[f"{len(made) + 1:02}-letter.txt"] = lines
    (HERE / "inputs").mkdir(exist_ok=True)
    for name, lines in made.items():
        (HERE / "inputs" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    key = {
        what: sorted(day.isoformat() for event, day in [*dated, *again] if event == what) for what in EVENTS
    }
    (HERE / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    print(f"{len(made)} papers, {len(EVENTS)} events, {len(TWICE)} contradictions")


if __name__ == "__main__":
    main()
