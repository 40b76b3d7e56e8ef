"""Turns a rejection into "broken" where this machine cannot run what the check itself uses.

Decides by what the check's author wrote (the command and the pinned files) and by what the sandbox probe
observed. Never by output, exit code or files, which the judged side can write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from loop_runner import linux
from loop_runner.records import Broken, Rejected, Verdict
from loop_runner.verify.verifier import Fence

_USES = {
    "semaphores": re.compile(
        r"\b(multiprocessing|ProcessPoolExecutor|process_executor|joblib|loky|billiard|sem_open)\b"
    ),
}
_ADVICE = f"{linux.BETTER_SANDBOX}; `loop-runner doctor` shows what is missing"


def excused(verdict: Verdict, fence: Fence, written: Iterable[str]) -> Verdict:
    """``verdict``, or ``Broken`` if it rejects and ``written`` uses something that this sandbox lacks."""
    if not isinstance(verdict, Rejected):
        return verdict
    lacks = fence.describe(network=False).get("lacks", {})
    texts = list(written) if lacks else []
    for what, reason in lacks.items():
        for match in filter(None, map(_USES[what].search, texts)):
            return Broken(f"the check uses {match[0]}, and {reason}; {_ADVICE}")
    return verdict
