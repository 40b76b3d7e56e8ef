"""Writes the bytecode of the modules that a confined process imports: that process may not write it."""

from __future__ import annotations

import contextlib
import functools
import sys
from importlib.util import cache_from_source
from pathlib import Path


@functools.cache
def write_bytecode(folder: Path) -> None:
    """Write the bytecode of the modules in ``folder``, which a confined process imports.

    Python would do this on import, but that process may not write there, so it would compile at every start.
    """
    if sys.dont_write_bytecode or sys.pycache_prefix:
        return  # the user's choice; and a process with an empty environment would not look there
    stale = [path for path in folder.glob("*.py") if _is_newer(path, Path(cache_from_source(path)))]
    if not stale:
        return
    import py_compile

    for path in stale:
        with contextlib.suppress(OSError, py_compile.PyCompileError):  # a folder that cannot be written
            py_compile.compile(str(path), doraise=True)


def _is_newer(source: Path, made: Path) -> bool:
    try:
        return source.stat().st_mtime > made.stat().st_mtime
    except OSError:
        return True
