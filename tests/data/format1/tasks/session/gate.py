"""Accept an answer that is a number, with a plan in the notes."""

import pathlib
import sys

answer = pathlib.Path("answer.md").read_text(encoding="utf-8")
plan = pathlib.Path("workspace/notes/plan.md").read_text(encoding="utf-8")
sys.exit(0 if answer.strip().isdecimal() and "look" in plan else "the answer is not a number")
