"""Settings before they are checked: a tree of plain values from file, environment and flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

NO_SETTINGS = frozenset({"BALLAST_LANG"})
"""Variables of the command line: in which language it speaks to whoever types."""


class SettingsError(Exception):
    """Names each key that is unknown or wrong."""


def read(path: Path) -> dict[str, Any]:
    """The tree in a YAML file. Raises SettingsError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read settings file {path}: {reason(error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"settings file {path} must hold a mapping of keys")
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
                raise SettingsError(f"{name}: another variable gives {parent!r} a plain value")
        try:
            value = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise SettingsError(f"{name}: not readable as a value: {reason(error)}") from None
        if last in node:
            raise SettingsError(f"{name}: another variable gives a part of it")
        node[last] = value
    return tree


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
