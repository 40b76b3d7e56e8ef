"""A stop hook that behaves as a well-known in-session loop is described to; our own code, for comparison.

One state file with a fixed name in the folder, adopted by whichever session stops there; the same prompt as
reason at every block; the done signal is a tag that the model prints, read from the last assistant message of
the transcript; a message without text ends the loop. No verification.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

STATE = Path(".claude/peer-loop.md")


def start(folder: Path, prompt: str, promise: str, most: int) -> None:
    """What the start command of the peer writes."""
    path = folder / STATE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\niteration: 1\nmax_iterations: {most}\npromise: {promise}\n---\n{prompt}\n")


def last_text(transcript: str) -> str:
    """The text of the last assistant message in the transcript; "" when there is none."""
    texts = [""]
    for line in Path(transcript).read_text().splitlines():
        entry = json.loads(line)
        if entry.get("type") == "assistant":
            parts = entry["message"]["content"]
            texts.append("".join(part.get("text", "") for part in parts if part.get("type") == "text"))
    return texts[-1]


def main() -> None:
    given = json.load(sys.stdin)
    path = Path(given["cwd"]) / STATE
    if not path.exists():
        return
    _, head, prompt = path.read_text().split("---\n", 2)
    values = dict(line.split(": ", 1) for line in head.splitlines())
    output = last_text(given["transcript_path"])
    match = re.search(r"<promise>(.*?)</promise>", output, re.DOTALL)
    is_done = match is not None and " ".join(match[1].split()) == values["promise"]
    number = int(values["iteration"])
    if is_done or not output or number >= int(values["max_iterations"]):
        path.unlink()
        return
    path.write_text(path.read_text().replace(f"iteration: {number}\n", f"iteration: {number + 1}\n", 1))
    print(json.dumps({"decision": "block", "reason": prompt, "systemMessage": f"iteration {number + 1}"}))


if __name__ == "__main__":
    main()
