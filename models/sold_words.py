"""What a provider sells, in the words of docs/providers.md. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from models import tariff
from models.hearing import Hearing
from models.markdown import code, tokens
from models.provider import Sold


def model(sold: Sold) -> list[str]:
    """Its line in the table of its provider."""
    return [
        code(sold.id),
        _context(sold),
        "sound" if sold.audio_formats else _answer(sold),
        _price(sold),
        sold.confidence,
        sold.as_of,
        code(sold.weights) if sold.weights else "-",
    ]


def _context(sold: Sold) -> str:
    if sold.hearing is not None:
        most = sold.hearing.seconds_max
        return f"{most} s of sound" if most else f"{sold.hearing.bytes_max >> 20} MiB of sound"
    if sold.context_tokens is None:
        return "unknown"
    if sold.audio_formats:
        return f"{sold.context_tokens} characters"
    return tokens(sold.context_tokens)


def _answer(sold: Sold) -> str:
    return tokens(sold.output_tokens_max) if sold.output_tokens_max else "unknown"


def _price(sold: Sold) -> str:
    if sold.free:
        return "free"
    if sold.hearing is not None and sold.hearing.per_hour is not None:
        return f"{sold.currency} {number(sold.hearing.per_hour)} an hour"
    if sold.input_per_mtok is None:
        return "unknown"
    if sold.audio_formats:
        return f"{sold.currency} {number(sold.input_per_mtok)} a million characters"
    return f"{sold.currency} {_triple(sold)}"


def _triple(priced: Sold | tariff.Exceptional) -> str:
    each = (priced.input_per_mtok, priced.output_per_mtok, priced.cached_per_mtok)
    return " / ".join(map(number, each))


def number(price: Decimal | None) -> str:
    """Without zeros at its end."""
    return "-" if price is None else f"{price.normalize():f}"


def exceptions(sold: Sold) -> Iterator[str]:
    """What a table has no room for: prices by time and size, limits, its end."""
    for rule in sold.exceptions:
        yield f"- {code(sold.id)} {' '.join(tariff.words(rule))}: {_triple(rule)}"
    if sold.limits is not None:
        told = sold.limits
        each = {
            "requests a minute": told.requests_per_min,
            "tokens a minute": told.tokens_per_min,
            "calls at once": told.concurrent,
        }
        words = ", ".join(f"{count} {name}" for name, count in each.items() if count)
        yield f"- {code(sold.id)}: {words} an account"
    if sold.retires is not None:
        yield f"- {code(sold.id)} will be withdrawn on {sold.retires}"


def hearing(takes: Hearing) -> str:
    """What a model takes of sound."""
    parts = [f"{', '.join(takes.containers)} up to {takes.bytes_max >> 20} MiB"]
    parts += [f"{takes.seconds_max} s at most"] if takes.seconds_max else []
    parts += [f"{takes.seconds_min} s billed at least"] if takes.seconds_min else []
    parts += ["times and subtitles"] if takes.has_times else ["text alone"]
    parts += ["translations into English"] if takes.translates else []
    return "; ".join(parts)
