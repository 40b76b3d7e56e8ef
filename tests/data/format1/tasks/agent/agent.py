"""An agent client: counts up from 40 in number.txt, and asks its stop hook after each step."""

import json
import pathlib
import sys
import urllib.request


def ask(said, count):
    payload = {
        "session_id": "format1",
        "hook_event_name": "Stop",
        "stop_hook_active": count > 0,
        "last_assistant_message": said,
    }
    request = urllib.request.Request(sys.argv[1], json.dumps(payload).encode())
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


sys.stdin.read()
number = pathlib.Path("number.txt")
for count in range(10):
    now = int(number.read_text()) + 1 if number.exists() else 41
    number.write_text(str(now))
    pathlib.Path("notes").mkdir(exist_ok=True)
    pathlib.Path("notes/plan.md").write_text(f"{now} is tried\n")
    if ask(f"the number is {now}", count).get("decision") != "block":
        break
