"""An audit of this Python's own standard library, measured against an exact key: `make audit-proof`.

Two rules: mutable default arguments, and bare ``except``. The key is made here with ``ast``; neither judge
ever sees it. The script judges every place from the lines that it is shown; ``local:coder`` judges whole
files that together hold 60 places, half of them or so wrong. Prints precision and recall, by rule and
judge.

    python -m tests.audit_proof [--judge script|local|both] [--only asyncio,email] [--keep DIR]
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loop_runner.audit.rules import read_rules
from loop_runner.kernel.inside import candidates
from tests.support.commands import argv, clean_environment

STDLIB = Path(sysconfig.get_path("stdlib"))
HERE = Path(__file__).parent / "audit"
RULES = HERE / "stdlib_rules.yaml"
SCRIPT = HERE / "stdlib_script.yaml"
SAMPLE = 60
SCRIPT_MUST = (0.98, 0.95)  # precision and recall of the script, for each rule
# Tests hold planted faults and sources of other Pythons; the rest is what people import.
LEFT_OUT = ("test", "tests", "idle_test", "lib2to3")
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_MAKERS = {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "deque", "Counter"}


@dataclass(frozen=True, order=True)
class Unit:
    """A function's head or an ``except``: what a rule is about. Wrong or not, says the key."""

    rule: str
    file: str
    first: int
    last: int
    is_wrong: bool

    def holds(self, finding: dict[str, object]) -> bool:
        """Whether ``finding`` is about this unit."""
        line = finding["line"]
        assert isinstance(line, int)
        return (finding["rule"], finding["file"]) == (
            self.rule,
            self.file,
        ) and self.first <= line <= self.last


