"""``RESULTS.md`` and its plots, from the recorded attempts: where a peer is ahead, conditions, numbers."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from evals import halves
from evals.arms import ARMS, PEERS
from evals.families import FAMILIES, NEEDS_JUDGEMENT
from evals.measures import Median, Share, summary
from evals.plots import Point, named, plot
from evals.runner import Row

HERE = Path(__file__).parent
_HALVES = {"tuning": "tuning half (even seeds)", "unseen": "unseen half (odd seeds)"}


def write(rows: Sequence[Row], missing: Mapping[str, str], folder: Path = HERE) -> Path:
    """Write ``RESULTS.md`` and ``plots/`` into ``folder``. ``missing``: arms and why they have no result."""
    rows = newest(rows)
    notes = folder / "notes.md"
    parts = [
        "# Results of the evaluations",
        "Written by `python -m evals report`; do not edit. Terms and commands: [README.md](README.md).",
        "## Where a peer is ahead",
        *ahead(rows),
        *([notes.read_text(encoding="utf-8").strip()] if notes.exists() else []),
        "## Conditions",
        *conditions(rows, missing, folder),
    ]
    for half, title in _HALVES.items():
        chosen = [row for row in rows if row.half == half]
        parts += [f"## The {title}", *(tables(chosen) if chosen else ["Not measured yet."])]
    parts += ["## Plots", *_plots(rows, folder)]
    path = folder / "RESULTS.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def newest(rows: Sequence[Row]) -> list[Row]:
    """For each arm and model, the attempts of the version that was measured last."""
    last = {(row.arm, row.model): row.version for row in sorted(rows, key=lambda row: row.at)}
    return [row for row in rows if last[row.arm, row.model] == row.version]


def ahead(rows: Sequence[Row]) -> list[str]:
    """A line for each family and arm that answered more of the same questions rightly than the loop did."""
    lines = []
    for family in _in_order(FAMILIES, (row.family for row in rows)):
        for arm in (*PEERS, "pass"):
            mine, other = _paired([row for row in rows if row.family == family], "loop", arm)
            if sum(row.is_right for row in other) > sum(row.is_right for row in mine):
                lines.append(_ahead_line(family, arm, mine, other))
    if not lines:
        has_pairs = any(_paired(rows, "loop", arm)[0] for arm in PEERS)
        return ["None in these measurements." if has_pairs else "No peer was measured on the same questions."]
    return ["Right answers to the same questions; an interval is Wilson's at 95 %.", "\n".join(lines)]


def _ahead_line(family: str, arm: str, mine: Sequence[Row], other: Sequence[Row]) -> str:
    shares = [Share(sum(row.is_right for row in part), len(part)) for part in (other, mine)]
    lost = Counter(
        _why(row) for row, rival in zip(mine, other, strict=True) if rival.is_right and not row.is_right
    )
    why = "; ".join(f"{count} times: {reason}" for reason, count in lost.most_common(3))
    apart = shares[0].interval[0] > shares[1].interval[1]
    clear = "" if apart else " The intervals overlap, so the order is open."
    return f"- **{family}**: `{arm}` {shares[0]}, `loop` {shares[1]}.{clear} What the loop lost, {why}"


def _why(row: Row) -> str:
    """Why an attempt of the loop is not right, in words that can be counted."""
    if row.error and not row.error.startswith("unverified"):
        return f"it ended early ({row.error.partition(':')[0]})"
    state = "verified" if row.verified else "unverified"
    if not row.answer.strip():
        return f"{state}, and without an answer"
    return (
        f"{state}, and {'the line quotes are incomplete' if 'not quoted' in row.reason else 'a wrong value'}"
    )


def _paired(rows: Sequence[Row], mine: str, other: str) -> tuple[list[Row], list[Row]]:
    """The attempts of two arms at the questions that both have."""
    by_question: dict[tuple[str, str, int, int], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        by_question[row.model, row.family, row.seed, row.size][row.arm] = row
    pairs = [(arms[mine], arms[other]) for arms in by_question.values() if {mine, other} <= arms.keys()]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def conditions(rows: Sequence[Row], missing: Mapping[str, str], folder: Path) -> list[str]:
    """What was measured, with what, and when."""
    lines = [f"- Models: {_names(row.model for row in rows)}."]
    lines += [f"- `{arm}`: {_names(row.version for row in rows if row.arm == arm)}." for arm in _arms(rows)]
    lines += [
        f"- `{arm}`: not measured: {reason}." for arm, reason in missing.items() if arm not in _arms(rows)
    ]
    if rows:
        first, last = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in _ends(rows))
        load = statistics.median(row.load for row in rows)
        lines.append(
            f"- {len(rows)} attempts from {first} to {last} UTC; median load of the machine {load:.1f}."
        )
        lines.append(f"- Machine: {_names(row.machine for row in rows)}.")
    uses = folder / halves.USES.name
    count = len(uses.read_text(encoding="utf-8").splitlines()) if uses.exists() else 0
    lines.append(f"- Uses of the unseen half that are recorded: {count}.")
    unmeasured = [family for family in FAMILIES if family not in {row.family for row in rows}]
    if unmeasured:
        lines.append(f"- Families without a measurement: {', '.join(unmeasured)}.")
    return ["\n".join(lines)]


def _ends(rows: Sequence[Row]) -> tuple[int, int]:
    return min(row.at for row in rows), max(row.at for row in rows)


def _names(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values))) or "none"


def tables(rows: Sequence[Row]) -> list[str]:
    """The tables of one half: all attempts, those without judgement, by family, by size."""
    plain = [row for row in rows if row.family not in NEEDS_JUDGEMENT]
    return [
        "### All families",
        overall(rows),
        "### Families that need no judgement",
        overall(plain),
        "### Right answers by family",
        grid(rows, lambda row: row.family, _in_order(FAMILIES, (row.family for row in rows))),
        "### Right answers by size",
        grid(rows, lambda row: named(row.size), [named(size) for size in sorted({row.size for row in rows})]),
        "### Verified and wrong by family",
        grid(
            [row for row in rows if row.verified is not None],
            lambda row: row.family,
            _in_order(FAMILIES, (row.family for row in rows)),
            lambda row: row.verified is True and not row.is_right,
        ),
    ]


def overall(rows: Sequence[Row]) -> str:
    """A row for each arm."""
    lines = [
        "| arm | right | verified and right | verified and wrong | unverified | seconds | tokens | passes |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for arm in _arms(rows):
        total = summary([row for row in rows if row.arm == arm])
        shares = (total.right, total.verified_right, total.verified_wrong, total.unverified)
        cells = [str(share or "-") for share in shares]
        cells += [str(median) for median in (total.seconds, total.tokens, total.passes)]
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def grid(
    rows: Sequence[Row],
    group_of: Callable[[Row], str],
    groups: Sequence[str],
    counts: Callable[[Row], bool] = lambda row: row.is_right,
) -> str:
    """A row for each group, a column for each arm."""
    arms = _arms(rows)
    lines = ["| | " + " | ".join(f"`{arm}`" for arm in arms) + " |", "| --- |" + " --- |" * len(arms)]
    for group in groups:
        cells = []
        for arm in arms:
            chosen = [row for row in rows if row.arm == arm and group_of(row) == group]
            cells.append(str(Share(sum(map(counts, chosen)), len(chosen))))
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plots(rows: Sequence[Row], folder: Path) -> list[str]:
    """Write the plots; the lines that show them."""
    if not rows:
        return ["Nothing was measured yet."]
    (folder / "plots").mkdir(exist_ok=True)
    lines = []
    for name, title, unit, point in (
        ("right", "Right answers by size of the texts", "%", _right),
        ("tokens", "Median tokens per question by size of the texts", "", _tokens),
        ("seconds", "Median seconds per question by size of the texts", "s", _seconds),
    ):
        series = {arm: _series([row for row in rows if row.arm == arm], point) for arm in _arms(rows)}
        svg = plot(title, unit, series, top=1.0 if unit == "%" else None)
        (folder / "plots" / f"{name}.svg").write_text(svg, encoding="utf-8")
        lines.append(f"![{title}](plots/{name}.svg)")
    return lines


def _series(rows: Sequence[Row], point: Callable[[int, Sequence[Row]], Point]) -> list[Point]:
    sizes = sorted({row.size for row in rows})
    return [point(size, [row for row in rows if row.size == size]) for size in sizes]


def _right(size: int, rows: Sequence[Row]) -> Point:
    share = Share(sum(row.is_right for row in rows), len(rows))
    return Point(size, share.value, *share.interval)


def _tokens(size: int, rows: Sequence[Row]) -> Point:
    median = Median(tuple(float(row.tokens_in + row.tokens_out) for row in rows))
    return Point(size, median.value, *median.interval)


def _seconds(size: int, rows: Sequence[Row]) -> Point:
    median = Median(tuple(row.seconds for row in rows))
    return Point(size, median.value, *median.interval)


def _arms(rows: Sequence[Row]) -> list[str]:
    return _in_order(ARMS, (row.arm for row in rows))


def _in_order(order: Iterable[str], names: Iterable[str]) -> list[str]:
    present = set(names)
    return [name for name in order if name in present]
