"""Accept an answer whose number is even."""

import json
import pathlib
import sys

first = pathlib.Path("answer.md").read_text(encoding="utf-8").splitlines()[0]
sys.exit(json.loads(first)["number"] % 2)