def key_of(path: Path, name: str) -> Iterator[Unit]:
    """Every function with defaults and every handler of one file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            yield Unit("bare-except", name, node.lineno, node.lineno, node.type is None)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            defaults = [item for item in (*node.args.defaults, *node.args.kw_defaults) if item]
            if defaults:
                last = max(item.end_lineno or item.lineno for item in defaults)
                yield Unit("mutable-default", name, node.lineno, last, any(map(_is_mutable, defaults)))


def _is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in _MAKERS
    return isinstance(node, _DISPLAYS)


def sources(only: Sequence[str] = ()) -> dict[str, Path]:
    """The files of the standard library, or of some packages of it, by name."""
    result = {}
    for path in sorted(STDLIB.rglob("*.py")):
        parts = path.relative_to(STDLIB).parts
        hidden = {"site-packages", "__pycache__", *LEFT_OUT} & set(parts)
        if not hidden and (not only or parts[0].removesuffix(".py") in only):
            result["/".join(parts)] = path
    return result


def audit(paths: Sequence[Path], judge: str, folder: Path) -> tuple[dict[str, object], float]:
    """The report of ``loop-runner audit`` over ``paths``, and how many seconds it took."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    names = [option for name in LEFT_OUT for option in ("--exclude", name)]
    ended = subprocess.run(
        argv("audit", *paths, "--rules", RULES, "--model", judge, *names, "--json", "--quiet"),
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode in (0, 1, 3), f"the audit ended with {ended.returncode}"
    return json.loads(ended.stdout), time.monotonic() - began


def measure(report: dict[str, object], key: Sequence[Unit]) -> list[tuple[str, int, int, int, int]]:
    """By rule: units that were judged wrong and are, are not, are and were missed; findings that fit none."""
    findings = report["findings"]
    assert isinstance(findings, list)
    rows = []
    for rule in sorted({unit.rule for unit in key}):
        others = [item for item in findings if item["rule"] == rule]
        units = [unit for unit in key if unit.rule == rule]
        by_file: dict[str, list[Unit]] = {}
        for unit in units:
            by_file.setdefault(unit.file, []).append(unit)
        hit: set[Unit] = set()
        stray = 0
        for item in others:
            # Heads may lie in one another (a lambda among the defaults): the innermost is meant.
            holding = [unit for unit in by_file.get(item["file"], ()) if unit.holds(item)]
            wrong = [unit for unit in holding if unit.is_wrong]
            if holding:
                hit.add((wrong or holding)[-1])
            else:
                stray += 1
        right = sum(unit.is_wrong for unit in hit)
        missed = sum(unit.is_wrong for unit in units) - right
        rows.append((rule, right, len(hit) - right + stray, missed, len(units)))
    return rows


def show(
    judge: str, report: dict[str, object], rows: list[tuple[str, int, int, int, int]], seconds: float
) -> None:
    """The table of one judge."""
    counted = f"{report['files']} files, {report['judged']} of {report['candidates']} places judged"
    print(f"{judge}: {counted}, {report['dropped']} findings dropped, {seconds:.0f} s")
    print(f"  {'rule':<16} {'right':>6} {'wrong':>6} {'missed':>7} {'precision':>10} {'recall':>7}")
    for rule, right, wrong, missed, _ in rows:
        precision, recall = _share(right, right + wrong), _share(right, right + missed)
        print(f"  {rule:<16} {right:>6} {wrong:>6} {missed:>7} {precision:>10} {recall:>7}")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def sample(
    names: dict[str, Path], places: dict[str, int], key: Sequence[Unit], size: int = SAMPLE
) -> list[str]:
    """Whole files with ``size`` places together, half of them wrong; ``places``: how many each has."""
    wrong = dict.fromkeys(names, 0)
    for unit in key:
        wrong[unit.file] += unit.is_wrong
    chosen: list[str] = []
    left, faults = size, 0
    dense = sorted(names, key=lambda name: (-wrong[name] / max(places[name], 1), name))
    for name in [*dense, *sorted(names, key=lambda name: (wrong[name], -places[name], name))]:
        enough = faults >= size // 2
        if name in chosen or not 0 < places[name] <= left or (enough and wrong[name]):
            continue
        chosen.append(name)
        left -= places[name]
        faults += wrong[name]
    return sorted(chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit, measure, print; 1 when the script's judgement is worse than documented."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", choices=["script", "local", "both"], default="both")
    parser.add_argument("--only", default="", help="packages and modules, with commas")
    parser.add_argument("--places", type=int, default=SAMPLE, help="so many for the local model")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    options = parser.parse_args(arguments)
    names = sources([part for part in options.only.split(",") if part])
    key = [unit for name, path in names.items() for unit in key_of(path, name)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        return judge_all(names, key, folder, options.judge, options.places)


def judge_all(names: dict[str, Path], key: list[Unit], folder: Path, judge: str, size: int) -> int:
    """Run the judges; the exit code."""
    code = 0
    if judge in ("script", "both"):
        whole = [STDLIB] if len(names) > SAMPLE else list(names.values())
        report, seconds = audit(whole, f"script:{SCRIPT}", folder / "script")
        rows = measure(report, key)
        show("script", report, rows, seconds)
        code = int(any(_below(rows, *SCRIPT_MUST)))
    if judge in ("local", "both"):
        chosen = sample(names, places(names), key, size)
        copies = folder / "sample"
        for name in chosen:
            (copies / name).parent.mkdir(parents=True, exist_ok=True)
            (copies / name).write_bytes(names[name].read_bytes())
        report, seconds = audit([copies], "local:coder", folder / "local")
        show("local:coder", report, measure(report, [unit for unit in key if unit.file in chosen]), seconds)
    return code


def _below(rows: list[tuple[str, int, int, int, int]], precision: float, recall: float) -> Iterator[bool]:
    for _, right, wrong, missed, _ in rows:
        yield right < precision * (right + wrong) or right < recall * (right + missed)


def places(names: dict[str, Path]) -> dict[str, int]:
    """How many places of each file the pre-filters leave."""
    rules = [{"regex": rule.regex, "ast": rule.ast} for rule in read_rules(RULES)]
    texts = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in names.items()}
    return {
        name: sum(len(candidates.spans(rule, name, text, 150)[0]) for rule in rules)
        for name, text in texts.items()
    }


if __name__ == "__main__":
    sys.exit(main())
