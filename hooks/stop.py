#!/usr/bin/env python3
"""The stop hook of loop-runner, started straight from this folder: what the clients' settings name.

Any Python from 3.9 up can run it, without site-packages: it asks the loop that owns the session, and prints
{} when none does.
"""

import os
import sys

folder = os.path.dirname(os.path.abspath(__file__))
while not os.path.isfile(os.path.join(folder, "loop_runner", "__init__.py")):  # a checkout, or site-packages
    folder, before = os.path.dirname(folder), folder
    if folder == before:
        print("{}")
        sys.exit(0)
sys.path.insert(0, folder)

from loop_runner.agents.stop import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
