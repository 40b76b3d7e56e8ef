"""Runs as a program: one JSON value against one JSON Schema, so that its parent can end it when it hangs.

Reads ``{"schema", "value"}`` as JSON from stdin, prints the faults as JSON: a list of
``{"where", "expected", "got"}``, or ``{"broken": why}``. No schema is ever fetched from anywhere.
"""

import json
import sys
from typing import Any

_MOST = 20


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
        said = [_told(fault) for fault in faults[:_MOST]] + [{"more": len(faults) - _MOST}] * (
            len(faults) > _MOST
        )
    sys.stdout.write(json.dumps(said))


def _told(fault: Any) -> dict[str, str]:
    wanted = json.dumps({fault.validator: fault.validator_value}, ensure_ascii=False)
    got = json.dumps(fault.instance, ensure_ascii=False)
    return {
        "where": fault.json_path[:300],
        "message": fault.message[:500],
        "expected": wanted[:300],
        "got": got[:300],
    }


if __name__ == "__main__":
    main()
