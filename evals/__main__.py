"""``python -m evals``: ask, report, or show a question."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from evals import halves, results, runner
from evals.arms import ARMS
from evals.arms.arm import Arm, Setup
from evals.endpoint import EndpointError, serving
from evals.families import FAMILIES
from evals.questions import SIZES, MissingTextsError

RESULTS = Path(__file__).with_name("results.jsonl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 2 for what cannot work."""
    options = _parser().parse_args(arguments)
    try:
        return int({"run": run, "report": report, "show": show}[options.command](options))
    except (halves.GuardError, EndpointError, MissingTextsError) as error:
        print(f"evals: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Ask the questions of a half and write the results."""
    what = [options.model, *options.arms, *options.families]
    halves.allow(options.half, is_final=options.final, what=what)
    end = time.monotonic() + options.minutes * 60
    with ExitStack() as stack:
        arms, missing = _arms(options, stack)
        for name, reason in missing.items():
            print(f"{name}: not measured: {reason}")
        drawn = runner.questions(
            options.families, halves.seeds(options.half, options.questions), options.sizes
        )
        runner.measure(arms, options.model, drawn, options.results, end=end)
    return report(options)


def _arms(options: argparse.Namespace, stack: ExitStack) -> tuple[dict[str, Arm], dict[str, str]]:
    """The arms that can be measured, and why the others cannot."""
    needs_endpoint = set(options.arms) - {"pass", "loop"}
    endpoint = stack.enter_context(serving(options.model, options.window)) if needs_endpoint else None
    setup = Setup(options.model, endpoint, options.limit, options.passes)
    arms = {name: ARMS[name](setup) for name in options.arms}
    missing = {name: reason for name, arm in arms.items() if (reason := arm.missing())}
    return {name: arm for name, arm in arms.items() if name not in missing}, missing


def report(options: argparse.Namespace) -> int:
    """Write ``RESULTS.md`` from the recorded attempts."""
    setup = Setup("", None, 0)
    rows = runner.read(options.results)
    reasons = {name: arm(setup).missing() for name, arm in ARMS.items()}
    missing = {name: reason if "installed" in reason else "not run yet" for name, reason in reasons.items()}
    print(results.write(rows, missing, options.results.parent))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print a question, its key, and the beginning of its texts."""
    half: halves.Half = "unseen" if options.seed % 2 else "tuning"
    halves.allow(half, is_final=options.final, what=["show", options.family, str(options.seed)])
    question = FAMILIES[options.family](options.seed, options.size)
    print(f"{question.text}\n{question.key}")
    for name, text in question.texts.items():
        print(f"=== {name}, {len(text):,} characters ===\n{text[:500]}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evals", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    asking = commands.add_parser("run", help="ask questions and write RESULTS.md")
    asking.add_argument("--model", default="local:coder", help="any model id")
    asking.add_argument("--arms", type=_names(ARMS), default=list(ARMS), help="with commas; default: all")
    asking.add_argument("--families", type=_names(FAMILIES), default=list(FAMILIES))
    asking.add_argument("--sizes", type=_sizes, default=_sizes("10kB,100kB,1MB"))
    asking.add_argument("--half", choices=["tuning", "unseen"], default="tuning")
    asking.add_argument("--final", action="store_true", help="allow the unseen half, and record its use")
    asking.add_argument("--questions", type=int, help="per family and size; default: all of the half")
    asking.add_argument("--limit", type=float, default=600, help="seconds for one question")
    asking.add_argument("--passes", type=int, default=5, help="of the loop")
    asking.add_argument("--window", type=int, help="tokens of the model's window, for the arms with one call")
    asking.add_argument("--minutes", type=float, default=float("inf"), help="begin no attempt after so many")
    reporting = commands.add_parser("report", help="write RESULTS.md from the recorded attempts")
    for command in (asking, reporting):
        command.add_argument("--results", type=Path, default=RESULTS)
    showing = commands.add_parser("show", help="print a question and its key")
    showing.add_argument("family", choices=list(FAMILIES))
    showing.add_argument("seed", type=int)
    showing.add_argument("--size", type=lambda text: _sizes(text)[0], default=10_000)
    showing.add_argument("--final", action="store_true")
    return parser


class _names:  # noqa: N801 - a type of argparse, whose name is in its messages
    """A list of known names with commas."""

    def __init__(self, known: object) -> None:
        self._known = list(known)  # type: ignore[call-overload]

    def __call__(self, text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in names if name not in self._known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(self._known)}")
        return names


def _sizes(text: str) -> list[int]:
    """Sizes such as ``10kB,1MB``, or numbers of bytes."""
    sizes = []
    for part in text.split(","):
        if part not in SIZES and not part.isdigit():
            raise argparse.ArgumentTypeError(f"{part!r} is none of {', '.join(SIZES)}, nor a number of bytes")
        sizes.append(SIZES[part] if part in SIZES else int(part))
    return sizes


if __name__ == "__main__":
    sys.exit(main())
