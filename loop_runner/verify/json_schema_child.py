"""Runs as a program: checks JSON values against JSON Schemas, so that its parent can end it.

Writes a line when it is ready. Then it reads two lines for each check (schema, value) and writes one:
``{"faults": [words], "best": words, "more": 0}`` or ``{"bad_schema": why}``. It never fetches a schema.
Imports jsonschema and nothing from this package: it is started by its path.
"""

import contextlib
import importlib.util
import json
import resource
import sys
from pathlib import Path
from typing import Any

import jsonschema
import referencing
from jsonschema.validators import validator_for

_MAX_MEMORY_BYTES = 2 * 1024**3
_MAX_CHARS = 500
_MAX_FAULTS = 1000


def main() -> None:
    """Answer requests until the parent goes away."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MAX_MEMORY_BYTES)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    known: dict[str, Any] = {}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    lines = sys.stdin.buffer
    while schema := lines.readline():
        reply = _check(known, schema.decode("utf-8", "replace"), lines.readline())
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _check(known: dict[str, Any], schema: str, value: bytes) -> dict[str, Any]:
    try:
        if schema not in known:
            known.clear()  # one batch uses one schema
            known[schema] = _validator(json.loads(schema))
        faults = sorted(known[schema].iter_errors(json.loads(value)), key=lambda fault: fault.json_path)
        return _reply(faults)
    except jsonschema.SchemaError as wrong:
        return {"bad_schema": f"{wrong.message[:_MAX_CHARS]} (at {wrong.json_path})"}
    except referencing.exceptions.Unresolvable as wrong:
        return {"bad_schema": f"a reference leads nowhere: {str(wrong)[:_MAX_CHARS]}"}
    except (RecursionError, MemoryError):
        return {"bad_schema": "its references form a loop, or it takes too much memory"}
    except Exception as wrong:  # noqa: BLE001 - the border: jsonschema meets whatever a model wrote
        return {"bad_schema": f"{type(wrong).__name__}: {str(wrong)[:_MAX_CHARS]}"}


def _reply(faults: list[Any]) -> dict[str, Any]:
    if not faults:
        return {"faults": [], "best": "", "more": 0}
    words = _words()
    return {
        "faults": [words(fault) for fault in faults[:_MAX_FAULTS]],
        "best": words(jsonschema.exceptions.best_match(faults)),
        "more": max(len(faults) - _MAX_FAULTS, 0),
    }


def _words() -> Any:
    """The module that words faults, loaded by its path."""
    path = Path(__file__).with_name("json_schema_faults.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.words


def _validator(schema: Any) -> Any:
    kind: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
    kind.check_schema(schema)
    # An empty registry: a reference to anywhere else is never fetched.
    return kind(schema, registry=referencing.Registry())


if __name__ == "__main__":
    main()
