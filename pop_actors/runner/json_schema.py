"""JSON Schema, held against data. Nothing is fetched: a schema may refer to itself only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
from referencing import Registry
from referencing.exceptions import Unresolvable

SHOWN_FAULTS = 50
_MESSAGE_CHARACTERS = 500


def faults(schema: Mapping[str, Any] | bool, data: Any) -> list[str]:
    """What is wrong with `data`, at most 50 faults, each as `/path: what`; none: it conforms.

    ValueError where the schema itself is none, or refers to something outside of it.
    """
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        cls.check_schema(schema)  # type: ignore[arg-type]  # booleans are schemas, too
        errors = sorted(cls(schema, registry=Registry()).iter_errors(data), key=lambda error: error.json_path)
    except jsonschema.SchemaError as error:
        raise ValueError(f"the schema is wrong at {_pointer(error.absolute_path)}: {error.message}") from None
    except Unresolvable as error:
        raise ValueError(f"the schema refers to {error.ref!r}, which is not in it") from None
    return [
        f"{_pointer(error.absolute_path)}: {error.message[:_MESSAGE_CHARACTERS]}" for error in errors[:SHOWN_FAULTS]
    ]


def _pointer(path: Any) -> str:
    return "/" + "/".join(str(part) for part in path)
