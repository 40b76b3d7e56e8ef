"""Asks of what kind a verifier is without loading the modules of all kinds."""

from __future__ import annotations

import sys

from loop_runner.verify.verifier import Verifier


def is_a(verifier: Verifier, *kinds: str) -> bool:
    """Whether it is of one of the classes ``MODULE.CLASS`` of this folder.

    Imports none of them: the modules of kinds that a task does not use are never loaded, as most of a short
    run's start would go to them. A verifier cannot be of a class whose module is not loaded.
    """
    names = (kind.split(".") for kind in kinds)
    loaded = ((sys.modules.get(f"{__package__}.{module}"), name) for module, name in names)
    return any(isinstance(verifier, getattr(module, name)) for module, name in loaded if module is not None)
