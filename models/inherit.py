"""YAML files that build on each other: read, joined, and each key remembers the file it is from.

A folder holds one mapping a file. `extends` names another file, whose mapping lies below; a file of
the same name in a later folder lies above. Mappings merge key by key, lists are replaced, `null`
removes what lies below. Faults are lines `file: key: what`, collected, never raised one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

FILE_BYTES_MAX: Final = 65_536
"""Human-sized; a larger file in the folder is not one of ours."""
DEPTH_MAX: Final = 32
"""Mappings and lists within each other; beyond, YAML's composer would end the process."""
EXTENDS: Final = "extends"
_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.CSafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last, and takes only `true`
    and `false` for booleans, as YAML 1.2 does: `off` is a key of our cards."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if tag != _BOOL]
        for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"{key}: given twice, again in line {line}")
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|false)$"), list("tf"))


@dataclass(frozen=True, slots=True)
class Layer:
    """One file."""

    path: Path
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Joined:
    """A file with all that lies below it, the most specific layer first."""

    layers: tuple[Layer, ...]

    def value(self) -> dict[str, Any]:
        """The merged mapping, without `extends` and without nulls."""
        merged: Any = {}
        for layer in reversed(self.layers):
            merged = _over(merged, layer.data)
        merged.pop(EXTENDS, None)
        return {key: _pruned(value) for key, value in merged.items() if value is not None}

    def origin(self, key: Iterable[str | int]) -> Path:
        """The file that says `key`, else the one that says most of it, else the most specific."""
        parts = tuple(key)
        depths = [(_depth(layer.data, parts), layer.path) for layer in self.layers]
        return max(depths, key=lambda found: found[0])[1]


@dataclass(slots=True)
class Files:
    """The files of some folders by name (without `.yaml`), and what is wrong with them."""

    layers: dict[str, list[Layer]] = field(default_factory=dict)
    """The latest folder first."""
    faults: list[str] = field(default_factory=list)

    def join(self, name: str) -> Joined | None:
        """`name` with all that lies below it; None, and a fault, when that cannot be found."""
        found: list[Layer] = []
        way = [name]
        while True:
            layers = self.layers[way[-1]]
            found += layers
            base = layers[-1].data.get(EXTENDS)
            if base is None:
                return Joined(tuple(found))
            where = f"{layers[-1].path}: {EXTENDS}"
            if not isinstance(base, str) or base not in self.layers:
                self._fault(f"{where}: no file {base!r}; a base is named without `.yaml`")
                return None
            if base in way:
                # Told of the files of the circle, not of those that only lead there.
                if base == name:
                    self._fault(f"{where}: goes in a circle: {' -> '.join([*way, base])}")
                return None
            way.append(base)

    def bases(self) -> set[str]:
        """All names that some file extends."""
        return {str(layer.data.get(EXTENDS)) for found in self.layers.values() for layer in found}

    def _fault(self, line: str) -> None:
        if line not in self.faults:
            self.faults.append(line)


def read(folders: Iterable[Path]) -> Files:
    """Read all `*.yaml` of the folders; a later folder lies above an earlier one."""
    files = Files()
    for folder in folders:
        if not folder.is_dir():
            files.faults.append(f"{folder}: no such folder")
            continue
        files.faults += [f"{p}: name it {p.stem}.yaml" for p in sorted(folder.glob("*.yml"))]
        for path in sorted(folder.glob("*.yaml")):
            data = mapping(path, files.faults)
            if data is None:
                continue
            below = files.layers.setdefault(path.stem, [])
            if below and EXTENDS in data:
                files.faults.append(
                    f"{path}: {EXTENDS}: it already lies over {below[0].path}; leave this out"
                )
            below.insert(0, Layer(path, data))
    return files


def mapping(path: Path, faults: list[str]) -> dict[str, Any] | None:
    """What one file holds; None, and a line in `faults`, when it cannot be read."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"larger than {FILE_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
        _check_events(text)
        data: Any = yaml.load(text, _Loader)  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError) as error:
        faults.append(f"{path}: {error}")
    else:
        if isinstance(data, dict):
            return data
        faults.append(f"{path}: holds no mapping `key: value`")
    return None


def _check_events(text: str) -> None:
    """Raises ValueError for what would not end: too deep, or a mapping that holds itself."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"an alias, *{event.anchor}, is not read; use `{EXTENDS}`")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise ValueError("nested too deeply")


def _over(below: Any, above: Any) -> Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _pruned(inner) for key, inner in value.items() if inner is not None}
    return value


def _depth(data: Any, parts: tuple[str | int, ...]) -> int:
    return sum(1 for _ in _steps(data, parts))


def _steps(data: Any, parts: tuple[str | int, ...]) -> Iterator[Any]:
    for part in parts:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
        yield data
