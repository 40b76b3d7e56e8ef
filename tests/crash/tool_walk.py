"""Break a run that calls tools of each kind at every step of a call; nothing is lost or done twice.

    python -m tests.crash.tool_walk                 # everything: a quarter of an hour
    python -m tests.crash.tool_walk --sample 80     # so many of them, the same ones each time

What the walk over all places checks is checked here, too. Beside it: a recorded result is served, and
its tool does not act again; a call that is not idempotent is made once, and recorded or named as unknown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from loop_runner import failpoints
from tests.crash.scenario import Stage
from tests.crash.tool_scene import IDEMPOTENT, ToolScene, recorded, unknown
from tests.crash.walk import Result, table, walked

# The steps of a call, and what makes its result safe; the rest is what ``tests.crash.walk`` breaks.
PLACES = frozenset(
    name
    for name in failpoints.NAMES
    if name.startswith(("tool.", "page.", "journal.", "turn.", "durable.", "commit."))
)
OF_CALLS = frozenset(name for name in PLACES if name.startswith(("tool.", "page."))) | {"journal.written"}
_WORKERS = 2


def tool_walk(place: Path, choose: int | None, places: frozenset[str] = PLACES) -> list[Result]:
    """Check every case at ``places``, or ``choose`` of them."""
    scenes = [ToolScene(place / f"scene{number}") for number in range(_WORKERS)]
    return walked(scenes, ToolScene.stages, choose, wrong=wrong, is_walked=places.__contains__)


def wrong(scene: ToolScene, stage: Stage) -> Iterator[str]:
    """What is wrong with the calls of a run that was broken once, and continued to its end."""
    broken, continued = scene.commands[0], scene.commands[-1]
    results, lost = recorded(scene.run), unknown(scene.run)
    if again := broken.safe & set(continued.acted):
        yield f"recorded results are not served: {sorted(again)}"
    if gone := broken.safe - set(results):
        yield f"recorded results are lost: {sorted(gone)}"
    if both := [name for name in lost if name in results or name in IDEMPOTENT]:
        yield f"not unknown, and named so: {both}"
    acted = Counter(name for command in scene.commands for name in command.acted)
    if silent := [name for name in acted if name not in results and name not in lost]:
        yield f"called, and neither recorded nor named: {silent}"
    if often := [name for name, count in acted.items() if count > 1 + (name in IDEMPOTENT)]:
        yield f"called too often: {often}"
    if missing := set(stage.acted) - set(results) - set(lost):
        yield f"never called: {sorted(missing)}"


def main() -> int:
    """Walk; 1 when anything is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, metavar="N", help="so many cases, chosen over all places")
    parser.add_argument("--calls", action="store_true", help="only the places of the calls themselves")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="loop-runner-walk-") as place:
        results = tool_walk(Path(place), options.sample, OF_CALLS if options.calls else PLACES)
    print("\n".join(table(results)))
    print(f"{len(results)} cases in {time.monotonic() - started:.0f} s")
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
