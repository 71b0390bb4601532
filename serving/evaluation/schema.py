"""A small part of JSON Schema: what question sets need, and nothing passed over in silence. Pure.

Known: type, properties, required, additionalProperties (a boolean), items, enum. Another keyword is
refused when the set is read: a check that is not made must not look like one that passed.
"""

from __future__ import annotations

from typing import Any, Final

from models.worded import Worded

KNOWN: Final = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "description",
     "title"}
)  # fmt: skip
DEPTH_MAX: Final = 20
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,), "null": (type(None),),
}  # fmt: skip


def unknown(schema: Any, depth: int = 0) -> str:
    """What of a schema cannot be checked here; empty when all can."""
    if not isinstance(schema, dict) or depth > DEPTH_MAX:
        template = "a schema is an object, nested {most} deep at most"
        return Worded("schema.object", template, most=DEPTH_MAX)
    if strange := sorted(set(schema) - KNOWN):
        template = "{name} is not checked here; known: {known}"
        return Worded("schema.unknown", template, name=repr(strange[0]), known=sorted(KNOWN))
    kind = schema.get("type", "object")
    if not isinstance(kind, str) or kind not in _TYPES:
        template = "type {kind}: one of {known}"
        return Worded("schema.type", template, kind=repr(kind), known=[*_TYPES])
    if not isinstance(schema.get("properties", {}), dict):
        return Worded("schema.properties", "properties is an object")
    names = schema.get("required", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return Worded("schema.required", "required is a list of names")
    if not isinstance(schema.get("additionalProperties", True), bool):
        return Worded("schema.additional", "additionalProperties is true or false here")
    if not isinstance(schema.get("enum", []), list):
        return Worded("schema.enum", "enum is a list")
    inner = [
        *schema.get("properties", {}).values(),
        *([schema["items"]] if "items" in schema else []),
    ]
    return next((why for one in inner if (why := unknown(one, depth + 1))), "")


def breach(schema: dict[str, Any], value: Any, path: str = "answer") -> str:
    """The first way in which a value breaks a schema that `unknown` let pass; empty when none."""
    kind = schema.get("type")
    if kind is not None and not _is_a(value, kind):
        return f"{path} is no {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} is none of {schema['enum']!r}"
    if isinstance(value, dict):
        return _object_breach(schema, value, path)
    if isinstance(value, list) and "items" in schema:
        found = (breach(schema["items"], one, f"{path}[{n}]") for n, one in enumerate(value))
        return next((why for why in found if why), "")
    return ""


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _object_breach(schema: dict[str, Any], value: dict[str, Any], path: str) -> str:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{path} has no {name}"
    if not schema.get("additionalProperties", True) and (more := sorted(set(value) - set(known))):
        return f"{path} has {more[0]} too"
    found = (breach(known[n], one, f"{path}.{n}") for n, one in value.items() if n in known)
    return next((why for why in found if why), "")
