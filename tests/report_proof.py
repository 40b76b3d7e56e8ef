"""Write the report of a run of 1,000 passes, and measure it: `make report-proof`.

`python -m tests.report_proof [PASSES]` makes a run folder whose passes have three turns each, with code,
output and a sub-call, and ends with 1 if its report is over 10 MB or takes over 20 seconds.
"""

import sys
import tempfile
import time
from pathlib import Path

import yaml

import loop_runner as lr
from loop_runner.records import Answer, Block, Rejected, VerifierReport
from loop_runner.report import page
from loop_runner.verify.verdicts import decision_as_json
from loop_runner.workspace import layout
from loop_runner.workspace.workspace import Workspace
from tests.support.turns import call, turn

MAX_BYTES, MAX_SECONDS = 10_000_000, 20.0
_CODE = "\n".join(
    f"for name in sorted(context)[{line}:{line + 8}]:  # look at the next texts\n"
    f"    print(name, len(context[name]), search_text('interest rate', max_results={line}))"
    for line in range(8)
)


def make_run(folder: Path, passes: int, *, turns: int = 3) -> Path:
    """A run folder with so many rejected passes."""
    task = {
        "name": "long",
        "prompt": "Find it.",
        "verifiers": [{"contains": "42"}],
        "budget": {"passes": passes},
    }
    files = {
        "task.yaml": yaml.safe_dump(task).encode(),
        "prompt.md": b"Find it.",
        "inputs.json": b'{"texts": []}',
    }
    with Workspace.create(folder, name="long", files=files) as workspace:
        for number in range(1, passes + 1):
            for index in range(1, turns + 1):
                workspace.commit_turn(_turn(number, index, is_last=index == turns), {})
            workspace.commit_pass(number, "rejected", files=_verdict(number))
    return folder


def _turn(number: int, index: int, *, is_last: bool):
    key = f"{number}.{index}"
    return turn(
        number,
        index,
        code=f"# part {key}\n{_CODE}",
        output="".join(f"{key}: line {line} of what the code printed\n" for line in range(40)),
        answer=Answer(
            "".join(f"- point {point} of pass {number}\n" for point in range(20)), is_ready=is_last
        ),
        calls=(
            call(f"root {key}"),
            call(f"sub {key}: what does the text say?", kind="sub", text="It says so. " * 20),
        ),
    )


def _verdict(number: int) -> dict[str, bytes]:
    reason = f"the answer does not contain '42'; it has {number} points"
    rejected = Rejected(reason, "evidence " * 20, score=(number % 50) / 50)
    block = Block(reason, (VerifierReport("contains 42", rejected),), rejected.score)
    return {f"{layout.pass_folder(number)}/verdict.json": layout.to_json(decision_as_json(block))}


def measure(folder: Path) -> tuple[int, float]:
    """The bytes of the report, and the seconds that it took."""
    started = time.perf_counter()
    html = page.render(lr.open(folder).record())
    return len(html.encode()), time.perf_counter() - started


def main() -> int:
    """Make the run, measure its report, print what came of it."""
    passes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as place:
        size, seconds = measure(make_run(Path(place) / "long", passes))
    is_ok = size < MAX_BYTES and seconds < MAX_SECONDS
    print(f"{passes} passes: {size / 1e6:.1f} MB, {seconds:.1f} s: {'ok' if is_ok else 'TOO MUCH'}")
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
