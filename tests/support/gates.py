"""What verifiers are given in tests: a submission on disk, and a panel that says what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loop_runner.records import Answer, ChildEnd, ChildRecord, Inputs, Reply, Request, Verdict
from loop_runner.verify import Fence, Gates, Inquiry, Means, PanelSpent, Submission, Unfenced, Verifier
from loop_runner.verify.stop_hook import StopHook


class Says:
    """A ``Panel`` with replies in order, kept by request and number as a real one keeps them."""

    def __init__(self, *replies: str | Exception, model: str = "script:x") -> None:
        self.model = model
        self.requests: list[Request] = []
        self.inquiries: list[Inquiry] = []
        self.sessions: dict[str, ChildRecord] = {}
        self._replies = list(replies)
        self._kept: dict[str, list[Reply]] = {}

    def known(self, request: Request) -> int:
        return len(self._kept.get(request.fingerprint(), ()))

    def ask(self, request: Request, number: int) -> Reply:
        kept = self._kept.setdefault(request.fingerprint(), [])
        while len(kept) <= number:
            if not self._replies:
                raise PanelSpent("1 US dollars")
            output = self._replies.pop(0)
            if isinstance(output, Exception):
                raise output
            self.requests.append(request)
            kept.append(Reply(output))
        return kept[number]

    def ask_all(self, requests: Sequence[tuple[Request, int]]) -> list[Reply]:
        return [self.ask(request, number) for request, number in requests]

    def held(self, inquiry: Inquiry) -> ChildRecord | None:
        return self.sessions.get(inquiry.scope)

    def hold(self, inquiries: Sequence[Inquiry]) -> list[ChildRecord]:
        """The next replies are the answers of sessions; "" is one that ends without an answer."""
        for inquiry in inquiries:
            if inquiry.scope not in self.sessions:
                if not self._replies:
                    raise PanelSpent("1 US dollars")
                output = self._replies.pop(0)
                if isinstance(output, Exception):
                    raise output
                self.inquiries.append(inquiry)
                end: ChildEnd = "ready" if output else "turns"
                why = "" if output else "its turns were used up"
                self.sessions[inquiry.scope] = ChildRecord(
                    inquiry.scope, inquiry.question, (), inquiry.model, (), Answer(output), end, why
                )
        return [self.sessions[inquiry.scope] for inquiry in inquiries]


NOTHING = Inputs(())


def submission(
    folder: Path,
    answer: str,
    *,
    files: Mapping[str, str] | None = None,
    inputs: Inputs = NOTHING,
    prompt: str = "What is the answer?",
    earlier: Sequence[str] = (),
) -> Submission:
    """An answer with the model's ``files``, checked out below ``folder``."""
    checkout = folder / "checkout"
    (checkout / "workspace").mkdir(parents=True, exist_ok=True)
    (checkout / "answer.md").write_text(answer, encoding="utf-8")
    (checkout / "answer.json").write_text("{}")
    for name, text in (files or {}).items():
        path = checkout / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Submission(answer, checkout, inputs, prompt, tuple(earlier))


def made(spec: Any, task_dir: Path, *, panel: Says | None = None, fence: Fence | None = None):
    """The one verifier that ``spec`` makes, with what lies in ``task_dir`` pinned now."""
    (verifier,) = built([spec], task_dir, panel=panel, fence=fence)
    return verifier


class Ready:
    """A verifier with the means that it is given; everything else is the verifier's own."""

    def __init__(self, verifier: Verifier, means: Means) -> None:
        self.verifier = verifier
        self.means = means

    def verify(self, submission: Submission) -> Verdict:
        return self.verifier.verify(submission, self.means)

    def described(self, *, briefly: bool = False) -> str:
        return self.verifier.described(self.means.programs, briefly=briefly)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.verifier, name)


def built(
    specs: Sequence[Any],
    task_dir: Path,
    *,
    panel: Says | None = None,
    fence: Fence | None = None,
    is_agent: bool = False,
) -> tuple[Ready, ...]:
    """The verifiers that ``specs`` make, with what lies in ``task_dir`` pinned now."""
    gates = Gates.of(specs, task_dir, fence=fence or Unfenced()).checked()
    means = gates.means(fence or Unfenced(), panel, is_agent=is_agent)
    return tuple(Ready(verifier, means) for verifier in gates.verifiers)


def stop_hook(
    specs: Sequence[Any],
    task_dir: Path,
    *,
    panel: Says | None = None,
    fence: Fence | None = None,
    is_agent: bool = False,
    retries: int = 0,
) -> StopHook:
    """The stop hook of a task with these verifiers."""
    gates = Gates.of(specs, task_dir, fence=fence or Unfenced()).checked()
    means = gates.means(fence or Unfenced(), panel, is_agent=is_agent)
    return StopHook(gates.verifiers, means, retries=retries, retry_wait_s=0)
