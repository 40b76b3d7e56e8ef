"""Runs what the documents show, and writes it into them: `make docs`.

A comment before a fenced block says what the block is:

    <!-- run -->                    its commands are run, in order, and end with exit code 0
    <!-- run: exit 3 -->            the last of them ends with exit code 3
    <!-- file: boxes.txt -->        it is written to that file before what follows is run
    <!-- output of: COMMAND -->     it is what COMMAND prints on standard output, up to <!-- end -->

Commands of one document are run one after another in an empty folder with a copy of ``examples/``, and
``loop-runner`` and ``python`` are this checkout's. Those that begin with ``make`` are shown only. What
differs from run to run (times, commit ids, token counts) does not count as a difference.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from docs import draw
from loop_runner.api import file_schemas
from loop_runner.budget import Budget
from loop_runner.cli import main_group
from loop_runner.kernel.offered import documented
from loop_runner.keys import Key, keys_of
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.task.task import AgentSettings, NoProgress, task_keys
from tests.support.commands import clean_environment
from tests.support.wrapping import wrapped

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "docs" / "commands.md"

_COMMENT = re.compile(r"<!--(.*?)-->")
_BLOCK = re.compile(
    r"<!-- (?P<marker>run(?:: exit \d+)?|file: [^\n]+?|output of: [^\n]+?) -->\n+"
    r"(?P<open>(?P<ticks>`{3,})\w*\n)(?P<body>.*?)(?P<close>^(?P=ticks)$)",
    re.DOTALL | re.MULTILINE,
)
_VARIABLE = (
    (re.compile(r"\b\d+(\.\d+)? s\b"), "N s"),
    (re.compile(r"\b[0-9a-f]{10,40}\b"), "COMMIT"),
    (re.compile(r"\b[\d,]+ (tokens in|out|from cache)\b"), r"N \1"),
    (re.compile(r"^ *(\d+|all)  .* \d+\.\d{4}$", re.MULTILINE), "TOKENS AND DOLLARS"),
    (re.compile(r"genai-prices .*$", re.MULTILINE), "PRICES"),
)


def documents() -> list[Path]:
    """Every document that may show something that can be run."""
    result = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    return sorted([*result, *ROOT.glob("examples/*/README.md"), *ROOT.glob("hooks/*.md")])


def is_same(item: str, other: str) -> bool:
    """Whether two texts say the same, but for what differs from run to run."""
    return _settled(item) == _settled(other)


def _settled(text: str) -> str:
    for pattern, word in _VARIABLE:
        text = pattern.sub(word, text)
    return text


# ── what a document shows ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Block:
    """A fenced block with its comment; ``start`` and ``end`` are the body's places in the document."""

    marker: str
    ticks: str
    body: str
    start: int
    end: int


def blocks(text: str) -> list[Block]:
    """The marked blocks of a document, in order."""
    return [
        Block(match["marker"], match["ticks"], match["body"], match.start("body"), match.end("body"))
        for match in _BLOCK.finditer(text)
    ]


def unknown_comments(text: str) -> list[str]:
    """Comments that mean nothing here: a misspelt one would quietly run nothing."""
    known = len(blocks(text)) + sum(block.marker.startswith("output of: ") for block in blocks(text))
    comments = [comment.strip() for comment in _COMMENT.findall(text)]
    odd = [
        item for item in comments if not re.match(r"(run|run: exit \d+|end|file: .+|output of: .+)$", item)
    ]
    return odd or ([] if len(comments) == known else ["a comment without its block, or `end` without one"])


def refreshed(text: str) -> str:
    """``text`` with everything in it run and each output replaced by what was printed now.

    Raises ``AssertionError`` for a command that ended otherwise than the document says.
    """
    with _playground() as folder:
        parts, at = [], 0
        for block in blocks(text):
            parts += [text[at : block.start], _played(block, folder)]
            at = block.end
    return "".join([*parts, text[at:]])


def _played(block: Block, folder: Path) -> str:
    kind, _, argument = block.marker.partition(": ")
    if kind == "file":
        (folder / argument).write_text(block.body, encoding="utf-8")
    elif kind == "run":
        commands = _commands(block.body)
        for number, command in enumerate(commands, 1):
            is_last = number == len(commands)
            _run(command, folder, int(argument.removeprefix("exit ") or 0) if is_last else 0)
    elif not argument.startswith("make "):
        output = _run(argument, folder).rstrip() + "\n"
        assert block.ticks not in output, f"{argument}: it prints {block.ticks}, so its block needs more"
        return output
    return block.body


def _commands(body: str) -> list[str]:
    """A console block's commands stand behind dollars; any other block is commands altogether."""
    shown = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]
    return shown or [line for line in body.splitlines() if line.strip()]


