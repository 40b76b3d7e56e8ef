"""Makes the documents of this example: a contract of 500 pages (a PDF), twelve prior agreements, and the key.

    python3 examples/legal/make.py

The same files every time; standard library only. The contract has a part for each agreement, which states
the same terms in other words. In eleven places it owes something else: those are the conflicts. ``key.json``
has them; it is for the gate, and neither the task nor the script of this example sees it.
"""

import json
import random
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
PAGES, LINES = 500, 44
BUYER = "Norrland Paper AB"
SUPPLIERS = (
    ("Warehouse Services", "Brandt Lager GmbH", "storage", "Sweden"),
    ("Sea Freight", "Castor Shipping plc", "sea freight", "the Baltic Sea"),
    ("Pulp Supply", "Silva Oy", "pulp", "Finland"),
    ("Data Hosting", "Heliograf AS", "hosting", "Norway"),
    ("Catering", "Matgruppen AB", "canteen meals", "Umea"),
    ("Cleaning", "Renhold AS", "cleaning", "Oslo"),
    ("Fleet Lease", "Motorpool Ltd", "company cars", "Scotland"),
    ("Chemicals", "Kemira Nord ApS", "bleaching agents", "Denmark"),
    ("Training", "Lernwerk AG", "safety training", "Switzerland"),
    ("Guarding", "Aegis Security BV", "guarding", "Rotterdam"),
    ("Recycling", "Kringlopp AB", "waste paper", "Skane"),
    ("Packaging", "Kolb Verpackung AG", "cartons", "Austria"),
)
WORDS = {1: "one", 2: "two", 3: "three", 5: "five", 6: "six", 7: "seven", 9: "nine", 12: "twelve"}
WORDS |= {30: "thirty", 45: "forty-five", 60: "sixty"}
LAWS = ("Sweden", "England", "Finland", "Switzerland")
SEATS = ("the courts of Gothenburg", "arbitration in Zurich", "the courts of Helsinki")


@dataclass(frozen=True)
class Terms:
    """What one agreement owes."""

    payment: int  # days
    cap: int  # EUR
    notice: int  # months
    interest: int  # per cent
    law: str
    disputes: str
    renews: bool
    ends: date
    secrecy: int  # years
    assignable: bool
    insurance: int  # EUR
    audits: int  # a year


# What the contract has otherwise, by agreement. The eleventh conflict is the one of ``EXCLUSIVE_TWICE``.
CHANGED = {
    1: {"payment": 60},
    2: {"law": "England", "notice": 12},
    4: {"cap": 1_500_000},
    5: {"ends": date(2027, 6, 30)},
    6: {"renews": True},
    8: {"interest": 9, "secrecy": 2},
    10: {"disputes": "arbitration in Zurich"},
    11: {"assignable": True},
}
EXCLUSIVE_TWICE = (3, 12)  # what agreement 3 grants for good, the contract's part 12 grants to a third party
AMENDED = 9  # its payment term was changed by an amendment, which the contract follows


def terms(rng: random.Random, number: int) -> Terms:
    """Terms that differ from those of ``CHANGED``."""
    return Terms(
        payment=rng.choice((30, 45)),
        cap=rng.choice((2_000_000, 3_000_000, 500_000)),
        notice=rng.choice((3, 6)),
        interest=rng.choice((5, 7)),
        law="Sweden" if number == 2 else rng.choice(LAWS),
        disputes="the courts of Gothenburg" if number == 10 else rng.choice(SEATS),
        renews=number != 6 and rng.random() < 0.5,
        ends=date(rng.choice((2026, 2027, 2028)), 12, 31),
        secrecy=rng.choice((5, 7)),
        assignable=number != 11 and rng.random() < 0.3,
        insurance=rng.choice((4_000_000, 6_000_000)),
        audits=rng.choice((1, 2)),
    )


# ── the same thing said in two ways ─────────────────────────────────────────────────────────────────


