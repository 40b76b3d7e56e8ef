"""Stands in for the process of the local model: the same protocol, no model, and it can die on demand.

The first argument is a folder for what must be remembered from one life to the next. Each line of ``lives``
in it is the settings that one life was given. A prompt with "die once" kills the first life that gets it,
"die always" each one.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from tests.support.model_server import Answer, HttpError, ModelServer, Received


def main() -> None:
    folder = Path(sys.argv[1])
    settings = json.loads(sys.stdin.readline())
    with (folder / "lives").open("a") as lives:
        lives.write(json.dumps({**settings, "pid": os.getpid()}) + "\n")
    if "never-starts" in settings["path"]:
        sys.stderr.write("out of memory\x1b[31m\n")
        sys.exit(3)

    if "slow-start" in settings["path"]:
        time.sleep(1)

    def answer(received: Received) -> Answer:
        prompt = received.last_user_text
        marker = folder / "died"
        if "die always" in prompt or ("die once" in prompt and not marker.exists()):
            marker.touch()
            sys.stderr.write("my last words\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)  # another thread may take the signal, a moment later
        if received.headers.get("authorization") != f"Bearer {settings['api_key']}":
            return HttpError(401, "invalid_api_key", "wrong key")
        return f"you said {prompt}"

    with ModelServer() as server:
        server.answer_with(answer)
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
