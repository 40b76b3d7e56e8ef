"""The verifier that calls a user's Python function, in a process of its own.

Owns how the function is named and what its outcome means; ``python_child.py`` calls it. Its printed output
is evidence. Nothing in the checkout is on its import path.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from loop_runner import linux, process
from loop_runner.errors import LoopRunnerError
from loop_runner.records import Accepted, Broken, Rejected, Verdict
from loop_runner.text import cut_middle
from loop_runner.verify import gate, machine, needs, readiness
from loop_runner.verify.command import about, pinned, why_broken
from loop_runner.verify.evidence import LEVELS, Evidence, level, limited
from loop_runner.verify.gate import GateFault
from loop_runner.verify.one_line import exact_line
from loop_runner.verify.options import FLAG, SECONDS, TEXT, TEXTS, Keys, Options, one_of
from loop_runner.verify.programs import Program, Programs
from loop_runner.verify.verdict_channel import VerdictChannel
from loop_runner.verify.verifier import NO_MEANS, BaseVerifier, Means, Need, Submission

_CHILD = Path(__file__).with_name("python_child.py")
_LINUX = Path(linux.__file__)
_EVIDENCE_CHARS = 6000


@dataclass(frozen=True, slots=True)
class Python(BaseVerifier):
    """Accepts when the function returns None or True; see ``docs/verifiers.md``."""

    runs_code = True
    KEYS: ClassVar[Keys] = {
        "file": TEXT,
        "function": TEXT,
        "timeout_s": SECONDS,
        "network": FLAG,
        "pin": TEXTS,
        "show": TEXTS,
        "interpreter": TEXT,
        "evidence": one_of(LEVELS),
    }

    name: str
    file: str  # relative to the task's folder
    function: str
    task_dir: Path
    timeout_s: float = 60.0
    network: bool = False
    pin: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    interpreter: str = ""  # empty: the runner's own, with its packages
    evidence: Evidence = "message"

    @classmethod
    def from_options(cls, name: str, options: Options, task_dir: Path) -> Python:
        """``file`` may be written ``check.py:function``. Raises ``VerifierError``."""
        file, _, function = options.text("file").partition(":")
        function = options.word("function", function or "check")
        return cls(
            name or exact_line(f"python {file}:{function}", 80),
            file,
            function,
            task_dir,
            options.seconds("timeout_s", 60.0),
            options.flag("network"),
            options.texts("pin"),
            options.texts("show"),
            options.word("interpreter", ""),
            level("python", options.word("evidence", "message")),
        )

    @property
    def requirement(self) -> str:
        """See ``Verifier``."""
        return f"the check `{self.function}` in `{exact_line(self.file)}` must accept the answer"

    def sources(self) -> list[Path]:
        """What is to be pinned for it. ``VerifierError`` for a ``pin:`` that names nothing."""
        return [self.task_dir / self.file, *pinned(self.pin, self.task_dir, "verifier `python`")]

    def pinned_file(self, pins: Programs) -> Program | None:
        """Its file as pinned; None when it is missing."""
        return pins.files.get(os.path.normpath(self.task_dir / self.file))

    def needs(self, pins: Programs) -> Iterator[Need]:
        """See ``Verifier``."""
        yield from needs.of(self.name, self.network, self.show)
        yield from needs.program(self.name, self.interpreter)

    def fault(self, pins: Programs) -> str:
        """See ``Verifier``."""
        return readiness.of_python(self, pins)

    def verify(self, submission: Submission, means: Means = NO_MEANS) -> Verdict:
        """``Broken`` when the file is missing or changed, or raises anything but an assertion."""
        pins = means.programs
        place = pins.place(self.task_dir / self.file)
        if place is None:
            return Broken(f"there is no file {self.file} in the task's folder {self.task_dir}")
        mine = pins.relied_on(self.task_dir / item for item in (self.file, *self.pin))
        if changed := pins.changed(mine):
            return Broken(changed)
        try:
            with (
                gate.prepared(submission, means.fence, lambda into: pins.lay_out(mine, into)) as here,
                VerdictChannel() as channel,
            ):
                python = gate.find_program(self.interpreter or sys.executable)
                # -P and -s: neither the start folder nor a user's site-packages affects what is imported.
                flags = ("-P", "-s", "-B", "-X", "utf8")
                words = (_CHILD, _LINUX, here.programs / place, self.function, channel.fd)
                ended = here.run(
                    [python, *flags, *map(str, words)],
                    timeout_s=self.timeout_s,
                    stdin=b"",
                    network=self.network,
                    shown=[_CHILD, _LINUX, *(Path(path).expanduser() for path in self.show)],
                    fds=[channel.fd],
                )
                reply, record = channel.verdict(), about(ended, mine, python, here)
                if reply is not None:
                    reply = {
                        key: means.as_seen(here.without_paths(text)) if isinstance(text, str) else text
                        for key, text in reply.items()
                    }
        except GateFault as fault:
            return Broken(exact_line(str(fault), 400))
        except LoopRunnerError as error:
            return Broken(exact_line(error.message, 400))
        verdict = why_broken(ended, self.file, self.timeout_s) or self._verdict(reply, ended, record, means)
        written = ((item.data or b"").decode("utf-8", "replace") for item in mine)
        return machine.excused(verdict, means.fence, written)

    def _verdict(
        self,
        reply: Mapping[str, Any] | None,
        ended: process.Finished,
        record: dict[str, Any],
        means: Means,
    ) -> Verdict:
        if reply is None or ended.exit_code:
            last = exact_line(ended.output.strip().rsplit("\n", 1)[-1])
            return Broken(f"{self.file} ended without a verdict{f'; its last line: {last}' if last else ''}")
        if "broken" in reply:
            return Broken(exact_line(str(reply["broken"]), 600))
        source = str(reply.get("source", "")) if self.evidence == "full" else ""
        parts = (source, str(reply.get("evidence", "")), means.as_seen(ended.output.strip()))
        evidence = cut_middle("\n".join(part for part in parts if part), _EVIDENCE_CHARS)
        is_accepted = reply.get("accepted") is True
        score = _share(reply.get("score"), default=float(is_accepted))
        if is_accepted:
            return limited(Accepted(evidence, score, record), self._limit)
        reason = str(reply.get("reason") or f"`{self.function}` did not accept the answer")
        return limited(Rejected(cut_middle(reason.strip(), 2000), evidence, score, record), self._limit)

    @property
    def _limit(self) -> Evidence:
        """``message`` is everything that the function prints or returns."""
        return "none" if self.evidence == "none" else "full"


def _share(value: object, *, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return min(max(float(value), 0.0), 1.0)
