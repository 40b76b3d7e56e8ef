"""Runs as a program: one JSON value against one JSON Schema, so that its parent can end it when it hangs.

Reads ``{"schema", "value"}`` as JSON from stdin, prints the faults as JSON: a list of
``{"words"}``, or ``{"broken": why}``. No schema is ever fetched from anywhere.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

_MOST = 1000


def main() -> None:
    """Answer the one request."""
    import jsonschema
    import referencing.exceptions
    from jsonschema.validators import validator_for
    from referencing import Registry

    request = json.loads(sys.stdin.buffer.read())
    schema = request["schema"]
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
        registry: Registry[Any] = Registry()
        faults = sorted(
            kind(schema, registry=registry).iter_errors(request["value"]), key=lambda fault: fault.json_path
        )
    except (jsonschema.SchemaError, referencing.exceptions.Unresolvable, RecursionError) as error:
        said: object = {"broken": f"the schema cannot be used: {str(error).splitlines()[0]}"}
    else:
        words, more = _words(), len(faults) - _MOST
        listed: list[dict[str, Any]] = [{"words": words(fault)} for fault in faults[:_MOST]]
        said = [*listed, {"more": more}] if more > 0 else listed
    sys.stdout.write(json.dumps(said))


def _words() -> Any:
    """The module that words faults, loaded by its path."""
    path = Path(__file__).with_name("json_schema_faults.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.words


if __name__ == "__main__":
    main()
