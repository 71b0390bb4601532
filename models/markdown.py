"""Tables and sections of generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def section(title: str, lines: Iterable[str]) -> list[str]:
    """A second-level heading and what stands under it."""
    return [f"\n## {title}\n", *lines]


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a table; cells must hold no bar."""
    names = list(heads)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def code(text: str) -> str:
    """As code."""
    return f"`{text}`"


def tokens(count: int) -> str:
    """A number of tokens in three digits."""
    return f"{count / 1e6:.3g}M" if count >= 1_000_000 else f"{count / 1e3:.0f}k"
