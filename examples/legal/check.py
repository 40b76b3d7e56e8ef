"""The gate of this example: every planted conflict with page and quote of both sides, and nothing else."""

import json
import re
import sys
from pathlib import Path

CITATION = re.compile(r"^> (?P<name>[\w.-]+):(?:page )?(?P<place>\d+): (?P<quote>.+)$", re.MULTILINE)


def cites(section: str, name: str, quote: str, page: int | None = None) -> bool:
    """Whether the section quotes ``quote`` from ``name``, on that page if one is given."""
    return any(
        (match["name"], match["quote"]) == (name, quote) and (page is None or match["place"] == str(page))
        for match in CITATION.finditer(section)
    )


def is_in(section: str, conflict: dict) -> bool:
    """Whether a section of the answer is about this conflict."""
    old = f"agreement-{conflict['agreement']:02}.txt"
    new_side = cites(section, "contract.pdf", conflict["new"], conflict["page"])
    return new_side and cites(section, old, conflict["old"])


def main() -> int:
    """Exit code 0 for an answer with all of them."""
    key = json.loads((Path(__file__).parent / "key.json").read_text())
    sections = re.split(r"^(?=## )", sys.stdin.read(), flags=re.MULTILINE)[1:]
    result = [item for item in key if any(is_in(section, item) for section in sections)]
    false = [section.splitlines()[0] for section in sections if not any(is_in(section, item) for item in key)]
    if missing := len(key) - len(result):
        print(f"{len(result)} of {len(key)} conflicts are there with page and quotes; {missing} missing")
    for heading in false:
        print(f"no conflict, or quoted from elsewhere: {heading}")
    print(json.dumps({"score": len(result) / (len(key) + len(false))}))
    return 1 if missing or false else 0


if __name__ == "__main__":
    sys.exit(main())
