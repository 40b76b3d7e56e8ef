"""The verifiers; each is made with (name, settings, base_dir)."""

# mypy: ignore-errors

import json
import os
import socket
import sys
import time
from pathlib import Path

from loop_runner.records import Accepted, Message, Rejected, Request
from loop_runner.verify import BaseVerifier
from lr_checks.helper import is_shouted


class Shout(BaseVerifier):
    """A plain one, with another module and a data file."""

    requirement = "the answer must be shouted"

    def __init__(self, name, settings, base_dir):
        self.name = name or "shout"

    def verify(self, submission, means):
        said = {"pid": os.getpid(), "parent": os.getppid()}
        if is_shouted(submission.answer):
            return Accepted(json.dumps(said), 0.9)
        return Rejected("it is not shouted", "only capitals, please", 0.25)


class Earlier:
    """Written before verifiers were given means: no base class, and one argument."""

    def __init__(self, name, settings, base_dir):
        self.name = name or f"earlier {settings}"
        self.requirement = f"the answer must contain {settings}"

    def verify(self, submission):
        return Accepted() if str(self.requirement.split()[-1]) in submission.answer else Rejected("no")


class Polite(BaseVerifier):
    """Asks a model."""

    requirement = "the answer must be polite"

    def __init__(self, name, settings, base_dir):
        self.name = name or "polite"
        self.settings = settings or {}

    def models(self):
        return self.settings.get("models", [""])

    def verify(self, submission, means):
        if self.settings.get("how") == "panel":
            request = Request(
                self.settings.get("asks") or means.panel.model,
                (Message("user", f"Polite? {submission.answer}"),),
                kind="judge",
            )
            replies = [means.panel.ask(request, number).text for number in range(2)]
        else:
            replies = [means.ask(f"Polite? {submission.answer}", model=self.settings.get("asks", ""))]
        polite = all("yes" in reply for reply in replies)
        return Accepted(f"replies: {replies}") if polite else Rejected(f"the model says {replies}")


class Rubric(BaseVerifier):
    """Made of a file of the task's folder, which its requirement shows."""

    def __init__(self, name, settings, base_dir):
        self.name = name or "rubric"
        self.file = Path(base_dir, settings)

    @property
    def requirement(self):
        return f"the answer must be {self.file.read_text().strip()}"

    def sources(self):
        return [self.file]

    def verify(self, submission, means):
        expected = self.file.read_text().strip()
        return Accepted() if submission.answer.strip() == expected else Rejected(f"it is not {expected}")


class Prober(BaseVerifier):
    """Tries what a verifier may not do, and reports what worked."""

    requirement = "the answer must be anything"

    def __init__(self, name, settings, base_dir):
        self.name = name or "prober"
        self.settings = settings or {}
        self.network = self.settings.get("network", False)

    def verify(self, submission, means):
        worked = {
            "env": sorted(name for name in os.environ if "SECRET" in name),
            "argv": [part for part in sys.argv if "SECRET" in part],
            "wrote": [path for path in self.settings.get("write", ()) if _wrote(path)],
            "read": [path for path in self.settings.get("read", ()) if _read(path)],
            "checkout": _wrote(submission.checkout / "answer.md"),
            "network": _connected(self.settings.get("port", 9)),
            "model": means.panel is not None,
        }
        return Accepted(json.dumps(worked))


def _wrote(path):
    try:
        Path(path).write_text("changed by a verifier")
    except OSError:
        return False
    return True


def _read(path):
    try:
        # In tier B it may write into a private file system where the file would be, which is gone afterwards.
        return Path(path).read_text() != "changed by a verifier"
    except OSError:
        return False


def _connected(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


class Faulty(BaseVerifier):
    """Fails in the way that its setting names."""

    requirement = "the answer must be anything"
    timeout_s = 4

    def __init__(self, name, settings, base_dir):
        self.name = name or "faulty"
        self.how = settings
        if settings == "constructor":
            raise ValueError("what is constructor?")

    def verify(self, submission, means):
        if self.how == "raises":
            raise RuntimeError("boom")
        if self.how == "exits":
            sys.exit(0)
        if self.how == "dies":
            os.kill(os.getpid(), 9)
        if self.how == "hangs":
            time.sleep(600)
        if self.how == "odd verdict":
            return "fine"
        if self.how == "forks":
            if os.fork() == 0:
                return Accepted("from the child")
            os.wait()
            return Rejected("from the parent")
        if self.how == "this answer":
            int(submission.answer)
        return Accepted()


class Odd(BaseVerifier):
    """Describes itself with the values of its settings."""

    def __init__(self, name, settings, base_dir):
        self.name = "odd"
        self.requirement = "the answer must be anything"
        self.__dict__.update(
            {key: value for key, value in settings.items() if key not in ("models", "sources")}
        )
        self.listed = settings

    def models(self):
        return self.listed.get("models", [])

    def sources(self):
        return self.listed.get("sources", [])

    def verify(self, submission, means):
        return Accepted()


class Sized(BaseVerifier):
    """Refuses inputs that are too large for it."""

    requirement = "the answer must be anything"

    def __init__(self, name, settings, base_dir):
        self.name = "sized"

    def refuse(self, inputs):
        if inputs.total_bytes > 10:
            raise ValueError(f"{inputs.total_bytes} bytes are too many")

    def verify(self, submission, means):
        return Accepted(f"{[text.name for text in submission.inputs.texts]}")
