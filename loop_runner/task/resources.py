"""Finds the files that come with loop-runner: prompts, hooks and starters.

In a checkout they lie where a person looks for them, at the top of the tree or among the examples; in an
installed package they lie inside it. Relies on nothing.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
    """The folder "prompts", "hooks" or "examples/starters", wherever this copy of loop-runner keeps it."""
    installed = _PACKAGE / "_resources" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