def old_words(of: Terms) -> dict[str, str]:
    """The terms as the agreements say them."""
    renewal = "is extended by a year each time" if of.renews else "ends without notice and is not extended"
    transfer = "Each party may transfer" if of.assignable else "Neither party may transfer"
    return {
        "payment": f"The buyer pays within {of.payment} days after it has the invoice.",
        "cap": f"In one year neither party is liable for more than EUR {of.cap:,}.",
        "notice": f"A party that gives {of.notice} months' notice may end this agreement early.",
        "interest": f"On late payments {of.interest} % interest a year is due.",
        "law": f"The law of {of.law} applies.",
        "disputes": f"Disputes go to {of.disputes}.",
        "renewal": f"After its last day this agreement {renewal}.",
        "ends": f"Its last day is {of.ends:%d.%m.%Y}.",
        "secrecy": f"What is secret stays secret for {of.secrecy} years after the end.",
        "assignment": f"{transfer} its rights to others without being asked to.",
        "insurance": f"The supplier is insured for at least EUR {of.insurance // 1_000_000} million.",
        "audits": f"The buyer may inspect the books {'once' if of.audits == 1 else 'twice'} a year.",
    }


def new_words(of: Terms) -> dict[str, str]:
    """The terms as the contract says them."""
    renewal = "renews for successive periods of one year" if of.renews else "shall not renew"
    transfer = "may be assigned" if of.assignable else "shall not be assigned"
    return {
        "payment": f"Invoices are payable within {WORDS[of.payment]} ({of.payment}) days of receipt.",
        "cap": f"The liability of a party per year is capped at EUR {of.cap / 1_000_000:g} million.",
        "notice": f"Termination for convenience requires {WORDS[of.notice]} ({of.notice}) months' notice.",
        "interest": f"Overdue sums bear interest at {WORDS[of.interest]} per cent per annum.",
        "law": f"This Part is governed by and construed in accordance with the laws of {of.law}.",
        "disputes": f"All disputes under this Part are finally settled by {of.disputes}.",
        "renewal": f"Upon expiry this Part {renewal}.",
        "ends": f"The term of this Part expires on {of.ends.day} {of.ends:%B %Y}.",
        "secrecy": f"Confidentiality obligations survive for {12 * of.secrecy} months after termination.",
        "assignment": f"Rights under this Part {transfer} without the prior consent of the other party.",
        "insurance": f"The Supplier maintains insurance of not less than EUR {of.insurance:,}.",
        "audits": f"The Buyer may audit the records {WORDS[of.audits]} ({of.audits}) times per year.",
    }


# ── what stands around it ───────────────────────────────────────────────────────────────────────────

SUBJECTS = ("The Supplier", "The Buyer", "Each party", "The steering committee", "The site manager")
DUTIES = (
    "keeps records of deliveries in the form agreed in the annex",
    "informs the other party of any change of address or bank without delay",
    "attends the quarterly meeting and circulates minutes within ten days",
    "names a contact person and a deputy for each site",
    "complies with the safety rules of the site as amended from time to time",
    "makes reasonable efforts to reduce waste and energy consumption",
    "answers complaints in writing and keeps them for three years",
    "labels every consignment with the order number and the date",
    "permits visits to its premises during working hours",
    "reviews the annexes every six months and proposes changes",
)
ENDS = (
    "unless the annex provides otherwise.",
    "and bears its own costs in doing so.",
    "in accordance with good industry practice.",
    "to the extent that the law permits.",
    "as set out in the operations manual.",
)


def filler(rng: random.Random) -> str:
    """A sentence that owes nothing that anybody compares."""
    return f"{rng.choice(SUBJECTS)} {rng.choice(DUTIES)} {rng.choice(ENDS)}"


def agreement(rng: random.Random, number: int, of: Terms) -> list[str]:
    """The lines of a prior agreement; each sentence that matters is a line of its own."""
    title, supplier, goods, place = SUPPLIERS[number - 1]
    lines = [f"{title.upper()} AGREEMENT No. {number}", f"between {BUYER} and {supplier}", ""]
    exclusive = f"{supplier} alone supplies {goods} in {place} to the buyer."
    sentences = [exclusive, *old_words(of).values()]
    if number == AMENDED:
        before = replace(of, payment=90)
        sentences[1] = old_words(before)["payment"]
    for clause, sentence in enumerate(sentences, 1):
        lines += [f"{clause}.", filler(rng), sentence, *(filler(rng) for _ in range(rng.randint(1, 4))), ""]
    if number == AMENDED:
        lines += ["AMENDMENT of 2 May 2021. Clause 2 now reads:", old_words(of)["payment"]]
    return lines


