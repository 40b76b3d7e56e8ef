"""What a task says of the process that runs the model's code."""

from __future__ import annotations

from dataclasses import dataclass

from loop_runner import keys
from loop_runner.keys import key
from loop_runner.records import SandboxTier


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """How the kernel is started and what one cell may use."""

    timeout_s: float = key(
        keys.positive,
        "seconds for one cell, not counting time spent on sub-calls",
        default=120.0,
    )
    grace_s: float = key(keys.positive, "seconds between the interrupt and the kill", default=2.0)
    memory_mb: int = key(
        keys.memory,
        "address space of the process: `512MB`, `4GB`",
        name="memory",
        default=4096,
        shown="4GB",
    )
    max_output_chars: int | None = key(
        keys.count,
        "how much of one cell's output the model sees, at most what its profile allows",
        default=None,
        shown="20,000 for a window of 100,000 tokens or more, else 8000; 3000 for a small local model",
    )
    python: str | None = key(
        keys.text,
        "another Python for the model's code, with its packages",
        default=None,
        shown="the runner's own",
    )
    preload: tuple[str, ...] | None = key(
        keys.modules,
        "modules to import while the kernel waits for its first cell",
        default=None,
        shown="`numpy` and `pandas` with your own `python`, if installed; else none",
    )
    require_tier: SandboxTier | None = key(
        keys.one_of("A", "B", "C"),
        "`A` or `B` refuses to start with a weaker sandbox (exit code 4); `C` allows a run without one",
        default=None,
        shown="A or B, whichever is available",
    )

    @property
    def shown_chars(self) -> int:
        """``max_output_chars``, or what a window of unknown size is shown."""
        return 8000 if self.max_output_chars is None else self.max_output_chars
