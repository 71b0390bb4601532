"""The catalogue of sentences that are made below the command line, and how a book of messages is
read: `key: {zh: ..., en: ...}`, groups of keys nested as deep as they need, no key twice.

It lies here, beside `worded`, because two read it: the command line, and the gateway's console.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast

import yaml

FOLDER = Path(__file__).parent / "reasons"
LANGUAGES = ("zh", "en")
Entry: TypeAlias = Mapping[str, str]


class BookError(ValueError):
    """A file of messages cannot be used: names it, and the line where that is known."""


@cache
def reasons() -> Mapping[str, Entry]:
    """Every sentence by its code. Raises BookError."""
    found: dict[str, Entry] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        for code, entry in entries(path):
            if code in found:
                raise BookError(f"{path.name}: {code} stands in another file of the folder too")
            found[code] = entry
    return found


def entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """The messages of one file, by key. Raises BookError and OSError."""
    return _flat(path.name, "", read(path))


def read(path: Path) -> Any:
    """What a YAML file holds. Raises BookError for a key that a mapping has twice, which YAML's
    own reader passes over, the last one counting, and OSError."""
    try:
        return yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise BookError(f"{path.name}: {error}") from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                problem = f"line {line}: {key.value!r} is there already, in line {lines[key.value]}"
                raise yaml.constructor.ConstructorError(problem=problem)
            lines[key.value] = line
        return cast(dict[Any, Any], super().construct_mapping(node, deep))


def _flat(name: str, prefix: str, tree: Any) -> Iterator[tuple[str, Entry]]:
    if not isinstance(tree, dict):
        raise BookError(f"{name}: messages are a mapping of keys")
    for key, value in tree.items():
        if not isinstance(key, str) or not isinstance(value, dict):
            raise BookError(f"{name}: {prefix}{key}: neither a message nor a group of them")
        if value.keys() & set(LANGUAGES):
            yield f"{prefix}{key}", value
        else:
            yield from _flat(name, f"{prefix}{key}.", value)
