"""Compares what an audit found with what was planted: `loop-runner audit ... --json | python3 check.py`.

The key is read here and nowhere else. Exit code 1 when something is missing or too much.
"""

import json
import sys
from pathlib import Path

key = {tuple(entry) for entry in json.loads(Path(__file__).with_name("key.json").read_text())}
report = json.load(sys.stdin)
new = [item for item in report["findings"] if item["state"] == "new"]
result = {(item["rule"], "code/" + item["file"].split("code/")[-1], item["line"]) for item in new}
print(f"{len(result & key)} of {len(key)} found, {len(result - key)} too much")
for rule, file, line in sorted(key ^ result):
    print(f"  {'missing' if (rule, file, line) in key else 'too much'}: {rule} at {file}:{line}")
sys.exit(result != key)
