"""Runs as a program: one ``re.search`` over a text, so that its parent can end it when it takes too long.

Reads ``{"pattern", "ignore_case", "text"}`` as JSON from stdin, prints ``found`` or ``not found``.
Imports the standard library only: it is started without the package's own path.
"""

import json
import re
import sys


def main() -> None:
    """Answer the one request."""
    request = json.loads(sys.stdin.buffer.read())
    pattern = re.compile(request["pattern"], re.IGNORECASE if request["ignore_case"] else 0)
    sys.stdout.write("found" if pattern.search(request["text"]) else "not found")


if __name__ == "__main__":
    main()