def _run(command: str, folder: Path, exit_code: int = 0) -> str:
    path = f"{folder / '.bin'}:{clean_environment()['PATH']}"
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean_environment({"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == exit_code, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout.replace(f"{folder}/", "")  # a reader's folder is another one


@contextmanager
def _playground() -> Iterator[Path]:
    """A folder with ``examples/`` in it; ``loop-runner`` and ``python`` on its path are this checkout's."""
    with tempfile.TemporaryDirectory(prefix="loop-runner-docs-") as name:
        folder = Path(name)
        (folder / ".bin").mkdir()
        _write_command(folder / ".bin" / "loop-runner", f"{sys.executable} -m loop_runner")
        _write_command(folder / ".bin" / "python", sys.executable)
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("runs"))
        yield folder


def _write_command(path: Path, words: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    path.chmod(0o755)


# ── the commands' own help ──────────────────────────────────────────────────────────────────────────


def commands_page() -> str:
    """``docs/commands.md``: the help of every command, as it is printed."""
    intro = (
        "# Commands\n\n"
        "Every command with its `--help`, written by `make docs`. JSON output is described in\n"
        "[json.md](json.md), the task file in [task-file.md](task-file.md).\n"
    )
    return intro + "".join(
        f"\n## {' '.join(['loop-runner', *names])}\n\n```text\n{_help(names)}\n```\n"
        for names in command_names()
    )


def command_names() -> list[list[str]]:
    """Every command and its sub-commands, the program itself first."""
    result: list[list[str]] = [[]]
    context = main_group.make_context("loop-runner", ["doctor"], resilient_parsing=True)
    for name in main_group.list_commands(context):
        result.append([name])
        command = main_group.get_command(context, name)
        result += [[name, item] for item in getattr(command, "commands", {})]
    return result


def _help(names: list[str]) -> str:
    result = CliRunner().invoke(
        main_group, [*names, "--help"], prog_name="loop-runner", terminal_width=100, max_content_width=100
    )
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


# ── the keys of the task file ───────────────────────────────────────────────────────────────────────

TASK_FILE = ROOT / "docs" / "task-file.md"
_SECTIONS = {
    "Keys": task_keys(),
    "Budget": keys_of(Budget),
    "No progress": keys_of(NoProgress),
    "Kernel": keys_of(KernelSettings),
    "Agent": keys_of(AgentSettings),
}
_WIDTH = 118  # columns of a line in the documents


def with_lists_of_keys(page: str) -> str:
    """docs/task-file.md with the keys of each section as the fields of ``Task`` and its parts describe them.

    A list begins with the first `- **` of its section and ends with an empty line.
    """
    for heading, keys in _SECTIONS.items():
        section = page.index(f"\n## {heading}\n")
        start = page.index("\n- **", section) + 1
        end = page.index("\n\n", start) + 1
        assert "\n## " not in page[section + 1 : start], f"{TASK_FILE.name}: {heading} has no list"
        page = (
            page[:start]
            + "".join(map(_described, filter(lambda key: key.meaning, keys.values())))
            + page[end:]
        )
    return page


def _described(key: Key) -> str:
    is_required = key.default.startswith("required")
    required = f" ({key.default})" if is_required else ""
    default = f" *Default: {key.default}.*" if key.default and not is_required else ""
    words = f"**`{key.name}`**{required}: {key.meaning}.{default}"
    lines = textwrap.wrap(words, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "- " + "\n  ".join(lines) + "\n"


# ── the helpers of the model's code ─────────────────────────────────────────────────────────────────

HELPERS = ROOT / "docs" / "helpers.md"


def with_list_of_helpers(page: str) -> str:
    """docs/helpers.md with the signature and the docstring of each helper, up to the next empty line."""
    start = page.index("\n- `") + 1
    end = page.index("\n\n", start) + 1
    entries = (re.fullmatch(r"(`[^`]+`.*?): (.*)", line) for line in documented())
    return page[:start] + "".join(_entry(match[1], match[2]) for match in entries if match) + page[end:]


def _entry(call: str, description: str) -> str:
    lines = textwrap.wrap(description, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "\n  ".join([f"- {call}\\", *lines]) + "\n"


def main() -> None:
    """Bring every document up to date; those that say the same already are left alone."""
    file_schemas.write(ROOT / "docs" / "schemas")
    draw.write()
    for path, updated in ((TASK_FILE, with_lists_of_keys), (HELPERS, with_list_of_helpers)):
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in [COMMANDS, *documents()]:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = commands_page() if path == COMMANDS else wrapped(refreshed(old))
        if not is_same(old, new):
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} is new")


if __name__ == "__main__":
    main()
