"""A sentence that remembers what it was made of: a code, and the numbers and names in it.

Rules and errors far below the command line do not know who reads them. As a string such a sentence
is English: what logs, the ledger and JSON hold. Whoever shows it to a person may tell it in another
language by code and values (`models/reasons`), and never by matching the English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

__all__ = ["Worded", "checked", "joined", "lines", "of", "packed", "unpacked"]


class Worded(str):
    """English, with its code and its values; copies and what crosses a process are plain text."""

    __slots__ = ("code", "values")
    code: str
    values: Mapping[str, Any]

    def __new__(cls, code: str, template: str, /, **values: Any) -> Self:
        """`template` names each value in braces; several in one are told with commas. A number is
        formatted by whoever passes it."""
        shown = {name: _shown(value) for name, value in values.items()}
        made = super().__new__(cls, template.format_map(shown))
        made.code, made.values = code, values
        return made

    @classmethod
    def made(cls, code: str, english: str, values: Mapping[str, Any]) -> Self:
        """One whose English is there already: a library's, or what another process sent."""
        made = super().__new__(cls, english)
        made.code, made.values = code, values
        return made

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def of(error: BaseException) -> str:
    """What an error says, still with code and values where it was raised with them."""
    said = error.args[0] if error.args else None
    return said if isinstance(said, str) else str(error)


def lines(head: str, more: Sequence[str]) -> str:
    """A sentence and others below it, one a line, each of them told in the reader's language."""
    told = head
    for line in more:
        told = Worded("lines", "{before}\n  {line}", before=told, line=line)
    return told


def joined(parts: Sequence[str]) -> str:
    """Several in one sentence, or nothing."""
    told = parts[0] if parts else ""
    for more in parts[1:]:
        told = Worded("and", "{before}; {more}", before=told, more=more)
    return told


def checked(error: Mapping[str, Any]) -> str:
    """One error of a pydantic check: what our own rule raised, or the library's words by the name
    it gives them."""
    ctx = error.get("ctx") or {}
    cause = ctx.get("error")
    if isinstance(cause, Exception):
        return of(cause)
    return Worded.made(f"pydantic.{error['type']}", str(error["msg"]), ctx)


def packed(said: str) -> Mapping[str, Any] | None:
    """For another process: code, English and values; None for a text that has no code."""
    if not isinstance(said, Worded):
        return None
    values = {name: _plain(value) for name, value in said.values.items()}
    return {"code": said.code, "text": str(said), "values": values}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return packed(value) or value
    return value if isinstance(value, bool | int | float | None) else str(value)


def unpacked(sent: Any, english: str) -> str:
    """What another process sent by `packed`, or its English where that is all that came, or where
    the two say different things: an older gateway changes the one and keeps the other."""
    if not isinstance(sent, Mapping) or not isinstance(sent.get("values"), Mapping):
        return english
    if str(sent.get("text", english)) != english:
        return english
    values = {str(name): _sent(value) for name, value in sent["values"].items()}
    return Worded.made(str(sent.get("code", "")), str(sent.get("text", english)), values)


def _sent(value: Any) -> Any:
    if isinstance(value, list):
        return [_sent(one) for one in value]
    return unpacked(value, str(value.get("text", ""))) if isinstance(value, Mapping) else value


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_shown(one) for one in value)
    return str(value)
