"""A gate of one's own: reads the answer on standard input, exits 0 to accept it, 1 to reject it."""

import sys

answer = sys.stdin.read().splitlines()[0]
if answer != "Answer: 8":
    print(f"expected `Answer: 8`, got `{answer}`: count every name on every line")
    sys.exit(1)
