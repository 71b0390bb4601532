"""Settings before they are checked: a tree of plain values from file, environment and flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from models.worded import Worded, checked, lines

NO_SETTINGS = frozenset({"BALLAST_LANG"})
"""Variables of the command line: in which language it speaks to whoever types."""


class SettingsError(Exception):
    """Names each key that is unknown or wrong."""


def read(path: Path) -> dict[str, Any]:
    """The tree in a YAML file. Raises SettingsError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        template = "cannot read settings file {path}: {why}"
        said = Worded("settings.cannot_read", template, path=path, why=reason(error))
        raise SettingsError(said) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        template = "settings file {path} must hold a mapping of keys"
        raise SettingsError(Worded("settings.no_mapping", template, path=path))
    return data


def from_environ(env: Mapping[str, str]) -> dict[str, Any]:
    """`BALLAST_A__B=x` becomes {a: {b: x}}; the value is read as YAML, so 8080 is a number."""
    tree: dict[str, Any] = {}
    for name, text in env.items():
        if not name.startswith("BALLAST_") or name in NO_SETTINGS:
            continue
        *parents, last = name.removeprefix("BALLAST_").lower().split("__")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                template = "{name}: another variable gives {parent} a plain value"
                said = Worded("settings.plain_value", template, name=name, parent=repr(parent))
                raise SettingsError(said)
        try:
            value = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            template, why = "{name}: not readable as a value: {why}", reason(error)
            said = Worded("settings.unreadable", template, name=name, why=why)
            raise SettingsError(said) from None
        if last in node:
            template = "{name}: another variable gives a part of it"
            raise SettingsError(Worded("settings.gives_part", template, name=name))
        node[last] = value
    return tree


def refused(errors: Iterable[Mapping[str, Any]], path: Path | None) -> SettingsError:
    """What the library found, every key at fault on a line of its own."""
    source = path or Worded("settings.no_file", "no file")
    template = "settings refused ({source}, environment and flags):"
    head = Worded("settings.refused", template, source=source)
    return SettingsError(lines(head, [_said(error) for error in errors]))


def _said(error: Mapping[str, Any]) -> str:
    if not error["loc"]:  # of all settings together: the words name their keys
        return checked(error)
    said = checked(error)
    if error["type"] == "extra_forbidden":
        said = Worded("settings.no_such", "no such setting; mind the spelling")
    key = ".".join(map(str, error["loc"]))
    return Worded("settings.key", "{key}: {said}", key=key, said=said)


def reason(error: Exception) -> str:
    """What is wrong with a file, without the line itself, which may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    return getattr(error, "strerror", None) or type(error).__name__


def lay(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Lay `more` over `into`, which it changes: mappings merge, all else is replaced."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            lay(into[key], value)
        else:
            into[key] = value
