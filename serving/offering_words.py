"""Why an offering in the settings cannot be, as sentences with code and values. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from models.worded import Worded


def not_listed(where: str, provider: str) -> str:
    """Its provider is not switched on."""
    template = "{where}: provider {provider} is not listed under providers"
    return Worded("settings.not_listed", template, where=where, provider=repr(provider))


def no_price(where: str, error: Exception, how: str) -> str:
    """Neither row nor settings say what it costs."""
    template = "{where}: its price is unknown; {error} ({how})"
    return Worded("settings.no_price", template, where=where, error=error, how=how)


def no_context(where: str, how: str) -> str:
    """Neither row nor settings say how much fits into it."""
    template = "{where}: its context is unknown; name context_tokens ({how})"
    return Worded("settings.no_context", template, where=where, how=how)


def unsold(where: str, row: str, model: str, sold: Sequence[str]) -> str:
    """Its provider has no such model; `sold` are those it has."""
    template = "{where}: {row} sells no {model}; it sells {names}"
    names = tuple(sold) or "-"
    return Worded("settings.sells", template, where=where, row=row, model=repr(model), names=names)


def no_row(name: str, known: Sequence[str]) -> str:
    """Nobody has described such a provider."""
    template = "providers: no row {name}; known: {known}"
    return Worded("settings.no_row", template, name=repr(name), known=list(known))


def not_sold(where: str, names: Sequence[str]) -> str:
    """Terms of models that the provider does not have."""
    template = "{where}.models: not sold: {names}"
    return Worded("settings.not_sold", template, where=where, names=list(names))
