"""Draws docs/pictures/*.svg: `python -m docs.draw`, which `make docs` runs too.

The picture of the package is made from the rows of ``tests/test_layers.py``, so it shows the imports that are
allowed. A test says when a picture is stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from tests.test_layers import FLOOR, FOLDERS

FOLDER = Path(__file__).parent / "pictures"

# Every picture brings its own background, so it can be read on a light page and on a dark one.
_STYLE = """
  .page { fill: #fbfbf8; stroke: #d5d5cc }
  .box { fill: #ffffff; stroke: #3d5a80; stroke-width: 1.5 }
  .soft { fill: #e9eef5; stroke: #3d5a80; stroke-width: 1.5 }
  .good { fill: #e3f3e6; stroke: #2e7d4f; stroke-width: 1.5 }
  .line { fill: none; stroke: #6b7f99; stroke-width: 1.5 }
  .back { fill: none; stroke: #b4543a; stroke-width: 1.8 }
  text { font-family: system-ui, 'DejaVu Sans', sans-serif; fill: #1d2733; text-anchor: middle }
  .name { font-size: 15px; font-weight: 600 }
  .note { font-size: 12px; fill: #46525f }
  .left { text-anchor: start }
  .red { fill: #9c3f27 }
  .green { fill: #22663f }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1c2229; stroke: #3a444f }
    .box { fill: #262e37; stroke: #7fa3d1 }
    .soft { fill: #2b3a4d; stroke: #7fa3d1 }
    .good { fill: #24402f; stroke: #6cc08b }
    .line { stroke: #8fa3bc }
    .back { stroke: #e08a6d }
    text { fill: #eef2f6 }
    .note { fill: #bfcad6 }
    .red { fill: #f0a58c }
    .green { fill: #8fd9aa }
  }
"""


def svg(width: int, height: int, title: str, shapes: list[str]) -> str:
    """A whole picture with its background; ``title`` is what a screen reader says."""
    body = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 8 4 0 8Z" fill="#6b7f99"/></marker>'
        '<marker id="red" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 8 4 0 8Z" fill="#b4543a"/></marker></defs>\n'
        f'<rect class="page" x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10"/>\n'
        f"{body}\n</svg>\n"
    )


def box(x: float, y: float, width: float, height: float, lines: list[str], kind: str = "box") -> str:
    """A box around its name and the notes below it."""
    middle = x + width / 2
    top = y + height / 2 - 8 * (len(lines) - 1) + 5
    texts = [
        text(middle, top + 17 * number, line, "note" if number else "name")
        for number, line in enumerate(lines)
    ]
    shape = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
    return "\n".join([shape, *texts])


def text(x: float, y: float, words: str, kind: str = "note") -> str:
    """Words around a point, or from it on with the kind `left`."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def line(path: str, *, both: bool = False, back: bool = False) -> str:
    """An arrow along an SVG path; ``both``: with two heads; ``back``: the way of a rejected answer."""
    start = ' marker-start="url(#tip)"' if both else ""
    kind, tip = ("back", "red") if back else ("line", "tip")
    return f'<path class="{kind}" d="{path}" marker-end="url(#{tip})"{start}/>'


# ── the package ─────────────────────────────────────────────────────────────────────────────────────

_CAPTIONS = {
    "cli": "the commands",
    "serve": "HTTP: OpenAI, Anthropic",
    "mcp": "tools for MCP clients",
    "fleet": "one task, many inputs",
    "report": "a run as one HTML file",
    "api": "import loop_runner",
    "audit": "rules over many files",
    "runs": "start, resume, fork, verify",
    "loop": "passes until accepted",
    "agents": "Claude Code, Codex, hooks",
    "session": "turns of one pass",
    "verify": "gates, stop hook, proof",
    "inputs": "texts, hashes, documents",
    "kernel": "the model's variables",
    "model": "providers, retries",
    "workspace": "git history, journal",
    "sandbox": "tiers A, B and C",
    "task": "task file, prompts",
}
_WIDTH, _GAP, _BOX, _HIGH, _ROW = 980, 24, 190, 52, 96


def front_ends(folders: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """``folders``, where one above ``api`` with an empty row uses the library, as every program may."""
    above = list(folders)[: list(folders).index("api")]
    return {name: {"api"} if name in above and not below else below for name, below in folders.items()}


def levels(folders: Mapping[str, set[str]]) -> dict[str, int]:
    """The height of each folder above the ground floor: one more than the highest that it may import."""
    heights: dict[str, int] = {}
    for name, below in reversed(list(folders.items())):
        heights[name] = 1 + max((heights[other] for other in below), default=0)
    return heights


def arrows(folders: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others: A to C is left out where a way leads over B."""
    reached: dict[str, set[str]] = {}
    for name, below in reversed(list(folders.items())):
        reached[name] = below.union(*(reached[other] for other in below))
    return [
        (name, other)
        for name, below in folders.items()
        for other in sorted(below)
        if not any(other in reached[middle] for middle in below - {other})
    ]


def _straight(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    """The path of an arrow to the row below."""
    x1, y1, x2, y2 = upper[0] + _BOX / 2, upper[1] + _HIGH, lower[0] + _BOX / 2, lower[1]
    bend = (y2 - y1) / 2
    return f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"


def _around(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    """The path of an arrow over several rows: out of the side, down beside them, into the lower box."""
    side, out = (_BOX, _GAP) if upper[0] >= lower[0] else (0, -_GAP)
    x1, y1, x2, y2 = upper[0] + side, upper[1] + _HIGH / 2, lower[0] + side, lower[1] + _HIGH / 2
    return f"M{x1:g} {y1:g}h{out:g}V{y2:g}H{x2:g}"


def package(folders: Mapping[str, set[str]], floor: Mapping[str, set[str]]) -> str:
    """The folders of ``loop_runner/``, the front ends on top, and the imports that are allowed."""
    folders = front_ends(folders)
    heights = levels(folders)
    top = max(heights.values())
    widest = max(list(heights.values()).count(height) for height in heights.values())
    width = max(_WIDTH, widest * (_BOX + _GAP * 2) + _GAP * 2)
    place: dict[str, tuple[float, float]] = {}
    for height in range(top, 0, -1):
        row = [name for name in folders if heights[name] == height]
        left = (width - len(row) * _BOX - (len(row) - 1) * _GAP * 2) / 2
        for number, name in enumerate(row):
            place[name] = (left + number * (_BOX + _GAP * 2), 24 + (top - height) * _ROW)
    shapes = []
    for name, other in arrows(folders):
        is_next = heights[name] == heights[other] + 1
        shapes.append(line((_straight if is_next else _around)(place[name], place[other])))
    for name, (x, y) in place.items():
        caption = [_CAPTIONS[name]] if name in _CAPTIONS else []
        shapes.append(
            box(
                x,
                y,
                _BOX,
                _HIGH,
                [f"{name}/", *caption],
                "soft" if heights[name] >= heights["api"] else "box",
            )
        )
    bottom = 24 + top * _ROW
    names = " · ".join(sorted(set(floor) - {"__init__"}))
    shapes.append(
        box(_GAP, bottom, width - 2 * _GAP, _HIGH, ["plain modules, for every folder", names], "soft")
    )
    return svg(width, bottom + 76, "The folders of the package and their imports, all downwards", shapes)


# ── a pass ──────────────────────────────────────────────────────────────────────────────────────────


def one_pass() -> str:
    """One pass of a run: from the prompt to the verdict, and back to the prompt when it is rejected."""
    shapes = [
        box(30, 40, 180, 70, ["task.yaml", "prompt, inputs, verifiers"], "soft"),
        line("M210 75H258"),
        box(260, 40, 190, 70, ["prompt", "the same bytes every pass"]),
        line("M450 75H498"),
        box(500, 40, 200, 70, ["session", "the model writes Python,", "sees what it prints"]),
        line("M702 75H788", both=True),
        box(790, 40, 200, 70, ["kernel (sandbox)", "context, variables,", "search, llm_query"]),
        line("M600 110V168"),
        text(610, 143, 'answer["ready"] = True', "note left"),
        box(500, 170, 200, 70, ["commit", "answer, files, variables,", "replies"]),
        line("M600 240V298"),
        box(500, 300, 200, 70, ["stop hook", "verifiers read the", "committed bytes"]),
        line("M700 335H788"),
        text(744, 324, "all accept", "note green"),
        box(790, 300, 200, 70, ["VERIFIED", "exit code 0, proof.json"], "good"),
        line("M500 335H355V112", back=True),
        text(428, 324, "one rejects", "note red"),
        box(
            60,
            190,
            240,
            70,
            ["the next pass also sees", "what failed, the draft,", "notes, variables, budget"],
        ),
        line("M300 225H353", back=True),
        line("M600 370V398H552"),
        text(318, 402, "budget used up: UNVERIFIED, exit code 3, the best answer is kept"),
    ]
    return svg(1020, 424, "One pass of a run, from the prompt to the verdict", shapes)


def pictures() -> dict[str, str]:
    """File name to content, of every picture."""
    return {"package.svg": package(FOLDERS, FLOOR), "pass.svg": one_pass()}


def write() -> None:
    """Write the pictures that differ from their files."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in pictures().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write()
