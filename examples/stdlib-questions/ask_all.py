"""Ask every question of ``questions.yaml`` over Python's own sources and print a table.

    python examples/stdlib-questions/ask_all.py [--model local:coder] [--only lru-cache,tar-block]

Each question is one run of ``loop-runner ask``; the verifier sees the answer, never the key. Exit code 1
when an answer is verified and wrong, or when fewer than 70 % are verified and right.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import yaml

from loop_runner.verify import short_answer

HERE = Path(__file__).parent
PASS_MARK = 0.7


def ask(question: str, model: str, folder: Path, passes: int) -> dict[str, object]:
    """Run one question to its end; the object that ``loop-runner ask --json`` prints."""
    command = [
        *(sys.executable, "-m", "loop_runner", "ask", question, sysconfig.get_path("stdlib")),
        *("--model", model, "--passes", str(passes), "--run-dir", str(folder), "--json", "--quiet"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if not result.stdout.strip():
        sys.exit(f"loop-runner ended with {result.returncode}:\n{result.stderr}")
    data = json.loads(result.stdout)
    if data["status"] == "error":
        sys.exit(result.stderr)
    return dict(data)


def main() -> int:
    """Ask, print the table, and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="local:coder")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--only", default="", help="ids, with commas")
    parser.add_argument("--questions", type=Path, default=HERE / "questions.yaml")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    options = parser.parse_args()
    chosen = set(filter(None, options.only.split(",")))
    questions = [
        entry
        for entry in yaml.safe_load(options.questions.read_text())
        if not chosen or entry["id"] in chosen
    ]
    print(f"{'question':<16} {'verified':<9} {'right':<6} {'passes':>6} {'seconds':>8}  answer", flush=True)
    good = bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        for entry in questions:
            folder = (options.keep or Path(scratch)) / entry["id"]
            data = ask(entry["question"], options.model, folder, options.passes)
            short = short_answer(str(data["answer"]))
            is_verified = data["status"] == "verified"
            is_right = re.fullmatch(entry["right"], short) is not None
            good += is_verified and is_right
            bad += is_verified and not is_right
            words = ("yes" if is_verified else "no", "yes" if is_right else "no")
            print(
                f"{entry['id']:<16} {words[0]:<9} {words[1]:<6} {data['passes']:>6} {data['seconds']:>8.0f}"
                f"  {short[:40]}",
                flush=True,
            )
    print(f"{good} of {len(questions)} verified and right, {bad} verified and wrong")
    return 0 if not bad and good >= PASS_MARK * len(questions) else 1


if __name__ == "__main__":
    sys.exit(main())
