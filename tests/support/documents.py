"""Runs what the documents show, and writes it into them: `make docs`.

A comment before a fenced block says what the block is:

    <!-- run -->                    its commands are run, in order, and end with exit code 0
    <!-- run: exit 3 -->            the last of them ends with exit code 3
    <!-- file: boxes.txt -->        it is written to that file before what follows is run
    <!-- output of: COMMAND -->     it is what COMMAND prints on standard output, up to <!-- end -->

Commands of one document are run one after another in an empty folder with a copy of ``examples/``, and
``loop-runner`` is this checkout's. Those that begin with ``make`` are shown only. What differs from run to
run (times, commit ids, token counts) does not count as a difference.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from loop_runner.api import file_schemas
from loop_runner.budget import Budget
from loop_runner.cli import main_group
from loop_runner.keys import keys_of
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.task.task import AgentSettings, NoProgress, task_keys
from tests.support.commands import clean_environment

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
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    return sorted([*found, *ROOT.glob("examples/*/README.md"), *ROOT.glob("hooks/*.md")])


def is_same(one: str, other: str) -> bool:
    """Whether two texts say the same, but for what differs from run to run."""
    return _settled(one) == _settled(other)


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
    odd = [one for one in comments if not re.match(r"(run|run: exit \d+|end|file: .+|output of: .+)$", one)]
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
    """A folder with ``examples/`` in it and ``loop-runner`` on its path."""
    with tempfile.TemporaryDirectory(prefix="loop-runner-docs-") as name:
        folder = Path(name)
        (folder / ".bin").mkdir()
        command = folder / ".bin" / "loop-runner"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m loop_runner "$@"\n')
        command.chmod(0o755)
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("runs"))
        yield folder


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
    found: list[list[str]] = [[]]
    context = main_group.make_context("loop-runner", ["doctor"], resilient_parsing=True)
    for name in main_group.list_commands(context):
        found.append([name])
        command = main_group.get_command(context, name)
        found += [[name, each] for each in getattr(command, "commands", {})]
    return found


def _help(names: list[str]) -> str:
    result = CliRunner().invoke(
        main_group, [*names, "--help"], prog_name="loop-runner", terminal_width=100, max_content_width=100
    )
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


# ── the keys of the task file ───────────────────────────────────────────────────────────────────────

TASK_FILE = ROOT / "docs" / "task-file.md"
_HEADS = {
    "| key | value | default |": task_keys(),
    "| `budget` | limits | default |": keys_of(Budget),
    "| `no_progress` | means | default |": keys_of(NoProgress),
    "| `kernel` | limits | default |": keys_of(KernelSettings),
    "| `agent` | what | default |": keys_of(AgentSettings),
}


def with_tables_of_keys(page: str) -> str:
    """docs/task-file.md with its tables as the fields of ``Task`` and its parts describe them."""
    for head, keys in _HEADS.items():
        rows = [
            f"| `{key.name}` | {key.meaning} | {key.default} |".replace("|  |", "| |")
            for key in keys.values()
            if key.meaning
        ]
        table = "\n".join([head, "| --- | --- | --- |", *rows, ""])
        assert page.count(head) == 1, f"{TASK_FILE.name} has no table {head}"
        start = page.index(head)
        end = page.find("\n\n", start) + 1
        page = page[:start] + table + page[end:]
    return page


def main() -> None:
    """Bring every document up to date; those that say the same already are left alone."""
    file_schemas.write(ROOT / "docs" / "schemas")
    TASK_FILE.write_text(with_tables_of_keys(TASK_FILE.read_text(encoding="utf-8")), encoding="utf-8")
    for path in [COMMANDS, *documents()]:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = commands_page() if path == COMMANDS else refreshed(old)
        if not is_same(old, new):
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} is new")


if __name__ == "__main__":
    main()
