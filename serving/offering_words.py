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


def ourselves(where: str, url: str) -> str:
    """What overflows would go round."""
    template = (
        "{where}: {url} is this gateway's own address; a call that overflows there would only"
        " come back"
    )
    return Worded("settings.ourselves", template, where=where, url=url)


def braces(where: str, url: str) -> str:
    """An address with parts that nobody filled in."""
    template = "{where}: name its base_url, or the braces' content as address: {url}"
    return Worded("settings.braces", template, where=where, url=url)


def bought(where: str, what: str) -> str:
    """Speech and transcription are third parties' alone."""
    template = (
        "{where}.surfaces: {what} is bought, and does nothing else: no engine, no other surface"
    )
    return Worded("settings.bought", template, where=where, what=what)


def twice(where: str, names: Sequence[str]) -> str:
    """Offerings of one name."""
    template = "{where}.offerings: named twice: {names}"
    return Worded("settings.offered_twice", template, where=where, names=list(names))


def odd_tiers(where: str, names: Sequence[str]) -> str:
    """Tiers of what is not offered."""
    template = "{where}.tiers: not among its offerings: {names}"
    return Worded("settings.odd_tiers", template, where=where, names=list(names))


def base_needs(where: str, adapter: str) -> str:
    """An adapter that falls back to a model which nobody sells."""
    template = "{where}.adapters.{adapter}: elsewhere: base needs offerings"
    return Worded("settings.base_needs", template, where=where, adapter=adapter)


def unbounded(where: str, how: str) -> str:
    """A dialect without a default length."""
    template = "{where}: this dialect must bound each answer; name output_tokens_max ({how})"
    return Worded("settings.unbounded", template, where=where, how=how)


def no_tier(where: str, theirs: str, ours: str) -> str:
    """Other weights are never the first tier."""
    template = (
        "{where}: tiers: 1 cannot be: its row names the weights {theirs}, this model has {ours}"
    )
    return Worded("settings.no_tier", template, where=where, theirs=theirs, ours=ours)


def withdrawn(where: str, why: str) -> str:
    """Its provider has taken it off, as the row says."""
    return Worded("settings.withdrawn", "{where}: {why}", where=where, why=why)
