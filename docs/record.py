"""Records docs/pictures/run.svg and watch.svg from a real terminal: `python -m docs.record`; needs tmux.

A slow script model is run in a terminal of its own. What the terminal shows is taken several times a second;
the frames become one SVG that plays in a browser and needs no script. No frame is written or changed by hand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import yaml
from rich.color import Color, ColorType
from rich.style import Style
from rich.text import Text

FOLDER = Path(__file__).parent / "pictures"
COLUMNS, ROWS = 100, 26
STEP_S = 0.25
HOLD_S = 4.0  # the last frame, before the recording begins again
CHAR_WIDTH, LINE_HEIGHT, MARGIN = 8.4, 18, 12
COLOURS = {1: "#e06c75", 2: "#98c379", 3: "#e5c07b", 4: "#61afef", 5: "#c678dd", 6: "#56b6c2"}
_FOREGROUND, _BACKGROUND = "#dcdfe4", "#1e2127"
_EXAMPLE = Path(__file__).parents[1] / "examples" / "first-rejection"


@dataclass(frozen=True)
class Frame:
    """What the terminal showed, and for how long."""

    lines: tuple[str, ...]
    seconds: float


class Terminal:
    """A tmux session of a fixed size."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")
        self._tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-c", str(folder), "sh")
        self._tmux("set", "-g", "status", "off")
        self.write(f"PS1='$ '; PATH={Path(sys.executable).parent}:$PATH; unset CI NO_COLOR; clear")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def write(self, line: str) -> None:
        """Type a line."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press one key."""
        self._tmux("send-keys", key)

    def screen(self) -> tuple[str, ...]:
        """The lines on the screen, with their colours as escape codes."""
        return tuple(self._tmux("capture-pane", "-p", "-e").rstrip("\n").split("\n"))

    def record(self, until: str, timeout_s: float = 120) -> Iterator[Frame]:
        """Each screen until a line begins with ``until``."""
        began = shown_since = time.monotonic()
        last = self.screen()
        while time.monotonic() - began < timeout_s:
            time.sleep(STEP_S)
            now, at = self.screen(), time.monotonic()
            if now != last:
                yield Frame(last, at - shown_since)
                last, shown_since = now, at
            if any(Text.from_ansi(line).plain.startswith(until) for line in now):
                break
        yield Frame(last, HOLD_S)

    def close(self) -> None:
        """End the session and what runs in it."""
        self._tmux("kill-server")


def animated(frames: list[Frame]) -> str:
    """One SVG that shows the frames one after the other, again and again."""
    total = sum(frame.seconds for frame in frames)
    parts, rules, begins = [], [], 0.0
    for number, frame in enumerate(frames):
        ends = begins + frame.seconds
        shown, hidden = (f"{100 * at / total:.3f}%" for at in (begins, ends))
        before = "" if number == 0 else "0% { visibility: hidden } "
        rules.append(
            f"@keyframes f{number} {{ {before}{shown} {{ visibility: visible }} "
            f"{hidden}, 100% {{ visibility: hidden }} }}"
        )
        parts.append(f'<g class="f" style="animation-name:f{number}">{_text_of(frame.lines)}</g>')
        begins = ends
    rules.append(f".f {{ visibility: hidden; animation: {total:.2f}s step-end infinite }}")
    return _page(" ".join(rules), "\n".join(parts))


def still(lines: tuple[str, ...]) -> str:
    """One SVG of one screen."""
    return _page("", f"<g>{_text_of(lines)}</g>")


def _page(rules: str, content: str) -> str:
    width, height = COLUMNS * CHAR_WIDTH + 2 * MARGIN, ROWS * LINE_HEIGHT + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}">\n'
        f"<style>text {{ font: 14px 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre; "
        f"fill: {_FOREGROUND} }} {rules}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>\n{content}\n</svg>\n'
    )


def _text_of(lines: tuple[str, ...]) -> str:
    rows = (_row(number, Text.from_ansi(line)) for number, line in enumerate(lines))
    return "".join(row for row in rows if row)


def _row(number: int, line: Text) -> str:
    if not line.plain.strip():
        return ""
    y = MARGIN + LINE_HEIGHT * (number + 0.8)
    spans = []
    at = 0
    for run, style in _runs(line):
        x = MARGIN + CHAR_WIDTH * at
        # The length is given, so columns stay in line whatever font a reader has.
        length = CHAR_WIDTH * len(run)
        spans.append(f'<tspan x="{x:.1f}" textLength="{length:.1f}"{_look(style)}>{escape(run)}</tspan>')
        at += len(run)
    return f'<text y="{y:.1f}">{"".join(spans)}</text>'


def _runs(line: Text) -> Iterator[tuple[str, Style]]:
    """The parts of a line that have one style each."""
    styles = [Style.null()] * len(line.plain)
    for span in line.spans:
        style = span.style if isinstance(span.style, Style) else Style.parse(span.style)
        for at in range(span.start, min(span.end, len(styles))):
            styles[at] += style
    begin = 0
    for at in range(1, len(styles) + 1):
        if at == len(styles) or styles[at] != styles[begin]:
            yield line.plain[begin:at], styles[begin]
            begin = at


def _look(style: Style) -> str:
    result = "" if style.color is None else _fill(style.color)
    if style.dim:
        result += ' opacity="0.7"'
    return result + (' font-weight="bold"' if style.bold else "")


def _fill(colour: Color) -> str:
    if colour.type is ColorType.DEFAULT:
        return ""  # that of the terminal
    if colour.type is not ColorType.STANDARD:
        return f' fill="{colour.get_truecolor().hex}"'
    bright = (colour.number or 0) % 8
    return f' fill="{COLOURS[bright]}"' if bright in COLOURS else ""


def _slow_example(folder: Path) -> None:
    """The first example of the documents, with a model that takes its time."""
    shutil.copytree(_EXAMPLE, folder, dirs_exist_ok=True)
    script = folder / "script.yaml"
    script.write_text(yaml.safe_dump({**yaml.safe_load(script.read_text()), "latency_s": 2.0}))


def main() -> None:
    """Record both pictures."""
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        _slow_example(folder)
        terminal = Terminal(folder)
        try:
            time.sleep(1)
            terminal.write("loop-runner run task.yaml")
            frames = list(terminal.record(until="Next"))
            terminal.write("clear; loop-runner watch")
            time.sleep(6)
            terminal.press("Enter")
            time.sleep(6)
            watched = terminal.screen()
        finally:
            terminal.close()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "run.svg").write_text(animated(frames), encoding="utf-8")
    (FOLDER / "watch.svg").write_text(still(watched), encoding="utf-8")


if __name__ == "__main__":
    main()
