"""A small code base with faults, rules for it, a script that judges, and the command as a person runs it."""

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.commands import loop_runner

RULES = {
    "rules": [
        {
            "id": "bare-except",
            "title": "A bare except",
            "description": "An `except:` with no type.",
            "severity": "error",
            "files": "*.py",
            "regex": r"\bexcept\b",
        },
        {
            "id": "mutable-default",
            "title": "A mutable default argument",
            "description": "A default that all calls share.",
            "files": "*.py",
            "ast": "computed-default",
        },
    ]
}


def judged(line, quote, reason, *, candidate="1", verdict="wrong"):
    """A reply that judges one line; line and candidate are numbers, or groups of the script's pattern.

    Without a candidate (None) it is a reply about a whole window of a file.
    """
    about = "" if candidate is None else f'"candidate": {candidate}, '
    judgement = f'{about}"line": {line}, "quote": "{quote}", "reason": "{reason}", "verdict": "{verdict}"'
    return f'{{"judgements": [{{{judgement}}}]}}'


def wrong(line, quote, reason, *, candidate="1"):
    """A reply that judges one line to be wrong."""
    return judged(line, quote, reason, candidate=candidate)


SUB = [
    {
        "match": r"rule: A bare except.*\n>(\d+)[\d,]* +(\d+) \| +(except *:)",
        "reply": wrong("{2}", "{3}", "It has no type.", candidate="{1}"),
    },
    {
        "match": r"rule: A mutable default.*\n>(\d+)[\d,]* +(\d+) \| [^\n]*?(\w+=\[)",
        "reply": wrong("{2}", "{3}", "It is shared.", candidate="{1}"),
    },
    {"reply": judged(1, "", "", verdict="right")},
]
SHOP = """
def add(item, basket=[]):
    basket.append(item)
    return basket


def load(path):
    try:
        return open(path).read()
    except:
        return ""


def safe(path, sizes=(1, 2)):
    try:
        return open(path).read()
    except OSError:
        return ""
"""


@dataclass
class Project:
    """A folder to audit; ``audit`` runs the command there."""

    folder: Path

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n") if isinstance(text, str) else yaml.safe_dump(text))
        return path

    def audit(self, *args, env=None, prefix=()):
        options = ["--rules", "rules.yaml", "--model", "script:script.yaml", "--quiet"]
        return loop_runner("audit", *(args or ["src"]), *options, cwd=self.folder, env=env, prefix=prefix)

    def report(self, *args, env=None):
        """The object of ``--json``."""
        ended = self.audit(*(args or ["src"]), "--json", env=env)
        assert ended.stdout, ended.stderr
        return json.loads(ended.stdout)

    def runs(self):
        """The run folders, without the file that keeps them out of git."""
        return sorted(path for path in (self.folder / "runs").glob("*") if path.is_dir())


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "project")
    made.write("src/shop.py", SHOP)
    made.write("rules.yaml", yaml.safe_dump(RULES))
    made.write("script.yaml", yaml.safe_dump({"sub": SUB}))
    return made
