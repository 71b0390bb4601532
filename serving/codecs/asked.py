"""Reads the members of a request in another dialect, and refuses by name what has no meaning here.
Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from serving.errors import CallerError
from serving.unreadable import UNREADABLE

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def members(body: bytes) -> dict[str, Any]:
    """A body's members. Raises CallerError."""
    try:
        found = _decode(body)
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8 (byte {error.start})"
        raise CallerError("invalid_encoding", message) from None
    except UNREADABLE as error:
        raise CallerError("invalid_json", f"the body is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise CallerError("invalid_json", "the body must be a JSON object")
    return found


def wrong(name: str, what: str) -> CallerError:
    """`name` is wrong; says what it must be."""
    return CallerError("invalid_value", f"'{name}' {what}", param=name)


def refuse_others(given: dict[str, Any], known: Iterable[str], where: str = "") -> None:
    """Raises CallerError for a member that would change the answer and is not understood."""
    for name in given.keys() - set(known):
        if given[name] not in (None, False, [], {}, ""):
            raise wrong(f"{where}{name}"[:100], "is not supported on this surface")


def text_of(value: Any, name: str) -> str:
    """A string. Raises CallerError."""
    if not isinstance(value, str):
        raise wrong(name, "must be a string")
    return value


def objects(value: Any, name: str) -> list[dict[str, Any]]:
    """An array of objects. Raises CallerError."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise wrong(name, "must be an array of objects")
    return value
