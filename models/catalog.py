"""The catalogue: every card that we know, read from YAML, checked as a whole, looked up by name.

One file a model in `models/cards/`, named like its card; what several share stands once in a file
whose name begins with `_`. A second folder (setting `cards_dir`) adds cards, or lays measured
numbers over packaged ones. Everything that is wrong is told at once, by file and key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from models.card import CARD_ID, Card
from models.fact import Source
from models.inherit import Files, Joined, mapping, read

FOLDER: Final = Path(__file__).parent / "cards"
SOURCES: Final = Path(__file__).parent / "sources.yaml"
_NEAR_MAX = 3


class CatalogError(Exception):
    """Files of the catalogue are wrong; one line for each fault, with file and key."""


class UnknownModelError(CatalogError):
    """No card has this name; names near ones."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All cards by id, in the order of their ids."""

    cards: Mapping[str, Card]
    sources: Mapping[str, Source]

    def card(self, name: str) -> Card:
        """The card with this id, or with a variant of this hub id. Raises UnknownModelError."""
        return self.variant(name)[0]

    def variant(self, name: str) -> tuple[Card, str | None]:
        """As `card`, with the key of the variant when the name is a hub's. Upper and lower case
        are one. Raises UnknownModelError, also when several cards share the repository."""
        wanted = name.casefold()
        if wanted in self.cards:
            return self.cards[wanted], None
        found = [(card, key) for card, key, hub in self._hub_names() if hub.casefold() == wanted]
        by_id = {card.id: (card, key) for card, key in found}
        if len(by_id) > 1:
            raise UnknownModelError(f"{name!r} is served by several cards: {', '.join(by_id)}")
        if not by_id:
            raise UnknownModelError(self._unknown(name))
        return next(iter(by_id.values()))

    def _hub_names(self) -> Iterator[tuple[Card, str, str]]:
        for card in self.cards.values():
            for key, variant in card.variants.items():
                yield card, key, variant.huggingface
                if variant.modelscope is not None:
                    yield card, key, variant.modelscope

    def _unknown(self, name: str) -> str:
        names = [*self.cards, *(hub for _, _, hub in self._hub_names())]
        folded = {known.casefold(): known for known in names}
        near = difflib.get_close_matches(name.casefold(), folded, _NEAR_MAX)
        hint = f"did you mean {', '.join(folded[n] for n in near)}? " if near else ""
        return f"no model {name!r} in the catalogue; {hint}`ballast models list` names all"


def load(*folders: Path) -> Catalog:
    """The packaged cards with `folders` laid over them, in that order. Raises CatalogError."""
    files = read((FOLDER, *folders))
    faults = files.faults
    sources = _sources(faults)
    joined = {name: files.join(name) for name in sorted(files.layers)}
    faults += _unused(files)
    cards: dict[str, Card] = {}
    for name, join in joined.items():
        if join is None or name.startswith("_"):
            continue
        value = join.value()
        card = _card(name, join, value, faults)
        if card is not None:
            cards[name] = card
        faults += _unsourced(value, join, sources)
        successor = _at(value, "life", "successor")
        if successor is not None and (successor not in joined or str(successor).startswith("_")):
            where = join.origin(("life", "successor"))
            faults.append(f"{where}: life.successor: no card {successor!r}")
    if faults:
        raise CatalogError("\n".join(dict.fromkeys(faults)))
    return Catalog(MappingProxyType(cards), MappingProxyType(sources))


def _sources(faults: list[str]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for key, value in (mapping(SOURCES, faults) or {}).items():
        try:
            found[key] = Source.model_validate(value)
        except ValidationError as error:
            faults += [f"{SOURCES}: {key}.{_key(e['loc'])}: {e['msg']}" for e in error.errors()]
    return found


def _card(name: str, join: Joined, value: Mapping[str, Any], faults: list[str]) -> Card | None:
    path = join.layers[0].path
    if not re.fullmatch(CARD_ID, name):
        faults.append(f"{path}: the file's name is the card's id and must match {CARD_ID}")
        return None
    faults += [
        f"{layer.path}: id: {layer.data['id']!r}, but the file is named {layer.path.name}"
        for layer in join.layers
        if layer.data.get("id", layer.path.stem) != layer.path.stem
    ]
    try:
        return Card.model_validate({**value, "id": name})
    except ValidationError as error:
        for fault in error.errors():
            key = _named(fault["loc"], value)
            where = join.origin(key) if fault["type"] != "missing" else path
            faults.append(f"{where}: {_key(key)}: {fault['msg']}")
    return None


def _unsourced(value: Mapping[str, Any], join: Joined, sources: Mapping[str, Source]) -> list[str]:
    own = value.get("sources")
    known = {*sources, *(own if isinstance(own, Mapping) else ())}
    hint = f"is neither in {SOURCES.name} nor in the card's own `sources`"
    return [
        f"{join.origin(key)}: {_key(key)}: {name!r} {hint}"
        for key, given in _source_keys(value)
        for name in ([given] if isinstance(given, str) else given)
        if isinstance(name, str) and name not in known
    ]


def _source_keys(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What stands under every `source` of a card that may be wrong otherwise."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            here = (*key, str(name))
            if name == "source" and isinstance(inner, str | list):
                yield here, inner
            else:
                yield from _source_keys(inner, here)


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _unused(files: Files) -> list[str]:
    idle = {name for name in files.layers if name.startswith("_")} - files.bases()
    return [f"{files.layers[name][0].path}: no file extends it" for name in sorted(idle)]


def _named(location: tuple[str | int, ...], value: Mapping[str, Any]) -> tuple[str | int, ...]:
    """With the name that a file gives an entry of `known_bad`, not its position."""
    match location:
        case ("known_bad" as top, int(position), *rest) if isinstance(value.get(top), Mapping):
            return (top, list(value[top])[position], *rest)
    return location


def _key(location: tuple[str | int, ...]) -> str:
    return ".".join(map(str, location)) or "(whole file)"
