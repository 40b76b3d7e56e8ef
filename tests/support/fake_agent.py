"""An agent client as small as can be: speaks Claude Code's protocol to the hook command, and obeys its plan.

Started as ``python fake_agent.py PLAN.json``: a list of steps, one for each stop. A step may write files, say
something, and end in another way than a client should. It stops as a client does: it asks its hook, and goes
on when that says no.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time


def ask(session: str, message: str | None, count: int, event: str = "Stop") -> dict[str, str]:
    """What the hook says to a stop."""
    payload = {
        "session_id": session,
        "transcript_path": "/nonexistent.jsonl",
        "cwd": str(pathlib.Path.cwd()),
        "hook_event_name": event,
        "stop_hook_active": count > 0,
        "last_assistant_message": message,
    }
    command = [sys.executable, "-m", "loop_runner", "hook", "stop"]
    done = subprocess.run(command, input=json.dumps(payload), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    plan = json.loads(pathlib.Path(sys.argv[1]).read_text())
    log = pathlib.Path(sys.argv[1]).with_suffix(".log")
    session = f"fake-{os.getpid()}"
    prompt = sys.stdin.read()
    ask(session, None, 0, "SessionStart")
    for count, step in enumerate(plan):
        with log.open("a") as file:
            file.write(
                json.dumps({"pid": os.getpid(), "cwd": str(pathlib.Path.cwd()), "prompt": prompt}) + "\n"
            )
        for name, text in step.get("files", {}).items():
            pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
            pathlib.Path(name).write_text(text)
        for argv in step.get("run", []):
            subprocess.run(argv, check=True, capture_output=True)
        if "nested" in step:  # it starts another client, which has the same environment and hook
            output = ask("nested", step["nested"], 0)
            pathlib.Path("nested.json").write_text(json.dumps(output))
        if "sleep" in step:
            time.sleep(step["sleep"])
        if "print" in step:
            print(step["print"], flush=True)
        if "exit" in step:
            pathlib.Path(sys.argv[1]).write_text(json.dumps(plan[count + 1 :]))
            if step["exit"] < 0:
                os.kill(os.getpid(), -step["exit"])
            sys.exit(step["exit"])
        output = ask(session, step.get("say"), count)
        pathlib.Path(sys.argv[1]).write_text(json.dumps(plan[count + 1 :]))
        if output.get("decision") != "block":
            return
        prompt = output["reason"]
        if step.get("ignores"):
            return


if __name__ == "__main__":
    main()
