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


def wrong(line, quote, reason):
    """A reply that judges one line to be wrong; the line is a number, or a group of the script's pattern."""
    judgement = f'"line": {line}, "quote": "{quote}", "reason": "{reason}", "verdict": "wrong"'
    return f'{{"judgements": [{{{judgement}}}]}}'


SUB = [
    {
        "match": r"rule: A bare except.*\n> +(\d+) \| +(except *:)",
        "reply": wrong("{1}", "{2}", "It has no type."),
    },
    {
        "match": r"rule: A mutable default.*\n> +(\d+) \| [^\n]*?(\w+=\[)",
        "reply": wrong("{1}", "{2}", "It is shared."),
    },
    {"reply": '{"judgements": [{"line": 1, "quote": "", "reason": "", "verdict": "right"}]}'},
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
