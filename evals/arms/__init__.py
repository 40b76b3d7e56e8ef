"""The ways to answer a question, behind one interface.

- ``direct``       one call, the texts cut to the window
- ``bm25``         BM25 finds passages, one call answers
- ``rlms``, ``dspy``  other packages' recursive language models, in an environment of their own
- ``pass``, ``loop``  one pass of loop-runner, and passes until its gates accept

An arm gets the question and its texts, never the key. Start reading at ``arm``.
"""

from __future__ import annotations

from collections.abc import Callable

from evals.arms import calls, loop, peers
from evals.arms.arm import Arm, Setup

ARMS: dict[str, Callable[[Setup], Arm]] = {
    "direct": calls.Direct,
    "bm25": calls.Retrieval,
    "rlms": peers.Rlms,
    "dspy": peers.Dspy,
    "pass": loop.OnePass,
    "loop": loop.Loop,
}
PEERS = ("direct", "bm25", "rlms", "dspy")