def part(rng: random.Random, number: int, of: Terms, length: int) -> list[str]:
    """A part of the contract in exactly ``length`` lines."""
    title, supplier, goods, place = SUPPLIERS[number - 1]
    exclusive = f"The Buyer appoints {supplier} as its exclusive supplier of {goods} in {place}."
    sentences = [exclusive, *new_words(of).values()]
    if number == EXCLUSIVE_TWICE[0]:
        sentences[0] = f"{supplier} remains a supplier of {goods} in {place}."
    if number == EXCLUSIVE_TWICE[1]:
        _, _, goods, place = SUPPLIERS[EXCLUSIVE_TWICE[0] - 1]
        sentences.append(f"The Buyer appoints {supplier} as its exclusive supplier of {goods} in {place}.")
    rng.shuffle(sentences)
    lines = [f"PART {number}. {title.upper()} ({supplier})", ""]
    room = length // len(sentences)
    for article, sentence in enumerate(sentences, 1):
        body = [f"Article {number}.{article}", *(filler(rng) for _ in range(room - 3))]
        body.insert(rng.randint(1, len(body)), sentence)
        lines += [*body, ""]
    return (lines + [filler(rng) for _ in range(length)])[:length]


def front(rng: random.Random, length: int) -> list[str]:
    """Parties and definitions."""
    lines = ["FRAMEWORK CONTRACT", f"between {BUYER} and the suppliers named in Parts 1 to 12", ""]
    return (lines + [filler(rng) for _ in range(length)])[:length]


# ── a PDF, by hand ──────────────────────────────────────────────────────────────────────────────────


def pdf(pages: list[list[str]]) -> bytes:
    """A small PDF with these pages: one font, a text object for each page, a table of where objects begin."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
    ]
    for index, lines in enumerate(pages):
        font = "/Resources << /Font << /F 3 0 R >> >> /MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {font} /Contents {5 + 2 * index} 0 R >>".encode())
        shown = " T* ".join(f"({_escaped(line)}) Tj" for line in lines)
        stream = f"BT /F 6 Tf 16 TL 50 740 Td {shown} ET".encode("ascii")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    body, places = b"%PDF-1.4\n", []
    parts = [body]
    at = len(body)
    for number, content in enumerate(objects, 1):
        places.append(at)
        parts.append(b"%d 0 obj\n%s\nendobj\n" % (number, content))
        at += len(parts[-1])
    rows = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, rows))
    parts.append(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, at))
    return b"".join(parts)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


# ── all together ────────────────────────────────────────────────────────────────────────────────────


def conflicts(before: dict[int, Terms], after: dict[int, Terms]) -> list[dict]:
    """What is to be found: the sentences of both sides, and the agreement that the old one stands in."""
    result = []
    for number, of in before.items():
        was, would_be, now = old_words(of), old_words(after[number]), new_words(after[number])
        result += [
            {"what": what, "agreement": number, "old": was[what], "part": number, "new": now[what]}
            for what in was
            if would_be[what] != was[what]
        ]
    first, second = EXCLUSIVE_TWICE
    _, supplier, goods, place = SUPPLIERS[first - 1]
    old = f"{supplier} alone supplies {goods} in {place} to the buyer."
    new = f"The Buyer appoints {SUPPLIERS[second - 1][1]} as its exclusive supplier of {goods} in {place}."
    return [*result, {"what": "exclusivity", "agreement": first, "old": old, "part": second, "new": new}]


def main() -> None:
    """Write ``inputs/`` and ``key.json``."""
    rng = random.Random(1907)
    before = {number: terms(rng, number) for number in range(1, 13)}
    before[5] = replace(before[5], ends=date(2027, 12, 31))
    after = {number: replace(of, **CHANGED.get(number, {})) for number, of in before.items()}
    length = (PAGES - 8) * LINES // 12
    lines = front(rng, 8 * LINES)
    for number in before:
        lines += part(rng, number, after[number], length)
    pages = [lines[at : at + LINES] for at in range(0, len(lines), LINES)]
    (HERE / "inputs" / "agreements").mkdir(parents=True, exist_ok=True)
    (HERE / "inputs" / "contract.pdf").write_bytes(pdf(pages))
    for number, of in before.items():
        path = HERE / "inputs" / "agreements" / f"agreement-{number:02}.txt"
        path.write_text("\n".join(agreement(rng, number, of)) + "\n", encoding="utf-8")
    key = conflicts(before, after)
    for item in key:
        begin = 8 * LINES + (item["part"] - 1) * length
        item["page"] = (begin + lines[begin : begin + length].index(item["new"])) // LINES + 1
    (HERE / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    print(f"contract.pdf has {len(pages)} pages; {len(before)} agreements; {len(key)} conflicts")


if __name__ == "__main__":
    main()
